//! Where a server is, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use nearfs_protocol::limits::EXPORT_NAME_BYTES_MAX;
use nearfs_protocol::name::{Name, NameError};

/// The port of a server that was not told another.
pub const DEFAULT_PORT: u16 = 6327;

/// What to mount or open: a server, an export of it, and a directory in that.
///
/// | written | means |
/// |---|---|
/// | `nearfs://host[:port][/export[/path]]` | TCP; IPv6 addresses in brackets; `%41` is a byte |
/// | `host:/export/path` | the same on the default port, as mount(8) and fstab(5) write it; taken literally |
/// | `unix:/socket[#/export/path]` | a Unix socket; also `nearfs+unix:///socket`; `%23` is a `#` |
/// | `exec:command words[#/export/path]` | the standard streams of a command; words may be quoted |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The server.
    pub address: Address,
    /// The export's name; empty for the server's default one.
    pub export: Vec<u8>,
    /// The directory below the export's root.
    pub path: Vec<Name>,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Over TCP.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through a Unix socket.
    Unix(PathBuf),
    /// Through the standard input and output of a command: its name and arguments, never empty.
    Exec(Vec<String>),
}

/// Why a text names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// None of the forms.
    #[error(
        "{0:?} is no source: write nearfs://host[:port][/export[/path]], host:/export, unix:/socket or exec:command"
    )]
    Form(String),
    /// Nothing between the slashes.
    #[error("{0:?} names no host")]
    NoHost(String),
    /// No number from 1 to 65,535.
    #[error("{0:?} is no port")]
    Port(String),
    /// A bracket without its other half.
    #[error("{0:?} is no IPv6 address in brackets")]
    Brackets(String),
    /// A `%` that two hexadecimal digits do not follow, or one that hides a NUL.
    #[error("{0:?} has a bad percent escape")]
    Escape(String),
    /// A Unix socket's path must be absolute.
    #[error("{0:?} is no absolute path of a socket")]
    Socket(String),
    /// Nothing to run, or a quote without its other half.
    #[error("{0:?} is no command")]
    Command(String),
    /// A user before the host: that is ssh's business.
    #[error(
        "{0:?} has a user name: reach a server through ssh with 'exec:ssh USER@HOST nearfs serve --stdio DIR'"
    )]
    User(String),
    /// A path component that is no name.
    #[error("bad path: {0}")]
    Path(#[from] NameError),
    /// An export's name that is too long.
    #[error("an export's name has at most {EXPORT_NAME_BYTES_MAX} bytes")]
    Export,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Source, SourceError> {
        if let Some(rest) = text.strip_prefix("nearfs://") {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            return source(tcp(authority)?, &unescape(path)?);
        }
        if let Some(rest) = text.strip_prefix("nearfs+unix://").or_else(|| text.strip_prefix("unix:")) {
            let (socket, path) = rest.split_once('#').unwrap_or((rest, ""));
            return source(unix(socket)?, &unescape(path)?);
        }
        if let Some(rest) = text.strip_prefix("exec:") {
            let (command, path) = rest.split_once('#').unwrap_or((rest, ""));
            return source(Address::Exec(words(command)?), &unescape(path)?);
        }
        match text.split_once(":/") {
            Some((host, path)) if !host.contains('/') && !path.starts_with('/') => {
                source(tcp_default_port(host)?, path.as_bytes())
            }
            _ => Err(SourceError::Form(text.into())),
        }
    }
}

impl fmt::Display for Address {
    /// As `nearfs status` shows it: without the export.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

/// The first component is the export, the others are the path. Repeated and trailing slashes are nothing.
fn source(address: Address, path: &[u8]) -> Result<Source, SourceError> {
    let mut components = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
    let export = components.next().unwrap_or_default().to_vec();
    if export.len() > EXPORT_NAME_BYTES_MAX {
        return Err(SourceError::Export);
    }
    if !export.is_empty() {
        Name::new(&export)?;
    }
    let path = components.map(Name::new).collect::<Result<_, _>>()?;
    Ok(Source { address, export, path })
}

fn tcp(authority: &str) -> Result<Address, SourceError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let brackets = || SourceError::Brackets(authority.into());
            let (host, after) = rest.split_once(']').ok_or_else(brackets)?;
            let port =
                if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(brackets)?) };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 && !digits.starts_with('+') => port,
            _ => return Err(SourceError::Port(digits.into())),
        },
        None => DEFAULT_PORT,
    };
    host_and_port(host, port, authority)
}

fn tcp_default_port(host: &str) -> Result<Address, SourceError> {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| SourceError::Brackets(host.into()))?,
        None if host.contains(':') => return Err(SourceError::Brackets(host.into())),
        None => host,
    };
    host_and_port(bare, DEFAULT_PORT, host)
}

fn host_and_port(host: &str, port: u16, written: &str) -> Result<Address, SourceError> {
    if host.contains('@') {
        return Err(SourceError::User(written.into()));
    }
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(SourceError::NoHost(written.into()));
    }
    Ok(Address::Tcp { host: host.into(), port })
}

