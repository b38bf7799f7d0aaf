//! The apply thread: the only writer of the store.
//!
//! ```text
//!   entries ─► Group (pure) ─► one batch ─► hot tier ─► publish View ─► applied watch ─► answers
//!                                ▲ rows, meta, group row
//! ```
//! In that order, always: whoever hears of a write finds it in the View, and a View never shows a
//! part of a group. No sync: the log is the redo log, a checkpoint syncs later.
//!
//! An OS thread of its own, because a commit may wait for fjall's flushes: no async worker is held up.
//! Snapshots of fjall are opened here, between commits, and nowhere else.
//!
//! The first error is final: this group and every later job gets it, and nothing is retried.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::apply::{Effects, Group};
use crate::command::Command;
use crate::current::Current;
use crate::error::StoreError;
use crate::generation::{Generation, Reach};
use crate::hot::HotTier;
use crate::install::PreparedGeneration;
use crate::local::Swept;
use crate::meta::Meta;
use crate::reply::Reply;
use crate::schema;
use crate::store::Shared;
use crate::sweep::Sweep;
use crate::types::LogId;
use crate::view::View;

/// Entries in one group at most. More would make a batch longer without making it cheaper per entry.
pub(crate) const GROUP_ENTRIES_MAX: usize = 256;
/// Bytes of commands in one group, and of the rows they make; the entry that reaches it ends the group.
pub(crate) const GROUP_BYTES_MAX: usize = 4 << 20;
/// An idle store's View is renewed this often, so that the last one does not pin old tables.
const IDLE: Duration = Duration::from_secs(1);
/// Between two steps of background removal while nothing else is to do: half the time is left to
/// whatever else this machine does.
const SWEEP_PAUSE: Duration = Duration::from_millis(2);

/// An entry of the log, without openraft.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: LogId,
    pub(crate) payload: Payload,
    /// Whether somebody waits for the reply. On a follower nobody does, and a reply can be large.
    pub(crate) wanted: bool,
}

/// What an entry carries.
#[derive(Debug)]
pub(crate) enum Payload {
    Blank,
    Command(Command),
    /// In the bytes that only the Raft adapter reads.
    Membership(Bytes),
}

/// Called on the apply thread when a job is done.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// What the apply thread is asked to do. The adapter keeps at most two groups queued.
pub(crate) enum Job {
    /// Apply entries in order, and give one reply each. At most a group's worth.
    Apply { entries: Vec<Entry>, done: Done<Vec<Reply>> },
    /// Make a prepared generation the state.
    Install { prepared: PreparedGeneration, done: Done<()> },
    /// A checkpoint of `generation` covers every group up to `group`.
    Covered { generation: u64, group: u64 },
    /// Finish what is queued before this, then end.
    Stop,
}

/// The state of the apply thread.
pub(crate) struct Machine {
    /// Weak, so that a store nobody holds any more ends its thread.
    shared: Weak<Shared>,
    view: Arc<View>,
    /// The last group committed.
    group: u64,
    sweep: Sweep,
    broken: bool,
}

impl Machine {
    pub(crate) fn new(shared: &Arc<Shared>, group: u64, sweep: Sweep) -> Self {
        let view = shared.view();
        Self { shared: Arc::downgrade(shared), view, group, sweep, broken: false }
    }

