//! The one thread that writes the log.
//!
//! ```text
//!   take all that waits -> encode into one buffer -> one write -> one sync -> tell everyone
//!         ^                                                          |
//!         `------- meanwhile the next batch gathers by itself <------'
//! ```
//! - A frame is synced before the next one is written: at most one frame is ever not durable.
//! - Nobody is told before the sync that covers it has returned (L2). The first error ends it all: it is
//!   never tried again, for the system may have forgotten what it failed to write.
//! - A segment is sealed and durable before its successor is made; the successor has its name, durably,
//!   before its first frame is written.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::disk::{DiskFile, u64_len, write_all};
use crate::error::{Failure, LogError};
use crate::frame::{FrameBuilder, Place};
use crate::frontier::Frontier;
use crate::header::{HEADER_BYTES, Header, Predecessor};
use crate::index::{EntryPlace, SegmentIndex};
use crate::janitor::{Desk, Task};
use crate::meters::Levels;
use crate::queue::{Change, Op};
use crate::record;
use crate::scan::salt_of;
use crate::seal::{self, SealFrame};
use crate::segments::Current;
use crate::shared::{Next, Shared, complete};
use crate::state::State;

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// The state of the stream: of everything written so far, behind that of the callers.
    stream: State,
    active: Option<Active>,
    /// How the last sealed segment ends; the next one begins there.
    tail: Option<Predecessor>,
    /// A file to be shortened once its successor exists.
    longer: Option<(Arc<dyn DiskFile>, u64)>,
    /// Makes the salts of this process unlike those of any other.
    salt_seed: u128,
    builder: FrameBuilder,
    /// Of each entry in the frame: its offset in it, the next record's, and its checksum.
    places: Vec<EntryPlace>,
    durable_lsn: u64,
    /// What was handed over for FRONTIER, and when.
    frontier_lsn: u64,
    frontier_at: Instant,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: Header,
    /// Where the next frame goes.
    offset: u64,
    chain: u32,
    /// Entries and runs that the footer may have to list.
    entries: usize,
    runs: usize,
}

