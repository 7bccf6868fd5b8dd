//! Verbs of the shell as commands of the program: `nearfs ls SOURCE`.

use clap::{Args, Subcommand};

use crate::shell::OneShot;
use crate::shell::command::{find, list, look, make, remove, rename};
use crate::shell::verb::{Line, Verb};
use crate::transfer::{CatOptions, CheckOptions, CpOptions, GetOptions, MirrorCommand, PutOptions};

/// A verb's options, and those of reaching its server.
#[derive(Args, Debug)]
pub(crate) struct Once<T: Args> {
    #[command(flatten)]
    options: T,
    /// For scripts: one JSON object a line
    #[arg(long)]
    json: bool,
    /// Talk to another machine although everybody on the way may read along
    #[arg(long)]
    insecure: bool,
}

/// The verbs that make sense by themselves.
#[derive(Subcommand, Debug)]
pub(crate) enum OnceCommand {
    #[command(mut_arg("paths", source))]
    Ls(Once<list::LsOptions>),
    #[command(mut_arg("paths", source))]
    Rm(Once<remove::RmOptions>),
    #[command(mut_arg("paths", source))]
    Mv(Once<rename::MvOptions>),
    #[command(visible_alias = "copy", mut_arg("paths", source))]
    Cp(Once<CpOptions>),
    #[command(mut_arg("paths", source))]
    Mkdir(Once<make::MkdirOptions>),
    #[command(mut_arg("paths", source))]
    Rmdir(Once<remove::RmdirOptions>),
    #[command(mut_arg("paths", source))]
    Stat(Once<look::StatOptions>),
    #[command(mut_arg("paths", source))]
    Du(Once<look::DuOptions>),
    #[command(mut_arg("paths", source))]
    Df(Once<look::DfOptions>),
    #[command(mut_arg("arguments", |argument| argument.value_name("SOURCE|TEST")))]
    Find(Once<find::FindOptions>),
    #[command(mut_arg("paths", source))]
    Cat(Once<CatOptions>),
    #[command(mut_arg("one", source))]
    Check(Once<CheckOptions>),
    #[command(visible_alias = "download", mut_arg("paths", |argument| argument.value_name("SOURCE|TARGET")))]
    Get(Once<GetOptions>),
    #[command(visible_alias = "upload", mut_arg("paths", |argument| argument.value_name("FILE|SOURCE")))]
    Put(Once<PutOptions>),
    #[command(mut_arg("from", one_side), mut_arg("to", one_side), mut_arg("reverse", |argument| argument.hide(true)))]
    Mirror(Once<MirrorCommand>),
}

/// One of two trees, of which one is on the server.
fn one_side(argument: clap::Arg) -> clap::Arg {
    let id = argument.get_id().as_str().to_owned();
    let (name, help) = match id.as_str() {
        "from" => ("SOURCE|DIR", "The tree that stays as it is"),
        _ => ("DIR|SOURCE", "The tree that becomes like it, itself and not a directory in it"),
    };
    argument.value_name(name).help(help)
}

/// What is a path at the prompt names the server as well here.
fn source(argument: clap::Arg) -> clap::Arg {
    argument.value_name("SOURCE").required(true)
}

impl OnceCommand {
    pub(crate) fn into_one_shot(self) -> OneShot {
        match self {
            OnceCommand::Ls(once) => once.with("ls", Verb::Ls),
            OnceCommand::Rm(once) => once.with("rm", Verb::Rm),
            OnceCommand::Mv(once) => once.with("mv", Verb::Mv),
            OnceCommand::Cp(once) => once.with("cp", Verb::Cp),
            OnceCommand::Mkdir(once) => once.with("mkdir", Verb::Mkdir),
            OnceCommand::Rmdir(once) => once.with("rmdir", Verb::Rmdir),
            OnceCommand::Stat(once) => once.with("stat", Verb::Stat),
            OnceCommand::Du(once) => once.with("du", Verb::Du),
            OnceCommand::Df(once) => once.with("df", Verb::Df),
            OnceCommand::Find(once) => once.with("find", Verb::Find),
            OnceCommand::Cat(once) => once.with("cat", Verb::Cat),
            OnceCommand::Check(once) => once.with("check", Verb::Check),
            OnceCommand::Get(once) => once.with("get", Verb::Get),
            OnceCommand::Put(once) => once.with("put", Verb::Put),
            OnceCommand::Mirror(once) => once.with("mirror", Verb::Mirror),
        }
    }
}

impl<T: Args> Once<T> {
    fn with(self, name: &'static str, verb: impl FnOnce(T) -> Verb) -> OneShot {
        OneShot { name, line: Line { verb: verb(self.options), json: self.json }, insecure: self.insecure }
    }
}
