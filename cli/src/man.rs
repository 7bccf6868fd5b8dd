//! `nearfs man`: the manual, made from the command line's own descriptions.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use nearfs_fuse_client::options::MOUNT_OPTIONS;

use crate::shell::EXIT_CODES;
use crate::shell::verb::{GROUPS, described};

/// Commands whose exit codes are those of the shell.
const SHELL_COMMANDS: &[&str] = &[
    "shell", "ls", "rm", "mv", "cp", "mkdir", "rmdir", "stat", "du", "df", "find", "get", "put", "cat",
    "check", "mirror",
];
/// What the exit codes of the other sub-commands mean.
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "It is done."),
    ("1", "It failed; a line on standard error says why."),
    ("2", "The command line is wrong."),
    ("3", "The server cannot be reached, or does not admit this client."),
];

/// Writes the manual page to standard output, or all pages into a directory.
#[derive(Args)]
pub(crate) struct ManOptions {
    /// Write a page for each sub-command into this directory, as man(1) finds them
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(options: &ManOptions) -> anyhow::Result<()> {
    // The manual has a page for each command in place of `nearfs help`.
    let program = crate::Program::command().disable_help_subcommand(true);
    match &options.dir {
        Some(directory) => {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            write_pages(program, directory)
        }
        None => Ok(std::io::stdout().write_all(&page(program)?)?),
    }
}

fn write_pages(mut program: Command, directory: &Path) -> anyhow::Result<()> {
    program.build();
    let pages = program.get_subcommands().map(|command| {
        let name = format!("nearfs-{}", command.get_name());
        (name.clone(), command.clone().name(name).version(env!("CARGO_PKG_VERSION")))
    });
    for (name, command) in pages.chain([("nearfs".to_owned(), program.clone())]) {
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn page(command: Command) -> anyhow::Result<Vec<u8>> {
    let command_name = command.get_name().to_owned();
    let is_mount = command_name == "nearfs-mount";
    let is_shell = SHELL_COMMANDS.iter().any(|name| command_name == format!("nearfs-{name}"));
    let has_subcommands = command.has_subcommands();
    // What follows the options in the help is a table; the manual has a section of its own for it.
    let man = Man::new(command.after_help("").after_long_help(""));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    if is_mount {
        mount_options().to_writer(&mut page)?;
    }
    if command_name == "nearfs-shell" {
        verbs().to_writer(&mut page)?;
    }
    exit_status(if is_shell { EXIT_CODES } else { EXIT_STATUS }).to_writer(&mut page)?;
    Ok(page)
}

fn mount_options() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["MOUNT OPTIONS"]);
    section.text([roman("For -o, separated by commas; a later one wins over an earlier one.")]);
    for (names, what) in MOUNT_OPTIONS {
        tagged(&mut section, names, what);
    }
    section
}

fn verbs() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["COMMANDS"]);
    section.text([roman(
        "At the prompt; `help COMMAND` tells the options of one. Names that follow each other are the same.",
    )]);
    for verb in GROUPS.iter().flat_map(|(_, names)| described(names)) {
        tagged(&mut section, &verb.names(), &verb.about);
    }
    section
}

fn exit_status(codes: &[(&str, &str)]) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in codes {
        tagged(&mut section, code, meaning);
    }
    section
}

/// A paragraph that hangs on a word.
fn tagged(section: &mut Roff, tag: &str, text: &str) {
    section.control("TP", []);
    section.text([bold(tag)]);
    section.text([roman(text)]);
}
