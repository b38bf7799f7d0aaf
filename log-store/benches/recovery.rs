//! Opening a log of 1 GiB in the page cache: every checksum is verified, payloads are not decoded.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{EntryParts, Log, LogConfig, LogIdParts, Owner, RecoveryInfo};

const BYTES: u64 = 1 << 30;

fn open(dir: &tempfile::TempDir) -> (Log, RecoveryInfo) {
    let config = LogConfig::new(dir.path().join("wal"));
    let owner = Owner { node_id: 1, new_uuid: 1 };
    Log::open(config, Arc::new(RealDisk), owner).expect("the log opens")
}

fn fill(dir: &tempfile::TempDir, payload: usize) {
    let (log, _) = open(dir);
    let payload = Bytes::from(vec![7; payload]);
    let mut index = 1;
    while log.stats().bytes_written < BYTES {
        let batch: Vec<_> = (index..index + 1000)
            .map(|index| EntryParts {
                id: LogIdParts { term: 1, node: 1, index },
                kind: 1,
                payload: payload.clone(),
            })
            .collect();
        index += 1000;
        let (done, durable) = channel();
        log.append(batch, move |result| done.send(result.is_ok()).expect("someone waits"))
            .expect("taken");
        assert_eq!(durable.recv(), Ok(true));
    }
    log.close().expect("closed");
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for payload in [256, 4096] {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        fill(&dir, payload);
        group.throughput(Throughput::Bytes(open(&dir).1.verified_bytes));
        group.bench_function(BenchmarkId::from_parameter(payload), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| open(&dir).1.took).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);
