//! What the log measures, for whoever collects metrics. Names begin with `raftmap_log_`.
//!
//! Counters and histograms move as things happen; of a commit there are a handful, of an entry none. Gauges
//! are set when `Log::stats` is called (by whoever is about to show them), and when the log comes to rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::stats::{LogStats, RecoveryInfo};

/// Syncs slower than this are counted and logged.
const SLOW_SYNC: Duration = Duration::from_millis(100);
/// Syncs slower than this are counted once more: elections are near.
const VERY_SLOW_SYNC: Duration = Duration::from_secs(1);

/// Handles to the metrics, looked up once, and the numbers that `LogStats` tells.
pub(crate) struct Meters {
    append_seconds: Histogram,
    queue_seconds: Histogram,
    sync_seconds: Histogram,
    batch_entries: Histogram,
    batch_bytes: Histogram,
    slow_syncs: Counter,
    very_slow_syncs: Counter,
    commits_total: Counter,
    bytes_total: Counter,
    pub(crate) rolls: Counter,
    pub(crate) spare_misses: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    disk_reads: Counter,
    disk_read_bytes: Counter,
    pub(crate) read_errors: Counter,
    pub(crate) failed: Gauge,
    gauges: Gauges,
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) written_lsn: AtomicU64,
}

/// What is set from `LogStats`.
struct Gauges {
    submitted_index: Gauge,
    durable_index: Gauge,
    written_lsn: Gauge,
    durable_lsn: Gauge,
    queue_ops: Gauge,
    queue_bytes: Gauge,
    oldest_wait: Gauge,
    cache_bytes: Gauge,
    segments: Gauge,
    bytes: Gauge,
    purge_pending: Gauge,
    purge_lag: Gauge,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            append_seconds: histogram(
                "raftmap_log_append_seconds",
                "From asking to durable, of the oldest change of each commit",
            ),
            queue_seconds: histogram(
                "raftmap_log_queue_seconds",
                "From asking until the writer took it, of the oldest change of each commit",
            ),
            sync_seconds: histogram("raftmap_log_sync_seconds", "Syncs of segments"),
            batch_entries: histogram("raftmap_log_batch_entries", "Entries of a commit"),
            batch_bytes: histogram("raftmap_log_batch_bytes", "Bytes of a commit"),
            slow_syncs: counter("raftmap_log_slow_syncs_total", "Syncs of more than 100 ms"),
            very_slow_syncs: counter(
                "raftmap_log_very_slow_syncs_total",
                "Syncs of more than a second",
            ),
            commits_total: counter("raftmap_log_commits_total", "Commits"),
            bytes_total: counter("raftmap_log_written_bytes_total", "Bytes of all commits"),
            rolls: counter("raftmap_log_rolls_total", "Segments begun"),
            spare_misses: counter(
                "raftmap_log_spare_misses_total",
                "Segments for which no spare file was ready",
            ),
            cache_hits: counter("raftmap_log_cache_hits_total", "Entries read from memory"),
            cache_misses: counter("raftmap_log_cache_misses_total", "Entries read from disk"),
            disk_reads: counter("raftmap_log_disk_reads_total", "Reads of segments"),
            disk_read_bytes: counter("raftmap_log_disk_read_bytes_total", "Bytes of these reads"),
            read_errors: counter(
                "raftmap_log_read_errors_total",
                "Entries and seals that did not verify when they were read, or were not there",
            ),
            failed: gauge("raftmap_log_failed", "1 once the log takes nothing any more"),
            gauges: Gauges::new(),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            written_lsn: AtomicU64::new(0),
        }
    }

    /// What opening the log found.
    pub(crate) fn recovered(&self, info: &RecoveryInfo) {
        self.failed.set(0.0);
        self.written_lsn.store(info.end_lsn, Ordering::Relaxed);
        let found = |name, help, value| gauge(name, help).set(as_f64(value));
        let torn = info.torn.as_ref().map_or(0, |torn| torn.bytes);
        found("raftmap_log_recovery_segments", "Segments read at open", info.segments);
        found("raftmap_log_recovery_bytes", "Bytes verified at open", info.verified_bytes);
        found("raftmap_log_recovery_entries", "Entries read at open", info.records.entries);
        found("raftmap_log_recovery_torn_bytes", "Bytes cut off at open, never acknowledged", torn);
        gauge("raftmap_log_recovery_seconds", "How long opening took").set(info.took.as_secs_f64());
    }

    /// A sync of segment data took this long.
    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_seconds.record(took);
        if took > SLOW_SYNC {
            self.slow_syncs.increment(1);
            tracing::warn!(millis = took.as_millis(), "the disk took long to sync the log");
        }
        if took > VERY_SLOW_SYNC {
            self.very_slow_syncs.increment(1);
        }
    }

    /// A frame with so many entries and bytes was written and synced.
    pub(crate) fn committed(&self, entries: usize, bytes: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.commits_total.increment(1);
        self.bytes_total.increment(bytes);
        self.batch_entries.record(as_f64(crate::disk::u64_len(entries)));
        self.batch_bytes.record(as_f64(bytes));
    }

    /// The oldest change of a commit waited so long for the writer, and so long in all.
    pub(crate) fn waited(&self, for_the_writer: Duration, in_all: Duration) {
        self.queue_seconds.record(for_the_writer);
        self.append_seconds.record(in_all);
    }

    /// So many entries were found in memory.
    pub(crate) fn hit(&self, entries: usize) {
        self.cache_hits.increment(crate::disk::u64_len(entries));
    }

    /// So many entries are read from disk, by one read of so many bytes.
    pub(crate) fn missed(&self, entries: usize, bytes: usize) {
        self.cache_misses.increment(crate::disk::u64_len(entries));
        self.disk_reads.increment(1);
        self.disk_read_bytes.increment(crate::disk::u64_len(bytes));
    }

    /// Brings the gauges up to date.
    pub(crate) fn show(&self, stats: &LogStats) {
        let gauges = &self.gauges;
        let last = stats.last_index.max(stats.purged.map(|id| id.index));
        for (gauge, value) in [
            (&gauges.submitted_index, last.unwrap_or(0)),
            (&gauges.durable_index, stats.durable_index.unwrap_or(0)),
            (&gauges.written_lsn, stats.written_lsn),
            (&gauges.durable_lsn, stats.durable_lsn),
            (&gauges.queue_ops, stats.queue_ops),
            (&gauges.queue_bytes, stats.queue_bytes),
            (&gauges.cache_bytes, stats.cache_bytes),
            (&gauges.segments, stats.segments),
            (&gauges.bytes, stats.bytes),
            (&gauges.purge_pending, stats.purge_pending_entries),
            (&gauges.purge_lag, stats.purge_lag_entries),
        ] {
            gauge.set(as_f64(value));
        }
        gauges.oldest_wait.set(stats.oldest_wait.as_secs_f64());
    }
}

