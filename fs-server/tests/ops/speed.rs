//! CPU time of an operation without a connection: `cargo test --release -p nearfs-fs-server --test ops -- --ignored
//! --nocapture speed`, with `TMPDIR` on the file system in question.

use nearfs_protocol::greeting::Identity;
use nearfs_protocol::message::{AlsoOpen, Request, WriteAt};

use crate::support::{Client, Export, is_root, name, own, user};

const ROUNDS: u32 = 20_000;
const FILES: u32 = 2000;

#[test]
#[ignore = "prints figures for people"]
fn speed_of_each_operation() {
    measure("squash", &Export::new(own()).client());
    if is_root() {
        let client = Export::new(Identity::Passthrough);
        measure("passthrough", &client.client().acting_as(user(1234)));
    }
}

fn measure(title: &str, client: &Client) {
    let time = |what: &str, rounds: u32, step: &mut dyn FnMut(u32)| {
        let began = cpu_nanos();
        (0..rounds).for_each(step);
        println!("{title:12} {what:24} {:6} ns", (cpu_nanos() - began) / i64::from(rounds));
    };
    time("create + release", FILES, &mut |round| {
        client.release(client.create(&format!("{round}"), 0o644, 0o022).unwrap().0);
    });
    let root = client.root();
    let (fh, attr) = client.create("file", 0o644, 0).unwrap();
    let node = attr.node;
    time("write 4 KiB", ROUNDS, &mut |round| {
        client.write(fh, WriteAt::Offset(u64::from(round % 256) * 4096), &[1; 4096]).unwrap();
    });
    time("write 128 KiB", 2000, &mut |round| {
        client.write(fh, WriteAt::Offset(u64::from(round % 8) << 17), &[1; 1 << 17]).unwrap();
    });
    time("lookup", ROUNDS, &mut |round| {
        client.lookup_in(root, &format!("{}", round % FILES)).unwrap();
    });
    time("getattr", ROUNDS, &mut |_| {
        client.attr(node).unwrap();
    });
    time("read 4 KiB", ROUNDS, &mut |round| {
        drop(client.read(fh, u64::from(round % 256) * 4096, 4096).unwrap())
    });
    time("read 128 KiB", ROUNDS, &mut |round| {
        drop(client.read(fh, u64::from(round % 8) << 17, 1 << 17).unwrap());
    });
    time("open + release", ROUNDS, &mut |_| client.release(client.open(node, libc::O_RDONLY).unwrap().0));
    time("lookup + open + release", ROUNDS, &mut |round| {
        let also_open = Some(AlsoOpen { content_bytes_max: 4096 });
        let parent = root;
        let look = Request::Lookup { parent, name: name(&format!("{}", round % FILES)), also_open };
        let reply = client.ask(look).unwrap();
        let nearfs_protocol::message::Reply::Entry { fh: Some(fh), whole: true, .. } = reply else {
            panic!("{reply:?}")
        };
        client.release(fh);
    });
    let began = cpu_nanos();
    let listed = client.list_all(root, 128 * 1024, true).len() as i64;
    println!("{title:12} {:24} {:6} ns", "list an entry", (cpu_nanos() - began) / listed);
    time("unlink", FILES, &mut |round| drop(client.unlink(&format!("{round}")).unwrap()));
}

fn cpu_nanos() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
