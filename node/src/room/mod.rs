//! Room on the disks: a full disk is prevented rather than met.
//!
//! ```text
//!   free  ───────────┬──────────────────┬─────────────────┬──────────────► 0
//!          Enough    │ Low              │ Short           │ Full
//!          everything│ no writes that   │ no writes at    │ no entries as a follower:
//!                    │ take room        │ all             │ Raft's own alone
//!                 reserve          half of it       a quarter of it
//! ```
//! A log that meets a full disk has failed, and its node with it; and as replicas are alike, so have the
//! others. So the room is looked at every second, and *between* two looks every byte that is let in is
//! charged at what it may come to on the disk: a fast writer is stopped by its charges, not by a look that
//! comes too late. A level that a look has found is left again only once there is an eighth of the reserve more.
//!
//! Followers go on to the last level, so that a cluster whose disks are all alike can still delete, elect a
//! leader and serve linearizable reads after the leader has stopped taking writes; and they say that they are
//! short one level before, so that a leader stops before they do.

mod filesystem;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use anyhow::Context;
use metrics::gauge;
use raftmap_client::api::cluster::DiskStatus;
use tokio::sync::Notify;

pub use filesystem::{FreeSpace, Machine, Space};

use crate::config::Config;
use crate::units::format_bytes;

/// The default reserve, on a file system that is large enough.
const RESERVE_BYTES: u64 = 1 << 30;

/// The default reserve is no larger than this share of the file system …
const RESERVE_SHARE: u64 = 10;

/// … but never less than so many segments of the log: two for the log itself (the next one, and the one
/// made ahead), two for what the store writes out meanwhile.
const RESERVE_SEGMENTS: u64 = 4;

/// Bytes that one byte of a command may take in the log's file system before the next look.
const LOG_BYTES_PER_BYTE: u64 = 2;

/// The same in the store's: its journal, a table, the change log, a compaction of it.
const STORE_BYTES_PER_BYTE: u64 = 4;

/// What each command takes besides its bytes: frames, row keys, marks.
const COMMAND_OVERHEAD_BYTES: u64 = 256;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For everything.
    Enough,
    /// For deletes, renewals, and what Raft needs.
    Low,
    /// For what a leader has let in already, and what Raft needs.
    Short,
    /// For what Raft needs alone.
    Full,
}

impl Level {
    const ALL: [Level; 4] = [Level::Enough, Level::Low, Level::Short, Level::Full];

    /// The level as one byte, for the wire.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Level::Enough => 0,
            Level::Low => 1,
            Level::Short => 2,
            Level::Full => 3,
        }
    }

    /// The level of a byte from the wire.
    pub(crate) fn from_byte(byte: u8) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.byte() == byte)
    }

    /// Where `margin` bytes above the reserve put a file system that was at `was`.
    fn of(margin: i64, reserve: u64, was: Level) -> Level {
        if reserve == 0 {
            return Level::Enough;
        }
        let (half, quarter, band) = (signed(reserve / 2), signed(reserve / 4), signed(reserve / 8));
        let above = |line: i64, level: Level| {
            margin >= line.saturating_add(if was > level { band } else { 0 })
        };
        if above(0, Level::Enough) {
            Level::Enough
        } else if above(-half, Level::Low) {
            Level::Low
        } else if above(-half - quarter, Level::Short) {
            Level::Short
        } else {
            Level::Full
        }
    }
}

/// The room of one node.
#[derive(Debug)]
pub struct Room {
    source: Arc<dyn FreeSpace>,
    places: Vec<Place>,
    /// Which of them the store lies in.
    store: usize,
    /// Bytes let in since the start.
    charged: AtomicU64,
    /// Told when a charge made a level worse: somebody should look.
    worse: Notify,
}

/// One file system that the node writes to.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// Bytes on the disk per byte let in.
    weight: u64,
    reserve: u64,
    /// As last looked.
    free_bytes: AtomicU64,
    /// Bytes above the reserve at the last look, as if nothing had been charged until then: what is left
    /// now is this less the weight of all charges.
    base: AtomicI64,
    /// The level of the last look: what is left with a margin.
    measured: AtomicU8,
    /// The worst level since then, by charges: it is told once.
    noticed: AtomicU8,
}

impl Room {
    /// Looks for the first time; the directories exist.
    ///
    /// # Errors
    /// The room of a directory cannot be told.
    pub fn new(config: &Config, source: Arc<dyn FreeSpace>) -> anyhow::Result<Room> {
        let dirs =
            [(&config.log_dir, LOG_BYTES_PER_BYTE), (&config.data_dir, STORE_BYTES_PER_BYTE)];
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        let mut store = 0;
        for (dir, weight) in dirs {
            let space = source
                .space(dir)
                .with_context(|| format!("ask for the free room of {}", dir.display()))?;
            let place = places.entry(space.filesystem).or_insert_with(|| {
                let reserve = config.disk_reserve_bytes.unwrap_or_else(|| {
                    default_reserve(space.total_bytes, config.log_segment_bytes)
                });
                Place::new(dir, reserve)
            });
            place.weight += weight;
            // The last one asked is the store's.
            store = space.filesystem;
        }
        let store = places.keys().position(|filesystem| *filesystem == store).unwrap_or(0);
        let places = places.into_values().collect();
        let charged = AtomicU64::new(0);
        let room = Room { source, places, store, charged, worse: Notify::new() };
        room.look(0);
        Ok(room)
    }

