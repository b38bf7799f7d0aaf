//! The log in memory: one mutex around everything that callers, readers and the writer share.
//!
//! ```text
//!   callers --> [state, tail, queue] --> writer --> disk
//!   readers --> [tail | segments]   <-- places of what is written
//! ```
//! The state, the leaders and the tail are those of the log as its callers see it: ahead of the disk by
//! what is in the queue. The segments know what is written. An entry is in the tail until it is written.
//!
//! The writer sleeps in three ways, and is woken only when it must be: `Busy` is never woken, it looks at
//! the queue when it is done; `Soon` (the log was used a moment ago) wakes by itself for what nobody waits
//! for; `Idle` is woken for anything.

mod failing;
mod gather;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::config::LogConfig;
use crate::disk::Disk;
use crate::error::{Failure, LogError};
use crate::leaders::Leaders;
use crate::meters::Meters;
use crate::planted::Planted;
use crate::queue::{Change, Op, Part};
use crate::segments::Segments;
use crate::state::State;
use crate::tail::Tail;
use crate::types::LogIdParts;

pub(crate) use failing::complete;

/// What the handles, the writer and the janitor of one log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LogConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) uuid: u128,
    pub(crate) meters: Meters,
    inner: Mutex<Inner>,
    work: Condvar,
}

/// What the mutex guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) leaders: Leaders,
    pub(crate) tail: Tail,
    pub(crate) segments: Segments,
    /// Entries before this index are written, as they are now.
    pub(crate) written_next: u64,
    /// Counts truncations: an append from before one says nothing about what is written after it.
    pub(crate) era: u64,
    pub(crate) durable_lsn: u64,
    /// The state of the stream as far as it is durable.
    pub(crate) durable: State,
    pub(crate) failed: Option<Arc<Failure>>,
    /// The last id saved as committed; written with the next frame at whose end it is in the log.
    pub(crate) committed_due: Option<LogIdParts>,
    /// What `read_committed` answers.
    pub(crate) committed: Option<LogIdParts>,
    queue: VecDeque<Op>,
    queue_bytes: usize,
    urgent: usize,
    /// Of the last commit: the ops that someone waited for, and how long its sync took.
    last_urgent: usize,
    pub(crate) last_sync: Duration,
    /// When the oldest op in the queue was asked for. Of what a full batch leaves behind: when it did.
    queued_at: Option<Instant>,
    /// How long the oldest op that the writer holds had waited.
    committing: Option<Waited>,
    writer: Sleep,
    closing: bool,
    room_wakers: Vec<Waker>,
}

/// The oldest op of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    pub(crate) since: Instant,
    pub(crate) for_the_writer: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Busy,
    Soon,
    Idle,
}

/// What the writer is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Commit the ops it was given.
    Commit,
    /// Nothing came for `idle_after`.
    Idle,
    /// Nothing will come any more.
    Close,
    /// The log has failed.
    Failed,
}

