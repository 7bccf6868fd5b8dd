//! One verb as a command of the program: `nearfs ls nearfs://host/dir`. Its arguments name the server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nearfs_client::remote::RemotePath;
use nearfs_client::remote::path::printable;
use nearfs_transport::address::{Source, SourceError};

use crate::shell::config::Config;
use crate::shell::failure::Failure;
use crate::shell::interrupt::Interrupt;
use crate::shell::run::run_verb;
use crate::shell::state::Shell;
use crate::shell::verb::Line;

/// A verb, and how to reach the server that its arguments name.
#[derive(Debug)]
pub(crate) struct OneShot {
    /// By the name that the program has for it.
    pub(crate) name: &'static str,
    pub(crate) line: Line,
    pub(crate) insecure: bool,
}

pub(crate) fn run(options: OneShot) -> Result<u8, Failure> {
    let OneShot { name, mut line, insecure } = options;
    let interrupt = Interrupt::watch(true).map_err(Failure::local(Path::new("signals")))?;
    let mut shell = Shell::new(Config::default(), interrupt, false);
    shell.is_one_shot = true;
    shell.verb = name.to_owned();
    shell.is_insecure = insecure;
    // Somebody who types the command can be asked.
    shell.is_interactive = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let source = take_source(line.verb.remote_arguments())?;
    shell.connect(&source)?;
    let result = run_verb(&mut shell, line);
    if let Err(failure) = &result {
        shell.out.failed(failure);
    }
    let flushed = shell.out.flush();
    shell.disconnect();
    Ok(result.err().or(flushed.err()).map_or(0, |failure| failure.code()))
}

/// Finds the server in the arguments, and leaves paths on it in their place: those of sources count from its root, others
/// from the directory of the first.
fn take_source(arguments: &mut [OsString]) -> Result<Source, Failure> {
    let Some(first) = arguments.first() else {
        return Err(Failure::Usage("name a server: nearfs://host/path or another source".into()));
    };
    let source = parse(first)?;
    let (_, path) = at_root(&source);
    let base = path.parent().unwrap_or_default();
    for argument in arguments.iter_mut() {
        let path = match parse(argument) {
            Ok(other) if other.address == source.address => at_root(&other).1.to_bytes(),
            Ok(other) => {
                let (one, other) = (&source.address, &other.address);
                return Err(Failure::Usage(format!("{one} and {other} are two servers; name one of them")));
            }
            Err(_) => {
                let joined = base.join(argument.as_bytes());
                joined
                    .map_err(|error| Failure::Usage(format!("{}: {error}", printable(argument.as_bytes()))))?
                    .to_bytes()
            }
        };
        *argument = OsString::from_vec(path);
    }
    Ok(at_root(&source).0)
}

/// A source, also one whose path is no text.
fn parse(argument: &OsStr) -> Result<Source, SourceError> {
    match argument.to_str() {
        Some(text) => text.parse(),
        None => Err(SourceError::Form(argument.to_string_lossy().into_owned())),
    }
}

/// The root of a source's server, and the path from there.
fn at_root(source: &Source) -> (Source, RemotePath) {
    let root = Source { export: Vec::new(), path: Vec::new(), ..source.clone() };
    let export = nearfs_protocol::name::Name::new(&source.export).ok();
    (root, export.into_iter().chain(source.path.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arguments: &[&str]) -> Result<(String, Vec<String>), Failure> {
        let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let source = take_source(&mut arguments)?;
        assert!(source.export.is_empty() && source.path.is_empty());
        let paths = arguments.into_iter().map(|path| path.into_string().unwrap());
        Ok((source.address.to_string(), paths.collect()))
    }

    #[test]
    fn the_first_argument_names_the_server() {
        let (server, paths) = taken(&["nearfs://far/a/b", "nearfs://far/c", "d", "/e"]).unwrap();
        assert_eq!(server, "far:6327");
        assert_eq!(paths, ["/a/b", "/c", "/a/d", "/e"]);
        assert_eq!(taken(&["far:/"]).unwrap().1, ["/"]);
    }

    #[test]
    fn what_names_no_server_or_two_is_refused() {
        for arguments in [&[][..], &["notes"], &["nearfs://a/x", "nearfs://b/x"]] {
            assert_eq!(taken(arguments).unwrap_err().code(), 2, "{arguments:?}");
        }
    }
}
