//! The log as its users see it.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::by_hand::Hands;
use crate::config::LogConfig;
use crate::disk::Disk;
use crate::error::{Contradiction, Failure, LogError};
use crate::queue::{Change, Completion, Op, Part};
use crate::reader;
use crate::recovery::{Recovered, recover};
use crate::shared::Shared;
use crate::stats::{LogStats, RecoveryInfo};
use crate::threads::Threads;
use crate::types::{EntryParts, LogIdParts, Owner, VoteParts};

/// A log that is open. Clones share it; the last one to go closes it.
///
/// Changes take effect for every reader at once and become durable in the order in which they were asked
/// for. `done` is called exactly once, on the log's own thread, when the change and everything before it is
/// durable, or with the error that ends the log. It must not block. When a call itself returns an error,
/// nothing was changed and its `done` is not called.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
    /// None when the log is worked by hand.
    threads: Option<Arc<Threads>>,
}

/// The ends of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The purge frontier.
    pub purged: Option<LogIdParts>,
    /// The last entry, or the purge frontier when there is none.
    pub last: Option<LogIdParts>,
}

impl Log {
    /// Opens the log in `config.dir`, or creates it there. Reads and verifies all of it; blocks as long as
    /// that takes (1 GiB in less than a second from a warm cache).
    ///
    /// # Errors
    /// `Corrupt` when durable bytes are gone or changed, then nothing on disk was touched; `Locked`,
    /// `WrongOwner`, `TooNew`, `Settings`, `Io` as they say.
    pub fn open(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        owner: Owner,
    ) -> Result<(Self, RecoveryInfo), LogError> {
        let (shared, recovered) = Self::recover(config, disk, owner)?;
        let info = recovered.info.clone();
        let threads = Threads::start(&shared, recovered, owner)?;
        Ok((Self { shared, threads: Some(Arc::new(threads)) }, info))
    }

    /// The same without threads: nothing is written but by the [`Hands`] that come with it, in the order in
    /// which they are asked. So a test decides what happens when, and a run is the same each time (with
    /// `frontier_interval` beyond its length).
    ///
    /// # Errors
    /// As `open`.
    pub fn open_by_hand(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        owner: Owner,
    ) -> Result<(Self, Hands, RecoveryInfo), LogError> {
        let (shared, recovered) = Self::recover(config, disk, owner)?;
        let info = recovered.info.clone();
        let hands = Hands::new(&shared, recovered, owner);
        Ok((Self { shared, threads: None }, hands, info))
    }

