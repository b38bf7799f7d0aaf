//! What a log tells about itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::disk::u64_len;
use crate::shared::Shared;
use crate::types::{LogIdParts, VoteParts};

/// The log at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Index of the first entry; none when the log is empty.
    pub first_index: Option<u64>,
    /// Index of the last entry; none when the log is empty.
    pub last_index: Option<u64>,
    /// The last id saved as committed.
    pub committed: Option<LogIdParts>,
    /// The last id purged.
    pub purged: Option<LogIdParts>,
    /// Segment files.
    pub segments: u64,
    /// Bytes of all segments: written ones, of the active segment its whole length.
    pub bytes: u64,
    /// Everything below this position is durable.
    pub durable_lsn: u64,
    /// Everything below this position is written.
    pub written_lsn: u64,
    /// Index of the last entry that is durable, or of the durable purge frontier.
    pub durable_index: Option<u64>,
    /// Changes waiting for the writer.
    pub queue_ops: u64,
    /// Bytes waiting for the writer or being written.
    pub queue_bytes: u64,
    /// How long the oldest change that is not yet durable has waited.
    pub oldest_wait: Duration,
    /// Bytes of entries in memory.
    pub cache_bytes: u64,
    /// Entries by which the durable purge is behind the one that was asked for.
    pub purge_pending_entries: u64,
    /// Purged entries that are still on disk, because their segment holds others.
    pub purge_lag_entries: u64,
    /// Why the log takes nothing any more.
    pub failed: Option<String>,
    /// Group commits since open.
    pub commits: u64,
    /// Syncs of segment data since open.
    pub syncs: u64,
    /// Bytes written to segments since open.
    pub bytes_written: u64,
}

impl Shared {
    /// What the log is doing now; the gauges show the same.
    pub(crate) fn stats(&self) -> LogStats {
        let inner = self.lock();
        let meters = &self.meters;
        let first_index = inner.first_index();
        let index = |id: Option<LogIdParts>| id.map(|id| id.index);
        let (asked, durable) = (index(inner.state.purged), index(inner.durable.purged));
        let first_on_disk = inner.segments.first_located();
        let behind = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            _ => 0,
        };
        let stats = LogStats {
            first_index,
            last_index: first_index.and(index(inner.state.last)),
            committed: inner.committed,
            purged: inner.state.purged,
            segments: inner.segments.count(),
            bytes: inner.segments.bytes(),
            durable_lsn: inner.durable_lsn,
            written_lsn: meters.written_lsn.load(Relaxed),
            durable_index: index(inner.durable.last),
            queue_ops: u64_len(inner.queue_ops()),
            queue_bytes: u64_len(inner.queue_bytes()),
            oldest_wait: inner.waiting_since().map_or(Duration::ZERO, |since| since.elapsed()),
            cache_bytes: u64_len(inner.tail.bytes()),
            purge_pending_entries: behind(durable.or(asked.map(|_| 0)), asked),
            purge_lag_entries: behind(first_on_disk, asked.map(|purged| purged + 1)),
            failed: inner.failed.as_ref().map(ToString::to_string),
            commits: meters.commits.load(Relaxed),
            syncs: meters.syncs.load(Relaxed),
            bytes_written: meters.bytes_written.load(Relaxed),
        };
        drop(inner);
        meters.show(&stats);
        stats
    }
}

/// How many records of each kind were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named like the record it counts")]
pub struct RecordCounts {
    pub entries: u64,
    pub votes: u64,
    pub committed: u64,
    pub truncations: u64,
    pub purges: u64,
    pub seals: u64,
}

/// An unfinished last write that was cut off. Its bytes were never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment file.
    pub segment: PathBuf,
    /// Where in it the unfinished write began.
    pub offset: u64,
    /// Up to the last byte that was not zero.
    pub bytes: u64,
    /// What did not verify.
    pub reason: String,
    /// Where the bytes are kept; none as long as nothing was cut.
    pub quarantine: Option<PathBuf>,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, bytes, reason, quarantine } = self;
        let segment = segment.display();
        write!(f, "an unfinished write of {bytes} bytes at {segment} byte {offset} ({reason})")?;
        match quarantine {
            Some(copy) => write!(f, ", cut and kept in {}", copy.display()),
            None => write!(f, ", to be cut and kept by the next open"),
        }
    }
}

/// What `Log::open` found and did, or `examine` found. `Display` prints it as a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryInfo {
    /// The log was created by this open.
    pub created: bool,
    /// Segments read and verified.
    pub segments: u64,
    /// Records read.
    pub records: RecordCounts,
    /// Index of the first entry.
    pub first_index: Option<u64>,
    /// Index of the last entry.
    pub last_index: Option<u64>,
    /// The last id, purged or present.
    pub last: Option<LogIdParts>,
    /// The purge frontier.
    pub purged: Option<LogIdParts>,
    /// The last id known as committed.
    pub committed: Option<LogIdParts>,
    /// The vote.
    pub vote: Option<VoteParts>,
    /// The end of the log.
    pub end_lsn: u64,
    /// Where the log ended when it was found, before this open sealed it: nothing of this process counts.
    pub found_lsn: u64,
    /// How far FRONTIER said the log was durable.
    pub frontier_lsn: u64,
    /// The torn tail, when there was one.
    pub torn: Option<Torn>,
    /// Unused bytes behind the end of the last segment.
    pub zero_tail_bytes: u64,
    /// The last process closed the log in order.
    pub clean_shutdown: bool,
    /// An earlier process had failed; everything was read from the disk itself.
    pub after_failure: bool,
    /// Segments that were purged but still there, removed now.
    pub leftovers: u64,
    /// Bytes whose checksums were verified.
    pub verified_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl RecoveryInfo {
    /// There was no log yet.
    pub(crate) fn nothing() -> Self {
        Self { created: true, clean_shutdown: true, ..Self::default() }
    }
}

impl fmt::Display for RecoveryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return write!(f, "log created");
        }
        let stop = match (self.clean_shutdown, self.after_failure) {
            (_, true) => "after a disk failure",
            (true, false) => "after a clean stop",
            (false, false) => "after a crash",
        };
        write!(f, "log recovered {stop}: ")?;
        match (self.first_index, self.last_index) {
            (Some(first), Some(last)) => write!(f, "entries {first} to {last}")?,
            _ => write!(f, "no entries")?,
        }
        if let Some(purged) = self.purged {
            write!(f, ", purged up to {purged}")?;
        }
        if let Some(committed) = self.committed {
            write!(f, ", committed {committed}")?;
        }
        if let Some(vote) = self.vote {
            write!(f, ", vote {vote}")?;
        }
        write!(
            f,
            "; {} segments, {} entries, {} votes, {} bytes verified in {:.3} s",
            self.segments,
            self.records.entries,
            self.records.votes,
            self.verified_bytes,
            self.took.as_secs_f64()
        )?;
        if let Some(torn) = &self.torn {
            write!(f, "; {torn}")?;
        }
        if self.leftovers > 0 {
            write!(f, "; removed {} purged segments", self.leftovers)?;
        }
        Ok(())
    }
}
