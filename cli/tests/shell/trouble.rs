//! Servers that refuse, are silent, or go away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::Site;
use crate::support::{Companion, PROMPT, Server, can_mount, nearfs, run, run_within, send_signal, wait_for};

#[test]
fn a_read_only_share_says_so() {
    let site = Site::new();
    let mut serve = nearfs();
    let server = Server::start_with(&mut serve, &site.export(), &["--read-only"]);
    let source = format!("nearfs://{}/", server.address);
    let shell = |commands: &str| run(site.nearfs().args(["shell", &source, "-c", commands]));
    for commands in ["rm notes", "mkdir x", "mv notes x", "rmdir empty", "rm -r docs"] {
        let ended = shell(commands);
        assert_eq!(ended.code, Some(1), "{commands}: {ended:?}");
        assert!(ended.err.contains("the share is read-only"), "{commands}: {ended:?}");
    }
    assert!(shell("status").succeeded().out.contains(", read-only"));
    assert!(site.exists("notes") && site.exists("docs/a.txt"));
}

#[test]
fn what_the_servers_user_may_not_do_is_not_permitted() {
    let site = Site::new();
    // The program where everybody may run it.
    let program = site.world.directory.path().join("nearfs");
    fs::copy(env!("CARGO_BIN_EXE_nearfs"), &program).unwrap();
    for (path, mode) in [("../", 0o755), ("", 0o755), ("docs", 0o700)] {
        fs::set_permissions(site.export().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut serve = Command::new("setpriv");
    serve.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    let server = Server::start(&mut serve, &site.export());
    let source = format!("nearfs://{}/", server.address);
    let shell = |commands: &str| run(site.nearfs().args(["shell", &source, "-c", commands]));
    shell("ls docs").refused(1, "/docs: permission denied");
    shell("rm notes").refused(1, "/notes: permission denied");
    shell("mkdir new").refused(1, "/new: permission denied");
    let ended = shell("find");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("/docs: permission denied") && ended.out.contains("/notes\n"), "{ended:?}");
}

#[test]
fn what_another_shell_uploads_is_left_alone() {
    let site = Site::new();
    fs::write(site.home().join("notes"), vec![b'n'; 4 << 20]).unwrap();
    let source = site.world.source();
    let mut put = site.nearfs();
    put.args(["put", "-f", "-q", "--limit-rate", "200K", "notes", &format!("{source}notes")]);
    let _uploading = Companion::start(&mut put);
    let is_busy = || site.shell("who").succeeded().out.contains("upload of /notes: ").then_some(());
    wait_for(PROMPT, is_busy).expect("the upload is announced");
    for commands in ["rm notes", "mv notes elsewhere", "put -f notes", "get notes new"] {
        let ended = site.shell(commands).refused(1, "/notes is being uploaded by ");
        assert!(ended.err.trim_end().ends_with('%'), "{ended:?}");
    }
    assert_eq!(
        fs::read(site.export().join("notes")).unwrap(),
        b"hello\n",
        "the old file is there all the time"
    );
    site.shell("mv link elsewhere; rm elsewhere").succeeded();
    // Of a name that is new there is nothing yet, and the answer is the same.
    let mut put = site.nearfs();
    fs::create_dir(site.home().join("tree")).unwrap();
    fs::rename(site.home().join("notes"), site.home().join("tree/big")).unwrap();
    put.args(["put", "-q", "--limit-rate", "200K", "tree/big", &format!("{source}empty/new")]);
    let _uploading_another = Companion::start(&mut put);
    let is_busy = || site.shell("who").succeeded().out.contains("upload of /empty/new: ").then_some(());
    wait_for(PROMPT, is_busy).expect("the upload is announced");
    for commands in [
        "rm empty/new",
        "mv empty/new x",
        "get empty/new",
        "stat empty/new",
        "cat empty/new",
        "ls empty/new",
        "cp empty/new x",
    ] {
        let ended = site.shell(commands).refused(1, "/empty/new is being uploaded by ");
        assert!(ended.err.trim_end().ends_with('%'), "{ended:?}");
    }
    site.shell("stat empty/newer").refused(4, "/empty/newer: no such file or directory");
    if can_mount() {
        let mount = site.world.mount("mount", &[]);
        assert_eq!(fs::read(mount.place.join("notes")).unwrap(), b"hello\n", "a mount is never refused");
        fs::rename(mount.place.join("notes"), mount.place.join("elsewhere")).unwrap();
        fs::remove_file(mount.place.join("elsewhere")).unwrap();
    }
}

#[test]
fn whatever_else_listens_there_is_no_server() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ =
                std::io::Write::write_all(&mut &stream, b"220 ftp.example.org ready for you, dear guest\r\n");
        }
    });
    let ended = run(site.nearfs().args(["shell", &address, "-c", "ls"]));
    ended.refused(3, "is a nearfs server listening there?");
}