impl Gauges {
    fn new() -> Self {
        Self {
            submitted_index: gauge("raftmap_log_submitted_index", "The last entry asked for"),
            durable_index: gauge("raftmap_log_durable_index", "The last entry that is durable"),
            written_lsn: gauge("raftmap_log_written_lsn", "Everything below is written"),
            durable_lsn: gauge("raftmap_log_durable_lsn", "Everything below is durable"),
            queue_ops: gauge("raftmap_log_queue_ops", "Changes waiting for the writer"),
            queue_bytes: gauge(
                "raftmap_log_queue_bytes",
                "Bytes waiting for the writer or being written",
            ),
            oldest_wait: gauge(
                "raftmap_log_oldest_wait_seconds",
                "How long the oldest change that is not durable has waited",
            ),
            cache_bytes: gauge("raftmap_log_cache_bytes", "Bytes of entries in memory"),
            segments: gauge("raftmap_log_segments", "Segment files"),
            bytes: gauge("raftmap_log_bytes", "Bytes of all segments"),
            purge_pending: gauge(
                "raftmap_log_purge_pending_entries",
                "Entries by which the durable purge is behind the one asked for",
            ),
            purge_lag: gauge("raftmap_log_purge_lag_entries", "Purged entries still on disk"),
        }
    }
}

fn counter(name: &'static str, help: &'static str) -> Counter {
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}

fn gauge(name: &'static str, help: &'static str) -> Gauge {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name)
}

fn histogram(name: &'static str, help: &'static str) -> Histogram {
    metrics::describe_histogram!(name, help);
    metrics::histogram!(name)
}

/// Metrics are floating point; beyond 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "a metric needs no more digits")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
mod tests;
