//! `mirror`: one tree made like another, one of the two on the server.

use std::ffi::OsString;

use clap::Args;
use nearfs_client::transfer::compare::Side;
use nearfs_client::transfer::{Counts, MirrorOptions, Options, Step};
use nearfs_protocol::roster::TransferKind;
use nearfs_transport::address::Source;
use serde_json::{Value, json};

use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count, size};
use crate::shell::state::Shell;
use crate::transfer::options::PaceOptions;
use crate::transfer::run::{Announcement, Telling, resumed, run};

/// Makes one tree like another; brings only what differs
#[derive(Args, Debug)]
pub(crate) struct MirrorCommand {
    /// The tree that stays as it is: on the server, or with -R here
    #[arg(value_name = "SOURCE", index = 1)]
    pub(crate) from: OsString,
    /// The tree that becomes like it, itself and not a directory in it: here, or with -R on the server
    #[arg(value_name = "TARGET", index = 2)]
    pub(crate) to: OsString,
    /// From here to the server
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Only tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Delete at the target what the source does not have
    #[arg(long)]
    delete: bool,
    /// Delete nothing if that would be more than N names
    #[arg(long, value_name = "N")]
    max_delete: Option<u64>,
    /// Let an empty source empty the target
    #[arg(short, long)]
    force: bool,
    /// Tell files apart by their content, hashed where they are, instead of size and time
    #[arg(long)]
    checksum: bool,
    /// Take times for the same that differ by no more than so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    modify_window: u64,
    /// Tell of each file
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    pub(crate) pace: PaceOptions,
    /// Which of the two a program found to be the server's.
    #[arg(skip)]
    found: Found,
}

/// Which of the two arguments of a program name a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Neither,
    From,
    To,
    Both,
}

impl MirrorCommand {
    /// The argument that names the server, where a program gets it.
    pub(crate) fn source_arguments(&mut self) -> &mut [OsString] {
        let is_source =
            |argument: &OsString| argument.to_str().is_some_and(|text| text.parse::<Source>().is_ok());
        self.found = match (is_source(&self.from), is_source(&self.to)) {
            (true, false) => Found::From,
            (false, true) => Found::To,
            (true, true) => Found::Both,
            (false, false) => Found::Neither,
        };
        match self.found {
            Found::From | Found::Both => std::slice::from_mut(&mut self.from),
            Found::To => std::slice::from_mut(&mut self.to),
            Found::Neither => &mut [],
        }
    }

    /// Whether it goes from here to the server.
    fn is_upload(&self, is_one_shot: bool) -> Result<bool, Failure> {
        match self.found {
            _ if !is_one_shot => Ok(self.reverse),
            Found::To => Ok(true),
            Found::From | Found::Neither if !self.reverse => Ok(false),
            Found::From | Found::Neither => {
                Err(Failure::Usage("-R goes to the server, and the server is the source here".into()))
            }
            Found::Both => Err(Failure::Usage(
                "one of the two must be a directory of this machine; cp -r copies on the server".into(),
            )),
        }
    }
}