/// One frame's worth of ops, encoded.
#[derive(Debug, Clone, Copy)]
struct Batch {
    state: State,
    frame_len: u64,
    entries: usize,
    runs: usize,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        recovered: &mut crate::recovery::Recovered,
        salt_seed: u128,
    ) -> Self {
        Self {
            shared,
            desk,
            stream: recovered.state,
            active: None,
            tail: recovered.tail,
            longer: recovered.tail_longer.take(),
            salt_seed,
            builder: FrameBuilder::default(),
            places: Vec::new(),
            durable_lsn: recovered.info.end_lsn,
            frontier_lsn: recovered.info.end_lsn,
            frontier_at: Instant::now(),
        }
    }

    /// Runs until the log is closed or has failed.
    pub(crate) fn run(mut self) {
        self.work();
        self.desk.close();
    }

    fn work(&mut self) {
        let mut ops = VecDeque::new();
        let mut rested = false;
        loop {
            match self.shared.next(&mut ops, rested) {
                Next::Commit => {
                    rested = false;
                    if !self.commit(&mut ops) {
                        return;
                    }
                }
                Next::Idle => {
                    rested = true;
                    self.hand_over_frontier();
                }
                Next::Close => {
                    if let Err(error) = self.seal() {
                        self.shared.fail(error);
                    } else {
                        self.hand_over_frontier();
                    }
                    return;
                }
                Next::Failed => return,
            }
        }
    }

    /// Writes the ops, tells who waits; whether the log still works.
    fn commit(&mut self, ops: &mut VecDeque<Op>) -> bool {
        match self.write(ops) {
            Err(error) => {
                self.shared.fail_commit(error, ops);
                false
            }
            Ok(Err(failure)) => {
                complete(ops, &Err(failure));
                false
            }
            Ok(Ok(())) => {
                complete(ops, &Ok(()));
                // While those who were told make up their minds.
                ops.clear();
                self.tidy();
                if self.frontier_at.elapsed() >= self.shared.config.frontier_interval {
                    self.hand_over_frontier();
                }
                true
            }
        }
    }

    /// The inner error is one of another thread: the log failed while this batch was on its way.
    fn write(&mut self, ops: &VecDeque<Op>) -> Result<Result<(), Arc<Failure>>, LogError> {
        let batch = self.encode(ops)?;
        // An append of no entries says only: after everything before.
        let frame_at = match batch {
            Some(batch) => self.write_frame(&batch)?,
            None => 0,
        };
        Ok(self.publish(ops, frame_at))
    }

    /// Encodes the ops into the buffer; none when there is nothing to write.
    fn encode(&mut self, ops: &VecDeque<Op>) -> Result<Option<Batch>, LogError> {
        let usual = usize::try_from(self.shared.config.batch_bytes_max).unwrap_or(usize::MAX);
        self.builder.begin(usual);
        self.places.clear();
        let mut state = self.stream;
        let mut runs = 0;
        let empty_len = self.builder.len();
        for op in ops {
            match &op.change {
                Change::Append { entries, .. } => {
                    for entry in entries {
                        runs +=
                            usize::from(state.last.is_none_or(|l| l.leader() != entry.id.leader()));
                        state.entry(entry.id)?;
                        let (offset, crc) = self.builder.add(|out| record::put_entry(out, entry));
                        let end = u32::try_from(self.builder.len()).expect("far below 4 GiB");
                        self.places.push(EntryPlace { offset, crc, end });
                    }
                }
                Change::Vote(vote) => {
                    state.vote(*vote)?;
                    self.builder.add(|out| record::put_vote(out, *vote));
                }
                Change::Committed(id) => {
                    state.committed(*id)?;
                    self.builder.add(|out| record::put_committed(out, *id));
                }
                Change::Truncate { keep, .. } => {
                    state.truncate(*keep)?;
                    self.builder.add(|out| record::put_truncate_after(out, *keep));
                }
                Change::Purge(id) => {
                    state.purge(*id)?;
                    self.builder.add(|out| record::put_purge_upto(out, *id));
                }
            }
        }
        let frame_len = u64_len(self.builder.len());
        let batch = Batch { state, frame_len, entries: self.places.len(), runs };
        Ok((self.builder.len() > empty_len).then_some(batch))
    }

    /// Writes and syncs the frame, in a new segment if it must be; its offset there.
    fn write_frame(&mut self, batch: &Batch) -> Result<u64, LogError> {
        if self.active.as_ref().is_some_and(|active| !active.has_room(batch)) {
            self.seal()?;
        }
        if self.active.is_none() {
            self.begin_segment(batch)?;
        }
        let active = self.active.as_mut().expect("a segment was just begun");
        let frame_at = active.offset;
        let lsn = active.header.start_lsn + frame_at;
        let place = Place { lsn, salt: salt_of(&active.header) };
        let (bytes, chain) = self.builder.finish(place, self.durable_lsn.min(lsn), active.chain);
        write_all(&*active.file, bytes, frame_at).map_err(LogError::io("write", &active.path))?;
        active.offset += batch.frame_len;
        active.chain = chain;
        active.entries += batch.entries;
        active.runs += batch.runs;
        let end_lsn = active.header.start_lsn + active.offset;
        self.shared.meters.written_lsn.store(end_lsn, Ordering::Relaxed);
        let began = Instant::now();
        active.file.sync_data().map_err(LogError::io("sync", &active.path))?;
        self.shared.meters.synced(began.elapsed());
        self.shared.meters.committed(batch.entries, batch.frame_len);
        self.durable_lsn = end_lsn;
        self.stream = batch.state;
        Ok(frame_at)
    }

    /// Tells readers and callers what is durable now.
    fn publish(&mut self, ops: &VecDeque<Op>, frame_at: u64) -> Result<(), Arc<Failure>> {
        let shared = Arc::clone(&self.shared);
        let frame_at = u32::try_from(frame_at).expect("segments are below 4 GiB");
        let mut places = self.places.iter();
        let mut is_purged = false;
        let mut bytes = 0;
        let mut inner = shared.lock();
        if let Some(failure) = &inner.failed {
            return Err(Arc::clone(failure));
        }
        for op in ops {
            bytes += op.weight();
            match &op.change {
                Change::Append { entries, era } => {
                    if let Some(current) = inner.segments.current_mut() {
                        for (entry, place) in entries.iter().zip(&mut places) {
                            current.index.push(entry.id, place.moved(frame_at));
                        }
                    }
                    if let Some(last) = entries.last().filter(|_| *era == inner.era) {
                        inner.written_next = last.id.index + 1;
                    }
                }
                Change::Truncate { keep, era } => {
                    let next = keep.map_or(0, |id| id.index + 1);
                    inner.segments.truncate(next);
                    if *era == inner.era {
                        inner.written_next = next;
                    }
                }
                Change::Purge(_) => is_purged = true,
                Change::Vote(_) | Change::Committed(_) => {}
            }
        }
        inner.durable_lsn = self.durable_lsn;
        let wakers = inner.give_back(bytes, shared.config.queue_bytes_max);
        drop(inner);
        wakers.into_iter().for_each(std::task::Waker::wake);
        if is_purged {
            self.remove_purged();
        }
        Ok(())
    }

    /// Keeps memory within its bound and the metrics up to date: nobody waits for either.
    fn tidy(&self) {
        let shared = &self.shared;
        let cache_bytes_max = usize::try_from(shared.config.cache_bytes_max).unwrap_or(usize::MAX);
        let mut inner = shared.lock();
        let written_next = inner.written_next;
        let evicted = inner.tail.evict(written_next, cache_bytes_max);
        let levels = Levels {
            queue_bytes: inner.queue_bytes(),
            cache_bytes: inner.tail.bytes(),
            durable_lsn: inner.durable_lsn,
            segments: inner.segments.count(),
            bytes: inner.segments.bytes(),
        };
        drop(inner);
        drop(evicted);
        shared.meters.levels(levels);
    }

    /// Has the segments removed that the durable purge frontier covers.
    fn remove_purged(&self) {
        if let Some(purged) = self.stream.purged {
            let removable = self.shared.lock().segments.remove_purged(purged.index);
            self.desk.hand_over(removable.into_iter().map(Task::Unlink));
        }
    }

    /// Ends the segment: its seal is durable, the next frame begins a new one.
    fn seal(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let mut inner = self.shared.lock();
        let footer = seal::footer(&mut inner.segments, active.offset);
        drop(inner);
        let footer = footer.expect("the active segment is the current one");
        let seal = SealFrame::encode(&footer, &active.header, active.offset, active.chain);
        write_all(&*active.file, &seal.bytes, active.offset)
            .map_err(LogError::io("write", &active.path))?;
        let began = Instant::now();
        active.file.sync_all().map_err(LogError::io("sync", &active.path))?;
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
        self.longer = Some((active.file, end));
        Ok(())
    }

    /// Makes the next segment, with room for this frame.
    fn begin_segment(&mut self, batch: &Batch) -> Result<(), LogError> {
        let header = self.next_header(batch);
        let dir = &self.shared.config.dir;
        let (tmp, file) = self.preallocated(header.capacity)?;
        let (block, chain) = header.encode();
        write_all(&*file, &block, 0).map_err(LogError::io("write", &tmp))?;
        file.sync_all().map_err(LogError::io("sync", &tmp))?;
        let path = dir.join(header.file_name());
        self.shared.disk.rename(&tmp, &path).map_err(LogError::io("rename", &path))?;
        self.shared.disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
        self.shared.lock().segments.begin(Current {
            seq: header.seq,
            path: path.clone(),
            file: Arc::clone(&file),
            capacity: header.capacity,
            index: SegmentIndex::default(),
        });
        self.shared.meters.rolls.increment(1);
        self.desk.hand_over(self.longer.take().map(|(file, len)| Task::Shorten { file, len }));
        self.desk.want_spare();
        self.remove_purged();
        let offset = HEADER_BYTES;
        self.active = Some(Active { path, file, header, offset, chain, entries: 0, runs: 1 });
        Ok(())
    }

    fn next_header(&self, batch: &Batch) -> Header {
        let seq = self.tail.map_or(1, |tail| tail.seq + 1);
        let needed =
            HEADER_BYTES + batch.frame_len + seal::frame_len(batch.entries, batch.runs + 1);
        Header {
            uuid: self.shared.uuid,
            seq,
            base: self.stream.next_index().unwrap_or(0),
            start_lsn: self.tail.map_or(0, |tail| tail.end_lsn),
            salt: salt(self.salt_seed, seq),
            capacity: self.shared.config.segment_bytes_max.max(needed),
            predecessor: self.tail,
            state: self.stream,
        }
    }

    /// A file of this length without a name of its own yet: the janitor's spare, if it fits.
    fn preallocated(&self, capacity: u64) -> Result<(PathBuf, Arc<dyn DiskFile>), LogError> {
        if capacity == self.shared.config.segment_bytes_max
            && let Some(spare) = self.desk.take_spare()
        {
            return Ok(spare);
        }
        self.shared.meters.spare_misses.increment(1);
        let tmp = self.shared.config.dir.join("segment.tmp");
        let file = self.shared.disk.create(&tmp).map_err(LogError::io("create", &tmp))?;
        file.allocate(capacity).map_err(LogError::io("allocate", &tmp))?;
        Ok((tmp, file))
    }

    fn hand_over_frontier(&mut self) {
        if self.frontier_lsn != self.durable_lsn {
            self.frontier_lsn = self.durable_lsn;
            self.desk
                .write_frontier(Frontier { durable_lsn: self.durable_lsn, state: self.stream });
        }
        self.frontier_at = Instant::now();
    }
}

impl Active {
    /// Whether the frame and, some time, the seal still fit.
    fn has_room(&self, batch: &Batch) -> bool {
        let seal = seal::frame_len(self.entries + batch.entries, self.runs + batch.runs);
        self.offset + batch.frame_len + seal <= self.header.capacity
    }
}

impl EntryPlace {
    /// The place of an entry in its segment, of one in its frame.
    fn moved(self, frame_at: u32) -> Self {
        Self { offset: self.offset + frame_at, end: self.end + frame_at, ..self }
    }
}

/// A number for each segment of each process that no other has.
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
fn salt(seed: u128, seq: u64) -> u64 {
    let mut z = (seed as u64) ^ ((seed >> 64) as u64).rotate_left(32);
    z = z.wrapping_add(seq.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
