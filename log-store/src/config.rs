//! The settings of a log, their bounds and their defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::header::HEADER_BYTES;

/// Settings of one log. Everything but `dir` has a default; `validate` tells all that is wrong.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The directory of the log. Created when it does not exist.
    pub dir: PathBuf,
    /// Length of a segment in bytes, preallocated. Default 64 MiB, 16 KiB to 1 GiB. Small segments cost
    /// more syncs (about four each), large ones keep more of a purged log on disk.
    pub segment_bytes_max: u64,
    /// Bytes of records in one group commit. Default 4 MiB, 4 KiB up to a quarter of a segment. A single
    /// entry may be larger, it then makes a commit of its own.
    pub batch_bytes_max: u64,
    /// Bytes that may wait for the writer before `Log::poll_room` says wait. Default 64 MiB, at least one
    /// batch. One append is always taken whole, so the queue holds at most this and one append.
    pub queue_bytes_max: u64,
    /// Bytes of written entries that stay in memory for readers. Default 64 MiB; 0 keeps only what is not
    /// yet written.
    pub cache_bytes_max: u64,
    /// Bytes of entry offsets of sealed segments that stay in memory. Default 32 MiB (4 bytes an entry);
    /// beyond it the least recently read are dropped and read back from their segment.
    pub index_bytes_max: u64,
    /// The largest payload of one entry. Default 64 MiB, up to 512 MiB. Larger ones are refused before
    /// anything is queued. Must not shrink below what the log already holds.
    pub entry_bytes_max: u64,
    /// Open files of sealed segments. Default 64, at least 1.
    pub files_max: usize,
    /// How often FRONTIER is written under load: the bound of the window in which the loss of the whole
    /// end of the log could go unnoticed. Default 1 s, at most 60 s.
    pub frontier_interval: Duration,
    /// After this long without a commit what is still unwritten is written and FRONTIER follows.
    /// Default 50 ms, at most 60 s.
    pub idle_after: Duration,
    /// Refuse a torn tail too, instead of cutting it. Default off.
    pub strict_tail: bool,
    /// A bug to behave as if the log had it. Default none.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::planted::Planted>,
}

impl LogConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes_max: 64 << 20,
            batch_bytes_max: 4 << 20,
            queue_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            index_bytes_max: 32 << 20,
            entry_bytes_max: 64 << 20,
            files_max: 64,
            frontier_interval: Duration::from_secs(1),
            idle_after: Duration::from_millis(50),
            strict_tail: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Everything that is wrong with these settings, one sentence each; empty when they are good.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("{name} is {value}, it must be {least} to {most}"));
            }
        };
        within("segment_bytes_max", self.segment_bytes_max, SEGMENT_LEAST, SEGMENT_MOST);
        within("batch_bytes_max", self.batch_bytes_max, 4 << 10, self.segment_bytes_max / 4);
        within("queue_bytes_max", self.queue_bytes_max, self.batch_bytes_max, 16 << 30);
        within("entry_bytes_max", self.entry_bytes_max, 1 << 10, ENTRY_MOST);
        within("files_max", u64::try_from(self.files_max).unwrap_or(u64::MAX), 1, 1 << 20);
        for (name, value) in
            [("frontier_interval", self.frontier_interval), ("idle_after", self.idle_after)]
        {
            if value > Duration::from_secs(60) {
                problems.push(format!("{name} is {value:?}, it must be at most 60 s"));
            }
        }
        if self.dir.as_os_str().is_empty() {
            problems.push("dir is empty".to_owned());
        }
        problems
    }
}

const SEGMENT_LEAST: u64 = 16 << 10;
const SEGMENT_MOST: u64 = 1 << 30;
const ENTRY_MOST: u64 = 512 << 20;

// Offsets inside a segment are 32 bits wide: the largest one, with one largest entry and its seal, fits.
const _: () = assert!(2 * SEGMENT_MOST + ENTRY_MOST + (1 << 28) < u32::MAX as u64);
const _: () = assert!(SEGMENT_LEAST >= 4 * HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(LogConfig::new("wal").validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = LogConfig::new("");
        config.segment_bytes_max = 1;
        config.files_max = 0;
        config.idle_after = Duration::from_secs(61);
        // dir, segment, batch (more than a quarter of the segment), files, idle_after
        assert_eq!(config.validate().len(), 5, "{:?}", config.validate());
    }
}
