//! What a shell has: a connection, a place there, and where its output goes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nearfs_client::cancel::Cancel;
use nearfs_client::config::IdentityMap;
use nearfs_client::error::ConnectError;
use nearfs_client::identity::Caller;
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Follow, Remote, RemoteConfig, RemoteError, RemotePath};
use nearfs_fuse_client::secrecy;
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::name::Name;
use nearfs_transport::address::{Address, Source};
use serde_json::{Value, json};

use crate::shell::command::announce;
use crate::shell::complete::Listings;
use crate::shell::config::{Config, expand_home};
use crate::shell::failure::{Failure, Tally, go_on};
use crate::shell::glob::{self, EachName, Names};
use crate::shell::interrupt::Interrupt;
use crate::shell::output::{Kind, Output, joined, path_fields};
use crate::shell::parser::{is_pattern, unescape};

/// A shell, or the one command of a program that runs only one.
pub(crate) struct Shell {
    pub(crate) config: Config,
    pub(crate) out: Output,
    pub(crate) connection: Option<Connection>,
    /// Ends what the running command waits for.
    pub(crate) cancel: Cancel,
    pub(crate) interrupt: Interrupt,
    pub(crate) listings: Arc<Listings>,
    /// Where one was before, here.
    pub(crate) previous_local: Option<PathBuf>,
    /// Somebody types the commands, and can be asked.
    pub(crate) is_interactive: bool,
    /// Paths were taken apart by another shell already.
    pub(crate) is_one_shot: bool,
    /// A script ends at the first command that fails.
    pub(crate) stops_at_errors: bool,
    /// Servers on other machines may be talked to in the clear.
    pub(crate) is_insecure: bool,
    /// The program shall end.
    pub(crate) is_over: bool,
    /// What was typed, the newest last.
    pub(crate) history: Vec<String>,
    /// The verb that runs, by its first name.
    pub(crate) verb: String,
}

/// A server that one is connected to.
pub(crate) struct Connection {
    pub(crate) remote: Remote,
    /// The server, for people.
    pub(crate) label: String,
    pub(crate) since: SystemTime,
    /// Where one is.
    pub(crate) place: RemotePath,
    /// Where one was before.
    pub(crate) previous: Option<RemotePath>,
    /// Sessions that there had been when this was last told.
    pub(crate) session_count: u64,
}

impl Shell {
    /// A shell without a connection.
    pub(crate) fn new(config: Config, interrupt: Interrupt, is_interactive: bool) -> Shell {
        Shell {
            config,
            out: Output::standard(is_interactive),
            connection: None,
            cancel: interrupt.next(),
            interrupt,
            listings: Arc::default(),
            previous_local: None,
            is_interactive,
            is_one_shot: false,
            stops_at_errors: true,
            is_insecure: false,
            is_over: false,
            history: Vec::new(),
            verb: String::new(),
        }
    }

    /// Connects, and goes to the directory that the source names.
    pub(crate) fn connect(&mut self, source: &Source) -> Result<(), Failure> {
        secrecy::check(&source.address, self.is_insecure)?;
        let (remote, place) = open(source, &self.cancel)?;
        self.connection = Some(Connection {
            label: source.address.to_string(),
            session_count: remote.session_count(),
            since: SystemTime::now(),
            previous: None,
            place: RemotePath::root(),
            remote,
        });
        self.listings.clear();
        if place != RemotePath::root() && !self.is_one_shot {
            let gone = self.go_to(&place);
            if gone.is_err() {
                self.disconnect();
            }
            gone?;
        }
        Ok(())
    }

    /// Says good-bye. Returns whom to, if anybody.
    pub(crate) fn disconnect(&mut self) -> Option<String> {
        let connection = self.connection.take()?;
        connection.remote.disconnect();
        self.listings.clear();
        Some(connection.label)
    }

    /// The server, for the running command.
    pub(crate) fn remote(&self) -> Result<Remote, Failure> {
        let connection = self.connection.as_ref().ok_or(Failure::NotConnected)?;
        Ok(connection.remote.with_cancel(&self.cancel))
    }

