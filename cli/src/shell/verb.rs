//! All verbs by their names, and what each does.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::shell::command::{connection, find, help, list, look, make, place, remove, rename, who};
use crate::shell::failure::Failure;
use crate::shell::state::Shell;
use crate::transfer::{self, CatOptions, CheckOptions, CpOptions, GetOptions, MirrorCommand, PutOptions};

/// One command as it is typed at the prompt.
#[derive(Parser, Debug)]
#[command(name = "nearfs", bin_name = "", no_binary_name = true, disable_help_subcommand = true)]
pub(crate) struct Line {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// For scripts: one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The verbs of a shell. Words that people's fingers know are names of the same verb.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    #[command(visible_aliases = ["open", "connme"])]
    Connect(connection::ConnectOptions),
    /// Leaves the server, and stays at the prompt
    #[command(visible_aliases = ["close", "byebye"])]
    Disconnect,
    /// Tells how the connection is
    Status,
    /// Tells who is connected
    Who,
    Kick(who::KickOptions),
    /// Leaves the server and the shell
    #[command(visible_aliases = ["quit", "bye"])]
    Exit,
    #[command(visible_aliases = ["dir", "list", "fetch"])]
    Ls(list::LsOptions),
    /// Tells where one is
    Pwd,
    #[command(visible_alias = "chdir")]
    Cd(place::CdOptions),
    /// Tells where one is
    Lpwd,
    Lcd(place::LcdOptions),
    Lls(place::LlsOptions),
    #[command(visible_aliases = ["delete", "remove"])]
    Rm(remove::RmOptions),
    Mkdir(make::MkdirOptions),
    Rmdir(remove::RmdirOptions),
    #[command(visible_alias = "copy")]
    Cp(CpOptions),
    #[command(visible_aliases = ["move", "rename", "change"])]
    Mv(rename::MvOptions),
    Size(look::SizeOptions),
    Stat(look::StatOptions),
    Du(look::DuOptions),
    Df(look::DfOptions),
    Find(find::FindOptions),
    #[command(visible_alias = "download")]
    Get(GetOptions),
    Cat(CatOptions),
    Check(CheckOptions),
    /// Goes on with a download: get -c
    Reget(GetOptions),
    #[command(visible_alias = "upload")]
    Put(PutOptions),
    /// Goes on with an upload: put -c
    Reput(PutOptions),
    Mirror(MirrorCommand),
    #[command(visible_alias = "?")]
    Help(help::HelpOptions),
    History(help::HistoryOptions),
    Set(help::SetOptions),
}

/// Verbs in the order in which people look for them.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[
    ("Server", &["connect", "disconnect", "status", "who", "kick", "exit"]),
    ("Looking", &["ls", "pwd", "cd", "stat", "size", "du", "df", "find"]),
    ("Copying", &["get", "reget", "put", "reput", "mirror", "cp", "cat", "check"]),
    ("Changing", &["rm", "mkdir", "rmdir", "mv"]),
    ("This machine", &["lpwd", "lcd", "lls"]),
    ("Shell", &["help", "history", "set"]),
];

/// What the arguments of a verb name, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Files of the server.
    Remote,
    /// Directories of the server.
    RemoteDirectories,
    /// Files of this machine.
    Local,
    /// Files of either side: where something goes.
    Both,
    /// Directories of this machine.
    LocalDirectories,
    /// Verbs.
    Verbs,
    /// Neither.
    Nothing,
}

/// What an argument of this verb names, with so many arguments before it.
pub(crate) fn side(name: &str, number: usize) -> Side {
    match canonical(name).as_deref() {
        Some("get" | "reget" | "put" | "reput") if number > 0 => Side::Both,
        Some("check") if number > 0 => Side::Local,
        Some("mirror") => Side::Both,
        Some(
            "ls" | "rm" | "mkdir" | "mv" | "cp" | "size" | "stat" | "du" | "df" | "find" | "get" | "reget"
            | "cat" | "check",
        ) => Side::Remote,
        Some("cd" | "rmdir") => Side::RemoteDirectories,
        Some("lcd") => Side::LocalDirectories,
        Some("lls" | "put" | "reput") => Side::Local,
        Some("help") => Side::Verbs,
        Some(_) | None => Side::Nothing,
    }
}

/// A verb as people read of it.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    /// What it does, in a line.
    pub(crate) about: String,
}

impl Described {
    /// All its names, the first one first.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = std::iter::once(&self.name).chain(&self.aliases).map(String::as_str).collect();
        names.join(", ")
    }
}

/// The verbs of a group.
pub(crate) fn described(names: &[&str]) -> Vec<Described> {
    let line = <Line as clap::CommandFactory>::command();
    let commands = names.iter().filter_map(|name| line.find_subcommand(name));
    let described = commands.map(|command| Described {
        name: command.get_name().to_owned(),
        aliases: command.get_visible_aliases().map(str::to_owned).collect(),
        about: command.get_about().map(ToString::to_string).unwrap_or_default(),
    });
    described.collect()
}

/// All names of all verbs.
pub(crate) fn names() -> Vec<String> {
    let line = <Line as clap::CommandFactory>::command();
    let names = line.get_subcommands().flat_map(|command| {
        std::iter::once(command.get_name().to_owned())
            .chain(command.get_visible_aliases().map(str::to_owned))
            .collect::<Vec<_>>()
    });
    names.collect()
}

/// The first name of the verb that has this one.
pub(crate) fn canonical(name: &str) -> Option<String> {
    let line = <Line as clap::CommandFactory>::command();
    let mut commands = line.get_subcommands();
    let is_meant = |command: &&clap::Command| {
        command.get_name() == name || command.get_all_aliases().any(|alias| alias == name)
    };
    Some(commands.find(is_meant)?.get_name().to_owned())
}

