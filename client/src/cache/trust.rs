//! How long something may be believed.

use std::time::Instant;

use nearfs_protocol::id::Change;

/// What a cached item rests on: it was true when the node had this change counter, and may be served
/// until this moment without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The counter of the node concerned, [`Change::UNSURE`] if it was not known.
    pub change: Change,
    /// When to ask again.
    pub until: Instant,
}

/// Something from a cache, and how long it may be passed on (the time-out to give to the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached<T> {
    /// What was cached.
    pub value: T,
    /// When to ask again.
    pub until: Instant,
}

impl Trust {
    /// Until when the item may be served: its own time, or as long as the node is `known` to have the
    /// same counter still.
    pub(super) fn serves_until(self, now: Instant, known: Option<Trust>) -> Option<Instant> {
        let unchanged = known.filter(|known| known.change.same_as(self.change)).map(|known| known.until);
        let until = unchanged.map_or(self.until, |until| until.max(self.until));
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_unchanged_node_prolongs_what_rests_on_it() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let item = Trust { change: Change(7), until: at(1) };
        let same = Some(Trust { change: Change(7), until: at(9) });
        assert_eq!(item.serves_until(at(0), None), Some(at(1)));
        assert_eq!(item.serves_until(at(1), None), None);
        assert_eq!(item.serves_until(at(5), same), Some(at(9)));
        assert_eq!(item.serves_until(at(9), same), None);
        assert_eq!(item.serves_until(at(5), Some(Trust { change: Change(8), until: at(9) })), None);
        let unsure = Trust { change: Change::UNSURE, until: at(1) };
        assert_eq!(unsure.serves_until(at(5), Some(Trust { until: at(9), ..unsure })), None);
    }
}