    /// Where one is on the server.
    pub(crate) fn place(&self) -> Result<RemotePath, Failure> {
        Ok(self.connection.as_ref().ok_or(Failure::NotConnected)?.place.clone())
    }

    /// Goes to a directory of the server.
    pub(crate) fn go_to(&mut self, path: &RemotePath) -> Result<(), Failure> {
        let attr = self.remote()?.stat(path, Follow::Yes)?;
        if attr.kind != FileKind::Directory {
            return Err(Failure::Refused(format!("{path} is a file, not a directory")));
        }
        if let Some(connection) = &mut self.connection {
            connection.previous = Some(std::mem::replace(&mut connection.place, path.clone()));
        }
        Ok(())
    }

    /// A path on the server, as it was written in an argument: without patterns.
    pub(crate) fn remote_path(&self, argument: &OsStr) -> Result<RemotePath, Failure> {
        self.joined(&self.unquoted(argument))
    }

    /// What an argument says, without patterns.
    pub(crate) fn unquoted(&self, argument: &OsStr) -> Vec<u8> {
        if self.is_one_shot { argument.as_bytes().to_vec() } else { unescape(argument.as_bytes()) }
    }

    /// All paths on the server that arguments stand for; of no argument, where one is. A pattern that stands for nothing is
    /// a failure.
    pub(crate) fn remote_paths(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Vec<RemotePath>, Failure> {
        let mut paths = Vec::new();
        for argument in arguments {
            let pattern = argument.as_ref().as_bytes();
            if self.is_one_shot && is_pattern(pattern) {
                let literal = self.joined(pattern)?;
                if self.remote()?.stat_if_there(&literal, Follow::No)?.is_some() {
                    paths.push(literal);
                    continue;
                }
            }
            let tree = RemoteNames { remote: self.remote()?, place: self.place()? };
            let found = if self.is_one_shot && !is_pattern(pattern) {
                vec![pattern.to_vec()]
            } else {
                glob::expand(pattern, &tree)?
            };
            if found.is_empty() {
                return Err(Failure::Missing(format!("{}: nothing of that name", printable(pattern))));
            }
            for path in found {
                paths.push(self.joined(&path)?);
            }
        }
        Ok(paths)
    }

    /// The same, with the place where one is in the place of no argument.
    pub(crate) fn remote_paths_or_place(
        &self,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Vec<RemotePath>, Failure> {
        if arguments.is_empty() { Ok(vec![self.place()?]) } else { self.remote_paths(arguments) }
    }

    /// A path of this machine, as it was written in an argument: without patterns.
    pub(crate) fn local_path(&self, argument: &OsStr) -> PathBuf {
        if self.is_one_shot { argument.into() } else { local_path(argument.as_bytes()) }
    }

    /// Asks the person whether to go on.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<Answer, Failure> {
        self.out.flush()?;
        crate::shell::terminal::ask(question)
    }

    /// Tells a failure of one of several things, and goes on with the others unless it ends all.
    pub(crate) fn told(
        &mut self,
        tally: &mut Tally,
        path: &RemotePath,
        failure: Failure,
    ) -> Result<(), Failure> {
        if failure.ends_all() {
            return Err(failure);
        }
        let failure = self.explained(failure);
        self.tell(tally, path, &failure)
    }

    /// Tells what became of several things that were dealt with at once: what was done by `done`, the failures as they are.
    /// What ends all does so when everything else has been told.
    pub(crate) fn tell_all<T>(
        &mut self,
        tally: &mut Tally,
        outcomes: Vec<(&RemotePath, Result<T, Failure>)>,
        mut done: impl FnMut(&mut Output, &RemotePath, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut end = Ok(());
        for (path, outcome) in outcomes {
            match outcome {
                Ok(what) => {
                    tally.done();
                    done(&mut self.out, path, what)?;
                }
                Err(failure) if failure.ends_all() => end = end.and(Err(failure)),
                Err(failure) => self.tell(tally, path, &failure)?,
            }
        }
        end
    }

    fn tell(&mut self, tally: &mut Tally, path: &RemotePath, failure: &Failure) -> Result<(), Failure> {
        self.report(failure);
        self.out.object(&joined(path_fields(&path.to_bytes()), failure_fields(failure)))?;
        self.out.failed(failure);
        tally.failed(failure.code());
        Ok(())
    }

    /// What is not there may be on its way: then a person has to know who brings it, and how far he is.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        match self.remote() {
            Ok(remote) => announce::explained(&remote, failure),
            Err(_) => failure,
        }
    }

