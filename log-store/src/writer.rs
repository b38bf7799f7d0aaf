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
//!
//! The clock is asked for metrics, for when FRONTIER is due (`frontier_interval`) and for how long more ops
//! are waited for (`Shared::gather`), for nothing else: which bytes an op becomes does not depend on it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::disk::{u64_len, write_sectors};
use crate::error::{Failure, LogError};
use crate::frame::{FrameBuilder, Place};
use crate::frontier::Frontier;
use crate::header::Predecessor;
use crate::index::EntryPlace;
use crate::janitor::{Desk, Task};
use crate::planted::Planted;
use crate::queue::{Change, Op};
use crate::record;
use crate::roll::Active;
use crate::scan::salt_of;
use crate::shared::{Next, Shared, complete};
use crate::state::State;
use crate::types::EntryParts;

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desk: Arc<Desk>,
    /// The state of the stream: of everything written so far, behind that of the callers.
    pub(crate) stream: State,
    pub(crate) active: Option<Active>,
    /// How the last sealed segment ends; the next one begins there.
    pub(crate) tail: Option<Predecessor>,
    /// A file to be shortened once its successor exists.
    pub(crate) longer: Option<(PathBuf, u64)>,
    /// Makes the salts of this process unlike those of any other.
    pub(crate) salt_seed: u128,
    builder: FrameBuilder,
    /// Of each entry in the frame: its offset in it, the next record's, and its checksum.
    places: Vec<EntryPlace>,
    /// Entries on their way out of memory.
    evicted: Vec<Arc<[EntryParts]>>,
    pub(crate) durable_lsn: u64,
    /// What was handed over for FRONTIER, and when.
    pub(crate) frontier_lsn: u64,
    frontier_at: Instant,
    synced_at: Instant,
    last_sync: Duration,
}

/// One frame's worth of ops, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) state: State,
    pub(crate) frame_len: u64,
    pub(crate) entries: usize,
    pub(crate) runs: usize,
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
            evicted: Vec::new(),
            durable_lsn: recovered.info.end_lsn,
            frontier_lsn: recovered.info.end_lsn,
            frontier_at: Instant::now(),
            synced_at: Instant::now(),
            last_sync: Duration::ZERO,
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
            let next = self.shared.next(&mut ops, rested);
            rested = next == Next::Idle;
            if !self.turn(next, &mut ops) {
                return;
            }
        }
    }

    /// Does what is next; whether there can be anything after it.
    pub(crate) fn turn(&mut self, next: Next, ops: &mut VecDeque<Op>) -> bool {
        match next {
            Next::Commit => self.commit(ops),
            Next::Idle => {
                self.hand_over_frontier();
                self.shared.stats();
                true
            }
            Next::Close => {
                match self.seal() {
                    Ok(()) => {
                        self.hand_over_frontier();
                        self.shorten_last();
                    }
                    Err(error) => self.shared.fail(error),
                }
                false
            }
            Next::Failed => false,
        }
    }

    /// Writes the ops, tells who waits; whether the log still works.
    fn commit(&mut self, ops: &mut VecDeque<Op>) -> bool {
        if self.shared.config.has(Planted::TellBeforeSync) {
            complete(ops, &Ok(()));
        }
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
                // While those who were told make up their minds: nobody waits for any of this.
                ops.clear();
                self.evicted.clear();
                let interval = self.shared.config.frontier_interval;
                if self.synced_at.duration_since(self.frontier_at) >= interval {
                    self.hand_over_frontier();
                }
                true
            }
        }
    }

    /// The inner error is one of another thread: the log failed while this batch was on its way.
    fn write(&mut self, ops: &VecDeque<Op>) -> Result<Result<(), Arc<Failure>>, LogError> {
        let batch = self.encode(ops)?;
        self.unlink_early(batch.as_ref())?;
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
                    for entry in &**entries {
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
                    if self.shared.config.has(Planted::TruncateWithoutRecord) {
                        self.stream = state;
                        continue;
                    }
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
        self.inherit_active()?;
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
        write_sectors(&*active.file, bytes, frame_at)
            .map_err(LogError::io("write", &active.path))?;
        active.offset += batch.frame_len;
        active.chain = chain;
        active.entries += batch.entries;
        active.runs += batch.runs;
        let end_lsn = active.header.start_lsn + active.offset;
        self.shared.meters.written_lsn.store(end_lsn, Ordering::Relaxed);
        let began = Instant::now();
        if self.shared.config.has(Planted::FrontierBeforeSync) {
            self.desk.write_frontier(Frontier { durable_lsn: end_lsn, state: batch.state });
        }
        if !self.shared.config.has(Planted::SkipSync) {
            let retried = self.shared.config.has(Planted::RetrySync);
            let synced = active.file.sync_data();
            let synced = if retried { synced.or_else(|_| active.file.sync_data()) } else { synced };
            synced.map_err(LogError::io("sync", &active.path))?;
        }
        self.synced_at = Instant::now();
        self.last_sync = self.synced_at - began;
        self.shared.meters.synced(self.last_sync);
        self.shared.meters.committed(batch.entries, batch.frame_len);
        self.durable_lsn = end_lsn;
        self.stream = batch.state;
        Ok(frame_at)
    }

    /// Tells readers what is durable now, and takes out of memory what is beyond its bound.
    fn publish(&mut self, ops: &VecDeque<Op>, frame_at: u64) -> Result<(), Arc<Failure>> {
        let shared = Arc::clone(&self.shared);
        let frame_at = u32::try_from(frame_at).expect("segments are below 4 GiB");
        let mut places = &self.places[..];
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
                    let (these, rest) = places.split_at(entries.len());
                    places = rest;
                    if let Some(current) = inner.segments.current_mut() {
                        current.index.extend(entries, these, frame_at);
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
        inner.durable = self.stream;
        inner.last_sync = self.last_sync;
        let written_next = inner.written_next;
        inner.tail.evict(written_next, shared.cache_bytes_max(), &mut self.evicted);
        let (wakers, waited) = inner.give_back(bytes, shared.config.queue_bytes_max);
        drop(inner);
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(waited) = waited {
            let in_all = self.synced_at.saturating_duration_since(waited.since);
            shared.meters.waited(waited.for_the_writer, in_all);
        }
        if is_purged {
            self.remove_purged();
        }
        Ok(())
    }

    /// Has the segments removed that the durable purge frontier covers.
    pub(crate) fn remove_purged(&self) {
        if let Some(purged) = self.stream.purged {
            let mut removable = self.shared.lock().segments.remove_purged(purged.index);
            if self.shared.config.has(Planted::UnlinkNewestFirst) {
                removable.reverse();
            }
            self.desk.hand_over(removable.into_iter().map(Task::Unlink));
        }
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
