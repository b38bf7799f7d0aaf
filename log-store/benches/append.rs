//! Group commit against the bare loop: the same bytes to the same kind of file, one write and one
//! `fdatasync` a round, with nothing around them.
//!
//! `in_flight` appends of one entry of 256 bytes each wait at any time; each that is answered is asked for
//! again: by another thread that is woken once a commit (`log`, as a node does it), or on the spot by the
//! writer's own thread (`log-inline`, what the log itself can do). The bare loop writes as many bytes a
//! round as a commit of all of them. Ratios count, from one run: the machine's load moves all of them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError, LogIdParts, Owner};

const PAYLOAD: usize = 256;
const SEGMENT: u64 = 64 << 20;
const IN_FLIGHT: [u64; 5] = [1, 16, 64, 256, 1000];

/// Bytes of a frame with so many entries.
fn frame_len(entries: u64) -> usize {
    let entry = (12 + 24 + PAYLOAD).next_multiple_of(8);
    40 + entry * usize::try_from(entries).expect("a small number")
}

/// The loop that nothing can beat: on a preallocated file, a new one each 64 MiB.
struct Bare {
    dir: tempfile::TempDir,
    file: File,
    files: u32,
    offset: u64,
}

impl Bare {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let file = Self::preallocated(&dir, 0);
        Self { dir, file, files: 0, offset: 0 }
    }

    fn preallocated(dir: &tempfile::TempDir, number: u32) -> File {
        let path = dir.path().join(number.to_string());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.expect("a file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT)
            .expect("room on the disk");
        file.sync_all().expect("a sync");
        file
    }

    fn round(&mut self, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).expect("a length");
        if self.offset + len > SEGMENT {
            self.files += 1;
            self.file = Self::preallocated(&self.dir, self.files);
            self.offset = 0;
            let before = self.dir.path().join((self.files - 1).to_string());
            std::fs::remove_file(before).expect("the file before");
        }
        self.file.write_all_at(bytes, self.offset).expect("a write");
        self.file.sync_data().expect("a sync");
        self.offset += len;
    }
}

/// Keeps a number of appends waiting until enough are answered.
struct Load {
    log: Log,
    payload: Bytes,
    /// Written by one thread at a time.
    next: AtomicU64,
    /// Everything up to this index is durable.
    durable: AtomicU64,
    last: AtomicU64,
    caller: std::thread::Thread,
}

impl Load {
    fn new(dir: &tempfile::TempDir) -> Arc<Self> {
        let config = LogConfig::new(dir.path().join("wal"));
        let owner = Owner { node_id: 1, new_uuid: 1 };
        Arc::new(Self {
            log: Log::open(config, Arc::new(RealDisk), owner).expect("a new log").0,
            payload: Bytes::from(vec![7; PAYLOAD]),
            next: AtomicU64::new(1),
            durable: AtomicU64::new(0),
            last: AtomicU64::new(0),
            caller: std::thread::current(),
        })
    }

    fn ask(&self, done: impl FnOnce(u64) + Send + 'static) {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let id = LogIdParts { term: 1, node: 1, index };
        let entry = EntryParts { id, kind: 1, payload: self.payload.clone() };
        let done = move |result: Result<(), LogError>| {
            result.expect("durable");
            done(index);
        };
        self.log.append(vec![entry], done).expect("taken");
    }

    /// From this thread: woken once a commit, by its newest answer.
    fn across_threads(self: &Arc<Self>, count: u64, in_flight: u64) -> Duration {
        let begin = Instant::now();
        let mut answered = self.durable.load(Ordering::Acquire);
        let last = answered + count;
        let mut allowed = (answered + in_flight).min(last);
        while answered < last {
            while self.next.load(Ordering::Relaxed) <= allowed {
                let load = Arc::clone(self);
                self.ask(move |index| {
                    if load.durable.fetch_max(index, Ordering::Release) < index {
                        load.caller.unpark();
                    }
                });
            }
            std::thread::park();
            answered = self.durable.load(Ordering::Acquire);
            allowed = (answered + in_flight).min(last);
        }
        begin.elapsed()
    }

    /// On the writer's thread: the answer asks again.
    fn inline(self: &Arc<Self>, count: u64, in_flight: u64) -> Duration {
        let begin = Instant::now();
        let last = self.durable.load(Ordering::Acquire) + count;
        self.last.store(last, Ordering::Release);
        let load = Arc::clone(self);
        self.ask(move |index| {
            load.durable.fetch_max(index, Ordering::Release);
            (0..in_flight).for_each(|_| load.again());
        });
        while self.durable.load(Ordering::Acquire) < last {
            std::thread::park();
        }
        begin.elapsed()
    }

    fn again(self: &Arc<Self>) {
        let last = self.last.load(Ordering::Acquire);
        if self.next.load(Ordering::Relaxed) <= last {
            let load = Arc::clone(self);
            self.ask(move |index| {
                load.durable.fetch_max(index, Ordering::Release);
                load.again();
            });
        } else if self.durable.load(Ordering::Acquire) >= last {
            self.caller.unpark();
        }
    }

    /// Old segments go, as in a real node.
    fn purge(&self) {
        let last = self.log.ends().last.expect("entries");
        self.log.purge_upto(last).expect("purged");
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    for in_flight in IN_FLIGHT {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(BenchmarkId::new("bare", in_flight), |b| {
            let mut bare = Bare::new();
            let bytes = vec![7; frame_len(in_flight)];
            b.iter(|| bare.round(&bytes));
        });
        let rounds = |name: &str, run: fn(&Arc<Load>, u64, u64) -> Duration, g: &mut Group<'_>| {
            g.bench_function(BenchmarkId::new(name, in_flight), |b| {
                let dir = tempfile::tempdir_in(".").expect("a directory");
                let load = Load::new(&dir);
                b.iter_custom(|rounds| {
                    let took = run(&load, rounds * in_flight, in_flight);
                    load.purge();
                    took
                });
            });
        };
        rounds("log", Load::across_threads, &mut group);
        rounds("log-inline", Load::inline, &mut group);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

criterion_group!(benches, append);
criterion_main!(benches);