    /// Asks the system. `under_way` bytes were charged and may not be on the disk yet. Blocking.
    pub fn look(&self, under_way: u64) {
        for place in &self.places {
            // Before the system is asked: what is charged meanwhile counts twice rather than not at all.
            let charged = self.charged.load(Ordering::Acquire);
            match self.source.space(&place.dir) {
                Ok(space) => place.found(space.free_bytes, charged.saturating_sub(under_way)),
                Err(error) => {
                    tracing::warn!(%error, dir = %place.dir.display(), "the free room cannot be told");
                }
            }
        }
    }

    /// How much room there is, by the last look and what was charged since.
    pub fn level(&self) -> Level {
        let charged = self.charged.load(Ordering::Acquire);
        self.places.iter().map(|place| place.level(charged)).max().unwrap_or(Level::Enough)
    }

    /// Charges a command of `bytes` that was let in.
    pub fn charge(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX / 4) + COMMAND_OVERHEAD_BYTES;
        let charged = self.charged.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let mut worse = false;
        for place in &self.places {
            worse |= place.became_worse(charged);
        }
        if worse {
            self.worse.notify_one();
        }
    }

    /// Waits until a charge has made the level worse than it was at the last look.
    pub async fn became_worse(&self) {
        self.worse.notified().await;
    }

    /// The reserve of the file system that is nearest to its own.
    pub fn reserve_bytes(&self) -> u64 {
        self.tightest().reserve
    }

    /// Bytes that are free where the store lies.
    pub fn store_free_bytes(&self) -> u64 {
        self.places[self.store].free_bytes.load(Ordering::Relaxed)
    }

    /// The file system that is nearest to its reserve, for people.
    pub fn status(&self) -> DiskStatus {
        let place = self.tightest();
        DiskStatus {
            free_bytes: place.free_bytes.load(Ordering::Relaxed),
            reserve_bytes: place.reserve,
            low: self.level() > Level::Enough,
        }
    }

    fn tightest(&self) -> &Place {
        let margin = |place: &&Place| {
            signed(place.free_bytes.load(Ordering::Relaxed)).saturating_sub(signed(place.reserve))
        };
        self.places.iter().min_by_key(margin).expect("a node has a directory")
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; above 2^53 it rounds")]
    pub(crate) fn set_gauges(&self) {
        for place in &self.places {
            let dir = place.dir.display().to_string();
            let free = place.free_bytes.load(Ordering::Relaxed);
            gauge!("raftmap_disk_free_bytes", "dir" => dir.clone()).set(free as f64);
            gauge!("raftmap_disk_reserve_bytes", "dir" => dir).set(place.reserve as f64);
        }
        gauge!("raftmap_disk_level").set(self.level().byte());
    }
}

impl Place {
    fn new(dir: &Path, reserve: u64) -> Place {
        Place {
            dir: dir.to_owned(),
            weight: 0,
            reserve,
            free_bytes: AtomicU64::new(0),
            base: AtomicI64::new(0),
            measured: AtomicU8::new(Level::Enough.byte()),
            noticed: AtomicU8::new(Level::Enough.byte()),
        }
    }

    /// `counted`: the charges whose bytes the system's figure already shows.
    fn found(&self, free_bytes: u64, counted: u64) {
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        let margin = signed(free_bytes).saturating_sub(signed(self.reserve));
        let base = margin.saturating_add(signed(counted.saturating_mul(self.weight)));
        self.base.store(base, Ordering::Release);
        let was = self.measured();
        let level = Level::of(margin, self.reserve, was);
        self.measured.store(level.byte(), Ordering::Release);
        self.noticed.store(level.byte(), Ordering::Release);
        if level != was {
            self.say(was, level);
        }
    }

    fn level(&self, charged: u64) -> Level {
        let spent = signed(charged.saturating_mul(self.weight));
        let margin = self.base.load(Ordering::Acquire).saturating_sub(spent);
        Level::of(margin, self.reserve, self.measured())
    }

    fn became_worse(&self, charged: u64) -> bool {
        let level = self.level(charged);
        let before = self.noticed.fetch_max(level.byte(), Ordering::AcqRel);
        level.byte() > before
    }

    fn measured(&self) -> Level {
        Level::from_byte(self.measured.load(Ordering::Acquire)).unwrap_or(Level::Full)
    }

    fn say(&self, was: Level, level: Level) {
        let (dir, reserve) = (self.dir.display(), format_bytes(self.reserve));
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        let taken = match level {
            Level::Enough => "everything is taken",
            Level::Low => "no writes that take room are let in",
            Level::Short => "no writes are let in",
            Level::Full => "no writes and no entries are taken",
        };
        if level < was {
            tracing::info!(%dir, free_bytes, reserve, "there is more room on the disk: {taken}");
        } else if level == Level::Low {
            tracing::warn!(%dir, free_bytes, reserve, "the disk is nearly full: {taken}");
        } else {
            tracing::error!(%dir, free_bytes, reserve, "the disk is nearly full: {taken}");
        }
    }
}

/// The reserve of a file system of this size, if none was asked for.
fn default_reserve(total_bytes: u64, segment_bytes: u64) -> u64 {
    let least = segment_bytes.saturating_mul(RESERVE_SEGMENTS);
    RESERVE_BYTES.min((total_bytes / RESERVE_SHARE).max(least))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