/// The name that is most like what was typed, if one is.
pub(crate) fn nearest(typed: &str, own: impl Iterator<Item = String>) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(typed, name);
    let near = names().into_iter().chain(own).min_by_key(distance)?;
    // More than half of a short word or than two letters of a long one is another word.
    (distance(&near) <= (typed.chars().count() / 2).min(2)).then_some(near)
}

/// Carries out a verb.
pub(crate) fn run(shell: &mut Shell, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Connect(options) => connection::connect(shell, options),
        Verb::Disconnect => connection::disconnect(shell),
        Verb::Status => connection::status(shell),
        Verb::Who => who::who(shell),
        Verb::Kick(options) => who::kick(shell, options),
        Verb::Exit => {
            shell.is_over = true;
            Ok(())
        }
        Verb::Ls(options) => list::ls(shell, options),
        Verb::Pwd => place::pwd(shell),
        Verb::Cd(options) => place::cd(shell, options),
        Verb::Lpwd => place::lpwd(shell),
        Verb::Lcd(options) => place::lcd(shell, options),
        Verb::Lls(options) => place::lls(shell, options),
        Verb::Rm(options) => changing(shell, |shell| remove::rm(shell, options)),
        Verb::Mkdir(options) => changing(shell, |shell| make::mkdir(shell, options)),
        Verb::Rmdir(options) => changing(shell, |shell| remove::rmdir(shell, options)),
        Verb::Mv(options) => changing(shell, |shell| rename::mv(shell, options)),
        Verb::Size(options) => look::file_size(shell, options),
        Verb::Stat(options) => look::stat(shell, options),
        Verb::Du(options) => look::du(shell, options),
        Verb::Df(options) => look::df(shell, options),
        Verb::Find(options) => find::find(shell, options),
        Verb::Cat(options) => transfer::cat(shell, options),
        Verb::Check(options) => transfer::check(shell, options),
        Verb::Get(options) => transfer::get(shell, options, false),
        Verb::Reget(options) => transfer::get(shell, options, true),
        Verb::Put(options) => changing(shell, |shell| transfer::put(shell, options, false)),
        Verb::Reput(options) => changing(shell, |shell| transfer::put(shell, options, true)),
        Verb::Cp(options) => changing(shell, |shell| transfer::cp(shell, options)),
        Verb::Mirror(options) => changing(shell, |shell| transfer::mirror(shell, options)),
        Verb::Help(options) => help::help(shell, options),
        Verb::History(options) => help::history(shell, options),
        Verb::Set(options) => help::set(shell, options),
    }
}

/// Listings that were remembered may be wrong afterwards.
fn changing(
    shell: &mut Shell,
    change: impl FnOnce(&mut Shell) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let result = change(shell);
    shell.listings.clear();
    result
}

impl Verb {
    /// Whether it only looks at what the server has: of anything else the server's log tells by itself.
    pub(crate) fn only_looks(&self) -> bool {
        matches!(
            self,
            Verb::Ls(_)
                | Verb::Cd(_)
                | Verb::Size(_)
                | Verb::Stat(_)
                | Verb::Du(_)
                | Verb::Df(_)
                | Verb::Find(_)
                | Verb::Cat(_)
                | Verb::Check(_)
                | Verb::Who
        )
    }

    /// Its arguments that name files of the server, for a program that is told a source in them.
    pub(crate) fn remote_arguments(&mut self) -> &mut [OsString] {
        match self {
            Verb::Ls(options) => &mut options.paths,
            Verb::Rm(options) => &mut options.paths,
            Verb::Mkdir(options) => &mut options.paths,
            Verb::Rmdir(options) => &mut options.paths,
            Verb::Mv(options) => &mut options.paths,
            Verb::Size(options) => &mut options.paths,
            Verb::Stat(options) => &mut options.paths,
            Verb::Du(options) => &mut options.paths,
            Verb::Df(options) => &mut options.paths,
            Verb::Find(options) => {
                let count = options.path_count();
                &mut options.arguments[..count]
            }
            Verb::Get(options) | Verb::Reget(options) => options.source_arguments(),
            Verb::Cat(options) => &mut options.paths,
            Verb::Check(options) => options.source_arguments(),
            Verb::Put(options) | Verb::Reput(options) => options.source_arguments(),
            Verb::Cp(options) => &mut options.paths,
            Verb::Mirror(options) => options.source_arguments(),
            Verb::Connect(_)
            | Verb::Disconnect
            | Verb::Status
            | Verb::Who
            | Verb::Kick(_)
            | Verb::Exit
            | Verb::Pwd
            | Verb::Cd(_)
            | Verb::Lpwd
            | Verb::Lcd(_)
            | Verb::Lls(_)
            | Verb::Help(_)
            | Verb::History(_)
            | Verb::Set(_) => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_verbs_are_consistent_and_all_are_in_the_summary() {
        Line::command().debug_assert();
        let line = Line::command();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut all: Vec<&str> = line.get_subcommands().map(clap::Command::get_name).collect();
        let mut sorted = grouped.clone();
        sorted.sort_unstable();
        all.sort_unstable();
        assert_eq!(sorted, all);
    }

    #[test]
    fn what_was_mistyped_is_found() {
        let near = |typed: &str| nearest(typed, ["...".to_owned()].into_iter());
        assert_eq!(near("lsi").as_deref(), Some("ls"));
        assert_eq!(near("conect").as_deref(), Some("connect"));
        assert_eq!(near("renmae").as_deref(), Some("rename"));
        assert_eq!((near("frobnicate"), near("y")), (None, None));
        assert_eq!(canonical("bye").as_deref(), Some("exit"));
        assert_eq!(canonical("?").as_deref(), Some("help"));
    }
}
