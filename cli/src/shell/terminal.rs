//! The prompt: reads lines from a person, and asks.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::DirBuilderExt;

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, CompletionType, Context, Editor, Helper};

use crate::shell::command::help;
use crate::shell::complete::Completion;
use crate::shell::config;
use crate::shell::failure::Failure;
use crate::shell::output::{Kind, Output};
use crate::shell::parser::{self, ParseError};
use crate::shell::run::run_line;
use crate::shell::state::{Answer, Shell};

/// Lines of history that are kept.
const HISTORY_LINES_MAX: usize = 5_000;

/// Reads and carries out lines until the person leaves. Returns the exit code: that of the last command.
pub(crate) fn run(shell: &mut Shell) -> Result<u8, Failure> {
    let mut editor = editor()?;
    load_history(&mut editor, shell);
    let mut code = 0;
    while !shell.is_over {
        editor.set_helper(Some(Prompter { completion: completion(shell) }));
        let prompt = prompt(shell);
        shell.out.flush()?;
        match editor.readline(&prompt) {
            Ok(line) => {
                let Some(line) = recalled(shell, &line) else { continue };
                if line.trim().is_empty() {
                    continue;
                }
                remember(&mut editor, shell, &line);
                code = run_line(shell, line.as_bytes());
            }
            // Ctrl-C takes back what was typed, and nothing else.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::Refused(format!("cannot read the terminal: {error}"))),
        }
    }
    Ok(code)
}

/// What a person sees first.
pub(crate) fn greet(out: &mut Output) -> Result<(), Failure> {
    let title = format!("nearfs {}: files of another machine.", env!("CARGO_PKG_VERSION"));
    let title = out.paint(Kind::Heading, &title);
    out.line(&title)?;
    out.line("`help VERB` tells more. Tab completes, Ctrl-C ends a command, Ctrl-D leaves.")?;
    help::summary(out)?;
    out.flush()
}

/// Asks a question that is answered by yes or no, on the terminal itself: the output may go elsewhere. Without a terminal
/// nobody is asked, and the answer is no.
pub(crate) fn ask(question: &str) -> Result<Answer, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(Answer::No);
    }
    let config = rustyline::Config::builder().behavior(Behavior::PreferTerm).build();
    let editor = Editor::with_config(config);
    let mut editor: Editor<(), FileHistory> = editor.map_err(|error| unreadable(&error))?;
    match editor.readline(&format!("{question} [y/N/all] ")) {
        Ok(answer) => Ok(match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Answer::Yes,
            "a" | "all" => Answer::All,
            _ => Answer::No,
        }),
        Err(ReadlineError::Interrupted) => Err(Failure::Interrupted),
        Err(ReadlineError::Eof) => Ok(Answer::No),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &ReadlineError) -> Failure {
    Failure::Refused(format!("cannot read the terminal: {error}"))
}

fn editor() -> Result<Editor<Prompter, FileHistory>, Failure> {
    let config = rustyline::Config::builder().completion_type(CompletionType::List).auto_add_history(false);
    let mut editor = Editor::with_config(config.build()).map_err(|error| unreadable(&error))?;
    editor.set_max_history_size(HISTORY_LINES_MAX).map_err(|error| unreadable(&error))?;
    Ok(editor)
}

/// The prompt without and with colour: whether and where one is connected to.
fn prompt(shell: &Shell) -> (String, String) {
    let place = match &shell.connection {
        Some(connection) => format!("{} {}", connection.label, connection.place),
        None => "not connected".to_owned(),
    };
    let kind = if shell.connection.is_some() { Kind::Place } else { Kind::Note };
    (format!("nearfs {place}> "), format!("nearfs {}> ", shell.out.paint(kind, &place)))
}

fn completion(shell: &Shell) -> Completion {
    let verbs = shell.config.verbs.iter().map(|(name, meaning)| {
        let first = meaning.first().map(|word| word.bytes()).unwrap_or_default();
        (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(&first).into_owned())
    });
    let connection = shell.connection.as_ref();
    let completion = Completion {
        listings: std::sync::Arc::clone(&shell.listings),
        connection: connection.map(|connection| (connection.remote.clone(), connection.place.clone())),
        verbs: verbs.collect(),
    };
    completion.prefetch();
    completion
}

/// A line with `!!` and `!N` replaced by what was typed then. `None` if there was nothing.
fn recalled(shell: &mut Shell, line: &str) -> Option<String> {
    let number = match line.trim() {
        "!!" => Some(shell.history.len()),
        other => other.strip_prefix('!').and_then(|digits| digits.parse().ok()),
    };
    let Some(number) = number else { return Some(line.to_owned()) };
    match number.checked_sub(1).and_then(|at: usize| shell.history.get(at)).cloned() {
        Some(line) => {
            println!("{line}");
            Some(line)
        }
        None => {
            shell.out.failed(&Failure::Usage(format!("there is no line {number} in the history")));
            None
        }
    }
}

fn load_history(editor: &mut Editor<Prompter, FileHistory>, shell: &mut Shell) {
    // A first start has no history, and a broken one is not worth a word.
    let _ = config::history_file().map(|path| editor.load_history(&path));
    shell.history = editor.history().iter().cloned().collect();
}

/// Kept at once, so that nothing is lost if the program does not end well.
fn remember(editor: &mut Editor<Prompter, FileHistory>, shell: &mut Shell, line: &str) {
    let line = line.trim();
    if !editor.add_history_entry(line).unwrap_or(false) {
        return; // The same as the last one.
    }
    shell.history.push(line.to_owned());
    let Some(path) = config::history_file() else { return };
    if let Some(directory) = path.parent() {
        // Others must not read what was typed.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        if let Err(error) = made.map_err(ReadlineError::from).and_then(|()| editor.append_history(&path)) {
            log::debug!("the history cannot be kept: {error}");
        }
    }
}

/// What rustyline asks while a line is typed.
struct Prompter {
    completion: Completion,
}

impl Helper for Prompter {}

impl Highlighter for Prompter {}

impl Hinter for Prompter {
    type Hint = String;
}

impl Validator for Prompter {
    /// A quote that is open goes on in the next line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match parser::parse(context.input().as_bytes()) {
            Err(ParseError::OpenQuote) => ValidationResult::Incomplete,
            Ok(_) | Err(_) => ValidationResult::Valid(None),
        })
    }
}

/// A candidate as rustyline wants it.
struct Shown(crate::shell::complete::Candidate);

impl rustyline::completion::Candidate for Shown {
    fn display(&self) -> &str {
        &self.0.display
    }

    fn replacement(&self) -> &str {
        &self.0.replacement
    }
}

impl Completer for Prompter {
    type Candidate = Shown;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Shown>)> {
        let (start, candidates) = self.completion.complete(line.get(..pos).unwrap_or_default());
        Ok((start, candidates.into_iter().map(Shown).collect()))
    }
}
