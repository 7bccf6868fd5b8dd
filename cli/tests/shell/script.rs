//! Commands without a terminal: several on a line, from files, with their output elsewhere, and what a person configures.

use std::fs;
use std::process::Stdio;

use crate::site::Site;
use crate::support::run;

#[test]
fn a_script_ends_at_the_first_failure_unless_it_is_told_otherwise() {
    let site = Site::new();
    let ended = site.shell("pwd; ls missing; pwd");
    assert_eq!((ended.code, ended.out.as_str()), (Some(4), "/\n"));
    let ended = site.shell("-ls missing; pwd");
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "/\n"), "a dash forgives");
    let ended = site.shell("set -e off; ls missing; pwd");
    assert_eq!((ended.code, ended.out.as_str()), (Some(4), "/\n"));
    assert_eq!(site.shell("set -e off; set -e on; set").succeeded().out, "set -e on\n");
    site.shell("set -x").refused(2, "there is one setting");
}

#[test]
fn scripts_come_from_files_and_pipes() {
    let site = Site::new();
    let script = site.home().join("script");
    fs::write(&script, "# what is there\ncd docs\n\n  pwd ; ls deep  # and deeper\n").unwrap();
    let expected = "in /docs\n/docs\n        1 B  c.txt\n/docs/deep: 0 directories, 1 file, 1 B\n";
    let file = run(site.nearfs().args(["shell", &site.world.source(), "-f"]).arg(&script)).succeeded();
    assert_eq!(file.out, expected);
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_nearfs");
    let line = format!("'{program}' shell {} < '{}'", site.world.source(), script.display());
    assert_eq!(run(command.args(["-c", &line]).stdin(Stdio::null())).succeeded().out, expected);
    run(site.nearfs().args(["shell", "-f", "missing"])).refused(4, "missing: no such file or directory");
}

#[test]
fn output_goes_into_files_and_commands() {
    let site = Site::new();
    site.shell("pwd > 'out put'; ls docs >> 'out put'").succeeded();
    let text = fs::read_to_string(site.home().join("out put")).unwrap();
    assert_eq!(text.lines().next(), Some("/"));
    assert_eq!(text.lines().count(), 5);
    assert_eq!(site.shell("find -type f | sort | head -n 1; pwd").succeeded().out, "/docs/a.txt\n/\n");
    site.shell("pwd > missing/x").refused(4, "missing/x: no such file or directory");
    site.shell("ls |").refused(2, "a command must follow |");
}

#[test]
fn local_commands_run() {
    let site = Site::new();
    assert_eq!(site.shell("!echo one; echo two").succeeded().out, "one\ntwo\n");
    let ended = site.shell("!exit 3");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "the command ended with exit status: 3\n"));
}

#[test]
fn blank_input_is_nothing_and_what_is_unknown_names_the_nearest() {
    let site = Site::new();
    assert_eq!(site.shell("  ;; \n # nothing\n").succeeded().out, "");
    site.shell("lss").refused(2, "unknown command \"lss\"; did you mean ls?");
    site.shell("frobnicate").refused(2, "`help` tells all there are");
    site.shell("ls --colour").refused(2, "see `help ls`");
    site.shell("mv notes").refused(2, "see `help mv`");
    site.shell("ls 'notes").refused(2, "a quote is not closed");
}

#[test]
fn the_dotted_verbs_work_several_on_a_line() {
    let site = Site::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dotted.toml");
    let (host, port) = site.server();
    let shell =
        |script: &str| run(site.nearfs().args(["shell", "--config", example, "-c", script])).succeeded();
    fs::write(site.home().join("mine"), "mine").unwrap();
    let moved =
        shell(&format!(".$ {host} {port} .+ mine new/dir/ .dl docs/a.txt notes got/ .- new/dir/mine .x")).out;
    let sums: Vec<&str> = moved.lines().filter_map(|line| line.split(" in ").next()).collect();
    let connected = format!("connected to {},", site.world.server.address);
    assert_eq!(sums[0], connected, "{moved}");
    let got = format!("to {}/got/: 2 files, 2.0 KiB", site.home().display());
    assert_eq!(sums[1..], ["to /new/dir/mine: 1 file, 4 B", &got, "removed /new/dir/mine (4 B)"]);
    assert_eq!(fs::read(site.home().join("got/notes")).unwrap(), b"hello\n");
    assert!(site.exists("new/dir") && !site.exists("new/dir/mine"));
    fs::remove_dir_all(site.export().join("new")).unwrap();
    let script = format!(".$ {host} {port} ... docs .- notes .- docs/a.txt docs/b.txt ... docs .! .x ... ");
    let ended = shell(&script);
    let server = &site.world.server.address;
    let expected = format!(
        "connected to {server}, in /\n    2.0 KiB  a.txt\n        1 B  b.txt\n          -  deep/\n\
         /docs: 1 directory, 2 files, 2.0 KiB\nremoved /notes (6 B)\nremoved /docs/a.txt (2.0 KiB)\n\
         removed /docs/b.txt (1 B)\n          -  deep/\n/docs: 1 directory, 0 files, 0 B\ndisconnected from {server}\n"
    );
    assert_eq!(ended.out, expected);
}

#[test]
fn a_person_may_have_verbs_and_a_server_of_ones_own() {
    let site = Site::new();
    let directory = site.home().join("config/nearfs");
    fs::create_dir_all(&directory).unwrap();
    let (host, port) = site.server();
    let here = site.export().display().to_string();
    let text = format!(
        "server = '{host}'\nport = {port}\nlocal_directory = '{here}'\n[verbs]\nll = 'ls -b'\nwhere = 'pwd'\n"
    );
    fs::write(directory.join("config.toml"), text).unwrap();
    let ended = run(site.nearfs().args(["shell", "-c", "where; ll docs/a.txt; lpwd; help ll; wher"]));
    let expected = format!(
        "/\n           2048  /docs/a.txt\n/docs/a.txt is a file of 2.0 KiB\n{here}\nll means ls -b\n"
    );
    assert_eq!(ended.out, expected);
    assert!(ended.err.contains("did you mean where?"), "{ended:?}");
    fs::write(directory.join("config.toml"), "colour = 1\n").unwrap();
    run(site.nearfs().args(["shell", "-c", "pwd"])).refused(2, "config.toml: line 1: unknown field `colour`");
}

#[test]
fn pipes_get_no_colours() {
    let site = Site::new();
    assert!(!site.shell("ls").succeeded().out.contains('\u{1b}'));
    let forced =
        run(site.nearfs().env("CLICOLOR_FORCE", "1").args(["shell", &site.world.source(), "-c", "ls"]));
    assert!(forced.succeeded().out.contains("\u{1b}["), "colours that are asked for are there");
}
