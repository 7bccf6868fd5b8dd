//! `nearfs man`: the manual, made from the command line's own descriptions.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

/// Writes the manual page to standard output, or all pages into a directory.
#[derive(Args)]
pub(crate) struct ManOptions {
    /// Write a page for each sub-command into this directory, as man(1) finds them
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(options: &ManOptions) -> anyhow::Result<()> {
    let program = crate::Program::command();
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
    let pages = program.get_subcommands().filter(|command| command.get_name() != "help").map(|command| {
        let name = format!("nearfs-{}", command.get_name());
        (name.clone(), command.clone().name(name))
    });
    for (name, command) in pages.chain([("nearfs".to_owned(), program.clone())]) {
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn page(command: Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}