    fn recover(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        owner: Owner,
    ) -> Result<(Arc<Shared>, Recovered), LogError> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(LogError::Settings(problems));
        }
        let mut recovered = recover(&config, &*disk, owner)?;
        tracing::info!("{}", recovered.info);
        let shared = Arc::new(Shared::new(config, disk, &mut recovered));
        Ok((shared, recovered))
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The log's own id, drawn when it was created.
    pub fn uuid(&self) -> u128 {
        self.shared.uuid
    }

    /// Appends entries, which are readable when this returns. They must follow the last entry without a
    /// gap; an empty log takes any first index. Never waits: who is to be held back asks `poll_room` first.
    ///
    /// # Errors
    /// `TooLarge`, `OutOfOrder`, `Failed`, `Closed`.
    pub fn append<F>(&self, entries: Vec<EntryParts>, done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        // All that can be is done before the lock: allocating, weighing, cutting into parts.
        let bytes = self.weigh(&entries)?;
        let (before, last) = Part::split(entries, bytes, self.shared.batch_bytes_max());
        let done = Completion::new(done);
        let mut inner = self.shared.lock();
        if let Err(refused) = inner.follow(before.iter().chain([&last])) {
            drop(inner);
            done.forget();
            return Err(refused);
        }
        let era = inner.era;
        before.into_iter().for_each(|part| inner.push(Op::append(part, era, None)));
        inner.push(Op::append(last, era, Some(done)));
        self.shared.wake_writer(inner);
        Ok(())
    }

    /// Ready when less than `queue_bytes_max` wait for the writer. Pending registers the waker.
    ///
    /// # Errors
    /// `Failed`, `Closed`.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), LogError>> {
        let mut inner = self.shared.lock();
        if let Err(error) = inner.check() {
            return Poll::Ready(Err(error));
        }
        let waiting = crate::disk::u64_len(inner.queue_bytes());
        if waiting < self.shared.config.queue_bytes_max {
            return Poll::Ready(Ok(()));
        }
        inner.wait_for_room(cx.waker());
        Poll::Pending
    }

    /// Saves the vote. Its durability covers every append before it (L3).
    ///
    /// # Errors
    /// `OutOfOrder` when it is below the last one; `Failed`, `Closed`.
    pub fn save_vote<F>(&self, vote: VoteParts, done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        let mut inner = self.shared.lock();
        inner.check()?;
        inner.state.vote(vote)?;
        let op = Op::new(Change::Vote(vote), Some(Completion::new(done)));
        self.shared.enqueue(inner, op);
        Ok(())
    }

    /// Saves how far the log is committed. Nobody waits for it: it is written with the next commit, or
    /// when the log is idle, and never before the entry that it names. Of several only the last is written.
    ///
    /// # Errors
    /// `Failed`, `Closed`.
    pub fn save_committed(&self, id: LogIdParts) -> Result<(), LogError> {
        let mut inner = self.shared.lock();
        inner.check()?;
        inner.committed = Some(id);
        inner.committed_due = Some(id);
        self.shared.wake_writer(inner);
        Ok(())
    }

    /// Drops the entries behind index `keep`; `None` drops all. Readers see it at once. Beyond the last
    /// entry it changes nothing.
    ///
    /// # Errors
    /// `OutOfOrder` when `keep` is purged; `Failed`, `Closed`.
    pub fn truncate_after<F>(&self, keep: Option<u64>, done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        let mut inner = self.shared.lock();
        inner.check()?;
        let last = inner.state.last.map(|id| id.index);
        if last.is_none() || last <= keep {
            drop(inner);
            done(Ok(()));
            return Ok(());
        }
        let keep = match keep {
            None => inner.state.purged,
            Some(index) => {
                let unknown = Contradiction::Truncate { keep: Some(index) };
                Some(reader::id_at(&inner, index).ok_or(unknown)?)
            }
        };
        inner.state.truncate(keep)?;
        let next = keep.map_or(0, |id| id.index + 1);
        inner.leaders.truncate(next);
        inner.tail.truncate(next);
        inner.written_next = inner.written_next.min(next);
        inner.era += 1;
        if inner.committed.is_some_and(|id| id.index >= next) {
            inner.committed = keep;
            inner.committed_due = inner.committed_due.and(keep);
        }
        let change = Change::Truncate { keep, era: inner.era };
        self.shared.enqueue(inner, Op::new(change, Some(Completion::new(done))));
        Ok(())
    }

    /// Drops the entries up to `id`, which may lie beyond the end: then the log is empty and goes on behind
    /// it. Readers see it at once; nobody waits for the disk. Segments are removed once the purge is
    /// durable. A purge below an earlier one is nothing new.
    ///
    /// # Errors
    /// `Failed`, `Closed`.
    pub fn purge_upto(&self, id: LogIdParts) -> Result<(), LogError> {
        let mut inner = self.shared.lock();
        inner.check()?;
        if inner.state.purged.is_some_and(|purged| id.index <= purged.index) {
            return Ok(());
        }
        inner.state.purge(id)?;
        let (first, next) =
            (inner.state.first_possible(), inner.state.next_index().unwrap_or_default());
        inner.leaders.purge(first, next);
        inner.tail.purge(first);
        self.shared.enqueue(inner, Op::new(Change::Purge(id), None));
        Ok(())
    }

    /// The purge frontier and the last id.
    pub fn ends(&self) -> Ends {
        let inner = self.shared.lock();
        Ends { purged: inner.state.purged, last: inner.state.last }
    }

    /// The last vote.
    pub fn vote(&self) -> Option<VoteParts> {
        self.shared.lock().state.vote
    }

    /// The last id saved as committed.
    pub fn committed(&self) -> Option<LogIdParts> {
        self.shared.lock().committed
    }

    /// The last id of each leader among the entries of the range.
    pub fn leader_ends(&self, range: Range<u64>) -> Vec<LogIdParts> {
        let inner = self.shared.lock();
        let range = inner.present(range);
        inner.leaders.ends(range)
    }

    /// Entries of the range that are in the log, from memory alone: the first ones, up to about `bytes_max`,
    /// at least one. `None` when any of them has to be read from disk. Never blocks.
    pub fn read_cached(&self, range: Range<u64>, bytes_max: usize) -> Option<Vec<EntryParts>> {
        reader::read_cached(&self.shared, range, bytes_max)
    }

    /// Entries of the range that are in the log: the first ones, up to about `bytes_max`, at least one. May
    /// block on the disk. What it returns has no gap and is of one moment.
    ///
    /// # Errors
    /// `Corrupt` when an entry does not verify, `Io`.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<EntryParts>, LogError> {
        reader::read(&self.shared, range, bytes_max)
    }

    /// What the log is doing. Brings its gauges up to date (see docs/operations.md).
    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }

    /// The first error that ended the log.
    pub fn failed(&self) -> Option<Arc<Failure>> {
        self.shared.lock().failed.clone()
    }

    /// Writes what waits, seals the segment, brings FRONTIER up to date and ends the threads. Blocks until
    /// that is done. Other clones refuse everything from now on. By hand, `Hands::close` does the rest.
    ///
    /// # Errors
    /// `Failed` when not everything became durable.
    pub fn close(self) -> Result<(), LogError> {
        match &self.threads {
            Some(threads) => threads.stop(&self.shared),
            None => self.shared.close(),
        }
        match self.failed() {
            Some(failure) => Err(LogError::Failed(failure)),
            None => Ok(()),
        }
    }

    /// What the entries cost, unless one is too large.
    fn weigh(&self, entries: &[EntryParts]) -> Result<usize, LogError> {
        let limit = self.shared.config.entry_bytes_max;
        let mut largest = 0;
        let weight = |entry: &EntryParts| {
            largest = largest.max(entry.payload.len());
            entry.weight()
        };
        let bytes = entries.iter().map(weight).sum();
        match crate::disk::u64_len(largest) {
            bytes if bytes > limit => Err(LogError::TooLarge { bytes, limit }),
            _ => Ok(bytes),
        }
    }
}
