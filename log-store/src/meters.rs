//! What the log measures, for whoever collects metrics. Names begin with `raftmap_log_`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

/// Syncs slower than this are counted and logged.
pub(crate) const SLOW_SYNC: Duration = Duration::from_millis(100);

/// Handles to the metrics, looked up once, and the numbers that `LogStats` tells.
pub(crate) struct Meters {
    pub(crate) sync_seconds: Histogram,
    pub(crate) batch_entries: Histogram,
    pub(crate) batch_bytes: Histogram,
    pub(crate) slow_syncs: Counter,
    pub(crate) rolls: Counter,
    pub(crate) spare_misses: Counter,
    pub(crate) disk_reads: Counter,
    pub(crate) read_errors: Counter,
    commits_total: Counter,
    bytes_total: Counter,
    queue_bytes: Gauge,
    cache_bytes: Gauge,
    durable_lsn: Gauge,
    segments: Gauge,
    bytes: Gauge,
    pub(crate) failed: Gauge,
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) written_lsn: AtomicU64,
}

/// What is shown of the log after a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub(crate) queue_bytes: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) durable_lsn: u64,
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            sync_seconds: metrics::histogram!("raftmap_log_sync_seconds"),
            batch_entries: metrics::histogram!("raftmap_log_batch_entries"),
            batch_bytes: metrics::histogram!("raftmap_log_batch_bytes"),
            slow_syncs: metrics::counter!("raftmap_log_slow_syncs_total"),
            rolls: metrics::counter!("raftmap_log_rolls_total"),
            spare_misses: metrics::counter!("raftmap_log_spare_misses_total"),
            disk_reads: metrics::counter!("raftmap_log_disk_reads_total"),
            read_errors: metrics::counter!("raftmap_log_read_errors_total"),
            commits_total: metrics::counter!("raftmap_log_commits_total"),
            bytes_total: metrics::counter!("raftmap_log_written_bytes_total"),
            queue_bytes: metrics::gauge!("raftmap_log_queue_bytes"),
            cache_bytes: metrics::gauge!("raftmap_log_cache_bytes"),
            durable_lsn: metrics::gauge!("raftmap_log_durable_lsn"),
            segments: metrics::gauge!("raftmap_log_segments"),
            bytes: metrics::gauge!("raftmap_log_bytes"),
            failed: metrics::gauge!("raftmap_log_failed"),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            written_lsn: AtomicU64::new(0),
        }
    }

    /// A sync of segment data took this long.
    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_seconds.record(took);
        if took > SLOW_SYNC {
            self.slow_syncs.increment(1);
            tracing::warn!(millis = took.as_millis(), "the disk took long to sync the log");
        }
    }

    /// A frame with so many entries and bytes was written and synced.
    pub(crate) fn committed(&self, entries: usize, bytes: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.commits_total.increment(1);
        self.bytes_total.increment(bytes);
        self.batch_entries.record(as_f64(u64::try_from(entries).unwrap_or(u64::MAX)));
        self.batch_bytes.record(as_f64(bytes));
    }

    pub(crate) fn levels(&self, levels: Levels) {
        self.queue_bytes.set(as_f64(u64::try_from(levels.queue_bytes).unwrap_or(u64::MAX)));
        self.cache_bytes.set(as_f64(u64::try_from(levels.cache_bytes).unwrap_or(u64::MAX)));
        self.durable_lsn.set(as_f64(levels.durable_lsn));
        self.segments.set(as_f64(levels.segments));
        self.bytes.set(as_f64(levels.bytes));
    }
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
