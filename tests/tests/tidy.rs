//! The project keeps its own rules: which way imports go, how long files are, what nothing is called, where no clock
//! is read, what the documents mention.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates from top to bottom: each may depend on those below it. The tests stand above all.
const CRATES: [&str; 7] = ["tests", "cli", "fuse-client", "fs-server", "client", "transport", "protocol"];

/// Pairs that do not know each other although one stands below the other.
const STRANGERS: [(&str, &str); 2] = [("fuse-client", "fs-server"), ("fs-server", "client")];

/// Layers of modules from top to bottom: a module imports from its own layer and those below it.
const LAYERS: [(&str, &[&[&str]]); 4] = [
    (
        "protocol",
        &[
            &["session"],
            &["greeting", "request"],
            &["message"],
            &["attr", "codec", "hash", "roster"],
            &["errno", "id", "name", "version"],
            &["limits"],
        ],
    ),
    ("transport", &[&["listen"], &["dial", "frame", "stream"], &["address", "assembler", "link"], &["pool"]]),
    (
        "client",
        &[
            &["transfer"],
            &["remote", "vfs"],
            &["files", "foresight", "nodes", "rpc"],
            &["cache", "identity"],
            &["cancel", "config", "error", "roster", "status", "testing"],
        ],
    ),
    (
        "fs-server",
        &[
            &["start"],
            &["progress"],
            &["server"],
            &["greeting"],
            &["connection", "restore"],
            &["roster", "telling"],
            &["state"],
            &["admission", "lobby", "session", "sessions"],
            &["outbox", "visitor", "wire"],
            &["dispatch"],
            &["op"],
            &["handle", "keep", "known", "listings", "session_files"],
            &["search"],
            &["config", "tree"],
            &["store"],
            &["group_sync", "identity", "lock", "node", "transfers"],
            &["options", "peer_uid", "pulse"],
            &["descriptor", "errno", "export", "journal", "sock_diag"],
        ],
    ),
];

/// What says nothing, as a name or as a word of one.
const BANNED_WORDS: [&str; 7] = ["manager", "handler", "helper", "util", "utils", "data", "info"];
/// What is called so by others.
const TERMS: [&str; 1] = ["tell_service_manager"];
/// Modules that would collect what has no place.
const BANNED_MODULES: [&str; 4] = ["common", "misc", "shared", "stuff"];
/// Functions do what they say, not just something.
const BANNED_VERBS: [&str; 3] = ["do", "perform", "process"];
/// A longer name is a sentence, as those of tests are.
const WORDS_OF_A_NAME_MAX: usize = 3;

const LINES_MAX: usize = 700;

/// Where time is only what is passed in: no clock may be read.
const WITHOUT_CLOCK: [&str; 2] = ["protocol/src", "client/src/cache"];

/// Tests of which a crate's documents speak: where they are.
const TEST_DIRECTORIES: [&str; 6] =
    ["tests/tests", "cli/tests", "client/tests", "fs-server/src", "fs-server/tests", "fuse-client/src"];

#[test]
fn crates_depend_downwards() {
    for (level, name) in CRATES.iter().enumerate() {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        let sections = manifest.split("\n[").filter(|section| section.starts_with("dependencies]"));
        for line in sections.flat_map(str::lines) {
            let Some(other) =
                line.strip_prefix("nearfs-").and_then(|rest| rest.split(['.', ' ', '=']).next())
            else {
                continue;
            };
            let below = CRATES.iter().position(|name| *name == other).expect("a known crate");
            assert!(below > level, "{name} depends on {other}, which stands above it");
            assert!(
                !STRANGERS.contains(&(name, other)),
                "{name} depends on {other}, which is none of its business"
            );
        }
    }
}

#[test]
fn every_crate_has_its_place() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, CRATES.iter().copied().collect());
}

#[test]
fn modules_import_downwards() {
    for (name, layers) in LAYERS {
        let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        let src = root().join(name).join("src");
        for file in sources(&src) {
            let module = module_of(file.strip_prefix(&src).unwrap());
            if ["lib", "main"].contains(&module.as_str()) {
                continue;
            }
            let layer = layer_of(&module).unwrap_or_else(|| panic!("{name}: {module} has no layer"));
            for other in imported(&without_tests(&read(&file))) {
                let Some(below) = layer_of(&other) else { panic!("{name}: {other} has no layer") };
                assert!(below >= layer, "{}: imports {other}, which stands above {module}", file.display());
            }
        }
    }
}

#[test]
fn the_operating_systems_calls_are_behind_the_adaptors() {
    for file in sources(&root()) {
        let (text, path) = (without_tests(&read(&file)), relative(&file));
        let uses = |library: &str| {
            text.contains(&format!("use {library}::")) || text.contains(&format!("{library}::"))
        };
        let is_fuse = path.starts_with("fuse-client/src") || path.starts_with("tests/src/passthrough");
        assert!(is_fuse || path == "tests/tests/tidy.rs" || !uses("fuser"), "{path} knows the FUSE library");
        assert!(
            path == "protocol/src/codec.rs" || path == "tests/tests/tidy.rs" || !uses("bincode"),
            "{path} knows the codec"
        );
    }
}

#[test]
fn files_are_short() {
    for file in sources(&root()) {
        let lines = read(&file).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", relative(&file));
    }
}

