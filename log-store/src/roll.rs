//! Ending a segment and beginning the next.
//!
//! ```text
//!   frame frame Seal | sync            the old segment is whole and durable,
//!   header -> spare | sync | rename | sync directory     then the next has its name, durably,
//!                                        frame           then it takes its first frame
//! ```
//! A power cut between any two of these leaves a log that ends with the old segment, or with a new one
//! that is empty.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::disk::{DiskFile, u64_len, write_all, write_sectors};
use crate::error::LogError;
use crate::frontier::Frontier;
use crate::header::{HEADER_BYTES, Header, Predecessor};
use crate::index::SegmentIndex;
use crate::janitor::{ROOMY_SEGMENTS, Task};
use crate::planted::Planted;
use crate::seal::{self, SealFrame};
use crate::segments::Current;
use crate::writer::{Batch, Writer};

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: Header,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    pub(crate) chain: u32,
    /// Entries and runs that the footer may have to list.
    pub(crate) entries: usize,
    pub(crate) runs: usize,
}

impl Writer {
    /// Ends the segment: its seal is durable, the next frame begins a new one.
    pub(crate) fn seal(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let mut inner = self.shared.lock();
        let footer = seal::footer(&mut inner.segments, active.offset);
        drop(inner);
        let footer = footer.expect("the active segment is the current one");
        let seal = SealFrame::encode(&footer, &active.header, active.offset, active.chain);
        write_sectors(&*active.file, &seal.bytes, active.offset)
            .map_err(LogError::io("write", &active.path))?;
        let began = Instant::now();
        if !self.shared.config.has(Planted::SkipSealSync) {
            active.file.sync_all().map_err(LogError::io("sync", &active.path))?;
        }
        self.shared.meters.synced(began.elapsed());
        let end = active.offset + u64_len(seal.bytes.len());
        let end_lsn = active.header.start_lsn + end;
        self.durable_lsn = end_lsn;
        let config = &self.shared.config;
        let mut inner = self.shared.lock();
        inner.durable_lsn = end_lsn;
        inner.segments.seal_is_on_disk();
        inner.segments.trim(config.index_bytes_max, config.files_max);
        drop(inner);
        self.tail = Some(Predecessor { seq: active.header.seq, end_lsn, chain: seal.chain });
        self.longer = Some((active.path, end));
        Ok(())
    }

    /// Makes the next segment, with room for this frame.
    pub(crate) fn begin_segment(&mut self, batch: &Batch) -> Result<(), LogError> {
        let dir = &self.shared.config.dir;
        let Room { path: tmp, file, capacity } = self.preallocated(batch.needed())?;
        let header = self.next_header(capacity);
        let (block, chain) = header.encode();
        write_all(&*file, &block, 0).map_err(LogError::io("write", &tmp))?;
        if !self.shared.config.has(Planted::SkipHeaderSync) {
            file.sync_all().map_err(LogError::io("sync", &tmp))?;
        }
        let path = dir.join(header.file_name());
        self.shared.disk.rename(&tmp, &path).map_err(LogError::io("rename", &path))?;
        if !self.shared.config.has(Planted::SkipDirSync) {
            self.shared.disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
        }
        self.shared.lock().segments.begin(Current {
            seq: header.seq,
            path: path.clone(),
            file: Arc::clone(&file),
            capacity: header.capacity,
            index: SegmentIndex::default(),
        });
        self.tell_frontier(header.start_lsn + HEADER_BYTES);
        self.shared.meters.rolls.increment(1);
        self.desk.hand_over(self.longer.take().map(|(path, len)| Task::Shorten { path, len }));
        self.desk.want_spare();
        self.remove_purged();
        let offset = HEADER_BYTES;
        self.active = Some(Active { path, file, header, offset, chain, entries: 0, runs: 1 });
        Ok(())
    }

    /// Has FRONTIER tell of the new segment: should it vanish, that is soon noticed.
    fn tell_frontier(&mut self, durable_lsn: u64) {
        self.frontier_lsn = durable_lsn;
        self.desk.write_frontier(Frontier { durable_lsn, state: self.stream });
    }

    fn next_header(&self, capacity: u64) -> Header {
        let seq = self.tail.map_or(1, |tail| tail.seq + 1);
        Header {
            uuid: self.shared.uuid,
            seq,
            base: self.stream.next_index().unwrap_or(0),
            start_lsn: self.tail.map_or(0, |tail| tail.end_lsn),
            salt: salt(self.salt_seed, seq),
            capacity,
            predecessor: self.tail,
            state: self.stream,
        }
    }

    /// A file without a name of its own yet, with room for so much at least: the janitor's spare, if it fits.
    ///
    /// It takes no more than a share of a disk that is nearly full, and on a full one it is as short as it must
    /// be. Nothing was written then and nothing is lost: it is room that was asked for, so this is not the
    /// first error that is final.
    fn preallocated(&self, needed: u64) -> Result<Room, LogError> {
        let usual = self.shared.config.segment_bytes_max;
        if needed <= usual
            && let Some((path, file)) = self.desk.take_spare()
        {
            return Ok(Room { path, file, capacity: usual });
        }
        self.shared.meters.spare_misses.increment(1);
        let path = self.shared.config.dir.join("segment.tmp");
        let file = self.shared.disk.create(&path).map_err(LogError::io("create", &path))?;
        let mut capacity = self.affordable(usual).max(needed);
        loop {
            match file.allocate(capacity) {
                Ok(()) => return Ok(Room { path, file, capacity }),
                Err(error) if is_full(&error) && capacity > needed => {
                    file.set_len(0).map_err(LogError::io("shorten", &path))?;
                    capacity = (capacity / SHORTER).max(needed);
                    tracing::warn!(%error, capacity, "the disk is full: a shorter segment is made");
                }
                Err(error) => return Err(LogError::io("allocate", &path)(error)),
            }
        }
    }

    /// The length of a segment that leaves something of the disk to others.
    fn affordable(&self, usual: u64) -> u64 {
        let shared = &self.shared;
        let free = shared.disk.free_bytes(&shared.config.dir).unwrap_or(u64::MAX);
        if free < ROOMY_SEGMENTS * usual {
            (free / SHORTER).min(usual) / BLOCK_BYTES * BLOCK_BYTES
        } else {
            usual
        }
    }
}

/// How much shorter the next attempt is, when there was no room for a segment.
const SHORTER: u64 = 4;

/// Lengths are whole blocks of the disk.
const BLOCK_BYTES: u64 = 4096;

/// A file that is to become a segment.
struct Room {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    capacity: u64,
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

impl Batch {
    /// The shortest segment that it fits in: header, frame, seal.
    fn needed(&self) -> u64 {
        HEADER_BYTES + self.frame_len + seal::frame_len(self.entries, self.runs + 1)
    }
}

impl Active {
    /// Whether the frame and, some time, the seal still fit.
    pub(crate) fn has_room(&self, batch: &Batch) -> bool {
        let seal = seal::frame_len(self.entries + batch.entries, self.runs + batch.runs);
        self.offset + batch.frame_len + seal <= self.header.capacity
    }
}

/// A number for each segment of each process that no other has.
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
pub(crate) fn salt(seed: u128, seq: u64) -> u64 {
    let mut z = (seed as u64) ^ ((seed >> 64) as u64).rotate_left(32);
    z = z.wrapping_add(seq.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
