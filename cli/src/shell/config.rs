//! `config.toml`: what a person wants to be different.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use etcetera::base_strategy::Xdg;
use nearfs_transport::address::DEFAULT_PORT;
use serde::Deserialize;

use crate::shell::failure::Failure;
use crate::shell::parser::{self, Step, Word};

/// A larger file is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What was wished.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The server that `connect` without arguments means, and a shell without SOURCE.
    pub(crate) server: Option<String>,
    /// The port of a host that is given without one.
    pub(crate) port: u16,
    /// Where a shell begins on this machine.
    pub(crate) local_directory: Option<PathBuf>,
    /// Verbs of one's own, and the words that each stands for.
    pub(crate) verbs: BTreeMap<Vec<u8>, Vec<Word>>,
    /// Whether each of these verbs begins a new command wherever it stands.
    pub(crate) verbs_separate: bool,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    server: Option<String>,
    port: Option<u16>,
    local_directory: Option<String>,
    #[serde(default)]
    verbs_separate: bool,
    #[serde(default)]
    verbs: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            server: None,
            port: DEFAULT_PORT,
            local_directory: None,
            verbs: BTreeMap::new(),
            verbs_separate: false,
        }
    }
}

impl Config {
    /// Reads this file, or else the user's own if there is one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Config, Failure> {
        let own = user_files().map(|files| files.config_dir().join("nearfs").join("config.toml"));
        let (path, must_exist) = match (path, own) {
            (Some(path), _) => (path.to_owned(), true),
            (None, Some(own)) => (own, false),
            (None, None) => return Ok(Config::default()),
        };
        match fs::metadata(&path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                Err(Failure::Usage(format!("{}: too large to be a configuration", path.display())))
            }
            Ok(_) => {
                let text = fs::read_to_string(&path).map_err(Failure::local(&path))?;
                Config::parse(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
            }
            Err(_) if !must_exist => Ok(Config::default()),
            Err(error) => Err(Failure::local(&path)(error)),
        }
    }

    /// Reads the text of a file, or says in one line what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        let written: Written = toml::from_str(text).map_err(|error| one_line(&error, text))?;
        let mut verbs = BTreeMap::new();
        for (name, meaning) in written.verbs {
            let words = match parser::parse(meaning.as_bytes()).map(|mut steps| (steps.pop(), steps)) {
                Ok((Some(Step::Verb { words, .. }), rest)) if rest.is_empty() => words,
                _ => return Err(format!("the verb {name:?} must mean one command, not {meaning:?}")),
            };
            let is_odd = |c: char| c.is_whitespace() || c.is_control() || ";|>'\"\\".contains(c);
            if name.is_empty() || name.contains(is_odd) || name.starts_with(['!', '#', '-']) {
                return Err(format!("{name:?} cannot be a verb"));
            }
            verbs.insert(name.into_bytes(), words);
        }
        Ok(Config {
            server: written.server,
            port: written.port.unwrap_or(DEFAULT_PORT),
            local_directory: written.local_directory.map(|path| expand_home(&path)),
            verbs,
            verbs_separate: written.verbs_separate,
        })
    }

    /// Cuts words into commands, where verbs do that, and puts what they mean in the place of verbs of one's own.
    pub(crate) fn commands(&self, words: Vec<Word>) -> Vec<Vec<Word>> {
        let mut commands: Vec<Vec<Word>> = Vec::new();
        for word in words {
            let meaning = self.verbs.get(&word.bytes()).filter(|_| !word.has_quotes());
            match (meaning, commands.last_mut()) {
                (Some(meaning), None) => commands.push(meaning.clone()),
                (Some(meaning), Some(_)) if self.verbs_separate => commands.push(meaning.clone()),
                (_, Some(command)) => command.push(word),
                (None, None) => commands.push(vec![word]),
            }
        }
        commands
    }
}

/// Where the history of commands is kept; `None` where there is no home.
pub(crate) fn history_file() -> Option<PathBuf> {
    let files = user_files()?;
    let directory = files.state_dir().unwrap_or_else(|| files.data_dir()).join("nearfs");
    Some(directory.join("history"))
}

/// A path with the home directory in place of a tilde.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), etcetera::home_dir()) {
        (Some(rest), Ok(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        (Some(_) | None, _) => path.into(),
    }
}

fn user_files() -> Option<Xdg> {
    Xdg::new().ok()
}

fn one_line(error: &toml::de::Error, text: &str) -> String {
    let before = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let line = error.span().map(|span| 1 + before(span.start));
    let message = error.message().replace('\n', " ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(config: &Config, line: &str) -> Vec<String> {
        let steps = parser::parse(line.as_bytes()).unwrap();
        let mut commands = Vec::new();
        for step in steps {
            let Step::Verb { words, .. } = step else { panic!("{line}") };
            for words in config.commands(words) {
                let words: Vec<String> =
                    words.iter().map(|word| String::from_utf8(word.bytes()).unwrap()).collect();
                commands.push(words.join(" "));
            }
        }
        commands
    }

    #[test]
    fn what_is_wished_is_read() {
        let text = "server = 'nearfs://far/'\nport = 7000\nlocal_directory = '/tmp'\n[verbs]\nll = 'ls -l'\n";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.server.as_deref(), config.port), (Some("nearfs://far/"), 7000));
        assert_eq!(config.local_directory.as_deref(), Some(Path::new("/tmp")));
        assert_eq!(commands(&config, "ll a ll; ls; 'll'"), ["ls -l a ll", "ls", "ll"]);
        assert_eq!(Config::parse("").unwrap().port, DEFAULT_PORT);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        for (text, words) in [
            ("\ncolour = 1", "line 2"),
            ("port = 'x'", "line 1"),
            ("port = 70000", "line 1"),
            ("[verbs]\na = 'ls; rm'", "one command"),
            ("[verbs]\na = '!ls'", "one command"),
            ("[verbs]\n'a b' = 'ls'", "cannot be a verb"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(words) && error.lines().count() == 1, "{text}: {error}");
        }
    }

    #[test]
    fn the_dotted_verbs_of_the_example_stand_for_ours() {
        let config = Config::parse(include_str!("../../examples/dotted.toml")).unwrap();
        assert_eq!(
            commands(&config, ".$ 127.0.0.1 7000 .+ one 'two words' .dl three four .- five ... .! .x"),
            [
                "connect 127.0.0.1 7000",
                "put one two words",
                "get three four",
                "rm five",
                "ls",
                "disconnect",
                "exit"
            ]
        );
        assert_eq!(commands(&config, "... docs"), ["ls docs"]);
    }
}
