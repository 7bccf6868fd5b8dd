//! What is looked at before anything is moved or replaced.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::support::{World, run};
use crate::{noise, staged, transfer};

#[test]
fn what_is_there_already_is_refused_before_it_is_sent() {
    let world = World::new();
    let source = world.place("tree");
    let there = world.export().join("tree");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::create_dir_all(there.join("below")).unwrap();
    for number in 0..20 {
        fs::write(source.join(format!("below/taken{number}")), noise(50_000, number)).unwrap();
        fs::write(there.join(format!("below/taken{number}")), "old").unwrap();
    }
    fs::write(source.join("below/new"), noise(1234, 1)).unwrap();
    let put = run(&mut transfer(&world, &["put", "--json", "tree", "@/"]));
    assert_eq!(put.code, Some(1), "{put:?}");
    let last: serde_json::Value = serde_json::from_str(put.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["files"], &last["failed"], &last["bytes"]), (&1.into(), &20.into(), &1234.into()));
    assert_eq!(fs::read(there.join("below/taken3")).unwrap(), b"old");
    assert_eq!(fs::read(there.join("below/new")).unwrap(), noise(1234, 1));
}

#[test]
fn a_tree_is_not_put_onto_itself() {
    let world = World::new();
    fs::create_dir(world.export().join("tree")).unwrap();
    fs::write(world.export().join("tree/small"), "content").unwrap();
    let own = world.export().join("tree");
    let put = run(&mut transfer(&world, &["put", "-f", own.to_str().unwrap(), "@/"]));
    put.refused(1, "is the target itself");
}

#[test]
fn a_link_is_replaced_in_one_step() {
    let world = World::new();
    for (source, target, command) in [
        (world.place("up"), world.export().join("up"), ["put", "-a", "-f", "up", "@/"]),
        (world.export().join("down"), world.place("back/down"), ["get", "-a", "-f", "@/down", "back"]),
    ] {
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(&target).unwrap();
        symlink("new", source.join("link")).unwrap();
        symlink("old", target.join("link")).unwrap();
        symlink("new", source.join("file")).unwrap();
        fs::write(target.join("file"), "a file gives way as well").unwrap();
        let watch = rustix::fs::inotify::init(CreateFlags::NONBLOCK).unwrap();
        let wanted = WatchFlags::DELETE | WatchFlags::MOVED_TO;
        rustix::fs::inotify::add_watch(&watch, &target, wanted).unwrap();
        run(&mut transfer(&world, &command)).succeeded();
        let mut room = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&watch, &mut room);
        let mut seen = Vec::new();
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            seen.push((event.events().contains(ReadFlags::DELETE), name.unwrap_or_default()));
        }
        seen.sort();
        let replaced = [(false, "file".to_owned()), (false, "link".to_owned())];
        assert_eq!(seen, replaced, "a name that is deleted first is missing for a while: {command:?}");
        for name in ["link", "file"] {
            assert_eq!(fs::read_link(target.join(name)).unwrap().to_str(), Some("new"));
        }
        assert_eq!(staged(world.directory.path()), Vec::<String>::new());
    }
}

#[test]
fn many_files_are_compared_at_once() {
    let world = World::new();
    let (here, there) = (world.place("tree"), world.export().join("tree"));
    for number in 0..300_usize {
        let name = format!("{}/{number}", number % 7);
        for (place, seed) in [(&here, 1), (&there, if number == 123 { 2 } else { 1 })] {
            fs::create_dir_all(place.join(&name).parent().unwrap()).unwrap();
            fs::write(place.join(&name), noise(1000 + number, seed)).unwrap();
        }
    }
    fs::write(there.join("3/only"), "").unwrap();
    symlink("0/0", here.join("link")).unwrap();
    symlink("0/7", there.join("link")).unwrap();
    fs::create_dir(here.join("other")).unwrap();
    fs::write(there.join("other"), "").unwrap();
    let check = run(&mut transfer(&world, &["check", "--json", "@/tree", "tree"]));
    assert_eq!(check.code, Some(5), "{check:?}");
    let mut lines: Vec<&str> = check.out.lines().collect();
    let sum: serde_json::Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
    assert_eq!((&sum["equal"], &sum["differing"]), (&299.into(), &4.into()));
    let mut differing: Vec<(String, String)> = lines
        .into_iter()
        .map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| object[name].as_str().unwrap().to_owned();
            (field("path"), field("differs"))
        })
        .collect();
    differing.sort();
    let expected = [
        ("/tree/3/only", "only here"),
        ("/tree/4/123", "another content"),
        ("/tree/link", "another target"),
        ("/tree/other", "another kind of file"),
    ];
    assert_eq!(differing, expected.map(|(path, why)| (path.to_owned(), why.to_owned())));
    run(&mut transfer(&world, &["check", "@/tree/1/1", "tree"])).refused(5, "1 file differs");
}
