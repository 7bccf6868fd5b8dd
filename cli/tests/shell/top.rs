//! `nearfs top`, and what becomes of mounts and shells whose sessions the server's owner ends.

use std::time::{Duration, Instant};

use nearfs_client::cancel::Cancel;
use nearfs_client::remote::{Announced, Follow, Reason, Remote, RemoteConfig, RemotePath};
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::TransferKind;

use crate::site::Site;
use crate::support::{PROMPT, Server, can_mount, nearfs, run, run_within, wait_for};
use crate::terminal::Terminal;

/// A client of its own that says who it is.
fn client(site: &Site, name: &str) -> Remote {
    let source = site.world.source().parse().unwrap();
    let config =
        RemoteConfig { client_name: name.into(), timeout: Duration::from_secs(5), ..RemoteConfig::default() };
    Remote::connect(&source, config, &Cancel::new()).unwrap()
}

fn sessions(arguments: &[&str]) -> Vec<serde_json::Value> {
    let out = run(nearfs().args(["top", "--json"]).args(arguments)).succeeded().out;
    serde_json::from_str(&out).unwrap()
}

#[test]
fn it_is_one_table_where_there_is_no_terminal() {
    let site = Site::new();
    let anna = client(&site, "anna\n\u{1b}[2J");
    let session = anna.session().unwrap();
    let root = session.root().node();
    let name = Name::new(b"report.pdf").unwrap();
    let Announced::Begun(transfer) =
        session.announce(TransferKind::Upload, (root, name), 4096, None).unwrap()
    else {
        panic!("somebody else is at it");
    };
    let source = site.world.source();
    for arguments in [&["top", &source][..], &["top", "--once", &source]] {
        let table = run(nearfs().args(arguments)).succeeded().out;
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert!(lines[0].contains("FROM") && lines[0].contains("DOING"), "{table}");
        assert!(lines[1].contains("127.0.0.1:") && lines[1].ends_with(r"anna\n\u{1b}[2J"), "{table}");
        assert!(lines[2].starts_with("        upload report.pdf: 0 B of 4.0 KiB, 0 %, "), "{table}");
        assert!(lines[3].ends_with("nearfs top: this one"), "{table}");
        assert_eq!(lines[4], "clients: 2; transfers: 1");
    }
    drop(transfer);
    let listed = sessions(&[&source]);
    assert_eq!((listed.len(), &listed[0]["client"]), (2, &"anna\n\u{1b}[2J".into()));
    assert_eq!((&listed[0]["shell"], &listed[1]["own"]), (&true.into(), &true.into()));
    assert_eq!(listed[0]["uid"], rustix::process::geteuid().as_raw());
}

