//! What arrives, what is refused, and what is said of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use crate::support::{World, run};
use crate::{noise, staged, transfer};

#[test]
fn a_tree_goes_there_and_comes_back_as_it_was() {
    let world = World::new();
    let source = world.place("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    // What old protocols took for the end of something is content like any other.
    let contents: [&[u8]; 6] = [b"", &[b' '; 1024], b"-1", b"FIN", b"OK@", b"\0\r\n"];
    for (number, content) in contents.iter().enumerate() {
        fs::write(source.join(format!("a/marker{number}")), content).unwrap();
    }
    let names: [&[u8]; 6] = [b"a b", b"new\nline", b"'\"`$x", b"-rf", b"\xe9\xff", b"*?[a]"];
    for name in names {
        fs::write(source.join("a/b").join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, bytes) in
        [("small", 700_000), ("edge", 1 << 20), ("above", (1 << 20) + 1), ("large", 9_000_001)]
    {
        fs::write(source.join(name), noise(bytes, bytes as u64)).unwrap();
    }
    fs::set_permissions(source.join("small"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("../no/where", source.join("a/link")).unwrap();
    let put = run(&mut transfer(&world, &["put", "-a", "source", "@/"])).succeeded();
    assert!(put.out.contains("17 files") && put.out.contains("0 failed"), "{}", put.out);
    run(&mut transfer(&world, &["get", "-a", "@/source", "back"])).succeeded();
    let mut compare = std::process::Command::new("diff");
    run(compare.args(["-r", "--no-dereference"]).arg(&source).arg(world.export().join("source"))).succeeded();
    let mut compare = std::process::Command::new("diff");
    run(compare.args(["-r", "--no-dereference"]).arg(&source).arg(world.directory.path().join("back")))
        .succeeded();
    for place in [world.export().join("source"), world.directory.path().join("back")] {
        for name in ["small", "large", "a"] {
            let (here, there) = (source.join(name).metadata().unwrap(), place.join(name).metadata().unwrap());
            assert_eq!(here.mode(), there.mode(), "{name}");
            assert_eq!(here.modified().unwrap(), there.modified().unwrap(), "{name}");
        }
    }
    assert_eq!(staged(world.directory.path()), Vec::<String>::new());
}

#[test]
fn a_program_that_acts_as_its_owner_does_not_do_so_here() {
    let world = World::new();
    for (name, bytes) in [("small", 10), ("large", 3_000_000)] {
        fs::write(world.export().join(name), noise(bytes, 1)).unwrap();
        fs::set_permissions(world.export().join(name), fs::Permissions::from_mode(0o6751)).unwrap();
    }
    run(&mut transfer(&world, &["get", "-a", "@/", "got"])).succeeded();
    run(&mut transfer(&world, &["mirror", "@/", "mirrored"])).succeeded();
    for place in ["got", "mirrored"] {
        for name in ["small", "large"] {
            let found = world.directory.path().join(place).join(name).metadata().unwrap();
            assert_eq!(found.mode() & 0o7777, 0o751, "{place}/{name}");
        }
    }
    let again = run(&mut transfer(&world, &["mirror", "--json", "@/", "mirrored"])).succeeded();
    assert!(
        again.out.contains(r#""attributes_set":0"#) && again.out.contains(r#""sent":0"#),
        "{}",
        again.out
    );
}

#[test]
fn nothing_is_overwritten_unless_that_is_asked_for() {
    let world = World::new();
    for bytes in [3, 2_000_000] {
        fs::write(world.directory.path().join("new"), noise(bytes, 1)).unwrap();
        fs::write(world.export().join("there"), "old").unwrap();
        fs::write(world.directory.path().join("here"), "old").unwrap();
        let refused = run(&mut transfer(&world, &["put", "new", "@/there"]));
        refused.refused(1, "already exists; -f replaces it, and /there.1 is free");
        assert_eq!(fs::read(world.export().join("there")).unwrap(), b"old");
        run(&mut transfer(&world, &["put", "-f", "new", "@/there"])).succeeded();
        assert_eq!(fs::read(world.export().join("there")).unwrap(), noise(bytes, 1));
        let refused = run(&mut transfer(&world, &["get", "@/there", "here"]));
        refused.refused(1, "already exists; -f replaces it, and here.1 is free");
        run(&mut transfer(&world, &["get", "-f", "@/there", "here"])).succeeded();
        assert_eq!(fs::read(world.directory.path().join("here")).unwrap(), noise(bytes, 1));
        // A tree that meets files is no reason to replace them either.
        fs::create_dir_all(world.directory.path().join("tree")).unwrap();
        fs::write(world.directory.path().join("tree/there"), noise(bytes, 2)).unwrap();
        fs::create_dir_all(world.export().join("tree")).unwrap();
        fs::write(world.export().join("tree/there"), "old").unwrap();
        run(&mut transfer(&world, &["put", "tree", "@/"])).refused(1, "already exists");
        assert_eq!(fs::read(world.export().join("tree/there")).unwrap(), b"old");
    }
    assert_eq!(staged(world.directory.path()), Vec::<String>::new());
}

#[test]
fn what_cannot_be_done_is_said_with_its_code() {
    let world = World::new();
    fs::create_dir(world.export().join("d")).unwrap();
    fs::write(world.export().join("f"), "x").unwrap();
    fs::write(world.directory.path().join("f"), "x").unwrap();
    run(&mut transfer(&world, &["get", "@/nope"])).refused(4, "no such file or directory");
    run(&mut transfer(&world, &["put", "nope", "@/x"])).refused(4, "o such file or directory");
    run(&mut transfer(&world, &["put", "--no-parents", "f", "@/no/such/f"])).refused(4, "no such file");
    run(&mut transfer(&world, &["get", "--no-parents", "@/f", "no/such/f"])).refused(4, "o such file");
    run(&mut transfer(&world, &["put"])).refused(2, "required");
    run(&mut transfer(&world, &["get", "nearfs://127.0.0.1:1/f"])).refused(3, "");
    run(&mut transfer(&world, &["put", "f", "@/f/below"])).refused(4, "not a directory");
    run(&mut transfer(&world, &["put", "f", "@/made/on/the/way"])).succeeded();
    run(&mut transfer(&world, &["put", "--parents", "f", "@/kept/"])).succeeded();
    run(&mut transfer(&world, &["get", "--parents", "@/made/on/the/way", "kept"])).succeeded();
    assert_eq!(fs::read(world.directory.path().join("kept/made/on/the/way")).unwrap(), b"x");
}

#[test]
fn a_transfer_onto_itself_is_refused() {
    let world = World::new();
    for bytes in [10, 3_000_000] {
        let file = world.export().join("same");
        fs::write(&file, noise(bytes, 7)).unwrap();
        let own = file.to_str().unwrap().to_owned();
        run(&mut transfer(&world, &["get", "-f", "@/same", &own])).refused(1, "is the target itself");
        assert_eq!(fs::read(&file).unwrap(), noise(bytes, 7));
    }
}

#[test]
fn holes_stay_holes_both_ways() {
    let world = World::new();
    let source = world.directory.path().join("sparse");
    let file = fs::File::create(&source).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &noise(5000, 3), 40_000_000).unwrap();
    drop(file);
    run(&mut transfer(&world, &["put", "sparse", "@/there"])).succeeded();
    run(&mut transfer(&world, &["get", "@/there", "back"])).succeeded();
    for copy in [world.export().join("there"), world.directory.path().join("back")] {
        assert_eq!(fs::read(&source).unwrap(), fs::read(&copy).unwrap());
        assert!(copy.metadata().unwrap().blocks() * 512 < 4 << 20, "{} is not sparse", copy.display());
    }
}

#[test]
fn more_names_than_a_session_may_announce_are_brought_by_a_pattern() {
    let world = World::new();
    let source = world.place("source");
    let count = 1100;
    (0..count).for_each(|number| fs::write(source.join(number.to_string()), number.to_string()).unwrap());
    for place in [world.export().join("there"), world.place("back")] {
        fs::create_dir_all(place).unwrap();
    }
    let shell = |commands: &str| {
        let mut command = transfer(&world, &["shell", "@/", "-c", commands]);
        crate::support::run_within(&mut command, Duration::from_secs(180)).succeeded().out
    };
    let out = shell("put source/* there");
    assert!(out.starts_with("to /there: 1100 files, ") && out.contains("0 failed"), "{out}");
    let out = shell("get there/* back");
    let back = world.directory.path().join("back");
    let sum = format!("to {}: 1100 files, ", back.display());
    assert!(out.starts_with(&sum) && out.contains("0 failed"), "{out}");
    let mut compare = std::process::Command::new("diff");
    run(compare.arg("-r").arg(&source).arg(back)).succeeded();
}

#[test]
fn rates_are_logged_and_drawn() {
    let world = World::new();
    fs::write(world.directory.path().join("f"), noise(3_000_000, 5)).unwrap();
    let limited =
        ["put", "--limit-rate", "2M", "--rate-log", "log.csv", "--rate-plot", "plot.svg", "f", "@/f"];
    let put = run(&mut transfer(&world, &limited)).succeeded();
    assert!(put.took.as_secs_f64() > 1.0, "2 MiB a second take longer than {:?}", put.took);
    let log = fs::read_to_string(world.directory.path().join("log.csv")).unwrap();
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("seconds,bytes,bytes_per_second,average_bytes_per_second"));
    let points: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|number| number.parse().unwrap()).collect()).collect();
    assert!(points.len() > 5 && points.iter().all(|point| point.len() == 4));
    assert!(points.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
    assert_eq!(points.last().unwrap()[1], 3_000_000.0);
    let recent = &points[points.len().saturating_sub(60)..];
    let average = recent.iter().map(|point| point[2]).sum::<f64>() / recent.len() as f64;
    assert!((points.last().unwrap()[3] - average).abs() < 2.0 + average / 100.0);
    let plot = fs::read_to_string(world.directory.path().join("plot.svg")).unwrap();
    assert!(plot.contains("<svg") && plot.contains("MiB/s"));
    let logged = ["get", "--rate-log", "down.csv", "--rate-plot", "both.svg", "--rate-compare", "log.csv"];
    run(&mut transfer(&world, &[&logged[..], &["@/f", "g"]].concat())).succeeded();
    let both = fs::read_to_string(world.directory.path().join("both.svg")).unwrap();
    assert!(both.contains("down.csv") && both.contains("log.csv"), "{both}");
}

#[test]
fn scripts_get_an_object_a_line() {
    let world = World::new();
    fs::write(world.directory.path().join("f"), "xyz").unwrap();
    let put = run(&mut transfer(&world, &["put", "--json", "f", "@/f"])).succeeded();
    let objects: Vec<serde_json::Value> =
        put.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects[0]["target"], "/f");
    assert_eq!((&objects[1]["files"], &objects[1]["bytes"]), (&1.into(), &3.into()));
}

#[test]
fn contents_are_shown_and_compared_where_they_are() {
    let world = World::new();
    let (here, there) = (world.place("tree"), world.export().join("tree"));
    fs::create_dir(&there).unwrap();
    for (name, bytes) in [("a", 0), ("b", 5_000_000), ("c", 262_144)] {
        fs::write(here.join(name), noise(bytes, 1)).unwrap();
        fs::write(there.join(name), noise(bytes, 1)).unwrap();
        let cat = transfer(&world, &["cat", &format!("@/tree/{name}")]).output().unwrap();
        assert!(cat.status.success() && cat.stdout == noise(bytes, 1), "{name}");
    }
    run(&mut transfer(&world, &["check", "@/tree", "tree"])).succeeded();
    let mut changed = noise(5_000_000, 1);
    changed[4_999_999] ^= 1;
    fs::write(there.join("b"), changed).unwrap();
    fs::write(here.join("d"), "").unwrap();
    let differs = run(&mut transfer(&world, &["check", "@/tree", "tree"]));
    assert!(differs.out.contains("/tree/b: another content"), "{}", differs.out);
    assert!(differs.out.contains("/tree/d: only in the other"), "{}", differs.out);
    differs.refused(5, "2 files differ, 2 are equal");
    run(&mut transfer(&world, &["check", "@/tree/a", "nope"])).refused(4, "no such file");
    run(&mut transfer(&world, &["check", "--remote", "@/tree/a", "/tree/a"])).succeeded();
}
