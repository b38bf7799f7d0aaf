//! All segments of the log, and where each entry is in them.
//!
//! ```text
//!   sealed   [1 .. 40]  [41 .. 90]  [91 .. 95]      indexes that are still alive there
//!   current                                  [96 .. ]
//! ```
//! Always true: the live ranges do not overlap and rise from segment to segment. A truncation shortens
//! them from behind, a purge removes whole segments from the front.
//!
//! What is kept in memory of a sealed segment (its open file, four bytes an entry) is bounded for all of
//! them together; the rest is read back from the segment's footer when it is needed.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{DiskFile, u64_len};
use crate::index::{Footer, Resident, SegmentIndex};
use crate::located::{Absent, Located, Piece, Removable, run};

/// The sealed segments and the one being written.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    sealed: VecDeque<Sealed>,
    current: Option<Current>,
    /// Counts reads, to know what was used last.
    clock: u64,
}

/// The segment that is being written, or replayed.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) capacity: u64,
    pub(crate) index: SegmentIndex,
}

/// A segment that takes no more frames.
#[derive(Debug)]
struct Sealed {
    seq: u64,
    path: PathBuf,
    /// Bytes that count: the file may be longer.
    end: u64,
    /// Where the record with the footer begins.
    seal_at: u32,
    first: u64,
    count: u64,
    resident: Option<Arc<Resident>>,
    /// The footer can be read back, so `resident` may go.
    is_on_disk: bool,
    used: u64,
}

impl Segments {
    pub(crate) fn begin(&mut self, current: Current) {
        assert!(self.current.is_none(), "a segment begins before the last one is sealed");
        self.current = Some(current);
    }

    pub(crate) fn current_mut(&mut self) -> Option<&mut Current> {
        self.current.as_mut()
    }

    /// Turns the current segment into a sealed one, readable as before; what its footer is made of. Until
    /// `seal_is_on_disk` its places stay in memory.
    pub(crate) fn seal(&mut self, seal_at: u32, end: u64) -> Option<Footer> {
        let Current { seq, path, file, index, .. } = self.current.take()?;
        let (first, count) = (index.first, index.count());
        let footer = index.into_footer(file);
        let resident = Some(Arc::clone(&footer.places));
        let used = self.clock;
        self.sealed.push_back(Sealed {
            seq,
            path,
            end,
            seal_at,
            first,
            count,
            resident,
            is_on_disk: false,
            used,
        });
        Some(footer)
    }

    /// The footer of the last sealed segment is written.
    pub(crate) fn seal_is_on_disk(&mut self) {
        if let Some(last) = self.sealed.back_mut() {
            last.is_on_disk = true;
        }
    }

