//! A person at a prompt.

use std::fs;
use std::time::{Duration, Instant};

use crate::site::Site;
use crate::support::{PROMPT, Server, nearfs, run, wait_for};
use crate::terminal::Terminal;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// A shell that is connected to the site and waits for a line.
#[track_caller]
fn connected(site: &Site) -> Terminal {
    let terminal = Terminal::start(site.nearfs().args(["shell", &site.world.source()]));
    terminal.ends_with(&site.prompt("/"));
    terminal
}

#[test]
fn a_start_greets_and_the_prompt_tells_where_one_is() {
    let site = Site::new();
    let mut terminal = Terminal::start(site.nearfs().arg("shell"));
    terminal.ends_with("nearfs not connected>");
    for words in ["files of another machine", "connect, open, connme", "Ctrl-C ends a command"] {
        terminal.shows(words);
    }
    let (host, port) = site.server();
    terminal.type_line(&format!("connect {host} {port}"));
    terminal.shows(&format!("connected to {}, in /", site.world.server.address));
    terminal.ends_with(&site.prompt("/"));
    terminal.type_line("cd docs");
    terminal.ends_with(&site.prompt("/docs"));
    terminal.type_line("");
    terminal.type_line("disconnect");
    terminal.ends_with("nearfs not connected>");
    terminal.type_line("ls");
    terminal.shows("not connected; use `connect HOST [PORT]` first");
    terminal.press(CTRL_D);
    assert_eq!(terminal.ended(), 3, "the code is that of the last command");
}

