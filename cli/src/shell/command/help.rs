//! `help`, `history` and `set`.

use clap::{Args, CommandFactory};
use nearfs_client::remote::path::printable;
use serde_json::json;

use crate::shell::failure::Failure;
use crate::shell::output::{Kind, Output};
use crate::shell::state::Shell;
use crate::shell::verb::{Described, GROUPS, Line, described, nearest};

/// Tells of all verbs, or all of one
#[derive(Args, Debug)]
pub(crate) struct HelpOptions {
    /// Which
    #[arg(value_name = "VERB")]
    verb: Option<String>,
}

/// Tells what was typed; !! and !N repeat it
#[derive(Args, Debug)]
pub(crate) struct HistoryOptions {
    /// How many lines
    #[arg(value_name = "N", default_value_t = 50)]
    lines: usize,
}

/// `set -e off`: scripts go on after failures
#[derive(Args, Debug)]
pub(crate) struct SetOptions {
    /// -e
    #[arg(value_name = "SETTING", allow_hyphen_values = true)]
    setting: Option<String>,
    /// on or off
    #[arg(value_name = "on|off")]
    value: Option<String>,
}

pub(crate) fn help(shell: &mut Shell, options: &HelpOptions) -> Result<(), Failure> {
    let Some(verb) = &options.verb else {
        for Described { name, aliases, about } in GROUPS.iter().flat_map(|(_, names)| described(names)) {
            shell.out.object(&json!({ "verb": name, "aliases": aliases, "about": about }))?;
        }
        return summary(&mut shell.out);
    };
    tell_verb(shell, verb)
}

/// Tells all of one verb.
pub(crate) fn tell_verb(shell: &mut Shell, verb: &str) -> Result<(), Failure> {
    let mut line = Line::command();
    if let Some(meaning) = shell.config.verbs.get(verb.as_bytes()) {
        let words: Vec<String> =
            meaning.iter().map(|word| String::from_utf8_lossy(&word.bytes()).into_owned()).collect();
        let meaning = words.join(" ");
        shell.out.object(&json!({ "verb": verb, "means": meaning }))?;
        return shell.out.line(&format!(
            "{} means {}",
            printable(verb.as_bytes()),
            printable(meaning.as_bytes())
        ));
    }
    let is_meant = |command: &&mut clap::Command| {
        command.get_name() == verb || command.get_all_aliases().any(|alias| alias == verb)
    };
    let options_of_all: Vec<_> = line.get_arguments().cloned().collect();
    match line.get_subcommands_mut().find(is_meant) {
        Some(command) => {
            let aliases: Vec<&str> = command.get_visible_aliases().collect();
            let names = if aliases.is_empty() {
                String::new()
            } else {
                format!("\n\nThe same: {}", aliases.join(", "))
            };
            let text = command.clone().args(options_of_all).render_help().to_string();
            shell.out.object(&json!({ "verb": command.get_name(), "aliases": aliases, "help": text }))?;
            shell.out.line(&format!("{}{names}", text.trim_end()))
        }
        None => Err(Failure::Usage(unknown(shell, verb))),
    }
}

/// Says that there is no such verb, and which is like it.
pub(crate) fn unknown(shell: &Shell, verb: &str) -> String {
    let own = shell.config.verbs.keys().map(|name| String::from_utf8_lossy(name).into_owned());
    match nearest(verb, own) {
        Some(near) => format!("unknown command {verb:?}; did you mean {near}?"),
        None => format!("unknown command {verb:?}; `help` tells all there are"),
    }
}

/// All verbs, a line each.
pub(crate) fn summary(out: &mut Output) -> Result<(), Failure> {
    for (title, names) in GROUPS {
        let title = out.paint(Kind::Heading, title);
        out.line(&title)?;
        for verb in described(names) {
            out.line(&format!("  {:<28} {}", verb.names(), verb.about))?;
        }
    }
    out.line("Commands on a line are separated by `;`. `> file` and `| command` take their output.")?;
    out.line("`!command` runs a local one. Names are quoted as in sh; patterns work on both sides.")
}

pub(crate) fn history(shell: &mut Shell, options: &HistoryOptions) -> Result<(), Failure> {
    let first = shell.history.len().saturating_sub(options.lines);
    for (at, line) in shell.history.iter().enumerate().skip(first) {
        shell.out.object(&json!({ "number": at + 1, "line": line }))?;
        shell.out.line(&format!("{:>5}  {}", at + 1, printable(line.as_bytes())))?;
    }
    Ok(())
}

pub(crate) fn set(shell: &mut Shell, options: &SetOptions) -> Result<(), Failure> {
    let on = |shell: &Shell| if shell.stops_at_errors { "on" } else { "off" };
    match (options.setting.as_deref(), options.value.as_deref()) {
        (None, None) => {
            let text = format!("set -e {}", on(shell));
            shell.out.object(&json!({ "setting": "-e", "value": on(shell) }))?;
            shell.out.line(&text)
        }
        (Some("-e"), Some("on")) | (Some("-e"), None) => {
            shell.stops_at_errors = true;
            Ok(())
        }
        (Some("-e"), Some("off")) | (Some("+e"), None) => {
            shell.stops_at_errors = false;
            Ok(())
        }
        _ => Err(Failure::Usage("there is one setting: set -e on|off".into())),
    }
}