    /// Tells the server's log of a failure that is about its files. Names of this machine are nobody's business there.
    pub(crate) fn report(&self, failure: &Failure) {
        let is_about_server = matches!(failure, Failure::Remote(_) | Failure::Missing(_));
        if let (Some(connection), true) = (&self.connection, is_about_server && !failure.ends_all()) {
            connection.remote.current().report(&self.verb, &failure.to_string());
        }
    }

    /// Tells the server's log of a verb that only looked at something.
    pub(crate) fn report_done(&self, words: &str) {
        if let Some(connection) = &self.connection {
            connection.remote.current().report(words, "");
        }
    }

    /// Ends a command that was to be ended.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        go_on(&self.cancel)
    }

    /// Tells if the session was lost for good and another one began.
    pub(crate) fn tell_of_new_session(&mut self) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let count = connection.remote.session_count();
        if std::mem::replace(&mut connection.session_count, count) == count {
            return Ok(());
        }
        let text = format!("{} had been started again; connected anew", connection.label);
        self.out.say(Kind::Note, &text)
    }

    fn joined(&self, text: &[u8]) -> Result<RemotePath, Failure> {
        Ok(self.place()?.join(text).map_err(|error| RemoteError::about(text, error))?)
    }
}

/// A failure for scripts.
pub(crate) fn failure_fields(failure: &Failure) -> Value {
    json!({ "error": failure.to_string(), "code": failure.code() })
}

/// What a person says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// Yes, and to all further ones of the same kind.
    All,
}

/// A path of this machine as a pattern has it.
pub(crate) fn local_path(pattern: &[u8]) -> PathBuf {
    match std::str::from_utf8(pattern) {
        Ok(text) if text.starts_with('~') => {
            expand_home(&String::from_utf8_lossy(&unescape(text.as_bytes())))
        }
        Ok(_) | Err(_) => OsStr::from_bytes(&unescape(pattern)).into(),
    }
}

/// Connects to the server of a source. Its root becomes ours, and the path of the source is where to go; only where the
/// server has no share without a name is the first of its names that of a share.
fn open(source: &Source, cancel: &Cancel) -> Result<(Remote, RemotePath), Failure> {
    let at_root = Source { export: Vec::new(), path: Vec::new(), ..source.clone() };
    let export = if source.export.is_empty() { None } else { Name::new(&source.export).ok() };
    match Remote::connect(&at_root, remote_config(), cancel) {
        Err(ConnectError::Refused { refusal: Refusal::NoExport, .. }) if export.is_some() => {
            let share = Source { path: Vec::new(), ..source.clone() };
            let remote =
                Remote::connect(&share, remote_config(), cancel).map_err(|error| given_up(error, cancel))?;
            Ok((remote, source.path.iter().cloned().collect()))
        }
        Err(error) => Err(given_up(error, cancel)),
        Ok(remote) => Ok((remote, export.into_iter().chain(source.path.iter().cloned()).collect())),
    }
}

fn given_up(error: ConnectError, cancel: &Cancel) -> Failure {
    if cancel.is_cancelled() { Failure::Interrupted } else { error.into() }
}

fn remote_config() -> RemoteConfig {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    RemoteConfig {
        client_name: format!("{} (uid {uid}, shell)", host.trim()),
        caller: Caller { uid, gid, pid: 0 },
        identity: IdentityMap { own_uid: uid, own_gid: gid, ..IdentityMap::default() },
        umask: umask().unwrap_or(0o022),
        ..RemoteConfig::default()
    }
}

/// Asked without changing it, which umask(2) would (proc_pid_status(5)).
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"))?.trim();
    u32::from_str_radix(digits, 8).ok()
}

