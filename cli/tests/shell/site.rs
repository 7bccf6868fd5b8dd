//! A server with some files, and a home of a user who has a shell there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Ended, World, nearfs, run};

/// A world with files, and what the shell keeps of its user.
pub(crate) struct Site {
    pub(crate) world: World,
}

impl Site {
    /// A server without files.
    pub(crate) fn empty() -> Site {
        let site = Site { world: World::new() };
        fs::create_dir(site.home()).unwrap();
        site
    }

    /// A server with `notes` (6 bytes), `docs/a.txt`, `docs/b.txt`, `docs/deep/c.txt`, `empty/`, and `link` to a.txt.
    pub(crate) fn new() -> Site {
        let site = Site::empty();
        let export = site.export();
        fs::create_dir_all(export.join("docs/deep")).unwrap();
        fs::create_dir(export.join("empty")).unwrap();
        fs::write(export.join("notes"), "hello\n").unwrap();
        fs::write(export.join("docs/a.txt"), vec![b'a'; 2048]).unwrap();
        fs::write(export.join("docs/b.txt"), "b").unwrap();
        fs::write(export.join("docs/deep/c.txt"), "c").unwrap();
        std::os::unix::fs::symlink("docs/a.txt", export.join("link")).unwrap();
        site
    }

    pub(crate) fn export(&self) -> PathBuf {
        self.world.export()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.world.directory.path().join("home")
    }

    /// The server as `connect` has it: host and port.
    pub(crate) fn server(&self) -> (String, String) {
        let (host, port) = self.world.server.address.rsplit_once(':').unwrap();
        (host.into(), port.into())
    }

    /// The prompt in this directory.
    pub(crate) fn prompt(&self, place: &str) -> String {
        format!("nearfs {} {place}>", self.world.server.address)
    }

    /// The program, for a user whose home is here.
    pub(crate) fn nearfs(&self) -> Command {
        let mut command = nearfs();
        let home = self.home();
        command.env("HOME", &home).env("TZ", "UTC").env("SHELL", "/bin/sh").env_remove("NO_COLOR");
        command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_STATE_HOME", home.join("state"));
        command.current_dir(&home);
        command
    }

    /// Commands on the server.
    #[track_caller]
    pub(crate) fn shell(&self, commands: &str) -> Ended {
        run(self.nearfs().args(["shell", &self.world.source(), "-c", commands]))
    }

    /// One verb as a command; `@` in an argument stands for the source.
    #[track_caller]
    pub(crate) fn once(&self, arguments: &[&str]) -> Ended {
        let source = self.world.source();
        let source = source.trim_end_matches('/');
        run(self.nearfs().args(arguments.iter().map(|argument| argument.replace('@', source))))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.export().join(path).symlink_metadata().is_ok()
    }
}

/// The objects that a command wrote for scripts.
#[track_caller]
pub(crate) fn objects(out: &str) -> Vec<serde_json::Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
