//! Command lines that make no sense, refused in one line.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// Exit code of a command that was typed wrong.
const USAGE: u8 = 2;

/// Tells what was wrong with a command line, or prints the help or version that it asked for.
pub fn explain(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("nearfs: nothing to do; see --help");
        return ExitCode::from(USAGE);
    }
    eprintln!("nearfs: {}; see --help", one_line(&error.render().to_string()));
    ExitCode::from(USAGE)
}

/// The first paragraph, without the word "error".
fn one_line(text: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = paragraph.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_paragraph_is_one_line() {
        let text =
            "error: the following required arguments were not provided:\n  <SOURCE>\n  <DIR>\n\nUsage: x";
        assert_eq!(one_line(text), "the following required arguments were not provided: <SOURCE> <DIR>");
    }
}
