//! A map that forgets what was not used for longest when its content weighs too much.

use std::borrow::Borrow;
use std::hash::Hash;

use lru::LruCache;

/// What an entry costs beside its key and value: links, allocation, and its share of a hash table that
/// may be less than half full.
const ENTRY_OVERHEAD_BYTES: usize = 80;

pub(super) struct WeightedLru<K: Hash + Eq, V> {
    entries: LruCache<K, Weighted<V>>,
    bytes: u64,
    bytes_max: u64,
}

struct Weighted<V> {
    value: V,
    bytes: u64,
}

impl<K: Hash + Eq, V> WeightedLru<K, V> {
    pub(super) fn new(bytes_max: u64) -> WeightedLru<K, V> {
        WeightedLru { entries: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    /// Looks without counting it as use.
    pub(super) fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.peek(key).map(|entry| &entry.value)
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(super) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Puts a value that holds `heap_bytes` beside itself, and hands what it displaces to `gone`: an
    /// older value of the key, entries not used for longest, or the new one if it is too big for all.
    pub(super) fn put(&mut self, key: K, value: V, heap_bytes: usize, mut gone: impl FnMut(K, V)) {
        let bytes = (heap_bytes + size_of::<K>() + size_of::<Weighted<V>>() + ENTRY_OVERHEAD_BYTES) as u64;
        if bytes > self.bytes_max {
            if let Some((old_key, old)) = self.pop_entry(&key) {
                gone(old_key, old);
            }
            return gone(key, value);
        }
        if let Some((old_key, old)) = self.entries.push(key, Weighted { value, bytes }) {
            self.bytes -= old.bytes;
            gone(old_key, old.value);
        }
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((key, value)) = self.pop_lru()
        {
            gone(key, value);
        }
    }

    pub(super) fn pop<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.pop(key)?;
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// All, those used last first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// What was not used for longest.
    pub(super) fn peek_lru(&self) -> Option<&V> {
        self.entries.peek_lru().map(|(_, entry)| &entry.value)
    }

    pub(super) fn pop_lru(&mut self) -> Option<(K, V)> {
        let (key, entry) = self.entries.pop_lru()?;
        self.bytes -= entry.bytes;
        Some((key, entry.value))
    }

    pub(super) fn clear(&mut self) {
        self.entries = LruCache::unbounded();
        self.bytes = 0;
    }

    /// Bytes held, overhead included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn pop_entry(&mut self, key: &K) -> Option<(K, V)> {
        let (key, entry) = self.entries.pop_entry(key)?;
        self.bytes -= entry.bytes;
        Some((key, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first() {
        let entry_bytes = 100 + ENTRY_OVERHEAD_BYTES + size_of::<u32>() + size_of::<Weighted<char>>();
        let mut lru = WeightedLru::new(2 * entry_bytes as u64);
        let mut gone = Vec::new();
        for (key, value) in [(1, 'a'), (2, 'b')] {
            lru.put(key, value, 100, |key, value| gone.push((key, value)));
        }
        assert_eq!(lru.get(&1), Some(&'a'));
        lru.put(3u32, 'c', 100, |key, value| gone.push((key, value)));
        assert_eq!(gone, [(2, 'b')]);
        lru.put(3, 'd', 101, |key, value| gone.push((key, value)));
        assert_eq!(gone, [(2, 'b'), (3, 'c'), (1, 'a')]);
        lru.put(3, 'e', 3 * entry_bytes, |key, value| gone.push((key, value)));
        assert_eq!(gone[3..], [(3, 'd'), (3, 'e')]);
        assert_eq!(lru.bytes(), 0);
    }
}
