//! Many names of one command at once, with what one after the other would come to.
//!
//! Each name takes several round trips. Where what becomes of one name cannot matter to another, their round trips are
//! made together; where it might, as with the same name twice, the later one waits until the earlier one is done.

use std::collections::BTreeSet;
use std::iter::successors;

use nearfs_client::remote::RemotePath;

/// Names that are dealt with at once; for each there is one request under way.
pub(crate) const NAMES_AT_ONCE: usize = 128;

/// Names of a command, in the order in which they were named.
pub(crate) struct Together<'a> {
    rest: &'a [RemotePath],
    /// As many are looked at next: after a name that had to wait fewer, because others may have to.
    size: usize,
}

/// What dealing with a name may change, and what it rests on.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Names that come, go or are looked for: as they were written, and where they really are.
    pub(crate) paths: Vec<RemotePath>,
    /// Whether other paths may lead elsewhere afterwards, though they have none of these names.
    pub(crate) changes_ways: bool,
    /// Whether symbolic links were followed to find it, or may have been.
    pub(crate) follows_links: bool,
}

/// What earlier names touch.
#[derive(Default)]
struct Taken {
    paths: BTreeSet<RemotePath>,
    /// The directories above those.
    above: BTreeSet<RemotePath>,
    changes_ways: bool,
}

/// Does something with each of several things at once, on a thread for each. What comes of it is in their order.
pub(crate) fn at_once<T: Send, R: Send>(things: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    if things.len() <= 1 {
        return things.into_iter().map(act).collect();
    }
    let act = &act;
    std::thread::scope(|scope| {
        let acting: Vec<_> = things.into_iter().map(|thing| scope.spawn(move || act(thing))).collect();
        acting
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl<'a> Together<'a> {
    /// All these names.
    pub(crate) fn new(names: &'a [RemotePath]) -> Together<'a> {
        Together { rest: names, size: NAMES_AT_ONCE }
    }

    /// Looks at the next names, at most so many, and returns those that can be dealt with at once; none in the end.
    pub(crate) fn next<L: Send>(
        &mut self,
        most: usize,
        look: impl Fn(&RemotePath) -> L + Sync,
        touched: impl Fn(&RemotePath, &L) -> Touched,
    ) -> Vec<(&'a RemotePath, L)> {
        let size = self.size.min(most).min(self.rest.len());
        let looked = at_once(self.rest.iter().take(size).collect(), |path| (path, look(path)));
        let mut taken = Taken::default();
        let some: Vec<_> =
            looked.into_iter().take_while(|(path, looked)| taken.takes(&touched(path, looked))).collect();
        self.rest = self.rest.get(some.len()..).unwrap_or_default();
        self.size = (2 * some.len()).clamp(1, NAMES_AT_ONCE);
        some
    }
}

impl Touched {
    /// Everything: nothing else can be done at the same time.
    pub(crate) fn everything() -> Touched {
        Touched { paths: vec![RemotePath::root()], changes_ways: true, follows_links: true }
    }
}

impl Taken {
    /// Adds what a name touches, unless an earlier one touches it. The first is always added.
    fn takes(&mut self, touched: &Touched) -> bool {
        let is_taken = |path: &RemotePath| {
            self.above.contains(path)
                || successors(Some(path.clone()), RemotePath::parent).any(|at| self.paths.contains(&at))
        };
        if touched.follows_links && self.changes_ways || touched.paths.iter().any(is_taken) {
            return false;
        }
        self.changes_ways |= touched.changes_ways;
        for path in &touched.paths {
            self.above.extend(successors(path.parent(), RemotePath::parent));
            self.paths.insert(path.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn path(text: &str) -> RemotePath {
        RemotePath::parse(text.as_bytes()).unwrap()
    }

    fn touched(texts: &[&str]) -> Touched {
        Touched { paths: texts.iter().map(|text| path(text)).collect(), ..Touched::default() }
    }

    /// How many of the later ones can be dealt with together with the first.
    fn together(all: &[Touched]) -> usize {
        let mut taken = Taken::default();
        all.iter().take_while(|touched| taken.takes(touched)).count()
    }

    #[test]
    fn what_is_apart_goes_together() {
        assert_eq!(together(&[touched(&["/a/x"]), touched(&["/a/y"]), touched(&["/ab"])]), 3);
        assert_eq!(together(&[touched(&["/x", "/d/x"]), touched(&["/y", "/d/y"])]), 2);
    }

    #[test]
    fn what_an_earlier_name_touches_waits() {
        for (earlier, later) in [("/a", "/a"), ("/a", "/a/x"), ("/a/x", "/a"), ("/", "/a"), ("/a", "/")] {
            assert_eq!(together(&[touched(&[earlier]), touched(&["/z", later])]), 1, "{earlier} {later}");
        }
        assert_eq!(together(&[Touched::everything(), touched(&["/a"])]), 1);
        assert_eq!(together(&[touched(&["/a"]), Touched::everything()]), 1);
    }

    #[test]
    fn what_follows_links_waits_for_what_they_may_rest_on() {
        let link = || Touched { changes_ways: true, ..touched(&["/link"]) };
        let by_link = || Touched { follows_links: true, ..touched(&["/other/x"]) };
        assert_eq!(together(&[link(), by_link()]), 1);
        assert_eq!(together(&[by_link(), link()]), 2);
        assert_eq!(together(&[link(), touched(&["/other/x"])]), 2);
    }

    #[test]
    fn all_names_come_once_and_in_order_and_not_too_many_at_once() {
        let names: Vec<_> = (0..1000).map(|number| path(&(number % 300).to_string())).collect();
        let (mut together, mut seen, running) = (Together::new(&names), Vec::new(), AtomicUsize::new(0));
        let look = |_: &RemotePath| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            now
        };
        loop {
            let some = together
                .next(700, look, |path, _| Touched { paths: vec![path.clone()], ..Touched::default() });
            if some.is_empty() {
                break;
            }
            assert!(some.iter().all(|(_, running)| *running <= NAMES_AT_ONCE));
            let once: BTreeSet<_> = some.iter().map(|(path, _)| path).collect();
            assert_eq!(once.len(), some.len(), "the same name twice at once");
            seen.extend(some.into_iter().map(|(path, _)| path.clone()));
        }
        assert_eq!(seen, names);
    }
}
