//! The newest entries in memory: everything not yet written, and as much of the rest as its bound allows.
//!
//! ```text
//!   log     1 ................... 70 71 72 73 | 74 75 76
//!   parts                           [71 72 73] [74] [75 76]      as they were appended
//!                                    ^ first   ^ written_next: from here on they are only here
//! ```
//! A part is shared with the queue, so an entry is held once. It leaves as a whole: what a purge or a
//! truncation takes of it is out of sight at once, and is given back with the rest.
//!
//! Always true: entries follow each other without a gap and end with the last one of the log; an entry
//! leaves only once it is written.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::types::EntryParts;

/// Entries by index.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    parts: VecDeque<Part>,
    /// The index of the first entry here.
    first: u64,
    bytes: usize,
}

/// Entries that were appended at once, and which of them count.
#[derive(Debug)]
struct Part {
    entries: Arc<[EntryParts]>,
    indexes: Range<u64>,
    weight: usize,
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

    /// Takes entries that follow the last one; `weight` is what they cost.
    pub(crate) fn push(&mut self, entries: Arc<[EntryParts]>, weight: usize) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let indexes = first.id.index..last.id.index + 1;
        if self.parts.is_empty() {
            self.first = indexes.start;
        }
        self.bytes += weight;
        self.parts.push_back(Part { entries, indexes, weight });
    }

    /// Forgets entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self.parts.back().is_some_and(|part| part.indexes.start >= next) {
            self.bytes -= self.parts.pop_back().map_or(0, |part| part.weight);
        }
        if let Some(part) = self.parts.back_mut() {
            part.indexes.end = part.indexes.end.min(next);
        }
        // What is left of the log, if it is not here, is on disk.
        self.first = self.first.min(next);
    }

    /// Forgets entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while self.parts.front().is_some_and(|part| part.indexes.end <= first) {
            self.pop_front();
        }
        if let Some(part) = self.parts.front_mut() {
            part.indexes.start = part.indexes.start.max(first);
        }
        self.first = self.first.max(first);
    }

    /// Takes out the oldest parts before `written_next` until the rest fits `bytes_max`. The caller drops
    /// them, outside of its lock.
    pub(crate) fn evict(
        &mut self,
        written_next: u64,
        bytes_max: usize,
        evicted: &mut Vec<Arc<[EntryParts]>>,
    ) {
        while self.bytes > bytes_max
            && self.parts.front().is_some_and(|part| part.indexes.end <= written_next)
        {
            evicted.extend(self.pop_front());
        }
    }

    fn pop_front(&mut self) -> Option<Arc<[EntryParts]>> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.weight;
        self.first = part.indexes.end;
        Some(part.entries)
    }

    /// The entries of `range`, all of which must be here, while they fit into `bytes_max`; with `least_one`
    /// the first always does.
    pub(crate) fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        least_one: bool,
    ) -> Vec<EntryParts> {
        let mut bytes = 0;
        let mut out = Vec::new();
        let from = self.parts.partition_point(|part| part.indexes.end <= range.start);
        for entry in self.parts.range(from..).flat_map(|part| part.within(&range)) {
            bytes += entry.weight();
            if bytes > bytes_max && !(least_one && out.is_empty()) {
                break;
            }
            out.push(entry.clone());
        }
        out
    }
}

impl Part {
    /// Those of its entries that count and are in the range.
    fn within(&self, range: &Range<u64>) -> &[EntryParts] {
        let begin = self.entries.first().map_or(0, |entry| entry.id.index);
        let at = |index: u64| usize::try_from(index.saturating_sub(begin)).unwrap_or(usize::MAX);
        let from = at(range.start.max(self.indexes.start));
        let to = at(range.end.min(self.indexes.end));
        self.entries.get(from..to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIdParts;
    use bytes::Bytes;

    /// Entries 5 to 9 of 100 bytes each, as 5, (6 7 8), 9.
    fn tail() -> Tail {
        let mut tail = Tail::new(5);
        for indexes in [5..6, 6..9, 9..10] {
            push(&mut tail, indexes);
        }
        tail
    }

    fn push(tail: &mut Tail, indexes: Range<u64>) {
        let entry = |index| EntryParts {
            id: LogIdParts { term: 1, node: 1, index },
            kind: 0,
            payload: Bytes::from(vec![0; 36]),
        };
        let entries: Vec<_> = indexes.map(entry).collect();
        let weight = entries.len() * 100;
        tail.push(entries.into(), weight);
    }

    fn read(tail: &Tail, range: Range<u64>, bytes: usize) -> Vec<u64> {
        tail.read(range, bytes, true).iter().map(|entry| entry.id.index).collect()
    }

    fn evict(tail: &mut Tail, written_next: u64, bytes_max: usize) -> usize {
        let mut evicted = Vec::new();
        tail.evict(written_next, bytes_max, &mut evicted);
        evicted.iter().map(|entries| entries.len()).sum()
    }

    #[test]
    fn a_read_is_bounded_in_bytes_but_never_empty() {
        assert_eq!(read(&tail(), 5..10, usize::MAX), [5, 6, 7, 8, 9]);
        assert_eq!(read(&tail(), 7..9, usize::MAX), [7, 8]);
        assert_eq!(read(&tail(), 6..10, 200), [6, 7]);
        assert_eq!(read(&tail(), 6..10, 0), [6]);
        assert_eq!(tail().read(6..10, 0, false), []);
        assert_eq!(read(&tail(), 10..10, usize::MAX), []);
    }

    #[test]
    fn only_written_parts_are_evicted_and_only_as_a_whole() {
        let mut tail = tail();
        assert_eq!(tail.bytes(), 500);
        assert_eq!(evict(&mut tail, 8, 0), 1, "entry 8 of the next part is not written");
        assert_eq!((tail.first(), tail.bytes()), (6, 400));
        assert_eq!(evict(&mut tail, 9, 399), 3);
        assert_eq!((tail.first(), tail.bytes()), (9, 100));
        assert_eq!(evict(&mut tail, 9, 0), 0);
    }

    #[test]
    fn what_is_cut_off_a_part_is_out_of_sight_at_once() {
        let mut tail = tail();
        tail.truncate(8);
        assert_eq!(read(&tail, 5..8, usize::MAX), [5, 6, 7]);
        assert_eq!(tail.bytes(), 400, "the part is given back as a whole");
        push(&mut tail, 8..10);
        assert_eq!(read(&tail, 5..10, usize::MAX), [5, 6, 7, 8, 9]);
        tail.purge(7);
        assert_eq!((tail.first(), tail.bytes()), (7, 500));
        assert_eq!(read(&tail, 7..10, usize::MAX), [7, 8, 9]);
        assert_eq!(evict(&mut tail, 8, 0), 3);
        assert_eq!((tail.first(), tail.bytes()), (8, 200));
    }

    #[test]
    fn truncating_below_what_is_here_makes_the_next_entry_the_first() {
        let mut tail = tail();
        evict(&mut tail, 9, 100);
        tail.truncate(3);
        assert_eq!((tail.first(), tail.bytes()), (3, 0));
        tail.purge(20);
        assert_eq!(tail.first(), 20);
        push(&mut tail, 21..23);
        assert_eq!((tail.first(), tail.bytes()), (21, 200));
    }
}
