use super::*;

struct Place {
    base: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("served")).unwrap();
        Place { base }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn open(&self, name: &str) -> Result<Directory, StateError> {
        Directory::open(&self.path(name), &self.path("served").canonicalize().unwrap())
    }
}

#[test]
fn it_is_made_for_its_owner_alone_and_taken_by_one_server() {
    let place = Place::new();
    let taken = place.open("a/state").unwrap();
    assert_eq!(fs::metadata(place.path("a/state")).unwrap().mode() & 0o7777, 0o700);
    assert!(matches!(place.open("a/state"), Err(StateError::InUse(_))));
    drop(taken);
    place.open("a/state").unwrap();
}

#[test]
fn it_is_never_in_what_is_served() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.path("served"), place.path("link")).unwrap();
    for name in ["served", "served/state", "served/a/../b", "link", "link/state", "./served/state"] {
        assert!(matches!(place.open(name), Err(StateError::Served(_))), "{name}");
    }
    assert_eq!(fs::read_dir(place.path("served")).unwrap().count(), 0, "nothing was made on the way");
}

#[test]
fn what_is_of_another_version_or_no_state_directory_is_left_alone() {
    let place = Place::new();
    drop(place.open("state").unwrap());
    fs::write(place.path("state/format"), "nearfs state 2\n").unwrap();
    assert!(matches!(place.open("state"), Err(StateError::Foreign(_))));
    fs::create_dir(place.path("home")).unwrap();
    fs::write(place.path("home/letter"), "").unwrap();
    assert!(matches!(place.open("home"), Err(StateError::Foreign(_))));
    assert_eq!(fs::read_dir(place.path("home")).unwrap().count(), 1);
    fs::write(place.path("file"), "").unwrap();
    assert!(matches!(place.open("file"), Err(StateError::Io { .. })));
}

#[test]
fn numbers_of_sessions_never_repeat() {
    let place = Place::new();
    let mut last = 0;
    for damage in [None, None, Some("x"), Some(""), Some("17")] {
        if let Some(text) = damage {
            fs::write(place.path("state/last-session"), text).unwrap();
        }
        let directory = place.open("state").unwrap();
        for _ in 0..SESSIONS_STEP + 3 {
            let next = directory.next_session().0;
            assert!(next > last);
            last = next;
        }
    }
}

#[test]
fn each_server_has_its_own_by_default() {
    let at = |served: &str, address: &str| default_directories(Path::new(served), &[address.into()]);
    let one = at("/srv/some data", "127.0.0.1:6327");
    assert!(one[0].to_string_lossy().contains("srv-some-data-"), "{one:?}");
    assert_ne!(one, at("/srv/some data", "127.0.0.1:6328"));
    assert_ne!(one, at("/srv/some-data", "127.0.0.1:6327"));
    assert_eq!(at("/", "127.0.0.1:6327"), [""; 0].map(PathBuf::from));
    let long = at(&format!("/{}", "x".repeat(4000)), "unix:/run/s");
    assert!(long[0].file_name().unwrap().len() < 200);
}
