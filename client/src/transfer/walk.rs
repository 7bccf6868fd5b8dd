//! Walking a tree on several threads.

use parking_lot::{Condvar, Mutex};

/// What is still to be looked at, and how many threads are looking.
struct Agenda<T> {
    waiting: Vec<T>,
    busy: usize,
}

/// Calls `visit` for each item, and for those that it is told of by the function that it gets; on so many threads.
/// What was found last is looked at first, so that few items wait.
pub(super) fn walk<T: Send>(threads: usize, first: Vec<T>, visit: impl Fn(T, &dyn Fn(T)) + Sync) {
    let agenda = Mutex::new(Agenda { waiting: first, busy: 0 });
    let news = Condvar::new();
    let work = || {
        loop {
            let mut now = agenda.lock();
            let item = loop {
                if let Some(item) = now.waiting.pop() {
                    break item;
                }
                if now.busy == 0 {
                    news.notify_all();
                    return;
                }
                news.wait(&mut now);
            };
            now.busy += 1;
            drop(now);
            visit(item, &|found| {
                agenda.lock().waiting.push(found);
                news.notify_one();
            });
            agenda.lock().busy -= 1;
            news.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// What is looked at on the way of [`walk_named`].
enum Item<'a, J, T> {
    Named(&'a J),
    Found(Box<T>),
}

/// Walks from what a person named, in the order in which it was named: `begin` says what is to be looked at from there, and
/// `visit` is called for that and for whatever it is told of.
pub(super) fn walk_named<J: Sync, T: Send>(
    threads: usize,
    named: &[J],
    begin: impl Fn(&J) -> Option<T> + Sync,
    visit: impl Fn(&T, &dyn Fn(T)) + Sync,
) {
    // What comes last is looked at first.
    let first = named.iter().rev().map(Item::Named).collect();
    walk(threads, first, |item, found| {
        let found = |item| found(Item::Found(Box::new(item)));
        match item {
            Item::Named(named) => begin(named).into_iter().for_each(found),
            Item::Found(item) => visit(&item, &found),
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn everything_is_visited_once() {
        let sum = AtomicU64::new(0);
        walk(4, vec![1_u64], |number, found| {
            sum.fetch_add(number, Ordering::Relaxed);
            for child in [2 * number, 2 * number + 1] {
                if child < 1000 {
                    found(child);
                }
            }
        });
        assert_eq!(sum.into_inner(), 999 * 1000 / 2);
    }
}