    /// Serves jobs until it is told to stop or nobody can ask any more.
    pub(crate) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let patience = if self.is_sweep_due() { SWEEP_PAUSE } else { IDLE };
            let job = match jobs.recv_timeout(patience) {
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
            };
            let Some(shared) = self.shared.upgrade() else { break };
            match job {
                Some(job) => self.serve(&shared, job),
                None => self.idle(&shared),
            }
        }
    }

    fn serve(&mut self, shared: &Shared, job: Job) {
        match job {
            Job::Apply { entries, done } => {
                done(self.guarded(shared, |machine| machine.apply(shared, entries)));
                // One step per group: removal keeps up with any number of groups and delays none
                // by more than a step.
                self.sweep_step(shared);
            }
            Job::Install { prepared, done } => {
                done(self.guarded(shared, |machine| machine.install(shared, prepared)));
            }
            Job::Covered { generation, group } => {
                if generation == self.generation().number() {
                    self.sweep.covered(group);
                }
            }
            Job::Stop => {}
        }
    }

    fn idle(&mut self, shared: &Shared) {
        if self.is_sweep_due() {
            return self.sweep_step(shared);
        }
        if !self.broken {
            self.publish(shared, Arc::clone(self.view.shared_meta()), Arc::clone(self.view.hot()));
        }
        shared.shelf.expire();
    }

    /// Refuses after the first error, and remembers it.
    fn guarded<T>(
        &mut self,
        shared: &Shared,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.broken {
            return Err(StoreError::Closed);
        }
        work(self).inspect_err(|error| {
            self.broken = true;
            shared.fail(error);
        })
    }

    fn apply(&mut self, shared: &Shared, entries: Vec<Entry>) -> Result<Vec<Reply>, StoreError> {
        let mut replies = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            self.apply_group(shared, &mut entries, &mut replies)?;
        }
        Ok(replies)
    }

    /// Takes entries until the group is full or they are used up.
    fn apply_group(
        &mut self,
        shared: &Shared,
        entries: &mut impl Iterator<Item = Entry>,
        replies: &mut Vec<Reply>,
    ) -> Result<(), StoreError> {
        let base = Arc::clone(&self.view);
        let applied = base.applied().map(|id| id.index);
        let mut group = Group::new(&*base, base.meta().clone());
        let mut grouped = 0;
        for Entry { id, payload, wanted } in entries {
            if applied.is_some_and(|applied| id.index <= applied) {
                // Applied before a restart; nobody waits for this reply.
                replies.push(Reply::nothing(base.revision()));
                continue;
            }
            let reply = match payload {
                Payload::Blank => group.blank(id),
                Payload::Command(command) => group.apply(id, &command)?,
                Payload::Membership(encoded) => group.membership(id, encoded),
            };
            replies.push(if wanted { reply } else { Reply::nothing(reply.revision) });
            grouped += 1;
            if group.bytes() >= GROUP_BYTES_MAX as u64 {
                break;
            }
        }
        if grouped == 0 {
            return Ok(());
        }
        let effects = group.finish()?;
        self.commit(shared, effects, grouped)
    }

    fn commit(
        &mut self,
        shared: &Shared,
        effects: Effects,
        entries: u64,
    ) -> Result<(), StoreError> {
        let Effects { rows, meta, records, cleared, .. } = effects;
        let stamp = self.group + 1;
        self.view.hot().begin(stamp);

        let group_row = schema::group_key(stamp);
        let bytes: usize =
            rows.iter().map(|(key, row)| key.len() + row.as_ref().map_or(0, Bytes::len)).sum();
        let rows = rows.iter().map(|(key, row)| (&key[..], row.as_deref()));
        let group_row = std::iter::once((&group_row[..], Some(&[][..])));
        self.generation().commit(rows.chain(group_row), Reach::Written)?;
        self.group = stamp;

        // What the old instance holds is of the epoch before the clear.
        let hot = if cleared {
            Arc::new(self.view.hot().successor(stamp))
        } else {
            Arc::clone(self.view.hot())
        };
        for (key, row) in records {
            hot.put(&key, row, stamp);
        }
        shared.counters.group(entries, bytes as u64);
        self.publish(shared, Arc::new(meta), hot);
        Ok(())
    }

    /// Opens the frozen rows of this moment and shows them to everyone.
    fn publish(&mut self, shared: &Shared, meta: Arc<Meta>, hot: Arc<HotTier>) {
        let rows = self.generation().freeze();
        self.view = Arc::new(View::new(rows, hot, self.group, meta));
        shared.publish(&self.view);
    }

    fn is_sweep_due(&self) -> bool {
        !self.broken && self.sweep.is_due(self.view.meta())
    }

    fn sweep_step(&mut self, shared: &Shared) {
        if self.is_sweep_due() {
            // The error is remembered; the next group gets to hear that the store is closed.
            let _ = self.guarded(shared, |machine| machine.sweep(shared));
        }
    }

    fn sweep(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let step = self.sweep.step(self.view.rows(), self.view.meta())?;
        if step.is_empty() {
            return Ok(());
        }
        let removed = step.remove.iter().map(|key| (&key[..], None));
        let written = step.write.iter().map(|(key, row)| (&key[..], Some(&row[..])));
        self.generation().commit(removed.chain(written), Reach::Written)?;
        shared.counters.swept(step.remove.len() as u64);
        self.publish(shared, Arc::clone(self.view.shared_meta()), Arc::clone(self.view.hot()));
        Ok(())
    }

    /// Names the prepared generation in CURRENT, which is the commit point, and switches to it.
    fn install(&mut self, shared: &Shared, prepared: PreparedGeneration) -> Result<(), StoreError> {
        let (generation, meta) = prepared.into_parts();
        if meta.applied < self.view.applied() {
            generation.retire();
            return Err(StoreError::Damaged {
                detail: format!(
                    "a snapshot at {:?} is behind {:?}",
                    meta.applied,
                    self.view.applied()
                ),
            });
        }
        let generation_number = generation.number();
        shared.current.replace(|says| Current {
            generation: generation_number,
            group: 0,
            applied: meta.applied,
            log_position: says.log_position,
        })?;
        let old = Arc::clone(self.generation());
        old.retire();
        let (epoch, oldest_revision) = (meta.epoch, meta.oldest_revision);
        self.sweep = Sweep::new(1, 0, Swept { epoch, oldest_revision });
        self.group = 0;
        let hot = Arc::new(self.view.hot().successor(0));
        let rows = generation.freeze();
        self.view = Arc::new(View::new(rows, hot, 0, Arc::new(meta)));
        shared.counters.installed();
        shared.publish(&self.view);
        Ok(())
    }

    fn generation(&self) -> &Arc<Generation> {
        self.view.rows().generation()
    }
}