#[test]
fn it_tells_who_is_behind_a_mount_point() {
    if !can_mount() {
        return;
    }
    let site = Site::new();
    let mount = site.world.mount("mnt", &[]);
    let place = mount.place.to_str().unwrap();
    std::fs::read(mount.place.join("notes")).unwrap();
    let listed = sessions(&[place]);
    assert_eq!(listed.len(), 1, "the mount's own session asks: {listed:?}");
    assert_eq!((&listed[0]["own"], &listed[0]["shell"]), (&true.into(), &false.into()));
    assert!(listed[0]["read_bytes"].as_u64().unwrap() >= 6, "{listed:?}");
    let above = mount.place.parent().unwrap();
    assert_eq!(run(nearfs().args(["top", "mnt"]).current_dir(above)).succeeded().out.lines().count(), 3);
    site.world.server.signal("STOP");
    // The kernel believes attributes for a second, and asks the server then.
    std::thread::sleep(Duration::from_millis(1500));
    for place in [place, "mnt"] {
        let begun = Instant::now();
        let mut asking = nearfs();
        asking.args(["top", "--once", place]).current_dir(above);
        run_within(&mut asking, PROMPT).refused(1, "does not answer");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    site.world.server.signal("CONT");
    run(nearfs().args(["top", "/tmp"])).refused(1, "not a mount point");
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_reason() {
    for (source, code, words) in [
        ("no source", 2, "is no source"),
        ("nearfs://", 2, "names no host"),
        ("exec:cat", 2, "name a mount point instead"),
        ("nearfs://127.0.0.1:1/", 3, "refused the connection"),
        ("unix:/no/such/socket", 3, "there is no socket"),
    ] {
        run(nearfs().args(["top", source])).refused(code, words);
    }
    run(nearfs().args(["top", "--interval", "0"])).refused(2, "interval");
}

#[test]
fn a_terminal_sees_clients_come_and_go_until_q_is_pressed() {
    let site = Site::new();
    let source = site.world.source();
    let mut terminal = Terminal::start(nearfs().args(["top", &source]));
    terminal.shows("clients: 1; transfers: 0");
    terminal.shows("(q leaves)");
    let anna = client(&site, "anna");
    terminal.shows("clients: 2; transfers: 0");
    terminal.shows("anna: nothing yet");
    anna.disconnect();
    terminal.shows("clients: 1; transfers: 0");
    assert!(!terminal.screen().contains("anna"), "{}", terminal.screen());
    site.world.server.signal("STOP");
    terminal.shows("did not answer in time");
    site.world.server.signal("CONT");
    terminal.shows("(q leaves)");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    let left = sessions(&[&source]);
    assert_eq!(left.len(), 1, "it has said good-bye: {left:?}");
}

#[test]
fn an_interrupt_leaves_as_well_whatever_the_server_does() {
    let site = Site::new();
    let mut terminal = Terminal::start(nearfs().args(["top", &site.world.source()]));
    terminal.shows("clients: 1");
    site.world.server.signal("STOP");
    std::thread::sleep(Duration::from_millis(1200));
    let begun = Instant::now();
    terminal.press("\x03");
    assert_eq!(terminal.ended(), 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_kicked_mount_answers_eio_and_says_why() {
    if !can_mount() {
        return;
    }
    let site = Site::new();
    let (kicked, other) = (site.world.mount("kicked", &[]), site.world.mount("other", &[]));
    let owner = client(&site, "owner").session().unwrap();
    let listed = owner.sessions().unwrap();
    let first = listed.iter().find(|session| !session.own).unwrap().id;
    let held = std::fs::File::open(kicked.place.join("notes")).unwrap();
    assert_eq!(owner.kick(Some(first)).unwrap(), 1);
    let refused = wait_for(PROMPT, || std::fs::metadata(kicked.place.join("docs/b.txt")).err());
    assert_eq!(refused.unwrap().raw_os_error(), Some(libc::EIO));
    // The kernel believes attributes for a second.
    let refused = wait_for(PROMPT, || held.metadata().err());
    assert_eq!(refused.unwrap().raw_os_error(), Some(libc::EIO));
    assert_eq!(kicked.status()["last_error"], "the session was ended by the server's owner");
    std::fs::read(other.place.join("notes")).unwrap();
    drop(held);
    // It does not come back, whatever time passes.
    std::thread::sleep(Duration::from_millis(500));
    assert!(owner.sessions().unwrap().iter().all(|session| session.id != first));
    run(&mut kicked.umount_command(&[])).succeeded();
}

#[test]
fn a_kicked_session_does_not_come_back_with_the_next_life_of_the_server() {
    let mut site = Site::new();
    let (owner, kicked) = (client(&site, "owner"), client(&site, "kicked"));
    let owning = owner.session().unwrap();
    let id = owning.sessions().unwrap().iter().find(|session| session.client == "kicked").unwrap().id;
    owning.kick(Some(id)).unwrap();
    let address = site.world.server.address.clone();
    site.world.server.signal("KILL");
    site.world.server.child.wait().unwrap();
    site.world.server = Server::start_on(&mut nearfs(), &site.export(), &address);
    let sessions = wait_for(PROMPT, || owner.session().ok()?.sessions().ok()).unwrap();
    assert!(sessions.iter().all(|session| session.client != "kicked"), "{sessions:?}");
    let path = RemotePath::parse(b"notes").unwrap();
    let error = kicked.stat(&path, Follow::Yes).unwrap_err();
    assert!(matches!(error.reason, Reason::SessionOver(_)), "{error}");
    assert!(error.to_string().contains("ended by the server's owner"), "{error}");
}
