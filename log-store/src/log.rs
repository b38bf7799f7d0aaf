//! The log as its users see it.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::config::LogConfig;
use crate::disk::Disk;
use crate::error::{Failure, LogError};
use crate::stats::{LogStats, RecoveryInfo};
use crate::types::{EntryParts, LogIdParts, Owner, VoteParts};

/// A log. Clones share it.
#[derive(Debug, Clone)]
pub struct Log {}

/// The ends of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The purge frontier.
    pub purged: Option<LogIdParts>,
    /// The last entry, or the purge frontier when there is none.
    pub last: Option<LogIdParts>,
}

impl Log {
    /// Opens or creates.
    pub fn open(
        _config: LogConfig,
        _disk: Arc<dyn Disk>,
        _owner: Owner,
    ) -> Result<(Self, RecoveryInfo), LogError> {
        todo!()
    }

    /// The log's own id.
    pub fn uuid(&self) -> u128 {
        todo!()
    }

    /// What it is doing.
    pub fn stats(&self) -> LogStats {
        todo!()
    }

    /// Why it takes nothing any more.
    pub fn failed(&self) -> Option<Arc<Failure>> {
        todo!()
    }

    /// Writes what waits, FRONTIER last, and ends the threads.
    pub fn close(self) -> Result<(), LogError> {
        todo!()
    }

    /// Appends; `done` is called once they are durable.
    pub fn append<F>(&self, _entries: Vec<EntryParts>, _done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        todo!()
    }

    /// Ready when there is room in the queue.
    pub fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<Result<(), LogError>> {
        todo!()
    }

    /// Saves the vote.
    pub fn save_vote<F>(&self, _vote: VoteParts, _done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        todo!()
    }

    /// Saves what is committed.
    pub fn save_committed(&self, _id: LogIdParts) -> Result<(), LogError> {
        todo!()
    }

    /// Drops entries behind `keep`.
    pub fn truncate_after<F>(&self, _keep: Option<u64>, _done: F) -> Result<(), LogError>
    where
        F: FnOnce(Result<(), LogError>) + Send + 'static,
    {
        todo!()
    }

    /// Drops entries up to `id`.
    pub fn purge_upto(&self, _id: LogIdParts) -> Result<(), LogError> {
        todo!()
    }

    /// The ends.
    pub fn ends(&self) -> Ends {
        todo!()
    }

    /// The vote.
    pub fn vote(&self) -> Option<VoteParts> {
        todo!()
    }

    /// The committed id.
    pub fn committed(&self) -> Option<LogIdParts> {
        todo!()
    }

    /// The last id of each leader within the range of indexes.
    pub fn leader_ends(&self, _range: Range<u64>) -> Vec<LogIdParts> {
        todo!()
    }

    /// Entries of the range from memory alone, up to `bytes_max` and at least one; none when any of
    /// them has to be read from disk.
    pub fn read_cached(&self, _range: Range<u64>, _bytes_max: usize) -> Option<Vec<EntryParts>> {
        todo!()
    }

    /// Entries of the range, up to `bytes_max` and at least one. May read from disk.
    pub fn read(&self, _range: Range<u64>, _bytes_max: usize) -> Result<Vec<EntryParts>, LogError> {
        todo!()
    }
}
