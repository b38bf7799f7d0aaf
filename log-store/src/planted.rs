//! Bugs planted on purpose, one at a time, to show that the tests find them.
//!
//! They exist only with the feature `planted`, which the log's own tests switch on; without it `has` is
//! `false` before the compiler, and nothing of them is left. That a callback is called twice cannot be
//! planted: it is an `FnOnce`.

use std::sync::Arc;

use crate::config::LogConfig;
use crate::disk::read_exact;
use crate::error::LogError;
use crate::files::unlink;
use crate::header::Header;
use crate::janitor::Task;
use crate::roll::Active;
use crate::shared::Shared;
use crate::writer::{Batch, Writer};

/// One bug. Each was once a real one in some log.
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "only tests name them"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planted {
    /// A commit is told without a sync (NATS #7564 syncs every two minutes).
    SkipSync,
    /// A sealed segment is not synced when the next one begins (raft-engine #123, yugabyte #3490, raft-log
    /// aa6b279).
    SkipSealSync,
    /// A new segment gets its name before its header is durable (raft-engine #219).
    SkipHeaderSync,
    /// A new segment's name is not made durable (etcd #6368, raft-log).
    SkipDirSync,
    /// Everyone is told, then it is synced (etcd #14370, hiqlite #361).
    TellBeforeSync,
    /// A failed sync is tried again (cockroach #37102, PostgreSQL in 2018).
    RetrySync,
    /// Whoever waits is told of an error, and the log goes on (raft-log, raft-engine #126).
    GoOnAfterError,
    /// One that waits is forgotten when the log fails (HomeStore #917, raft-log 5a71534).
    LoseCallback,
    /// A vote overtakes the appends before it (openraft #2118).
    VoteFirst,
    /// A truncation is done in memory alone (hiqlite-wal, nats #3911).
    TruncateWithoutRecord,
    /// Files go before the purge that covers them is durable (raft-log 293d167, hiqlite #357).
    UnlinkBeforeRecord,
    /// Purged segments go newest first, so a crash leaves a gap (raft-engine drops the older files then).
    UnlinkNewestFirst,
    /// FRONTIER is handed over before the sync that it tells of (Kafka's recovery point, hiqlite #361).
    FrontierBeforeSync,
    /// A clean stop shortens the last segment though nothing follows it (etcd #4903: a tail without its
    /// preallocated room).
    ShortenLast,
    /// A new process goes on in the file of the last one, behind what it has cut (etcd #6271, cqlite #1390,
    /// hiqlite-wal).
    AppendToInheritedTail,
    /// What is behind the end stays there (etcd f1ead43).
    LeaveTornTail,
    /// What a killed process left in the cache is believed to be durable (etcd, raft-engine, raft-wal).
    TrustUnsyncedTail,
    /// What a failed sync left in the cache is believed to be on the disk (found in most databases by the
    /// fsync study of 2020).
    TrustCacheAfterFailure,
    /// What is cut is not kept (all but etcd's `.broken`).
    SkipQuarantine,
    /// A last segment that is too short ends where it ends (raft-log, raft-engine, etcd).
    AcceptShortTail,
    /// What FRONTIER says does not count: a lost end is a clean one (raft-wal, okaywal, RocksDB).
    IgnoreFrontier,
    /// What does not verify behind the last good frame is torn, whatever it looks like (raft-log, raft-engine,
    /// okaywal, RocksDB).
    CutWithoutHole,
    /// What later frames say was durable does not count (pebble #6031).
    IgnoreSyncedLsn,
    /// A segment ends where its valid frames end, whatever its successor says (nori-wal, RocksDB before its
    /// WALs were tracked).
    IgnorePredecessor,
    /// An entry read from the disk is not verified (etcd #11924, raft-engine #319).
    SkipReadCheck,
}

impl Planted {
    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: &[Self] = &[
        Self::SkipSync,
        Self::SkipSealSync,
        Self::SkipHeaderSync,
        Self::SkipDirSync,
        Self::TellBeforeSync,
        Self::RetrySync,
        Self::GoOnAfterError,
        Self::LoseCallback,
        Self::VoteFirst,
        Self::TruncateWithoutRecord,
        Self::UnlinkBeforeRecord,
        Self::UnlinkNewestFirst,
        Self::FrontierBeforeSync,
        Self::ShortenLast,
        Self::AppendToInheritedTail,
        Self::LeaveTornTail,
        Self::TrustUnsyncedTail,
        Self::TrustCacheAfterFailure,
        Self::SkipQuarantine,
        Self::AcceptShortTail,
        Self::IgnoreFrontier,
        Self::CutWithoutHole,
        Self::IgnoreSyncedLsn,
        Self::IgnorePredecessor,
        Self::SkipReadCheck,
    ];
}

impl LogConfig {
    /// Whether this bug is planted.
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// Never.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) const fn has(&self, _: Planted) -> bool {
        false
    }
}

/// Bugs that take more than a condition at their place.
impl Writer {
    /// `UnlinkBeforeRecord`.
    pub(crate) fn unlink_early(&self, batch: Option<&Batch>) -> Result<(), LogError> {
        let Shared { config, disk, .. } = &*self.shared;
        if !config.has(Planted::UnlinkBeforeRecord) {
            return Ok(());
        }
        let Some(purged) = batch.and_then(|batch| batch.state.purged) else { return Ok(()) };
        let removable = self.shared.lock().segments.remove_purged(purged.index);
        removable.iter().try_for_each(|segment| unlink(&**disk, &config.dir, &segment.path))
    }

    /// `ShortenLast`.
    pub(crate) fn shorten_last(&mut self) {
        if self.shared.config.has(Planted::ShortenLast) {
            self.desk.hand_over(self.longer.take().map(|(path, len)| Task::Shorten { path, len }));
        }
    }

    /// `AppendToInheritedTail`: the recovery has not sealed the last segment.
    pub(crate) fn inherit_active(&mut self) -> Result<(), LogError> {
        if !self.shared.config.has(Planted::AppendToInheritedTail) || self.active.is_some() {
            return Ok(());
        }
        let mut inner = self.shared.lock();
        let Some((tail, current)) = self.tail.zip(inner.segments.current_mut()) else {
            return Ok(());
        };
        let mut block = vec![0; 4096];
        let path = current.path.clone();
        read_exact(&*current.file, &mut block, 0).map_err(LogError::io("read", &path))?;
        let (header, _) = Header::decode(&block).map_err(|bad| bad.at(&path))?;
        self.active = Some(Active {
            path,
            file: Arc::clone(&current.file),
            header,
            offset: tail.end_lsn - header.start_lsn,
            chain: tail.chain,
            entries: current.index.offsets.len(),
            runs: current.index.leaders.runs().len(),
        });
        Ok(())
    }
}
