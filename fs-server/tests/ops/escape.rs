//! Nobody gets out of the export, however names change under the server.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nearfs_protocol::attr::{FileKind, SetAttr};
use nearfs_protocol::message::{AlsoOpen, Reply, Request};
use rustix::fs::{CWD, RenameFlags};

use crate::support::{client, name};

/// How often each name is used while others exchange it with a symlink that leads out.
const ROUNDS: u32 = 3000;

#[test]
fn exchanging_names_with_symlinks_leads_nowhere_else() {
    let (served, client) = client();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("inner");
    std::fs::write(&secret, "outside").unwrap();
    let before = std::fs::metadata(&secret).unwrap();
    std::fs::create_dir(served.path("d")).unwrap();
    std::fs::write(served.path("d/inner"), "inside").unwrap();
    std::fs::write(served.path("f"), "inside").unwrap();
    std::os::unix::fs::symlink(outside.path(), served.path("d.swap")).unwrap();
    std::os::unix::fs::symlink(&secret, served.path("f.swap")).unwrap();
    let done = AtomicBool::new(false);
    let swaps = AtomicU32::new(0);
    let directory = client.lookup("d").unwrap().node;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pairs = ["d", "f"].map(|one| (served.path(one), served.path(&format!("{one}.swap"))));
            while !done.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while swaps.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            for _ in 0..ROUNDS {
                let also_open = Some(AlsoOpen { content_bytes_max: 100 });
                for (parent, text) in [(client.root(), "f"), (directory, "inner")] {
                    let look = Request::Lookup { parent, name: name(text), also_open };
                    if let Ok((reply, content)) = client.ask_with(look, Vec::new()) {
                        if let Reply::Entry { fh: Some(fh), .. } = reply {
                            client.release(fh);
                        }
                        assert!(content.is_empty() || content == b"inside", "{content:?}");
                    }
                }
                let Ok(attr) = client.lookup("f") else { continue };
                let (node, size) = (attr.node, Some(6));
                if attr.kind == FileKind::File {
                    let opened = client.open(node, libc::O_RDWR);
                    let (fh, _) = opened.expect("a node is found whatever is under its name");
                    assert_eq!(client.read(fh, 0, 100).unwrap(), b"inside");
                    client.release(fh);
                }
                let set = SetAttr { mode: Some(0o640), size, ..SetAttr::default() };
                client.ask(Request::SetAttr { node, fh: None, set }).ok();
                if let Ok((fh, _)) = client.create("f", 0o600, 0) {
                    client.release(fh);
                }
                client
                    .ask(Request::MakeDir { parent: client.root(), name: name("d"), mode: 0, umask: 0 })
                    .ok();
            }
        }));
        done.store(true, Ordering::Relaxed);
        caught.unwrap();
    });
    let after = std::fs::metadata(&secret).unwrap();
    assert_eq!(std::fs::read(&secret).unwrap(), b"outside");
    assert_eq!(
        (before.permissions(), before.modified().unwrap()),
        (after.permissions(), after.modified().unwrap())
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(swaps.load(Ordering::Relaxed) > 10);
}
