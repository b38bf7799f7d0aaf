//! Where entries are found, as a search through the segments answers it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::DiskFile;

/// A run of entries in one segment, in one stretch of bytes.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) first: u64,
    /// Where each entry's record begins.
    pub(crate) offsets: Vec<u32>,
    /// Everything of the last entry lies before this offset.
    pub(crate) end: u32,
}

/// Where entries are.
#[derive(Debug)]
pub(crate) enum Located {
    /// Here; at least one entry, perhaps not all that were asked for.
    Piece(Piece),
    /// In a sealed segment whose places are not in memory.
    Absent(Absent),
    /// Nowhere.
    Nowhere,
}

/// A sealed segment to load.
#[derive(Debug, Clone)]
pub(crate) struct Absent {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
    pub(crate) seal_at: u32,
}

/// A segment to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removable {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
}

/// The offsets of the entries from `range.start` on, and where they end.
pub(crate) fn run(
    offsets: &[u32],
    first: u64,
    end: u32,
    range: &Range<u64>,
    live_end: u64,
    bytes_max: u64,
) -> (Vec<u32>, u32) {
    let at = |index: u64| usize::try_from(index - first).expect("an index in memory");
    let from = at(range.start);
    let to = at(range.end.min(live_end));
    let begin = offsets[from];
    let end_of = |i: usize| offsets.get(i + 1).copied().unwrap_or(end);
    let fits = |i: &usize| u64::from(end_of(*i) - begin) <= bytes_max;
    let last = (from + 1..to).take_while(fits).last().unwrap_or(from);
    (offsets[from..=last].to_vec(), end_of(last))
}
