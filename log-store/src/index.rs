//! Where the entries of one segment are, and the footer that says so on disk.
//!
//! ```text
//!   footer: first index u64, entries u32, runs u32,
//!           runs    x {first index u64, term u64, node u64},
//!           entries x {offset u32, crc32c u32}
//! ```
//! Always true: the entries are those of the segment that a replay of it leaves alive, without a gap.
//! The footer repeats what the records say. So a record that no longer verifies is still known by index,
//! leader and checksum, and a segment's places need not stay in memory.
#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::codec::{Cursor, Put};
use crate::disk::DiskFile;
use crate::leaders::Leaders;
use crate::types::{EntryParts, Leader, LogIdParts};

/// The entries of a segment that is being written or replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    /// The index of the first entry.
    pub(crate) first: u64,
    /// Where each entry's record begins.
    pub(crate) offsets: Vec<u32>,
    /// Each record's checksum.
    pub(crate) crcs: Vec<u32>,
    pub(crate) leaders: Leaders,
    /// Everything of the last entry lies before this offset.
    pub(crate) end: u32,
}

/// One entry's record in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryPlace {
    pub(crate) offset: u32,
    pub(crate) crc: u32,
    /// Where the next record begins.
    pub(crate) end: u32,
}

/// What has to be in memory to read from a sealed segment.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) file: Arc<dyn DiskFile>,
    /// The index of the entry that the first offset belongs to.
    pub(crate) first: u64,
    pub(crate) offsets: Vec<u32>,
    /// Everything of the last entry lies before this offset.
    pub(crate) end: u32,
}

impl EntryPlace {
    /// The place of an entry in its segment, of one in its frame.
    pub(crate) fn moved(self, frame_at: u32) -> Self {
        Self { offset: self.offset + frame_at, end: self.end + frame_at, ..self }
    }
}

impl SegmentIndex {
    /// The index after the last entry.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.count()
    }

    pub(crate) fn count(&self) -> u64 {
        crate::disk::u64_len(self.offsets.len())
    }

    /// Notes an entry. One that does not follow the last begins anew: what was here before is purged or
    /// truncated.
    pub(crate) fn push(&mut self, id: LogIdParts, place: EntryPlace) {
        if id.index != self.next() {
            self.offsets.clear();
            self.crcs.clear();
            self.leaders.clear();
        }
        if self.offsets.is_empty() {
            self.first = id.index;
        }
        self.offsets.push(place.offset);
        self.crcs.push(place.crc);
        self.leaders.push(id);
        self.end = place.end;
    }

    /// Notes entries without a gap, whose places are those of a frame that begins at `frame_at`.
    pub(crate) fn extend(&mut self, entries: &[EntryParts], places: &[EntryPlace], frame_at: u32) {
        let (Some((first, _)), Some((place, later))) =
            (entries.split_first(), places.split_first())
        else {
            return;
        };
        self.push(first.id, place.moved(frame_at));
        self.offsets.extend(later.iter().map(|place| place.offset + frame_at));
        self.crcs.extend(later.iter().map(|place| place.crc));
        self.leaders.extend(entries);
        self.end = places.last().unwrap_or(place).moved(frame_at).end;
    }

    /// Forgets entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        let keep = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(&end) = self.offsets.get(keep) {
            self.end = end;
            self.offsets.truncate(keep);
            self.crcs.truncate(keep);
            self.leaders.truncate(next);
        }
    }

    /// Whether a footer lists these entries.
    pub(crate) fn agrees(&self, listed: &Self) -> bool {
        (self.count() == 0 && listed.count() == 0)
            || (self.first == listed.first
                && self.offsets == listed.offsets
                && self.crcs == listed.crcs
                && self.leaders == listed.leaders)
    }

    /// The places as they stay in memory, and what else the footer needs.
    pub(crate) fn into_footer(self, file: Arc<dyn DiskFile>) -> Footer {
        let Self { first, offsets, crcs, leaders, end } = self;
        Footer { places: Arc::new(Resident { file, first, offsets, end }), crcs, leaders }
    }

    /// The entries that a footer lists. `end` is not in it, the seal's own place bounds the last entry.
    pub(crate) fn decode_footer(footer: &[u8], end: u32) -> Option<Self> {
        let mut from = Cursor::new(footer);
        let first = from.u64()?;
        let entries = usize::try_from(from.u32()?).ok()?;
        let runs = usize::try_from(from.u32()?).ok()?;
        // The lengths are checked against the bytes that are there before anything is reserved.
        let runs_bytes = from.take(runs.checked_mul(24)?)?;
        let entries_bytes = from.take(entries.checked_mul(8)?)?;
        if !from.rest().is_empty() {
            return None;
        }
        let mut index = Self { first, end, ..Self::default() };
        let mut from = Cursor::new(runs_bytes);
        for _ in 0..runs {
            let run_first = from.u64()?;
            index.leaders.push(Leader { term: from.u64()?, node: from.u64()? }.at(run_first));
        }
        index.offsets.reserve_exact(entries);
        index.crcs.reserve_exact(entries);
        let mut from = Cursor::new(entries_bytes);
        for _ in 0..entries {
            index.offsets.push(from.u32()?);
            index.crcs.push(from.u32()?);
        }
        Some(index)
    }
}

