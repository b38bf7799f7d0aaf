//! Reading entries: from the tail in memory, else from the segments, verified.
//!
//! What a read returns is decided at one moment, under the lock: entries in memory are taken then, of the
//! others the places are. Records are never overwritten and an open file outlives its name, so reading the
//! places afterwards gives the entries of that moment, whatever is truncated or purged meanwhile.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::MutexGuard;

use bytes::Bytes;

use crate::damage::{Cause, Damage};
use crate::disk::{read_exact, u64_len};
use crate::error::LogError;
use crate::index::{Resident, SegmentIndex};
use crate::located::{Absent, Located, Piece};
use crate::planted::Planted;
use crate::record::{self, Record};
use crate::shared::{Inner, Shared};
use crate::types::{EntryParts, LogIdParts};

/// Bytes read from a file at once; a single larger entry is read whole.
const READ_BYTES_MAX: u64 = 1 << 20;

/// A read as it was decided.
enum Plan {
    Ready {
        pieces: Vec<Piece>,
        cached: Vec<EntryParts>,
    },
    /// First the places of this segment are needed.
    Load(Absent),
    /// An entry that should be there is not.
    Lost(u64),
}

/// Entries of the range that are in the log: the first ones of them, up to `bytes_max`, at least one.
pub(crate) fn read(
    shared: &Shared,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<EntryParts>, LogError> {
    let mut loaded: Vec<(u64, Arc<Resident>)> = Vec::new();
    let mut missing = None;
    loop {
        match plan(shared, range.clone(), bytes_max, &loaded) {
            Plan::Ready { pieces, cached } => {
                let mut out = Vec::new();
                for piece in &pieces {
                    read_piece(shared, piece, &mut out)?;
                }
                shared.meters.hit(cached.len());
                out.extend(cached);
                return Ok(out);
            }
            Plan::Load(absent) => match load(shared, &absent) {
                Ok(resident) => loaded.push((absent.seq, Arc::new(resident))),
                // Purged since: the next plan will not ask for it again. If it does, the file is lost.
                Err(LogError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && missing != Some(absent.seq) =>
                {
                    missing = Some(absent.seq);
                }
                Err(error) => return Err(error),
            },
            Plan::Lost(index) => {
                shared.meters.read_errors.increment(1);
                return Err(LogError::corrupt(Damage {
                    cause: Cause::Missing,
                    file: shared.config.dir.clone(),
                    offset: 0,
                    first_index: Some(index),
                    last_index: Some(index),
                    reason: "no segment holds the entry".to_owned(),
                }));
            }
        }
    }
}

/// The same from memory alone; none when something would have to be read from disk.
pub(crate) fn read_cached(
    shared: &Shared,
    range: Range<u64>,
    bytes_max: usize,
) -> Option<Vec<EntryParts>> {
    let inner = shared.lock();
    let range = inner.present(range);
    if !range.is_empty() && range.start < inner.tail.first() {
        return None;
    }
    let entries = inner.tail.read(range, bytes_max, true);
    drop(inner);
    shared.meters.hit(entries.len());
    Some(entries)
}

fn plan(
    shared: &Shared,
    range: Range<u64>,
    bytes_max: usize,
    loaded: &[(u64, Arc<Resident>)],
) -> Plan {
    let mut inner = shared.lock();
    for (seq, resident) in loaded {
        inner.segments.keep(*seq, Arc::clone(resident));
    }
    let plan = plan_locked(&mut inner, range, bytes_max);
    if !loaded.is_empty() {
        inner.segments.trim(shared.config.index_bytes_max, shared.config.files_max);
    }
    plan
}

fn plan_locked(inner: &mut MutexGuard<'_, Inner>, range: Range<u64>, bytes_max: usize) -> Plan {
    let range = inner.present(range);
    let mut bytes_left = u64_len(bytes_max);
    let mut pieces = Vec::new();
    let mut at = range.start;
    let on_disk = range.end.min(inner.tail.first());
    while at < on_disk && (bytes_left > 0 || pieces.is_empty()) {
        match inner.segments.locate(at..on_disk, bytes_left.min(READ_BYTES_MAX)) {
            Located::Piece(piece) => {
                // One that is over the limit ends the read, unless it is the first.
                if piece.bytes() > bytes_left && !pieces.is_empty() {
                    bytes_left = 0;
                    break;
                }
                bytes_left = bytes_left.saturating_sub(piece.bytes());
                at += u64_len(piece.offsets.len());
                pieces.push(piece);
            }
            Located::Absent(absent) => return Plan::Load(absent),
            Located::Nowhere => return Plan::Lost(at),
        }
    }
    let bytes_left = usize::try_from(bytes_left).unwrap_or(usize::MAX);
    let cached = if at < on_disk {
        Vec::new()
    } else {
        inner.tail.read(at..range.end, bytes_left, pieces.is_empty())
    };
    Plan::Ready { pieces, cached }
}

impl Inner {
    /// The part of the range that is in the log.
    pub(crate) fn present(&self, range: Range<u64>) -> Range<u64> {
        let Some(first) = self.first_index() else { return 0..0 };
        let next = self.state.next_index().unwrap_or(first);
        let start = range.start.max(first);
        start..range.end.min(next).max(start)
    }

    /// The index of the first entry, when there is one.
    pub(crate) fn first_index(&self) -> Option<u64> {
        self.leaders.runs().next().map(|run| run.first)
    }
}

impl Piece {
    fn bytes(&self) -> u64 {
        self.offsets.first().map_or(0, |&begin| u64::from(self.end.saturating_sub(begin)))
    }
}

fn read_piece(shared: &Shared, piece: &Piece, out: &mut Vec<EntryParts>) -> Result<(), LogError> {
    let Some(&begin) = piece.offsets.first() else { return Ok(()) };
    let mut buf = vec![0; usize::try_from(piece.bytes()).unwrap_or(usize::MAX)];
    shared.meters.missed(piece.offsets.len(), buf.len());
    read_exact(&*piece.file, &mut buf, u64::from(begin))
        .map_err(LogError::io("read", &piece.path))?;
    let bytes = Bytes::from(buf);
    for (index, &offset) in (piece.first..).zip(&piece.offsets) {
        let is_checked = !shared.config.has(Planted::SkipReadCheck);
        let entry = entry_at(&bytes, offset - begin, index, is_checked);
        out.push(entry.map_err(|reason| {
            shared.meters.read_errors.increment(1);
            LogError::corrupt(Damage {
                cause: Cause::Rotten,
                file: piece.path.clone(),
                offset: u64::from(offset),
                first_index: Some(index),
                last_index: Some(index),
                reason: reason.to_owned(),
            })
        })?);
    }
    Ok(())
}

/// The entry whose record begins at `at`; its payload shares `bytes`.
fn entry_at(
    bytes: &Bytes,
    at: u32,
    index: u64,
    is_checked: bool,
) -> Result<EntryParts, &'static str> {
    let at = usize::try_from(at).ok().ok_or("an impossible offset")?;
    let record = bytes.get(at..).ok_or("an offset behind the end")?;
    if is_checked {
        record::verify(record)?;
    }
    match record::read_verified(record).ok_or("a record of a kind that is not known")?.record {
        Record::Entry { id, kind, payload } if id.index == index => {
            Ok(EntryParts { id, kind, payload: bytes.slice_ref(payload) })
        }
        Record::Entry { .. } => Err("the entry of another index"),
        Record::Vote(_)
        | Record::Committed(_)
        | Record::TruncateAfter(_)
        | Record::PurgeUpto(_)
        | Record::Seal(_) => Err("a record that is no entry"),
    }
}

/// Reads a sealed segment's footer.
fn load(shared: &Shared, absent: &Absent) -> Result<Resident, LogError> {
    let path = &absent.path;
    let io = |op| LogError::io(op, path);
    let file = shared.disk.open_to_read(path).map_err(io("open"))?;
    let len = file.len().map_err(io("read the length of"))?;
    let seal_at = u64::from(absent.seal_at);
    let mut head = [0; 8];
    read_exact(&*file, &mut head, seal_at).map_err(io("read"))?;
    let record_len = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
    // Never more than the file has, whatever a damaged length says.
    let padded = record_len.next_multiple_of(8).min(len.saturating_sub(seal_at));
    let mut buf = vec![0; usize::try_from(padded).unwrap_or(usize::MAX)];
    read_exact(&*file, &mut buf, seal_at).map_err(io("read"))?;
    let index = match record::decode(&buf) {
        Ok(decoded) => match decoded.record {
            Record::Seal(footer) => SegmentIndex::decode_footer(footer, absent.seal_at),
            _ => None,
        },
        Err(_) => None,
    };
    let Some(index) = index else {
        shared.meters.read_errors.increment(1);
        return Err(Damage::refuse(Cause::Rotten, path, seal_at, "the seal does not verify"));
    };
    let SegmentIndex { first, offsets, end, .. } = index;
    Ok(Resident { file, first, offsets, end })
}

/// The id of the entry at `index`, or of the purge frontier there.
pub(crate) fn id_at(inner: &Inner, index: u64) -> Option<LogIdParts> {
    let purged = inner.state.purged.filter(|purged| purged.index == index);
    purged.or_else(|| inner.leaders.at(index).map(|leader| leader.at(index)))
}