impl Shared {
    pub(crate) fn new(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        recovered: &mut crate::recovery::Recovered,
    ) -> Self {
        let state = recovered.state;
        let next = state.next_index().unwrap_or(0);
        let inner = Inner {
            state,
            leaders: std::mem::take(&mut recovered.leaders),
            tail: Tail::new(next),
            segments: std::mem::take(&mut recovered.segments),
            written_next: next,
            era: 0,
            durable_lsn: recovered.info.end_lsn,
            durable: state,
            failed: None,
            committed_due: None,
            committed: state.committed,
            queue: VecDeque::new(),
            queue_bytes: 0,
            urgent: 0,
            last_urgent: 0,
            last_sync: Duration::ZERO,
            queued_at: None,
            committing: None,
            writer: Sleep::Busy,
            closing: false,
            room_wakers: Vec::new(),
        };
        let meters = Meters::new();
        meters.recovered(&recovered.info);
        let uuid = recovered.identity.wal_uuid;
        Self { config, disk, uuid, meters, inner: Mutex::new(inner), work: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding the log")
    }

    /// Leaves the changes for the writer, and wakes it if it would not look by itself soon enough.
    pub(crate) fn enqueue(&self, mut inner: MutexGuard<'_, Inner>, op: Op) {
        let is_first = self.config.has(Planted::VoteFirst) && matches!(op.change, Change::Vote(_));
        inner.push(op);
        if is_first {
            inner.queue.rotate_right(1);
        }
        self.wake_writer(inner);
    }

    /// Wakes the writer if there is something that it would not notice by itself.
    pub(crate) fn wake_writer(&self, mut inner: MutexGuard<'_, Inner>) {
        let wake = match inner.writer {
            Sleep::Busy => false,
            Sleep::Soon => inner.urgent > 0 || inner.closing || inner.failed.is_some(),
            Sleep::Idle => inner.has_work() || inner.closing || inner.failed.is_some(),
        };
        if wake {
            // Whoever comes next need not wake it again.
            inner.writer = Sleep::Busy;
            drop(inner);
            self.work.notify_one();
        }
    }

    /// For the writer: waits for something to do. Ops to commit are put into `ops`, which is empty.
    /// `rested` says that the last answer was `Idle`.
    pub(crate) fn next(&self, ops: &mut VecDeque<Op>, rested: bool) -> Next {
        let mut inner = self.lock();
        let mut timed_out = false;
        loop {
            inner.writer = Sleep::Busy;
            inner = self.gather(inner);
            if let Some(next) = inner.due(ops, timed_out, self.batch_bytes_max()) {
                return next;
            }
            if timed_out {
                return Next::Idle;
            }
            if rested && !inner.has_work() {
                inner.writer = Sleep::Idle;
                inner = self.work.wait(inner).expect("nobody panics while holding the log");
            } else {
                inner.writer = Sleep::Soon;
                let waited = self.work.wait_timeout(inner, self.config.idle_after);
                let (woken, timeout) = waited.expect("nobody panics while holding the log");
                inner = woken;
                timed_out = timeout.timed_out();
            }
        }
    }

    /// The same without waiting: `Idle` when there is nothing to do. `flush` as if nothing had come for
    /// `idle_after`: then what nobody waits for is due as well.
    pub(crate) fn next_at_once(&self, ops: &mut VecDeque<Op>, flush: bool) -> Next {
        self.lock().due(ops, flush, self.batch_bytes_max()).unwrap_or(Next::Idle)
    }

    pub(crate) fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.config.batch_bytes_max).unwrap_or(usize::MAX)
    }

    pub(crate) fn cache_bytes_max(&self) -> usize {
        usize::try_from(self.config.cache_bytes_max).unwrap_or(usize::MAX)
    }

    /// No more ops are taken; the writer ends once everything is durable.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        let wakers = std::mem::take(&mut inner.room_wakers);
        self.wake_writer(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    /// Refuses everything once the log has failed or is closed.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        match &self.failed {
            Some(failure) => Err(LogError::Failed(Arc::clone(failure))),
            None if self.closing => Err(LogError::Closed),
            None => Ok(()),
        }
    }

    /// Takes in entries that follow the last one. When something speaks against one of them, nothing is
    /// changed.
    pub(crate) fn follow<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a Part> + Clone,
    ) -> Result<(), LogError> {
        self.check()?;
        let mut state = self.state;
        for entry in parts.clone().flat_map(|part| &*part.entries) {
            state.entry(entry.id)?;
        }
        self.state = state;
        for part in parts {
            self.leaders.extend(&part.entries);
            self.tail.push(Arc::clone(&part.entries), part.weight);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, op: Op) {
        if self.queue.is_empty() {
            self.queued_at = Some(Instant::now());
        }
        self.queue_bytes += op.weight();
        self.urgent += usize::from(op.is_urgent());
        self.queue.push_back(op);
    }

    pub(crate) fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    pub(crate) fn queue_ops(&self) -> usize {
        self.queue.len()
    }

    /// Since when the oldest op waits that is not durable.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.committing.map(|waited| waited.since).or(self.queued_at)
    }

    pub(crate) fn wait_for_room(&mut self, waker: &Waker) {
        if !self.room_wakers.iter().any(|known| known.will_wake(waker)) {
            self.room_wakers.push(waker.clone());
        }
    }

    /// A commit has ended: its bytes are no longer waiting. Who waited for room is to be woken.
    pub(crate) fn give_back(
        &mut self,
        bytes: usize,
        queue_bytes_max: u64,
    ) -> (Vec<Waker>, Option<Waited>) {
        self.queue_bytes -= bytes;
        let has_room = crate::disk::u64_len(self.queue_bytes) < queue_bytes_max;
        let wakers = if has_room { std::mem::take(&mut self.room_wakers) } else { Vec::new() };
        (wakers, self.committing.take())
    }

    /// What the writer is to do now, if anything.
    fn due(&mut self, ops: &mut VecDeque<Op>, flush: bool, bytes_max: usize) -> Option<Next> {
        if self.failed.is_some() {
            return Some(Next::Failed);
        }
        if self.urgent > 0 || ((flush || self.closing) && self.has_work()) {
            self.take(ops, bytes_max);
            return Some(Next::Commit);
        }
        self.closing.then_some(Next::Close)
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.committed_due.is_some_and(|id| self.is_in_log(id.index))
    }

    fn is_in_log(&self, index: u64) -> bool {
        self.state.last.is_some_and(|last| index <= last.index)
    }

    /// Moves ops for one commit into `ops`: all, or as many as fit `bytes_max`, but at least one.
    fn take(&mut self, ops: &mut VecDeque<Op>, bytes_max: usize) {
        let now = Instant::now();
        let urgent = self.urgent;
        self.committing = self
            .queued_at
            .take()
            .map(|since| Waited { since, for_the_writer: now.saturating_duration_since(since) });
        if self.queue_bytes <= bytes_max {
            std::mem::swap(&mut self.queue, ops);
            self.urgent = 0;
        } else {
            let mut bytes = 0;
            while let Some(op) = self.queue.front()
                && (bytes == 0 || bytes + op.weight() <= bytes_max)
            {
                bytes += op.weight();
                self.urgent -= usize::from(op.is_urgent());
                ops.extend(self.queue.pop_front());
            }
        }
        self.queued_at = (!self.queue.is_empty()).then_some(now);
        self.last_urgent = urgent - self.urgent;
        // At the end of all ops the stream is where the callers are: then it is known to hold the id.
        if self.queue.is_empty()
            && let Some(id) = self.committed_due.filter(|id| self.is_in_log(id.index))
        {
            self.committed_due = None;
            let op = Op::new(Change::Committed(id), None);
            self.queue_bytes += op.weight();
            ops.push_back(op);
        }
    }

    fn drain(&mut self) -> VecDeque<Op> {
        self.urgent = 0;
        // What the writer has already taken stays charged: it gives that back itself.
        self.queue_bytes -= self.queue.iter().map(Op::weight).sum::<usize>();
        self.queued_at = None;
        std::mem::take(&mut self.queue)
    }
}