#[test]
fn names_say_something() {
    let keywords = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static", "union"];
    for file in sources(&root()) {
        for line in read(&file).lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for pair in words.windows(2).filter(|pair| keywords.contains(&pair[0])) {
                let parts = parts_of(pair[1]);
                let is_name = parts.len() <= WORDS_OF_A_NAME_MAX && !TERMS.contains(&pair[1]);
                let is_banned = |part: &String| BANNED_WORDS.contains(&part.as_str());
                let says_nothing = parts.iter().any(is_banned)
                    || (pair[0] == "mod" && BANNED_MODULES.contains(&pair[1]))
                    || (pair[0] == "fn" && BANNED_VERBS.contains(&parts[0].as_str()));
                assert!(!(is_name && says_nothing), "{}: {:?} says nothing", relative(&file), pair[1]);
            }
        }
    }
}

#[test]
fn pure_modules_read_no_clock() {
    for directory in WITHOUT_CLOCK {
        for file in sources(&root().join(directory)) {
            if file.to_string_lossy().ends_with("tests.rs") {
                continue;
            }
            let text = without_tests(&read(&file));
            for clock in ["Instant::now", "SystemTime::now", ".elapsed()"] {
                assert!(!text.contains(clock), "{} reads a clock: {clock}", relative(&file));
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    let marks = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "X".repeat(3)];
    for file in sources(&root()).into_iter().chain(documents()) {
        for (number, line) in read(&file).lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            let is_marked = words.any(|word| marks.iter().any(|mark| mark == word));
            assert!(!is_marked, "{}:{}: {line}", relative(&file), number + 1);
        }
    }
}

/// Whether a test notices them takes long (`scripts/mutations`); that they still mean the code as it is does not.
#[test]
fn every_mutation_applies() {
    let mutations = nearfs_tests::mutations::all(&root()).unwrap();
    assert!(mutations.len() > 10, "only {} mutations were found", mutations.len());
    for mutation in mutations {
        mutation.apply(&root()).unwrap_or_else(|error| panic!("{error}"));
        let package = mutation.tests.iter().all(|test| {
            let name = test[0].strip_prefix("nearfs-").unwrap_or("cli");
            CRATES.contains(&name)
        });
        assert!(package, "{} names a test of no crate", mutation.name);
    }
}

#[test]
fn documents_mention_every_crate() {
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = read(&root().join(document));
        for name in CRATES {
            assert!(text.contains(&format!("`{name}")), "{document} does not mention `{name}`");
        }
    }
}

/// Each sentence of SEMANTICS.md, which is a line that begins with `- `, names the tests that show it in brackets.
#[test]
fn every_promise_names_its_test() {
    let text = read(&root().join("SEMANTICS.md"));
    let tests = test_names();
    let (promises, rest) = text.split_once("## What is not promised").expect("the last section");
    let mut count = 0;
    for promise in items(promises) {
        let named: Vec<&str> = bracketed(&promise).collect();
        assert!(!named.is_empty(), "no test is named: {promise}");
        count += 1;
    }
    assert!(count > 30, "only {count} promises were found");
    for name in bracketed(promises).chain(bracketed(rest)) {
        assert!(tests.contains(name), "SEMANTICS.md names {name}, which is no test");
    }
    let shown: BTreeSet<&str> = bracketed(&text).collect();
    let semantics = sources(&root().join("tests/tests/semantics"));
    for name in semantics.iter().flat_map(|file| tests_in(&read(file))) {
        assert!(shown.contains(name.as_str()), "SEMANTICS.md has no sentence for {name}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// All Rust files below a directory but those that were built.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = name != "target" && !name.to_string_lossy().starts_with('.');
        if entry.file_type().unwrap().is_dir() && is_ours {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn documents() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).unwrap().chain(fs::read_dir(root().join("scripts")).unwrap());
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.filter(|path| !path.ends_with("Cargo.lock") && fs::read_to_string(path).is_ok()).collect()
}

/// The top-level module that a file belongs to.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").trim_end_matches("_tests").to_owned()
}

/// What a file imports from its own crate.
fn imported(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for rest in line.split("crate::").skip(1) {
            let group = rest.strip_prefix('{').map(|group| group.split(',').collect());
            let heads: Vec<&str> = group.unwrap_or_else(|| vec![rest]);
            for head in heads {
                let name: String =
                    head.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name.starts_with(|c: char| c.is_lowercase()) {
                    names.insert(name);
                }
            }
        }
    }
    names
}

/// A file up to the tests that stand at its end.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

/// `one_two` and `OneTwo` have the parts "one" and "two".
fn parts_of(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && after_lower) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().unwrap().extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    parts
}

/// The list items of a document, each in one line.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        if let Some(first) = line.strip_prefix("- ") {
            items.push(first.to_owned());
            within = true;
        } else if within && line.starts_with("  ") {
            items.last_mut().unwrap().push_str(line);
        } else {
            within = false;
        }
    }
    items
}

/// Names of tests in brackets, as in `[names_are_bytes]`.
fn bracketed(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| {
        name.contains('_') && name.chars().all(|c| c.is_lowercase() || c == '_' || c.is_numeric())
    };
    text.split('[').skip(1).filter_map(|rest| Some(rest.split_once(']')?.0)).filter(is_name)
}

fn test_names() -> BTreeSet<String> {
    let files = TEST_DIRECTORIES.iter().flat_map(|directory| sources(&root().join(directory)));
    files.flat_map(|file| tests_in(&read(&file))).collect()
}

fn tests_in(text: &str) -> Vec<String> {
    let after = text.split("#[test]\n").skip(1);
    after
        .filter_map(|rest| Some(rest.trim_start().strip_prefix("fn ")?.split('(').next()?.to_owned()))
        .collect()
}
