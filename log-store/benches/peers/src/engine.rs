//! The crate raft-engine: callers write themselves, those who meet at its door by one sync.
//!
//! Each producer is a Raft group of its own, as it is made for; the batches of one caller are one group's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use raft_proto::eraftpb::Entry;

use crate::contestant::{Contestant, FromThreads, Payloads};

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

pub(crate) struct RaftEngine {
    engine: Arc<Engine>,
    batch: LogBatch,
    next: u64,
    producers: Arc<Mutex<HashMap<u64, u64>>>,
    payloads: Payloads,
    _dir: tempfile::TempDir,
}

impl RaftEngine {
    /// With its defaults, or with compression off (it would be tried from 8 KiB on).
    pub(crate) fn new(compression: bool) -> Self {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let mut config = Config { dir: dir.path().display().to_string(), ..Config::default() };
        if !compression {
            config.batch_compression_threshold = ReadableSize(0);
        }
        Self {
            engine: Arc::new(Engine::open(config).expect("a new engine")),
            batch: LogBatch::default(),
            next: 1,
            producers: Arc::default(),
            payloads: Payloads::new(),
            _dir: dir,
        }
    }
}

fn entry(index: u64, payload: Bytes) -> Entry {
    Entry { term: 1, index, data: payload, ..Entry::default() }
}

impl Contestant for RaftEngine {
    fn batch(&mut self, size: u64) {
        let indexes = self.next..self.next + size;
        self.next += size;
        let entries: Vec<_> = indexes.map(|i| entry(i, self.payloads.get(i))).collect();
        self.batch.add_entries::<Entries>(1, &entries).expect("room in the batch");
        self.engine.write(&mut self.batch, true).expect("durable");
    }

    fn threads(&self) -> Option<Arc<dyn FromThreads>> {
        let producers = Arc::clone(&self.producers);
        Some(Arc::new(Shared { engine: Arc::clone(&self.engine), producers }))
    }
}

struct Shared {
    engine: Arc<Engine>,
    /// The next index of each producer's group.
    producers: Arc<Mutex<HashMap<u64, u64>>>,
}

impl FromThreads for Shared {
    fn one(&self, producer: u64, payload: Bytes) {
        let mut producers = self.producers.lock().expect("no producer panics");
        let next = producers.entry(producer).or_insert(1);
        let entry = entry(*next, payload);
        *next += 1;
        drop(producers);
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entries>(producer + 2, &[entry]).expect("room in the batch");
        self.engine.write(&mut batch, true).expect("durable");
    }
}
