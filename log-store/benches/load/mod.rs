//! The two things that are compared.

mod bare;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError, LogIdParts, Owner};

pub(crate) use bare::Bare;

const PAYLOAD: usize = 256;
/// Appends that wait at any time.
pub(crate) const IN_FLIGHT: [u64; 5] = [1, 16, 64, 256, 1000];

/// Bytes of a frame with so many entries.
pub(crate) fn frame_len(entries: u64) -> usize {
    let entry = (12 + 24 + PAYLOAD).next_multiple_of(8);
    40 + entry * usize::try_from(entries).expect("a small number")
}

/// Keeps a number of appends waiting until enough are answered.
pub(crate) struct Load {
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
    pub(crate) fn new(dir: &tempfile::TempDir) -> Arc<Self> {
        let config = LogConfig::new(dir.path().join("wal"));
        let owner = Owner { node_id: 1, new_uuid: 1 };
        Arc::new(Self {
            log: Log::open(config, Arc::new(RealDisk), owner).expect("a new log").0,
            payload: Bytes::from_static(&[7; PAYLOAD]),
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
    pub(crate) fn across_threads(self: &Arc<Self>, count: u64, in_flight: u64) -> Duration {
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
    pub(crate) fn inline(self: &Arc<Self>, count: u64, in_flight: u64) -> Duration {
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

    /// From this thread, all of a round in one append: as openraft hands over what it has gathered.
    pub(crate) fn one_append(self: &Arc<Self>, count: u64, in_flight: u64) -> Duration {
        let begin = Instant::now();
        let last = self.durable.load(Ordering::Acquire) + count;
        while self.next.load(Ordering::Relaxed) <= last {
            let first = self.next.fetch_add(in_flight, Ordering::Relaxed);
            let entries = first..first + in_flight;
            let entries = entries.map(|index| EntryParts {
                id: LogIdParts { term: 1, node: 1, index },
                kind: 1,
                payload: self.payload.clone(),
            });
            let load = Arc::clone(self);
            let newest = first + in_flight - 1;
            let done = move |result: Result<(), LogError>| {
                result.expect("durable");
                load.durable.store(newest, Ordering::Release);
                load.caller.unpark();
            };
            self.log.append(entries.collect(), done).expect("taken");
            while self.durable.load(Ordering::Acquire) < newest {
                std::thread::park();
            }
        }
        begin.elapsed()
    }

    /// Old segments go, as in a real node.
    pub(crate) fn purge(&self) {
        let last = self.log.ends().last.expect("entries");
        self.log.purge_upto(last).expect("purged");
    }
}
