//! The newest entries in memory: everything not yet written, and as much of the rest as its bound allows.
//!
//! ```text
//!   log     1 ................... 70 71 72 73 | 74 75 76
//!   tail                             71 72 73 | 74 75 76
//!                                    ^ first   ^ written_next: from here on they are only here
//! ```
//! Always true: entries follow each other without a gap and end with the last one of the log; an entry
//! leaves only once it is written.

use std::collections::VecDeque;
use std::ops::Range;

use crate::types::EntryParts;

/// Entries by index, in constant time.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<EntryParts>,
    /// The index of the first entry here.
    first: u64,
    bytes: usize,
}

impl Tail {
    pub(crate) fn new(next: u64) -> Self {
        Self { first: next, ..Self::default() }
    }

    /// Entries before this index are not here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, entry: EntryParts) {
        if self.entries.is_empty() {
            self.first = entry.id.index;
        }
        self.bytes += entry.weight();
        self.entries.push_back(entry);
    }

    /// Forgets entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self.entries.back().is_some_and(|entry| entry.id.index >= next) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.weight());
        }
        // What is left of the log, if it is not here, is on disk.
        self.first = self.first.min(next);
    }

    /// Forgets entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while self.entries.front().is_some_and(|entry| entry.id.index < first) {
            self.pop_front();
        }
        self.first = self.first.max(first);
    }

    /// Takes out the oldest entries before `written_next` until the rest fits `bytes_max`. The caller
    /// drops them, outside of its lock.
    pub(crate) fn evict(&mut self, written_next: u64, bytes_max: usize) -> Vec<EntryParts> {
        let mut evicted = Vec::new();
        while self.bytes > bytes_max
            && self.entries.front().is_some_and(|entry| entry.id.index < written_next)
        {
            evicted.extend(self.pop_front());
        }
        evicted
    }

    fn pop_front(&mut self) -> Option<EntryParts> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.weight();
        self.first = entry.id.index + 1;
        Some(entry)
    }

    /// The entries of `range`, all of which must be here, while they fit into `bytes_max`; with `least_one`
    /// the first always does.
    pub(crate) fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        least_one: bool,
    ) -> Vec<EntryParts> {
        let from = usize::try_from(range.start.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(from).take(count) {
            bytes += entry.weight();
            if bytes > bytes_max && !(least_one && out.is_empty()) {
                break;
            }
            out.push(entry.clone());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIdParts;
    use bytes::Bytes;

    fn tail() -> Tail {
        let mut tail = Tail::new(5);
        for index in 5..10 {
            let id = LogIdParts { term: 1, node: 1, index };
            tail.push(EntryParts { id, kind: 0, payload: Bytes::from(vec![0; 36]) });
        }
        tail
    }

    fn read(tail: &Tail, range: Range<u64>, bytes: usize) -> Vec<u64> {
        tail.read(range, bytes, true).iter().map(|entry| entry.id.index).collect()
    }

    #[test]
    fn a_read_is_bounded_in_bytes_but_never_empty() {
        assert_eq!(read(&tail(), 5..10, usize::MAX), [5, 6, 7, 8, 9]);
        assert_eq!(read(&tail(), 7..9, usize::MAX), [7, 8]);
        assert_eq!(read(&tail(), 6..10, 200), [6, 7]);
        assert_eq!(read(&tail(), 6..10, 0), [6]);
        assert_eq!(tail().read(6..10, 0, false), []);
    }

    #[test]
    fn only_written_entries_are_evicted() {
        let mut tail = tail();
        assert_eq!(tail.bytes(), 500);
        assert_eq!(tail.evict(8, 100).len(), 3);
        assert_eq!((tail.first(), tail.bytes()), (8, 200));
        assert_eq!(tail.evict(8, 0).len(), 0);
    }

    #[test]
    fn truncating_below_what_is_here_makes_the_next_entry_the_first() {
        let mut tail = tail();
        tail.evict(8, 0);
        tail.truncate(3);
        assert_eq!((tail.first(), tail.bytes()), (3, 0));
        tail.purge(20);
        assert_eq!(tail.first(), 20);
    }
}