pub(crate) fn mirror(shell: &mut Shell, options: &MirrorCommand) -> Result<(), Failure> {
    let is_upload = options.is_upload(shell.is_one_shot)?;
    let (here, there) = if is_upload { (&options.from, &options.to) } else { (&options.to, &options.from) };
    let (local, path) = (shell.local_path(here), shell.remote_path(there)?);
    // Where it is must not depend on how it was typed: by its place an interrupted transfer is found again.
    let local = std::path::absolute(&local).map_err(Failure::local(&local))?;
    let (here, there) = (Side::Local(local), Side::Remote(path.clone()));
    let (source, target) = if is_upload { (here, there) } else { (there, here) };
    let kind = if is_upload { TransferKind::Upload } else { TransferKind::Download };
    let announcements = [Announcement { kind, path, bytes: 0 }];
    let announcements = if options.dry_run { &[][..] } else { &announcements };
    let transfer_options = Options {
        overwrite: true,
        resume: true,
        archive: true,
        rate_limit: options.pace.limit_rate,
        umask: shell.remote()?.current().umask(),
        ..Options::default()
    };
    let how = MirrorOptions {
        dry_run: options.dry_run,
        delete: options.delete,
        delete_max: options.max_delete,
        may_empty: options.force,
        by_content: options.checksum,
        window_secs: options.modify_window,
    };
    let only = if options.dry_run { "would mirror" } else { "mirrors" };
    shell.out.say(Kind::Note, &format!("{only} {source} to {target}"))?;
    let telling = Mirrored { is_dry: options.dry_run, is_verbose: options.verbose };
    run(shell, &options.pace, transfer_options, announcements, &telling, |transfer| {
        transfer.mirror(&source, &target, &how);
    })
}

/// What a mirror says.
struct Mirrored {
    is_dry: bool,
    is_verbose: bool,
}

impl Telling for Mirrored {
    fn step(&self, step: &Step) -> (Value, Option<String>) {
        let would = if self.is_dry { "would " } else { "" };
        let (object, text) = match step {
            Step::Send { path, target, bytes } => (
                json!({ "action": "send", "source": path, "target": target, "bytes": bytes }),
                format!("{would}send {path} ({})", size(*bytes)),
            ),
            Step::MakeDir { path } => (
                json!({ "action": "make_directory", "target": path }),
                format!("{would}make the directory {path}"),
            ),
            Step::Adjust { path } => (
                json!({ "action": "set_attributes", "target": path }),
                format!("{would}set mode and time of {path}"),
            ),
            Step::Delete { path } => {
                (json!({ "action": "delete", "target": path }), format!("{would}delete {path}"))
            }
        };
        (object, (self.is_dry || self.is_verbose).then_some(text))
    }

    fn sum(&self, counts: &Counts, seconds: f64) -> (Value, String) {
        let bytes = if self.is_dry { counts.bytes_expected } else { counts.far_bytes };
        let object = json!({
            "dry_run": self.is_dry,
            "sent": counts.files,
            "unchanged": counts.unchanged,
            "attributes_set": counts.adjusted,
            "deleted": counts.removed,
            "failed": counts.failures,
            "bytes": bytes,
            "resumed_bytes": counts.resumed_bytes,
            "seconds": seconds,
        });
        let adjusted = match counts.adjusted {
            0 => String::new(),
            number => format!(" ({number} with new modes or times)"),
        };
        let text = format!(
            "{}{} sent ({}{}), {} unchanged{adjusted}, {} deleted, {} failed, in {seconds:.2} s",
            if self.is_dry { "nothing was done; it would be " } else { "" },
            count(counts.files, "file", "files"),
            size(bytes),
            resumed(counts),
            counts.unchanged,
            counts.removed,
            counts.failures
        );
        (object, text)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        mirror: MirrorCommand,
    }

    fn direction(arguments: &[&str]) -> Result<bool, u8> {
        let line = Line::try_parse_from([&["mirror"], arguments].concat()).unwrap();
        let mut mirror = line.mirror;
        let named = mirror.source_arguments().len();
        assert_eq!(named == 0, mirror.found == Found::Neither);
        mirror.is_upload(true).map_err(|failure| failure.code())
    }

    #[test]
    fn a_program_goes_where_the_source_says() {
        assert_eq!(direction(&["nearfs://far/a", "here"]), Ok(false));
        assert_eq!(direction(&["here", "nearfs://far/a"]), Ok(true));
        assert_eq!(direction(&["-R", "here", "nearfs://far/a"]), Ok(true));
        assert_eq!(direction(&["-R", "nearfs://far/a", "here"]), Err(2));
        assert_eq!(direction(&["nearfs://far/a", "nearfs://far/b"]), Err(2));
    }
}