    /// Forgets entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        if let Some(current) = &mut self.current {
            current.index.truncate(next);
        }
        for sealed in self.sealed.iter_mut().rev() {
            sealed.count = sealed.count.min(next.saturating_sub(sealed.first));
        }
    }

    /// The index of the first entry that is here at all, purged or not.
    pub(crate) fn first_located(&self) -> Option<u64> {
        let sealed = self.sealed.iter().filter(|s| s.count > 0).map(|s| s.first);
        let current = self.current.iter().filter(|c| c.index.count() > 0).map(|c| c.index.first);
        sealed.chain(current).min()
    }

    /// Takes out the oldest segments that hold nothing above `purged`. Never the current one, nor the last
    /// of all: its header carries the state.
    pub(crate) fn remove_purged(&mut self, purged: u64) -> Vec<Removable> {
        let mut removed = Vec::new();
        while let Some(oldest) = self.sealed.front()
            && (oldest.count == 0 || oldest.first + oldest.count - 1 <= purged)
            && (self.sealed.len() > 1 || self.current.is_some())
        {
            removed.extend(self.sealed.pop_front().map(|s| Removable { seq: s.seq, path: s.path }));
        }
        removed
    }

    /// Where the entries from `range.start` on are: the longest run in one segment, at most about
    /// `bytes_max`, but at least one entry.
    pub(crate) fn locate(&mut self, range: Range<u64>, bytes_max: u64) -> Located {
        self.clock += 1;
        if let Some(current) = &self.current
            && (current.index.first..current.index.next()).contains(&range.start)
        {
            let index = &current.index;
            let (offsets, end) =
                run(&index.offsets, index.first, index.end, &range, index.next(), bytes_max);
            return Located::Piece(Piece {
                path: current.path.clone(),
                file: Arc::clone(&current.file),
                first: range.start,
                offsets,
                end,
            });
        }
        let clock = self.clock;
        let holds = |s: &&mut Sealed| (s.first..s.first + s.count).contains(&range.start);
        let Some(sealed) = self.sealed.iter_mut().rev().find(holds) else {
            return Located::Nowhere;
        };
        sealed.used = clock;
        let Some(resident) = &sealed.resident else {
            let (seq, path, seal_at) = (sealed.seq, sealed.path.clone(), sealed.seal_at);
            return Located::Absent(Absent { seq, path, seal_at });
        };
        let live_end = sealed.first + sealed.count;
        let (offsets, end) =
            run(&resident.offsets, resident.first, resident.end, &range, live_end, bytes_max);
        Located::Piece(Piece {
            path: sealed.path.clone(),
            file: Arc::clone(&resident.file),
            first: range.start,
            offsets,
            end,
        })
    }

    /// Keeps what was loaded of a segment, unless it is gone by now.
    pub(crate) fn keep(&mut self, seq: u64, resident: Arc<Resident>) {
        if let Some(sealed) = self.sealed.iter_mut().find(|s| s.seq == seq) {
            sealed.resident = Some(resident);
        }
    }

    /// Drops from memory what was read longest ago, until both bounds hold.
    pub(crate) fn trim(&mut self, index_bytes_max: u64, files_max: usize) {
        loop {
            let residents = || self.sealed.iter().filter_map(|s| s.resident.as_ref());
            let bytes: u64 = residents().map(|r| u64_len(r.offsets.len()) * 4).sum();
            if bytes <= index_bytes_max && residents().count() <= files_max {
                return;
            }
            let held = self.sealed.iter_mut().filter(|s| s.is_on_disk && s.resident.is_some());
            let Some(oldest) = held.min_by_key(|s| s.used) else { return };
            oldest.resident = None;
        }
    }

    /// How many files there are.
    pub(crate) fn count(&self) -> u64 {
        u64_len(self.sealed.len()) + u64::from(self.current.is_some())
    }

    /// Bytes of all files: what counts of sealed ones, the whole length of the current one.
    pub(crate) fn bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|s| s.end).sum();
        sealed + self.current.as_ref().map_or(0, |c| c.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, SimDisk};
    use crate::index::EntryPlace;
    use crate::types::LogIdParts;
    use std::path::Path;

    /// Two sealed segments and a current one, three entries of 100 bytes each.
    fn segments() -> Segments {
        let disk = SimDisk::new();
        let mut segments = Segments::default();
        for seq in 1..=3u64 {
            let path = Path::new("/wal").join(seq.to_string());
            let file = disk.create(&path).unwrap();
            let index = SegmentIndex::default();
            segments.begin(Current { seq, path, file, capacity: 9999, index });
            for i in 0..3u32 {
                let id = LogIdParts { term: 1, node: 1, index: seq * 3 - 2 + u64::from(i) };
                let offset = 4096 + i * 100;
                let place = EntryPlace { offset, crc: 0, end: offset + 100 };
                segments.current_mut().unwrap().index.push(id, place);
            }
            if seq < 3 {
                segments.seal(4396, 5000);
                segments.seal_is_on_disk();
            }
        }
        segments
    }

    fn piece(
        segments: &mut Segments,
        range: Range<u64>,
        bytes_max: u64,
    ) -> Option<(u64, usize, u32)> {
        match segments.locate(range, bytes_max) {
            Located::Piece(p) => Some((p.first, p.offsets.len(), p.end)),
            Located::Absent(_) | Located::Nowhere => None,
        }
    }

    #[test]
    fn a_run_ends_with_its_segment_its_range_or_its_bytes() {
        let mut s = segments();
        assert_eq!(piece(&mut s, 1..10, 9999), Some((1, 3, 4396)));
        assert_eq!(piece(&mut s, 2..3, 9999), Some((2, 1, 4296)));
        assert_eq!(piece(&mut s, 8..10, 9999), Some((8, 2, 4396)));
        assert_eq!(piece(&mut s, 1..10, 200), Some((1, 2, 4296)));
        assert_eq!(piece(&mut s, 1..10, 0), Some((1, 1, 4196)), "at least one");
        assert_eq!(piece(&mut s, 10..11, 9999), None);
    }

    #[test]
    fn truncated_entries_are_nowhere_and_new_ones_are_in_the_current_segment() {
        let mut s = segments();
        s.truncate(5);
        assert_eq!(piece(&mut s, 4..10, 9999), Some((4, 1, 4196)));
        assert_eq!(piece(&mut s, 5..10, 9999), None);
        let id = LogIdParts { term: 2, node: 1, index: 5 };
        let place = EntryPlace { offset: 4500, crc: 0, end: 4600 };
        s.current_mut().unwrap().index.push(id, place);
        assert_eq!(piece(&mut s, 5..10, 9999), Some((5, 1, 4600)));
    }

    #[test]
    fn purging_removes_whole_segments_oldest_first_and_never_the_last() {
        let mut s = segments();
        assert_eq!(s.remove_purged(2), []);
        assert_eq!(s.remove_purged(3).iter().map(|r| r.seq).collect::<Vec<_>>(), [1]);
        assert_eq!(s.remove_purged(100).iter().map(|r| r.seq).collect::<Vec<_>>(), [2]);
        s.seal(4396, 5000);
        assert_eq!(s.remove_purged(100), []);
        assert_eq!(s.count(), 1);
    }

    #[test]
    fn places_stay_in_memory_until_the_footer_is_on_disk() {
        let mut s = segments();
        s.seal(4396, 5000);
        s.trim(0, 0);
        assert_eq!(piece(&mut s, 7..10, 9999), Some((7, 3, 4396)));
        s.seal_is_on_disk();
        s.trim(0, 0);
        assert_eq!(piece(&mut s, 7..10, 9999), None);
    }

    #[test]
    fn what_is_not_in_memory_is_asked_for() {
        let mut s = segments();
        assert_eq!(piece(&mut s, 1..2, 9999), Some((1, 1, 4196)));
        s.trim(u64::MAX, 1);
        assert_eq!(piece(&mut s, 1..2, 9999), Some((1, 1, 4196)), "read last, so kept");
        let Located::Absent(absent) = s.locate(4..5, 9999) else { panic!("in memory") };
        assert_eq!((absent.seq, absent.seal_at), (2, 4396));
    }
}
