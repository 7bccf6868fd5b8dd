//! What the program tells of itself: help, version, manual, completions; and its installation.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{nearfs, run};

#[test]
fn help_names_every_command() {
    let help = run(nearfs().arg("--help")).succeeded().out;
    let commands = [
        "serve",
        "mount",
        "umount",
        "status",
        "doctor",
        "top",
        "shell",
        "ls",
        "completions",
        "man",
        "version",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
    }
    let help = run(nearfs().args(["mount", "--help"])).succeeded().out;
    for option in ["allow_other", "timeout=SECS", "cache_size=BYTES", "local_lock="] {
        assert!(help.contains(option), "{option} is not in {help}");
    }
}

#[test]
fn version_is_told_in_both_ways() {
    let expected = format!("nearfs {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(nearfs().arg("--version")).succeeded().out, expected);
    assert_eq!(run(nearfs().arg("version")).succeeded().out, expected);
}

#[test]
fn completions_come_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(nearfs().args(["completions", shell])).succeeded().out;
        assert!(script.contains("nearfs") && script.contains("umount"), "{shell}");
    }
}

#[test]
fn the_installation_is_complete_and_can_be_undone() {
    let root = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install");
    let install = |words: &[&str]| {
        let mut command = Command::new(&script);
        command.args(words).args(["--prefix", "/usr/local"]).env("DESTDIR", root.path());
        run(&mut command).succeeded()
    };
    install(&["--binary", env!("CARGO_BIN_EXE_nearfs")]);
    let installed = |path: &str| root.path().join(path).symlink_metadata().is_ok();
    for path in [
        "usr/local/bin/nearfs",
        "sbin/mount.nearfs",
        "sbin/mount.fuse.nearfs",
        "usr/local/share/man/man1/nearfs.1",
        "usr/local/share/man/man1/nearfs-mount.1",
        "usr/local/share/man/man1/nearfs-shell.1",
        "usr/local/share/doc/nearfs/examples/dotted.toml",
        "usr/local/share/bash-completion/completions/nearfs",
        "usr/local/share/zsh/site-functions/_nearfs",
        "usr/local/share/fish/vendor_completions.d/nearfs.fish",
    ] {
        assert!(installed(path), "{path}");
    }
    let program = fs::read_link(root.path().join("sbin/mount.nearfs")).unwrap();
    assert_eq!(program, Path::new("/usr/local/bin/nearfs"));
    install(&["--uninstall"]);
    let files = run(Command::new("find").arg(root.path()).args(["!", "-type", "d"])).succeeded().out;
    assert_eq!(files, "", "files were left behind");
}