#[test]
fn a_connection_that_is_cut_under_a_script_is_made_again() {
    let site = Site::empty();
    for directory in 0..40 {
        let directory = site.export().join(format!("{directory}"));
        fs::create_dir(&directory).unwrap();
        (0..50).for_each(|number| fs::write(directory.join(format!("{number}")), "").unwrap());
    }
    // The server stands still for longer than a silence that ends connections, and then goes on.
    let mut child = site.nearfs();
    let source = site.world.source();
    site.world.server.signal("STOP");
    let pid = site.world.server.child.id().to_string();
    let _going_on = Companion::start(Command::new("sh").args(["-c", &format!("sleep 8; kill -CONT {pid}")]));
    // Connecting waits for the greeting, and what follows for its answers.
    let ended = run_within(
        child.args(["shell", &source, "-c", "find | wc -l; rm -r 0; find -type d | wc -l"]),
        Duration::from_secs(60),
    );
    let ended = ended.succeeded();
    let counts: Vec<&str> = ended.out.lines().filter(|line| !line.starts_with("removed")).collect();
    assert_eq!(counts, ["2041", "40"], "{ended:?}");
}

/// Every verb that asks the server, in a way that would do something.
const ASKING: [&str; 24] = [
    "ls",
    "ls -R",
    "cd docs",
    "size notes",
    "stat notes",
    "du",
    "df",
    "find",
    "cat notes",
    "check notes mine",
    "get notes got",
    "reget notes got",
    "put mine",
    "reput mine",
    "mirror docs mirrored",
    "mirror -R . mirrored",
    "cp notes copy",
    "mv notes moved",
    "rm notes missing docs/b.txt",
    "rm -r docs",
    "mkdir made",
    "rmdir empty",
    "who",
    "kick 77",
];

/// A shell for each of these verbs, connected to a server that then falls silent: `silence` brings that about.
fn begun_at_a_silent_server(site: &Site, verbs: &[&str], silence: impl FnOnce()) -> Vec<Child> {
    fs::write(site.home().join("mine"), "mine").unwrap();
    let go = site.home().join("go");
    let begin = |(at, verb): (usize, &&str)| {
        let script = format!("!touch ready{at}; until [ -e go ]; do sleep 0.05; done\n{verb}");
        let mut shell = site.nearfs();
        shell.args(["shell", &site.world.source(), "-c", &script]);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = verbs.iter().enumerate().map(begin).collect();
    for at in 0..verbs.len() {
        let is_ready = || site.home().join(format!("ready{at}")).exists().then_some(());
        wait_for(PROMPT * 3, is_ready).expect("it is connected");
    }
    silence();
    fs::write(go, "").unwrap();
    begun
}

/// Waits for the end of a shell, and wants this code and these words.
#[track_caller]
fn ends(verb: &str, mut shell: Child, code: i32, words: &str) {
    let ended = wait_for(PROMPT * 3, || shell.try_wait().unwrap());
    if ended.is_none() {
        shell.kill().unwrap();
    }
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
    assert!(said.contains(words), "{verb}: {said}");
}

#[test]
fn ctrl_c_ends_every_verb_of_a_silent_server() {
    let site = Site::new();
    let shells = begun_at_a_silent_server(&site, &ASKING, || site.world.server.signal("STOP"));
    // Each has asked by then; one that has not is ended all the same.
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    shells.iter().for_each(|shell| send_signal(shell.id(), "INT"));
    for (verb, shell) in ASKING.iter().zip(shells) {
        ends(verb, shell, 130, "interrupted");
    }
    // Whoever is not let go waits for 30 seconds.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    site.world.server.signal("CONT");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let site = Site::new();
    let shells = begun_at_a_silent_server(&site, &ASKING, || site.world.server.signal("KILL"));
    for (verb, shell) in ASKING.iter().zip(shells) {
        ends(verb, shell, 3, "the server did not answer in time");
    }
}

#[test]
fn the_servers_log_tells_of_each_verb() {
    let site = Site::new();
    let log = site.world.directory.path().join("access");
    let server = Server::start_with(&mut nearfs(), &site.export(), &["--access-log", log.to_str().unwrap()]);
    let script =
        "ls docs; cat notes docs/b.txt; cd docs; find; mkdir new; rm b.txt; get a.txt; who; -stat nope";
    let source = format!("nearfs://{}/", server.address);
    run(site.nearfs().args(["shell", &source, "-c", script])).succeeded();
    run(site.nearfs().args(["du", &format!("{source}docs")])).succeeded();
    let told = || fs::read_to_string(&log).unwrap();
    wait_for(PROMPT, || told().contains(r#"verb="du /docs""#).then_some(())).expect("the last is told");
    for words in [
        r#"verb="ls docs" outcome="done""#,
        r#"verb="cat notes docs/b.txt" outcome="done""#,
        r#"verb="cd" outcome="done""#,
        r#"verb="find" outcome="done""#,
        r#"path="docs/new" outcome="done""#,
        r#"path="docs/b.txt" stage="ends""#,
        r#"path="docs/a.txt" stage="ends""#,
        r#"verb="who" outcome="done""#,
        r#"verb="stat" failure="/docs/nope: no such file or directory""#,
        r#"active=1"#,
    ] {
        assert!(told().contains(words), "{words} is not in {}", told());
    }
}
