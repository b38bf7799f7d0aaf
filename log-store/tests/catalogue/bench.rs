//! What every case is given: the form of the run, the settings of the log, the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmap_log_store::disk::SimDisk;
use raftmap_log_store::{Hands, Log, LogConfig, LogError, Owner, Planted, RecoveryInfo};

use crate::place::{Only, Place};
use crate::report::Report;

/// The directory of every log here.
pub(crate) const DIR: &str = "/wal";

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// What CI runs.
    Short,
    /// As many images as it takes.
    Long,
}

/// One run of the catalogue.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) form: Form,
    /// The bug that the log is to have.
    pub(crate) planted: Option<Planted>,
    pub(crate) only: Only,
    /// Where random cases begin.
    pub(crate) seed: u64,
    /// How many cases run at a time.
    pub(crate) threads: u64,
    pub(crate) report: Report,
    /// One violation is enough.
    pub(crate) ends_at_first: bool,
    /// No further image after this.
    pub(crate) deadline: Option<Instant>,
}

impl Bench {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            planted: None,
            only: Only::default(),
            seed: 1,
            threads: 1,
            report: Report::default(),
            ends_at_first: false,
            deadline: None,
        }
    }

    /// The settings of a small log: segments of 16 KiB, batches of 4 KiB, FRONTIER only when told to rest.
    pub(crate) fn config(&self) -> LogConfig {
        LogConfig {
            segment_bytes_max: 16 << 10,
            batch_bytes_max: 4 << 10,
            queue_bytes_max: 1 << 20,
            frontier_interval: Duration::from_secs(60),
            planted: self.planted,
            ..LogConfig::new(DIR)
        }
    }

    pub(crate) fn is_long(&self) -> bool {
        self.form == Form::Long
    }

    /// A case is run to its end, on a good log: what it never meets is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.planted.is_none() && self.only.is_of_cases() && !self.is_over()
    }

    /// Nothing more is to be looked at.
    pub(crate) fn is_over(&self) -> bool {
        (self.ends_at_first && self.report.violations() > 0)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether this place was asked for.
    pub(crate) fn admits(&self, place: &Place) -> bool {
        self.only.admits(place) && !self.is_over()
    }
}

/// Who opens a log, the `nth` time in its life.
pub(crate) fn owner(nth: u64) -> Owner {
    Owner { node_id: 1, new_uuid: 0x5EED_0000_0000_0000 + u128::from(nth) }
}

/// Opens the log on this disk, the `nth` time.
pub(crate) fn open(
    config: &LogConfig,
    disk: &SimDisk,
    nth: u64,
) -> Result<(Log, Hands, RecoveryInfo), LogError> {
    Log::open_by_hand(config.clone(), Arc::new(disk.clone()), owner(2000 + nth))
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The segments and their bytes, oldest first.
pub(crate) fn segments(disk: &SimDisk) -> Vec<(PathBuf, Arc<Vec<u8>>)> {
    let is_segment = |path: &Path| {
        path.parent() == Some(Path::new(DIR)) && path.extension().is_some_and(|ext| ext == "wal")
    };
    disk.contents().into_iter().filter(|(path, _)| is_segment(path)).collect()
}

/// Names and bytes as one number; two images of the same number are the same. The lock does not count. All runs
/// open their logs as the same owner, so that no two images differ by nothing but a uuid or salts.
pub(crate) fn fingerprint(disk: &SimDisk) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (path, bytes) in disk.contents() {
        if !path.ends_with("LOCK") {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
    }
    hash.digest128()
}