#[test]
fn a_server_that_is_not_there_leaves_the_prompt() {
    let site = Site::new();
    let mut terminal = Terminal::start(site.nearfs().args(["shell", "127.0.0.1:1"]));
    terminal.shows("refused the connection");
    terminal.ends_with("nearfs not connected>");
    terminal.type_line("exit");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn tab_completes_verbs_and_names_on_both_sides() {
    let site = Site::new();
    fs::create_dir(site.export().join("odd name")).unwrap();
    fs::create_dir(site.home().join("here")).unwrap();
    fs::write(site.home().join("here/some file"), "").unwrap();
    let mut terminal = connected(&site);
    terminal.press("disc\t");
    terminal.ends_with("> disconnect");
    terminal.press("\x15cd do\t");
    terminal.ends_with("> cd docs/");
    terminal.press("de\t");
    terminal.ends_with("> cd docs/deep/");
    fs::write(site.export().join("docs2"), "").unwrap();
    terminal.type_line("\x15ls");
    terminal.shows("docs2");
    terminal.press("cd do\t");
    terminal.ends_with("> cd docs/");
    terminal.press("\x15ls od\t");
    terminal.ends_with("> ls odd\\ name/");
    terminal.press("\x15lls he\tso\t");
    terminal.ends_with("> lls here/some\\ file");
    terminal.press("\x15stat docs/\t\t");
    terminal.shows("a.txt  b.txt  deep/");
    // Where something goes may be on either side, and where output goes is here.
    fs::create_dir(site.home().join("docked")).unwrap();
    terminal.press("\x15put he\t");
    terminal.ends_with("> put here/");
    terminal.press(" em\t");
    terminal.ends_with("> put here/ empty/");
    terminal.press("\x15get -f notes dock\t");
    terminal.ends_with("> get -f notes docked/");
    terminal.press("\x15ls docs > he\t");
    terminal.ends_with("> ls docs > here/");
}

#[test]
fn what_was_listed_is_completed_at_once() {
    const NAMES: usize = 5_000;
    let site = Site::empty();
    (0..NAMES).for_each(|number| fs::write(site.export().join(format!("name-{number:04}")), "").unwrap());
    fs::write(site.export().join("other"), "").unwrap();
    let mut terminal = connected(&site);
    terminal.type_line("ls | wc -l");
    terminal.shows(&format!("{}", NAMES + 2));
    terminal.ends_with(&site.prompt("/"));
    // Nothing is asked for any more: nobody would answer.
    site.world.server.signal("STOP");
    let tried = (0..5).map(|_| {
        terminal.press("\x15size ");
        terminal.ends_with("> size");
        let began = Instant::now();
        terminal.press("oth\t");
        terminal.ends_with("> size other");
        began.elapsed()
    });
    // The machine may be busy with something else now and then.
    let fastest = tried.min().unwrap();
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    site.world.server.signal("CONT");
}

#[test]
fn completion_does_not_wait_for_a_server_that_is_silent() {
    let site = Site::new();
    let mut terminal = connected(&site);
    terminal.type_line("ls");
    terminal.shows("/: 2 directories");
    site.world.server.signal("STOP");
    terminal.press("cd do\t");
    terminal.ends_with("> cd docs/");
    let began = Instant::now();
    // This one is not remembered: nothing comes, and one can go on typing.
    terminal.press("\tdeep/x");
    terminal.ends_with("> cd docs/deep/x");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    site.world.server.signal("CONT");
}

#[test]
fn removing_asks_and_ctrl_c_is_a_no() {
    let site = Site::new();
    let mut terminal = connected(&site);
    terminal.type_line("rm notes");
    terminal.ends_with("remove /notes (6 B)? [y/N/all]");
    terminal.type_line("n");
    terminal.shows("kept /notes");
    terminal.ends_with(&site.prompt("/"));
    terminal.wipe();
    terminal.type_line("rm notes");
    terminal.ends_with("remove /notes (6 B)? [y/N/all]");
    terminal.press(CTRL_C);
    terminal.shows("interrupted");
    terminal.ends_with(&site.prompt("/"));
    assert!(site.exists("notes"));
    terminal.wipe();
    terminal.type_line("rm notes");
    terminal.ends_with("remove /notes (6 B)? [y/N/all]");
    terminal.type_line("y");
    terminal.shows("removed /notes (6 B)");
    terminal.type_line("rm -r docs");
    terminal.ends_with("remove the directory /docs and all that is in it? [y/N/all]");
    terminal.type_line("yes");
    terminal.shows("removed /docs: 2 directories and 3 files");
    assert!(!site.exists("notes") && !site.exists("docs"));
}

#[test]
fn all_is_an_answer_to_all_questions_of_a_command() {
    let site = Site::new();
    let mut terminal = connected(&site);
    terminal.type_line("rm docs/*.txt notes");
    terminal.ends_with("remove /docs/a.txt (2.0 KiB)? [y/N/all]");
    terminal.type_line("all");
    terminal.shows("removed /notes (6 B)");
    assert!(!site.exists("docs/b.txt"));
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_shell() {
    let site = Site::new();
    let mut terminal = connected(&site);
    site.world.server.signal("STOP");
    terminal.type_line("find");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    terminal.press(CTRL_C);
    terminal.shows("interrupted");
    terminal.ends_with(&site.prompt("/"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    site.world.server.signal("CONT");
    // What is typed is taken back by it, too.
    terminal.press("rm notes");
    terminal.ends_with("> rm notes");
    terminal.press(CTRL_C);
    terminal.ends_with(&site.prompt("/"));
    terminal.type_line("size notes");
    terminal.shows("/notes: 6 B (6 bytes)");
    // A local command gets it itself.
    terminal.type_line("!sleep 60");
    std::thread::sleep(Duration::from_millis(300));
    terminal.press(CTRL_C);
    terminal.shows("the command ended with signal: 2");
    terminal.type_line("exit");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn ctrl_c_leaves_a_server_behind_ssh_alone() {
    let site = Site::new();
    let source = format!("exec:{} serve --stdio {}", env!("CARGO_BIN_EXE_nearfs"), site.export().display());
    let mut terminal = Terminal::start(site.nearfs().args(["shell", &source]));
    terminal.ends_with("/>");
    terminal.type_line("!sleep 60");
    std::thread::sleep(Duration::from_millis(300));
    terminal.press(CTRL_C);
    terminal.shows("signal: 2");
    terminal.type_line("status");
    terminal.shows(", connected");
    assert!(!terminal.screen().contains("anew"), "{}", terminal.screen());
}

#[test]
fn history_is_kept_between_runs() {
    let site = Site::new();
    let mut first = connected(&site);
    first.type_line("size notes");
    first.shows("(6 bytes)");
    first.type_line("exit");
    assert_eq!(first.ended(), 0);
    let mut second = connected(&site);
    second.press(UP);
    second.press(UP);
    second.ends_with("> size notes");
    second.press("\r");
    second.shows("/notes: 6 B");
    second.type_line("history");
    second.shows("    1  size notes");
    second.shows("    2  exit");
    second.wipe();
    second.type_line("!1");
    second.shows("/notes: 6 B");
    second.wipe();
    second.type_line("!!");
    second.shows("/notes: 6 B");
    second.type_line("!99");
    second.shows("there is no line 99");
}

#[test]
fn an_open_quote_goes_on_in_the_next_line() {
    let site = Site::new();
    let mut terminal = connected(&site);
    terminal.type_line("mkdir 'two");
    terminal.type_line("lines'");
    terminal.shows("made the directory /two\\nlines");
    assert!(site.exists("two\nlines"));
}

#[test]
fn messages_have_colours_unless_they_are_not_wanted() {
    let site = Site::new();
    for (wanted, no_color) in [(true, None), (false, Some("1"))] {
        let mut command = site.nearfs();
        command.args(["shell", &site.world.source()]);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let mut terminal = Terminal::start(&mut command);
        terminal.ends_with(&site.prompt("/"));
        terminal.type_line("ls missing");
        terminal.shows("no such file or directory");
        assert_eq!(terminal.has_color("/missing"), wanted, "errors");
        terminal.type_line(if wanted { "mkdir one" } else { "mkdir two" });
        terminal.shows("made the directory");
        assert_eq!(terminal.has_color("made the"), wanted, "what was done");
    }
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let site = Site::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let serve = || Server::start_on(&mut nearfs(), &site.export(), &listen);
    let mut server = serve();
    let mut terminal = Terminal::start(site.nearfs().args(["shell", &listen]));
    terminal.ends_with("/>");
    terminal.type_line("size notes");
    terminal.shows("/notes: 6 B");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    terminal.wipe();
    terminal.type_line("ls docs");
    std::thread::sleep(Duration::from_millis(300));
    let again = serve();
    // The command waits for the server, and is carried out by its next life.
    terminal.shows("/docs: 1 directory, 2 files");
    terminal.type_line("rm -f notes");
    terminal.shows("removed /notes");
    terminal.type_line("exit");
    assert_eq!(terminal.ended(), 0);
    drop(again);
}

#[test]
fn a_program_that_was_told_one_verb_ends_with_130_at_ctrl_c() {
    let site = Site::new();
    site.world.server.signal("STOP");
    let mut terminal = Terminal::start(site.nearfs().args(["ls", &site.world.source()]));
    std::thread::sleep(Duration::from_millis(500));
    terminal.press(CTRL_C);
    terminal.shows("interrupted");
    assert_eq!(terminal.ended(), 130);
    site.world.server.signal("CONT");
    let mut terminal = Terminal::start(site.nearfs().args(["rm", &format!("{}notes", site.world.source())]));
    terminal.ends_with("remove /notes (6 B)? [y/N/all]");
    terminal.type_line("y");
    assert_eq!(terminal.ended(), 0);
    assert!(!site.exists("notes"));
    run(site.nearfs().args(["ls", &site.world.source()])).succeeded();
}

#[test]
fn a_line_whose_command_fails_is_left_and_that_is_said() {
    let site = Site::new();
    let mut terminal = connected(&site);
    terminal.type_line("cd missing; rm -f notes; size docs/a.txt");
    terminal.shows("/missing: no such file or directory");
    terminal.shows("2 commands behind it not carried out; with `set -e off` they are");
    terminal.ends_with(&site.prompt("/"));
    assert!(site.exists("notes"), "it was meant for another directory");
    terminal.type_line("set -e off");
    terminal.type_line("cd missing; size docs/a.txt");
    terminal.shows("/docs/a.txt: 2.0 KiB");
}

#[test]
fn a_transfer_shows_how_far_it_is_and_ctrl_c_ends_it() {
    let site = Site::new();
    fs::write(site.export().join("big"), vec![b'x'; 64 << 20]).unwrap();
    let mut terminal = connected(&site);
    terminal.type_line("get --limit-rate 2M big");
    // A bar for the file and one for all, each with what has passed and how long it takes.
    terminal.shows("/big ");
    terminal.shows("/64.00 MiB");
    terminal.shows(" left");
    terminal.shows("0/1 files");
    let journal = || {
        let entries = fs::read_dir(site.home()).unwrap().flatten();
        let mut journals = entries.filter(|entry| entry.path().extension() == Some("journal".as_ref()));
        // Each MiB that has arrived has 40 bytes there.
        journals.next().and_then(|journal| (journal.metadata().ok()?.len() > 3 * 40).then_some(()))
    };
    wait_for(PROMPT, journal).expect("a part of it arrives");
    let began = Instant::now();
    terminal.press(CTRL_C);
    terminal.shows("interrupted");
    terminal.ends_with(&site.prompt("/"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!site.home().join("big").exists(), "half of it has the name");
    terminal.wipe();
    // What is there already is used, and the bars make room for the sum.
    terminal.type_line("reget big");
    terminal.shows("1 file, ");
    terminal.shows(" were there already, 0 failed");
    terminal.ends_with(&site.prompt("/"));
    assert_eq!(fs::metadata(site.home().join("big")).unwrap().len(), 64 << 20);
}

#[test]
fn a_name_that_is_taken_is_not_replaced_and_another_is_offered() {
    let site = Site::new();
    fs::write(site.home().join("notes"), "mine").unwrap();
    let mut terminal = connected(&site);
    terminal.type_line("get notes");
    terminal.ends_with("./notes already exists; save as ./notes.1? [y/N/all]");
    terminal.type_line("n");
    terminal.shows("./notes already exists; -f replaces it, and ./notes.1 is free");
    terminal.ends_with(&site.prompt("/"));
    terminal.wipe();
    terminal.type_line("get notes");
    terminal.ends_with("save as ./notes.1? [y/N/all]");
    terminal.type_line("y");
    terminal.shows("1 file, 6 B");
    terminal.type_line("put notes");
    terminal.ends_with("/notes already exists; save as /notes.1? [y/N/all]");
    terminal.type_line("y");
    terminal.shows("1 file, 4 B");
    assert_eq!(fs::read(site.home().join("notes")).unwrap(), b"mine");
    assert_eq!(fs::read(site.home().join("notes.1")).unwrap(), b"hello\n");
    assert_eq!(fs::read(site.export().join("notes.1")).unwrap(), b"mine");
    assert_eq!(fs::read(site.export().join("notes")).unwrap(), b"hello\n");
}

#[test]
fn questions_are_asked_on_the_terminal_wherever_the_output_goes() {
    let site = Site::new();
    let source = format!("{}notes", site.world.source());
    let line = format!("'{}' rm {source} > out", env!("CARGO_BIN_EXE_nearfs"));
    let mut shell = std::process::Command::new("sh");
    let mut terminal = Terminal::start(shell.args(["-c", &line]).current_dir(site.home()));
    terminal.ends_with("remove /notes (6 B)? [y/N/all]");
    terminal.type_line("y");
    assert_eq!(terminal.ended(), 0);
    assert_eq!(fs::read_to_string(site.home().join("out")).unwrap(), "removed /notes (6 B)\n");
}