/// What a footer is made of, once the segment takes no more entries.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(crate) places: Arc<Resident>,
    pub(crate) crcs: Vec<u32>,
    pub(crate) leaders: Leaders,
}

impl Footer {
    /// The footer's bytes for this many entries and runs.
    pub(crate) fn len(entries: usize, runs: usize) -> usize {
        16 + runs * 24 + entries * 8
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let offsets = &self.places.offsets;
        let runs = self.leaders.runs();
        let mut out = Vec::with_capacity(Self::len(offsets.len(), runs.len()));
        out.put_u64(self.places.first);
        out.put_u32(u32::try_from(offsets.len()).expect("a segment has less than 2^32 bytes"));
        out.put_u32(u32::try_from(runs.len()).expect("a segment has less than 2^32 bytes"));
        for run in runs {
            out.put_u64(run.first);
            out.put_u64(run.leader.term);
            out.put_u64(run.leader.node);
        }
        for (offset, crc) in offsets.iter().zip(&self.crcs) {
            out.put_u32(*offset);
            out.put_u32(*crc);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, SimDisk};
    use std::path::Path;

    fn place(offset: u32) -> EntryPlace {
        EntryPlace { offset, crc: offset + 1, end: offset + 40 }
    }

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::default();
        for (term, i, offset) in [(1, 5, 4136), (1, 6, 4176), (2, 7, 5000)] {
            index.push(LogIdParts { term, node: 3, index: i }, place(offset));
        }
        index
    }

    #[test]
    fn the_footer_lists_what_the_index_holds() {
        let index = index();
        let file = SimDisk::new().create(Path::new("/wal/1")).unwrap();
        let footer = index.clone().into_footer(file).encode();
        assert_eq!(footer.len(), Footer::len(3, 2));
        assert_eq!(SegmentIndex::decode_footer(&footer, index.end), Some(index));
        for len in 0..footer.len() {
            assert_eq!(SegmentIndex::decode_footer(&footer[..len], 0), None, "cut to {len}");
        }
    }

    #[test]
    fn truncating_moves_the_end_to_the_first_forgotten_record() {
        let mut index = index();
        index.truncate(7);
        assert_eq!((index.next(), index.end), (7, 5000));
        index.truncate(9);
        assert_eq!(index.next(), 7);
        index.truncate(2);
        assert_eq!(index.count(), 0);
    }

    #[test]
    fn an_entry_elsewhere_begins_anew() {
        let mut index = index();
        index.push(LogIdParts { term: 9, node: 3, index: 100 }, place(6000));
        assert_eq!((index.first, index.count()), (100, 1));
        assert_eq!(index.leaders.at(100), Some(Leader { term: 9, node: 3 }));
    }
}
