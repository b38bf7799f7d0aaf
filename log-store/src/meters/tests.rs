//! Every metric is there, moves, and is in the operators' table.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use metrics::{
    CounterFn, GaugeFn, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::*;
use crate::by_hand::Hands;
use crate::config::LogConfig;
use crate::disk::{Disk, Fault, Op, SimDisk, Survival};
use crate::log::Log;
use crate::types::{EntryParts, LogIdParts, Owner};

/// Keeps of each metric the largest value that it ever had, of a histogram how often it was told one.
#[derive(Debug, Clone, Default)]
struct Largest(Arc<Mutex<BTreeMap<String, f64>>>);

struct Metric {
    name: String,
    all: Largest,
    count: AtomicU64,
}

impl Largest {
    fn register(&self, key: &Key) -> Arc<Metric> {
        self.0.lock().unwrap().entry(key.name().to_owned()).or_default();
        let (name, all) = (key.name().to_owned(), self.clone());
        Arc::new(Metric { name, all, count: AtomicU64::new(0) })
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn of(&self, name: &str) -> f64 {
        self.0.lock().unwrap()[name]
    }
}

impl Metric {
    fn seen(&self, value: f64) {
        let mut all = self.all.0.lock().unwrap();
        let largest = all.entry(self.name.clone()).or_default();
        *largest = largest.max(value);
    }

    fn count(&self, more: u64) {
        self.seen(as_f64(self.count.fetch_add(more, Ordering::Relaxed) + more));
    }
}

impl CounterFn for Metric {
    fn increment(&self, value: u64) {
        self.count(value);
    }

    fn absolute(&self, value: u64) {
        self.seen(as_f64(value));
    }
}

impl GaugeFn for Metric {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn set(&self, value: f64) {
        self.seen(value);
    }
}

impl HistogramFn for Metric {
    fn record(&self, _: f64) {
        self.count(1);
    }
}

impl Recorder for Largest {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key))
    }
}

/// A log worked by hand, whose metrics go to `metrics`; in memory it keeps only what is not written.
fn open(disk: &SimDisk, metrics: &Largest) -> (Log, Hands) {
    let config = LogConfig {
        segment_bytes_max: 16 << 10,
        batch_bytes_max: 4 << 10,
        cache_bytes_max: 0,
        ..LogConfig::new("/wal")
    };
    let disk = Arc::new(disk.clone());
    let owner = Owner { node_id: 1, new_uuid: 7 };
    let opened = metrics::with_local_recorder(metrics, || Log::open_by_hand(config, disk, owner));
    let (log, hands, _) = opened.unwrap();
    (log, hands)
}

fn append(log: &Log, index: u64) {
    let id = LogIdParts { term: 1, node: 1, index };
    let entry = EntryParts { id, kind: 0, payload: Bytes::from(vec![7; 3000]) };
    log.append(vec![entry], |_| {}).unwrap();
}

/// A place near the end of the last payload.
fn payload_end(bytes: &[u8]) -> usize {
    bytes.windows(64).rposition(|window| window == [7; 64]).unwrap()
}

/// Everything that a log can meet, in little.
fn live_a_life(metrics: &Largest) {
    let disk = SimDisk::new();
    let (log, mut hands) = open(&disk, metrics);
    for index in 1..=20 {
        append(&log, index);
        if index == 19 {
            assert_eq!(log.read_cached(19..20, 1).map(|entries| entries.len()), Some(1));
        }
        log.stats();
        assert!(hands.commit());
    }
    assert_eq!(log.read(1..21, usize::MAX).unwrap().len(), 20);
    log.purge_upto(LogIdParts { term: 1, node: 1, index: 7 }).unwrap();
    log.stats();
    assert!(hands.rest());

    let last_segment = |disk: &SimDisk| -> PathBuf {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
        disk.files().into_keys().rfind(is_segment).unwrap()
    };
    // A byte of the last entry rots while the log runs, and is mended.
    let path = last_segment(&disk);
    let at = payload_end(&disk.files()[&path]);
    let file = disk.open(&path).unwrap();
    file.write_at(&[6], crate::disk::u64_len(at)).unwrap();
    assert!(log.read(20..21, usize::MAX).is_err());
    file.write_at(&[7], crate::disk::u64_len(at)).unwrap();

    // A power cut in the middle of a write, and what it leaves.
    append(&log, 21);
    disk.inject(Op::SyncData, 1, 1, Fault::Error(io::ErrorKind::Other));
    assert!(!hands.commit());
    log.stats();
    let torn = disk.after_power_cut(Survival::Everything);
    let path = last_segment(&torn);
    let mut bytes = torn.files()[&path].clone();
    let end = payload_end(&bytes);
    bytes[end - 2000..end].fill(0);
    torn.put(&path, bytes);
    open(&torn, metrics);
}

#[test]
fn every_metric_moves() {
    let metrics = Largest::default();
    live_a_life(&metrics);
    // No test waits for a slow disk.
    let meters = metrics::with_local_recorder(&metrics, Meters::new);
    meters.synced(Duration::from_millis(101));
    meters.synced(Duration::from_millis(1001));

    let names = metrics.names();
    assert!(names.len() >= 30, "{names:?}");
    let still: Vec<_> = names.iter().filter(|name| metrics.of(name) <= 0.0).collect();
    assert!(still.is_empty(), "never moved: {still:?}");
    for (name, value) in [
        ("raftmap_log_commits_total", 21.0),
        ("raftmap_log_append_seconds", 21.0),
        ("raftmap_log_cache_hits_total", 1.0),
        ("raftmap_log_cache_misses_total", 21.0),
        ("raftmap_log_read_errors_total", 1.0),
        ("raftmap_log_submitted_index", 21.0),
        ("raftmap_log_durable_index", 20.0),
        ("raftmap_log_purge_pending_entries", 7.0),
        ("raftmap_log_queue_ops", 1.0),
        ("raftmap_log_slow_syncs_total", 2.0),
        ("raftmap_log_very_slow_syncs_total", 1.0),
    ] {
        assert!((metrics.of(name) - value).abs() < 0.5, "{name}: {}", metrics.of(name));
    }
}

#[test]
fn every_metric_is_in_the_operators_table() {
    let metrics = Largest::default();
    open(&SimDisk::new(), &metrics);
    let table = include_str!("../../../docs/operations.md");
    let is_missing = |name: &&String| !table.contains(&format!("`{name}`"));
    let names = metrics.names();
    let missing: Vec<_> = names.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}
