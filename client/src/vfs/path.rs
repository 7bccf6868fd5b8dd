//! Where nodes are, for people: programs name files by paths, requests by numbers.

use std::collections::{HashMap, HashSet};

use nearfs_protocol::id::Node;
use nearfs_protocol::name::Name;

use crate::nodes::ROOT_INO;
use crate::rpc::report::Subject;
use crate::status::Status;
use crate::vfs::Vfs;

/// Names that are looked at for each step towards the root: some milliseconds.
const NAMES_MAX: usize = 100_000;
/// Steps after which a path begins somewhere unknown.
const DEPTH_MAX: usize = 32;

impl Vfs {
    /// How it goes. Answers at once, whatever the server does.
    pub fn status(&self) -> Status {
        let mut status = self.rpc.status(|subjects| self.paths(subjects));
        status.cache = self.cache.counts().named();
        status.cache_bytes = self.cache.bytes();
        status.nodes = self.nodes.count();
        status.open_files = self.files.count();
        status
    }

    /// Paths below the root, which is `.`; they begin with `#` and a number where no name is remembered.
    pub(super) fn paths(&self, subjects: &[Subject]) -> Vec<String> {
        let places = self.places(subjects);
        subjects.iter().map(|(ino, name)| self.path(*ino, name.as_ref(), &places)).collect()
    }

    /// A level of directories at a time, so that the names are looked through once for all.
    fn places(&self, subjects: &[Subject]) -> HashMap<Node, (Node, Name)> {
        let nodes = subjects.iter().filter(|(ino, _)| *ino != ROOT_INO);
        let mut wanted: HashSet<Node> = nodes.filter_map(|(ino, _)| self.nodes.node(*ino).ok()).collect();
        let mut places = HashMap::new();
        for _ in 0..DEPTH_MAX {
            if wanted.is_empty() {
                break;
            }
            let found = self.cache.dentries.places(&wanted, NAMES_MAX);
            let parents = found.values().map(|(parent, _)| *parent);
            wanted = parents
                .filter(|parent| self.nodes.ino(parent.id) != ROOT_INO && !places.contains_key(parent))
                .collect();
            places.extend(found);
        }
        places
    }

    fn path(&self, ino: u64, name: Option<&Name>, places: &HashMap<Node, (Node, Name)>) -> String {
        let mut names: Vec<String> = name.map(shown).into_iter().collect();
        let mut at = ino;
        while at != ROOT_INO {
            let place = self.nodes.node(at).ok().and_then(|node| places.get(&node));
            let Some((parent, name)) = place.filter(|_| names.len() <= DEPTH_MAX) else {
                names.push(format!("#{at}"));
                break;
            };
            names.push(shown(name));
            at = self.nodes.ino(parent.id);
        }
        names.reverse();
        if names.is_empty() { ".".into() } else { names.join("/") }
    }
}

/// A name is bytes, and what is printed shall not drive the terminal.
fn shown(name: &Name) -> String {
    let text = name.to_string();
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text }
}
