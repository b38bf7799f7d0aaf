//! Numbers of the store: counters since it was opened, and sizes of the moment.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::generation::ColdStats;
use crate::hot::HotStats;
use crate::types::LogId;

/// How the store was found when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Whether there was a state at all.
    pub found: Found,
    /// The last entry that the state holds.
    pub applied: Option<LogId>,
    /// Live keys in it.
    pub keys: u64,
    /// Groups applied after the last checkpoint, each of which was found.
    pub groups_checked: u64,
    /// How long opening took, in milliseconds.
    pub ms: u64,
}

/// What an open found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the store was created.
    Nothing,
    /// A state that ends with its checkpoint, as a clean stop leaves it.
    Clean,
    /// A state with groups beyond its checkpoint: the process was killed. Nothing is missing.
    Unclean,
}

/// What the store did since it was opened, and what it holds now.
#[derive(Debug, Clone)]
pub struct StoreStats {
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The last entry that survives a power cut.
    pub checkpointed: Option<LogId>,
    /// The store's revision.
    pub revision: u64,
    /// The oldest revision kept.
    pub oldest_revision: u64,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
    /// Groups committed, each one batch of the cold tier.
    pub groups: u64,
    /// Entries applied.
    pub entries: u64,
    /// Bytes of rows written by groups.
    pub applied_bytes: u64,
    /// Rows removed in the background.
    pub swept_rows: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Snapshots installed.
    pub installs: u64,
    /// Snapshot files written.
    pub snapshots_written: u64,
    /// The hot tier.
    pub hot: HotStats,
    /// The cold tier.
    pub cold: ColdStats,
    /// How the store was found.
    pub recovery: Recovery,
    /// The first error; the node must stop.
    pub failed: Option<String>,
}

/// Counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    groups: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    swept: AtomicU64,
    installs: AtomicU64,
    snapshots: AtomicU64,
}

impl Counters {
    pub(crate) fn group(&self, entries: u64, bytes: u64) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn swept(&self, rows: u64) {
        self.swept.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn installed(&self) {
        self.installs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_written(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of rows written by groups.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn fill(&self, stats: &mut StoreStats) {
        stats.groups = self.groups.load(Ordering::Relaxed);
        stats.entries = self.entries.load(Ordering::Relaxed);
        stats.applied_bytes = self.bytes();
        stats.swept_rows = self.swept.load(Ordering::Relaxed);
        stats.installs = self.installs.load(Ordering::Relaxed);
        stats.snapshots_written = self.snapshots.load(Ordering::Relaxed);
    }
}
