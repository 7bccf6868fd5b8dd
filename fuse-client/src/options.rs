//! The command lines of `nearfs mount`, `umount`, `status` and `doctor`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser};

/// The options of `-o` and what they do, for `--help` and the manual.
pub const MOUNT_OPTIONS: &[(&str, &str)] = &[
    ("ro, rw", "read only, or read and write (default)"),
    ("allow_other", "let other users use the mount"),
    ("allow_root", "let root use the mount"),
    (
        "default_permissions",
        "the kernel checks permissions by mode, uid and gid; the default when others may use the mount \
         or the server acts as the calling user (no_default_permissions turns it off)",
    ),
    ("uid=N, gid=N", "show all files as this user's, this group's"),
    ("umask=M", "show all files without these permission bits"),
    ("timeout=SECS", "how long reads and metadata wait for the server (30)"),
    ("hard, soft", "writes wait for the server as long as it takes (default), or for timeout= only"),
    ("cache_size=BYTES", "memory for caches, as in 64M or 1G (256M); 0 for none"),
    ("readahead=BYTES", "how far to read ahead of a sequential reader (24M)"),
    ("attr_timeout=SECS", "how long attributes are believed (1, the longest)"),
    ("entry_timeout=SECS", "how long names are believed (1, the longest)"),
    ("negative_timeout=SECS", "how long absent names are believed (1, the longest)"),
    ("sync, dirsync", "every write, or every change of a directory, is on the server's disk when it returns"),
    ("local_lock=KIND", "which locks stay on this machine: none (default), flock, posix or all"),
    ("nconnect=N", "connections to the server (3)"),
    ("max_read=BYTES", "largest read request"),
    ("write_behind=BYTES", "bytes of a file on their way while its program goes on"),
    ("nosuid, nodev", "no setuid programs, no devices; on unless suid, dev are given"),
    ("noexec, noatime", "as mount(8) has them"),
    ("nonempty", "mount over a directory that is not empty"),
    ("insecure", "use an unencrypted connection to another machine"),
    ("fsname=NAME", "what the table of mounts shows as the source"),
    ("remount", "change ro, nosuid and the like of a mount that exists"),
];

/// Columns of `--help` for the names of mount options, and for what they do.
const HELP_COLUMNS: (usize, usize) = (23, 54);

/// Mounts a directory of a server; returns when it can be used, and serves it in the background.
#[derive(Args, Clone, Debug)]
#[command(after_help = mount_options_help())]
pub struct MountOptions {
    /// What to mount.
    #[arg(
        value_name = "SOURCE",
        help = "What to mount: nearfs://host[:port][/export[/path]], host:/export, unix:/socket or exec:command"
    )]
    pub source: String,

    /// The directory to mount on
    #[arg(value_name = "MOUNTPOINT")]
    pub mount_point: PathBuf,

    /// Mount options, see below; may be given several times
    #[arg(short = 'o', long = "options", value_name = "OPTION,...")]
    pub options: Vec<String>,

    /// Stay in the foreground and write the log to standard error
    #[arg(short, long)]
    pub foreground: bool,

    /// Tell more; -vv tells every failed operation; RUST_LOG overrides it
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Write the log to this file instead of the system's log
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// Unmounts. Ends within 10 seconds, whatever has become of the server.
#[derive(Args, Clone, Debug)]
pub struct UmountOptions {
    /// The directory that is mounted on
    #[arg(value_name = "MOUNTPOINT")]
    pub mount_point: PathBuf,

    /// Unmount although programs use it; they get errors
    #[arg(short, long)]
    pub force: bool,

    /// Take it out of sight at once, and end when the last program that uses it is done
    #[arg(short, long, conflicts_with = "force")]
    pub lazy: bool,
}

/// Tells how mounts are: all of them, or one. Answers whatever has become of the server.
#[derive(Args, Clone, Debug)]
pub struct StatusOptions {
    /// The directory that is mounted on; all mounts without it
    #[arg(value_name = "MOUNTPOINT")]
    pub mount_point: Option<PathBuf>,

    /// One JSON object for a mount, a list of them without MOUNTPOINT
    #[arg(long)]
    pub json: bool,
}

/// Tells what is wrong with a mount and what will become of it: what waits for how long, who waits, and what he waits
/// for; with no mount, whether this machine can mount at all. Answers whatever has become of the server.
///
/// Ends with 0 if all is well, and with 1 if not.
#[derive(Args, Clone, Debug)]
pub struct DoctorOptions {
    /// The directory that is mounted on; this machine and all mounts without it
    #[arg(value_name = "MOUNTPOINT")]
    pub mount_point: Option<PathBuf>,

    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// How mount(8) calls a mount.TYPE program (see its section "External helpers").
#[derive(Parser, Debug)]
#[command(name = "mount.nearfs", about = "Mounts a directory of a server, on behalf of mount(8)", version)]
pub struct MountProgramOptions {
    /// What to mount
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The directory to mount on
    #[arg(value_name = "MOUNTPOINT")]
    mount_point: PathBuf,
    /// Mount options, as `nearfs mount` takes them
    #[arg(short = 'o', value_name = "OPTION,...")]
    options: Vec<String>,
    /// Only pretend
    #[arg(short = 'f')]
    pub fake: bool,
    /// Pass over unknown options
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Do not write /etc/mtab (nobody does)
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Tell more
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,
    /// The type, with subtype
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<String>,
}

impl MountProgramOptions {
    /// The same as `nearfs mount` would be told.
    pub fn into_mount_options(self) -> MountOptions {
        MountOptions {
            source: self.source,
            mount_point: self.mount_point,
            options: self.options,
            foreground: false,
            verbose: self.verbose,
            log_file: None,
        }
    }
}

/// The mount options as a table that fits a terminal of 80 columns.
fn mount_options_help() -> String {
    let (name_width, text_width) = HELP_COLUMNS;
    let mut help =
        String::from("Options for -o, separated by commas; a later one wins over an earlier one:\n");
    for (names, what) in MOUNT_OPTIONS {
        let mut names = *names;
        for line in wrap(what, text_width) {
            help.push_str(&format!("  {names:<name_width$} {line}\n"));
            names = "";
        }
    }
    help.push_str("What mount(8) and fstab(5) add (defaults, noauto, _netdev, x-...) is accepted.");
    help
}

/// Lines of whole words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_option::MountSettings;

    #[test]
    fn every_option_of_the_help_exists() {
        for (names, _) in MOUNT_OPTIONS {
            for name in names.split(", ") {
                let value = match name.split_once('=') {
                    Some((name, "KIND")) => format!("{name}=flock"),
                    Some((name, "BYTES")) => format!("{name}=64K"),
                    Some((name, _)) => format!("{name}=1"),
                    None => name.to_owned(),
                };
                assert!(MountSettings::parse(&[&value]).is_ok(), "{value}");
            }
        }
    }

    #[test]
    fn the_table_fits_a_terminal() {
        assert!(mount_options_help().lines().all(|line| line.len() <= 80));
    }
}