/// A host and a port as `connect` has them, or a source.
pub(crate) fn source_of(text: &str, port: u16) -> Result<Source, Failure> {
    match text.parse::<Source>() {
        Ok(source) => Ok(source),
        // A bare host: letters, and colons only in an IPv6 address or before a port.
        Err(_) if !text.is_empty() && !text.contains(['/', '@', ' ', '[']) => {
            let (host, port) = match text.rsplit_once(':') {
                Some((host, digits)) if !host.contains(':') => {
                    let port = digits.parse::<u16>().ok().filter(|port| *port > 0);
                    (host, port.ok_or_else(|| Failure::Usage(format!("{digits:?} is no port")))?)
                }
                _ => (text, port),
            };
            let address = Address::Tcp { host: host.into(), port };
            Ok(Source { address, export: Vec::new(), path: Vec::new() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Names on the server, for patterns.
struct RemoteNames {
    remote: Remote,
    place: RemotePath,
}

impl RemoteNames {
    fn path(&self, text: &[u8]) -> Result<RemotePath, Failure> {
        Ok(self.place.join(text).map_err(|error| RemoteError::about(text, error))?)
    }
}

impl Names for RemoteNames {
    fn each(&self, directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure> {
        let listing = match self.remote.list(&self.path(directory)?) {
            Ok(listing) => listing,
            Err(error) if error.is_not_found() || error.errno() == Errno::EACCES => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for piece in listing {
            piece?.iter().try_for_each(|listed| name(listed.name.as_bytes()))?;
        }
        Ok(())
    }

    fn exists(&self, path: &[u8]) -> Result<bool, Failure> {
        match self.remote.stat(&self.path(path)?, Follow::No) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() || error.errno() == Errno::EACCES => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Names on this machine, for patterns.
pub(crate) struct LocalNames;

impl Names for LocalNames {
    fn each(&self, directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure> {
        let directory =
            if directory.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(directory)) };
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
        entries.flatten().try_for_each(|entry| name(entry.file_name().as_bytes()))
    }

    fn exists(&self, path: &[u8]) -> Result<bool, Failure> {
        Ok(std::fs::symlink_metadata(OsStr::from_bytes(path)).is_ok())
    }
}

impl Shell {
    /// All paths of this machine that arguments stand for. A pattern that stands for nothing is a failure.
    pub(crate) fn local_paths(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for argument in arguments {
            let pattern = argument.as_ref().as_bytes();
            if self.is_one_shot || !is_pattern(pattern) {
                paths.push(self.local_path(argument.as_ref()));
                continue;
            }
            // A tilde is no pattern, and what it stands for may have letters that would be one.
            let found = match pattern.strip_prefix(b"~/").zip(etcetera::home_dir().ok()) {
                Some((rest, home)) => {
                    let from = Below(home.as_os_str().as_bytes().to_vec());
                    glob::expand(rest, &from)?.into_iter().map(|path| from.path(&path)).collect()
                }
                None => glob::expand(pattern, &LocalNames)?,
            };
            if found.is_empty() {
                return Err(Failure::local(Path::new(argument.as_ref()))(
                    std::io::ErrorKind::NotFound.into(),
                ));
            }
            paths.extend(found.iter().map(|path| PathBuf::from(OsStr::from_bytes(path))));
        }
        Ok(paths)
    }
}

/// Names below a directory of this machine.
struct Below(Vec<u8>);

impl Below {
    fn path(&self, path: &[u8]) -> Vec<u8> {
        [self.0.as_slice(), b"/", path].concat()
    }
}

impl Names for Below {
    fn each(&self, directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure> {
        LocalNames.each(&self.path(directory), name)
    }

    fn exists(&self, path: &[u8]) -> Result<bool, Failure> {
        LocalNames.exists(&self.path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_named_by_host_and_port() {
        let shown = |text: &str| source_of(text, 7000).unwrap().address.to_string();
        assert_eq!(shown("far"), "far:7000");
        assert_eq!(shown("far:99"), "far:99");
        assert_eq!(shown("::1"), "[::1]:7000");
        assert_eq!(shown("nearfs://far/x"), "far:6327");
        assert_eq!(shown("unix:/run/s"), "unix:/run/s");
        for bad in ["", "far:0", "far:x", "a/b", "me@far"] {
            assert_eq!(source_of(bad, 7000).unwrap_err().code(), 2, "{bad}");
        }
    }
}
