//! A log of 10 GiB: written, opened again, read from end to end, and what that takes of memory and files.
//!
//! `cargo run --release -p raftmap-log-store --example ten_gib -- [GIB [PAYLOAD_BYTES]]`, in a directory on
//! the disk that is meant. Needs that much room, and removes it again. Every payload is memory of its own, as
//! in a node, so what the log holds is what is measured.

#![expect(clippy::print_stdout, reason = "the report is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{EntryParts, Log, LogConfig, LogIdParts, Owner, RecoveryInfo};

const ENTRIES_A_BATCH: u64 = 1000;
const READ_BYTES: usize = 1 << 20;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("a number"));
    let gib = args.next().unwrap_or(10);
    let payload = usize::try_from(args.next().unwrap_or(256)).expect("a length");
    let dir = tempfile::tempdir_in(".").expect("a directory");

    let (log, _) = open(dir.path());
    let stage = Stage::begin();
    let entries = write(&log, gib << 30, payload);
    let bytes = log.stats().bytes_written;
    log.close().expect("closed");
    stage.end("written and closed", bytes);

    let stage = Stage::begin();
    let (log, info) = open(dir.path());
    assert_eq!(info.last_index, Some(entries));
    stage.end("opened again", info.verified_bytes);
    let took = info.took.as_secs_f64();
    println!("  {} segments, {} entries, {took:.2} s", info.segments, info.records.entries);

    let stage = Stage::begin();
    read(&log, entries, payload);
    stage.end("read from end to end", bytes);
    log.close().expect("closed");
}

fn open(dir: &Path) -> (Log, RecoveryInfo) {
    let config = LogConfig::new(dir.join("wal"));
    Log::open(config, Arc::new(RealDisk), Owner { node_id: 1, new_uuid: 1 }).expect("it opens")
}

/// Appends until so many bytes are written, two batches under way; the last index.
fn write(log: &Log, bytes: u64, payload: usize) -> u64 {
    let (done, durable) = sync_channel(2);
    let mut next = 1;
    let mut under_way = 0;
    while log.stats().bytes_written < bytes {
        let done = done.clone();
        let entries = (next..next + ENTRIES_A_BATCH).map(|index| entry(index, payload));
        log.append(entries.collect(), move |result| done.send(result.is_ok()).expect("waited for"))
            .expect("taken");
        next += ENTRIES_A_BATCH;
        under_way += 1;
        if under_way == 2 {
            assert_eq!(durable.recv(), Ok(true));
            under_way -= 1;
        }
    }
    (0..under_way).for_each(|_| assert_eq!(durable.recv(), Ok(true)));
    next - 1
}

fn entry(index: u64, payload: usize) -> EntryParts {
    let mut bytes = vec![7; payload];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    EntryParts { id: LogIdParts { term: 1, node: 1, index }, kind: 1, payload: Bytes::from(bytes) }
}

fn read(log: &Log, last: u64, payload: usize) {
    let mut next = 1;
    while next <= last {
        let entries = log.read(next..last + 1, READ_BYTES).expect("readable");
        assert!(!entries.is_empty(), "entry {next} is missing");
        for found in entries {
            assert_eq!(found.id.index, next);
            assert_eq!(found.payload.len(), payload);
            assert_eq!(found.payload[..8], next.to_le_bytes());
            next += 1;
        }
    }
}

/// What a stage takes. Peaks are the kernel's own, begun anew for each stage.
struct Stage(Instant);

impl Stage {
    fn begin() -> Self {
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be begun anew");
        Self(Instant::now())
    }

    fn end(self, what: &str, bytes: u64) {
        let took: Duration = self.0.elapsed();
        let files = std::fs::read_dir("/proc/self/fd").expect("files are listed").count();
        let status = std::fs::read_to_string("/proc/self/status").expect("memory is told");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let mib = bytes >> 20;
        let rate = f64::from(u32::try_from(mib).expect("few")) / took.as_secs_f64();
        let (seconds, peak) = (took.as_secs_f64(), peak.trim());
        println!(
            "{what}: {mib} MiB in {seconds:.1} s, {rate:.0} MiB/s; peak memory {peak}, {files} files open"
        );
    }
}
