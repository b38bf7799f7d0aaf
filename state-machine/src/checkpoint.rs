//! Checkpoints: making the state of one moment durable on this node.
//!
//! ```text
//!   read (applied, group) ─► persist everything committed ─► CURRENT says so ─► their group rows may go
//!                            on a blocking thread; commits wait for the sync
//! ```
//! A checkpoint sets the floor below which the log may be purged; a long tail of log stays behind it.
//! It writes no copy of anything. After it CURRENT holds the proof: a store that is opened with less
//! than CURRENT names has lost what had been synced.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::current::Current;
use crate::error::StoreError;
use crate::machine::Job;
use crate::store::Shared;
use crate::types::LogId;

/// When the next checkpoint is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    bytes: u64,
    interval: Duration,
    /// Bytes that had been applied at the last one.
    at_bytes: AtomicU64,
    at: Mutex<Instant>,
    taken: AtomicU64,
    /// Held while one is taken.
    taking: Mutex<()>,
}

impl Schedule {
    pub(crate) fn new(bytes: u64, interval: Duration) -> Self {
        Self {
            bytes,
            interval,
            at_bytes: AtomicU64::new(0),
            at: Mutex::new(now()),
            taken: AtomicU64::new(0),
            taking: Mutex::new(()),
        }
    }

    /// Checkpoints taken since the store was opened.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn is_due(&self, applied_bytes: u64) -> bool {
        let since = applied_bytes.saturating_sub(self.at_bytes.load(Ordering::Relaxed));
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        since >= self.bytes || (since > 0 && now().duration_since(at) >= self.interval)
    }

    fn done(&self, applied_bytes: u64) {
        self.at_bytes.store(applied_bytes, Ordering::Relaxed);
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = now();
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when to sync is this machine's own affair; no replicated state depends on it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Shared {
    /// Whether enough was applied since the last checkpoint, or it is old enough.
    pub(crate) fn checkpoint_due(&self) -> bool {
        self.schedule.is_due(self.counters.bytes())
    }

    /// The last entry that certainly survives a power cut.
    pub(crate) fn checkpointed(&self) -> Option<LogId> {
        self.current.says().applied
    }

    /// Makes everything applied so far durable. Blocking. Gives what is durable when it returns,
    /// which is at least what was published when it was called.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<Option<LogId>, StoreError> {
        let _one_at_a_time = self.schedule.taking.lock().unwrap_or_else(PoisonError::into_inner);
        // Before anything is synced here: this store never testifies to more than the log has.
        let log_position = self.log_position();
        let bytes = self.counters.bytes();
        let view = self.view();
        let generation = view.rows().generation();
        let reached = Current {
            generation: generation.number(),
            group: view.stamp(),
            applied: view.applied(),
            log_position,
        };
        // Nothing but the log went on: then everything here is synced already.
        if (Current { log_position, ..self.current.says() }) != reached {
            generation.persist().inspect_err(|error| self.fail(error))?;
        }
        self.name(reached).inspect_err(|error| self.fail(error))?;
        self.schedule.done(bytes);
        self.shelf.expire();
        Ok(self.checkpointed())
    }

    /// Writes CURRENT, unless an install has meanwhile named a newer generation.
    fn name(&self, reached: Current) -> Result<(), StoreError> {
        let named = self
            .current
            .replace(|says| if says.generation == reached.generation { reached } else { says })?;
        if named == reached {
            self.submit(Job::Covered { generation: reached.generation, group: reached.group });
        }
        Ok(())
    }
}
