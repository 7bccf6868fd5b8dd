//! From a line to what it does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Parser;
use clap::error::ErrorKind;
use nearfs_client::remote::path::printable;

use crate::shell::command::{help, local};
use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count};
use crate::shell::parser::{self, Redirect, Step, Word};
use crate::shell::state::failure_fields;
use crate::shell::state::{Shell, local_path};
use crate::shell::verb::{self, Line, Verb};

/// Carries out all commands of a line, or of a script. What fails is told. Returns the code of the last failure that
/// was not forgiven; with the first one the rest is left unless that was wished otherwise, and somebody who types hears
/// of it: what follows a `cd` that failed is not meant for where one still is.
pub(crate) fn run_line(shell: &mut Shell, line: &[u8]) -> u8 {
    let steps = match parser::parse(line) {
        Ok(steps) => steps,
        Err(error) => {
            let failure = Failure::Usage(error.to_string());
            shell.out.failed(&failure);
            return failure.code();
        }
    };
    let mut code = 0;
    let mut steps = steps.into_iter();
    for step in steps.by_ref() {
        let is_forgiven = matches!(step, Step::Verb { is_forgiven: true, .. });
        let result = run_step(shell, step);
        let was_interrupted = shell.cancel.is_cancelled();
        if let Err(failure) = &result {
            shell.out.failed(failure);
        }
        // An error of the output is one of the command only if nothing worse happened.
        let flushed = shell.out.flush();
        let failed = result.err().or(flushed.err()).map_or(0, |failure| failure.code());
        if failed != 0 && !is_forgiven {
            code = failed;
        }
        let stops = failed != 0 && !is_forgiven && shell.stops_at_errors;
        if shell.is_over || was_interrupted || stops {
            break;
        }
    }
    if code != 0 && steps.len() > 0 && shell.is_interactive {
        let left = count(steps.len() as u64, "command", "commands");
        let text = format!("{left} behind it not carried out; with `set -e off` they are");
        // Whoever types sees that the terminal has gone.
        let _ = shell.out.say(Kind::Note, &text);
    }
    code
}

fn run_step(shell: &mut Shell, step: Step) -> Result<(), Failure> {
    shell.cancel = shell.interrupt.next();
    match step {
        Step::Local { line } => local::run(shell, &line),
        Step::Verb { words, output: Redirect::Nowhere, .. } => run_words(shell, words),
        Step::Verb { words, output: Redirect::File { path, append }, .. } => {
            let out = shell.out.to_file(&local_path(&path.pattern()), append)?;
            let standard = std::mem::replace(&mut shell.out, out);
            let result = run_words(shell, words);
            let written = std::mem::replace(&mut shell.out, standard).finish();
            result.and(written)
        }
        Step::Verb { words, output: Redirect::Pipe(command), .. } => {
            shell.out.flush()?;
            let out = shell.out.to_command(OsStr::from_bytes(&command))?;
            let standard = std::mem::replace(&mut shell.out, out);
            let result = run_words(shell, words);
            let written = std::mem::replace(&mut shell.out, standard).finish();
            result.and(written)
        }
    }
}

/// Carries out the commands that words stand for: one, unless verbs of the user's separate them.
fn run_words(shell: &mut Shell, words: Vec<Word>) -> Result<(), Failure> {
    for command in shell.config.commands(words) {
        run_command(shell, &command)?;
        if shell.is_over {
            break;
        }
    }
    Ok(())
}

fn run_command(shell: &mut Shell, words: &[Word]) -> Result<(), Failure> {
    let Some(first) = words.first() else { return Ok(()) };
    let name = printable(&first.bytes());
    let Some(verb) = verb::canonical(&name) else {
        return Err(Failure::Usage(help::unknown(shell, &name)));
    };
    shell.verb = verb;
    let arguments = words.iter().map(|word| OsString::from_vec(word.pattern()));
    match Line::try_parse_from(arguments) {
        Ok(line) => run_verb(shell, line),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => help::tell_verb(shell, &name),
        Err(error) => Err(Failure::Usage(format!("{}; see `help {name}`", first_line(&error)))),
    }
}

/// Carries out a verb, and tells what happened to the connection meanwhile.
pub(crate) fn run_verb(shell: &mut Shell, line: Line) -> Result<(), Failure> {
    let Line { mut verb, mut json } = line;
    if let Verb::Find(options) = &mut verb {
        json |= options.take_json();
    }
    if json && matches!(verb, Verb::Cat(_)) {
        return Err(Failure::Usage("cat writes contents as they are, and knows no --json".into()));
    }
    shell.out.is_json = json;
    let looked = verb.only_looks().then(|| words_of(shell, &mut verb));
    let result = verb::run(shell, &verb).map_err(|failure| shell.explained(failure));
    if let Err(failure) = &result
        && !matches!(failure, Failure::Told(_) | Failure::Unread | Failure::Differs(_))
    {
        shell.report(failure);
        // Where nobody reads the output there is nobody to tell, and this failure is the worse one.
        let _ = shell.out.object(&failure_fields(failure));
    }
    if let (Ok(()), Some(words)) = (&result, looked) {
        shell.report_done(&words);
    }
    let told = shell.tell_of_new_session();
    shell.out.is_json = false;
    // What a wish ended says so, whatever error came of it.
    match result {
        Err(_) if shell.cancel.is_cancelled() => Err(Failure::Interrupted),
        result => result.and(told),
    }
}

/// A verb and what it names at the server, for the server's log.
fn words_of(shell: &Shell, verb: &mut Verb) -> String {
    let named = verb.remote_arguments().iter().map(|argument| printable(argument.as_bytes()));
    std::iter::once(shell.verb.clone()).chain(named).collect::<Vec<_>>().join(" ")
}

/// What clap says was wrong, in one line and without the word "error".
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