fn unix(socket: &str) -> Result<Address, SourceError> {
    use std::os::unix::ffi::OsStringExt;
    let path = unescape(socket)?;
    if !path.starts_with(b"/") {
        return Err(SourceError::Socket(socket.into()));
    }
    Ok(Address::Unix(std::ffi::OsString::from_vec(path).into()))
}

/// Bytes with `%41` for any of them but NUL.
fn unescape(text: &str) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) if high + low > 0 => bytes.push((high * 16 + low) as u8),
            _ => return Err(SourceError::Escape(text.into())),
        }
    }
    Ok(bytes)
}

/// Splits at spaces that are not within single or double quotes.
fn words(command: &str) -> Result<Vec<String>, SourceError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let runnable = quote.is_none() && words.first().is_some_and(|name| !name.is_empty());
    if runnable { Ok(words) } else { Err(SourceError::Command(command.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Address, String, Vec<Name>) {
        let source: Source = text.parse().unwrap();
        (source.address, String::from_utf8_lossy(&source.export).into(), source.path)
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn path(names: &[&[u8]]) -> Vec<Name> {
        names.iter().map(|name| Name::new(name).unwrap()).collect()
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(parse("nearfs://far"), (tcp("far", 6327), "".into(), vec![]));
        assert_eq!(parse("nearfs://far/"), (tcp("far", 6327), "".into(), vec![]));
        assert_eq!(parse("nearfs://far:1//a//b/"), (tcp("far", 1), "a".into(), path(&[b"b"])));
        assert_eq!(parse("nearfs://[::1]:99/a/%ff%2f"), (tcp("::1", 99), "a".into(), path(&[b"\xff"])));
        assert_eq!(parse("nearfs://[fe80::1%eth0]"), (tcp("fe80::1%eth0", 6327), "".into(), vec![]));
        assert_eq!(parse("far:/"), (tcp("far", 6327), "".into(), vec![]));
        assert_eq!(parse("far:/a/b%41"), (tcp("far", 6327), "a".into(), path(&[b"b%41"])));
        assert_eq!(parse("[::1]:/a"), (tcp("::1", 6327), "a".into(), vec![]));
        let unix = |path: &str| Address::Unix(path.into());
        assert_eq!(parse("unix:/run/s"), (unix("/run/s"), "".into(), vec![]));
        assert_eq!(parse("nearfs+unix:///run/%23s#/a/b"), (unix("/run/#s"), "a".into(), path(&[b"b"])));
        let exec = |words: &[&str]| Address::Exec(words.iter().map(|w| w.to_string()).collect());
        assert_eq!(parse("exec:ssh far nearfs"), (exec(&["ssh", "far", "nearfs"]), "".into(), vec![]));
        assert_eq!(
            parse("exec:sh -c 'a  \"b\"' ''#/x"),
            (exec(&["sh", "-c", "a  \"b\"", ""]), "x".into(), vec![])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<Source>().unwrap_err();
        for text in ["", "far", "/local/path", "http://far/", "a/b:/c"] {
            assert!(matches!(error(text), SourceError::Form(_) | SourceError::NoHost(_)), "{text}");
        }
        for text in ["nearfs://", "nearfs:///a", "nearfs://:80/", ":/a", "nearfs://a b/"] {
            assert!(matches!(error(text), SourceError::NoHost(_)), "{text}");
        }
        for text in ["nearfs://a:", "nearfs://a:0", "nearfs://a:65536", "nearfs://a:+1", "nearfs://::1/"] {
            assert!(matches!(error(text), SourceError::Port(_)), "{text}");
        }
        for text in ["nearfs://[::1", "nearfs://[::1]80", "[::1:/a", "::1:/a"] {
            assert!(matches!(error(text), SourceError::Brackets(_)), "{text}");
        }
        for text in ["nearfs://a/%", "nearfs://a/%4", "nearfs://a/%zz", "nearfs://a/%00"] {
            assert!(matches!(error(text), SourceError::Escape(_)), "{text}");
        }
        for text in ["exec:", "exec: #/a", "exec:'a", "exec:''"] {
            assert!(matches!(error(text), SourceError::Command(_)), "{text}");
        }
        assert!(matches!(error("unix:run"), SourceError::Socket(_)));
        assert!(matches!(error("me@far:/a"), SourceError::User(_)));
        assert!(matches!(error("nearfs://a/b/../c"), SourceError::Path(_)));
        assert!(matches!(error("nearfs://a/.."), SourceError::Path(_)));
        assert_eq!(error(&format!("far:/{}", "x".repeat(256))), SourceError::Export);
    }

    #[test]
    fn addresses_read_well() {
        for (text, shown) in [
            ("nearfs://a/x", "a:6327"),
            ("nearfs://[::1]:9", "[::1]:9"),
            ("unix:/s#/x", "unix:/s"),
            ("exec:a 'b c'", "exec:a b c"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().address.to_string(), shown);
        }
    }
}
