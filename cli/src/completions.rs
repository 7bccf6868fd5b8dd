//! `nearfs completions`: what lets a shell complete the command line.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Writes a completion script to standard output.
#[derive(Args)]
pub(crate) struct CompletionsOptions {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(options: &CompletionsOptions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut crate::Program::command(), "nearfs", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
