//! The log of Raftmap, with its defaults; and the bare loop.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError, LogIdParts, Owner};

use crate::bare::Bare;
use crate::contestant::{Contestant, FromOneCaller, FromThreads, PAYLOAD, Payloads};
use crate::signal::Signal;

pub(crate) struct Ours {
    log: Log,
    /// The index of the next entry.
    next: Arc<Mutex<u64>>,
    payloads: Payloads,
    _dir: tempfile::TempDir,
}

impl Ours {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let config = LogConfig::new(dir.path().join("wal"));
        let owner = Owner { node_id: 1, new_uuid: 1 };
        Self {
            log: Log::open(config, Arc::new(RealDisk), owner).expect("a new log").0,
            next: Arc::new(Mutex::new(1)),
            payloads: Payloads::new(),
            _dir: dir,
        }
    }
}

fn entry(index: u64, payload: Bytes) -> EntryParts {
    EntryParts { id: LogIdParts { term: 1, node: 1, index }, kind: 1, payload }
}

fn expect_durable(result: Result<(), LogError>) {
    result.expect("durable");
}

impl Contestant for Ours {
    fn batch(&mut self, size: u64) {
        let mut next = self.next.lock().expect("one caller");
        let indexes = *next..*next + size;
        *next += size;
        let entries = indexes.map(|index| entry(index, self.payloads.get(index))).collect();
        let (setter, signal) = Signal::new();
        let done = move |result| {
            expect_durable(result);
            setter.set();
        };
        self.log.append(entries, done).expect("taken");
        signal.wait();
    }

    fn threads(&self) -> Option<Arc<dyn FromThreads>> {
        Some(Arc::new(Shared { log: self.log.clone(), next: Arc::clone(&self.next) }))
    }

    fn caller(&mut self) -> Option<&mut dyn FromOneCaller> {
        Some(self)
    }
}

struct Shared {
    log: Log,
    next: Arc<Mutex<u64>>,
}

impl FromThreads for Shared {
    fn one(&self, _producer: u64, payload: Bytes) {
        let (setter, signal) = Signal::new();
        let done = move |result| {
            expect_durable(result);
            setter.set();
        };
        let mut next = self.next.lock().expect("no producer panics");
        self.log.append(vec![entry(*next, payload)], done).expect("taken");
        *next += 1;
        drop(next);
        signal.wait();
    }
}

impl FromOneCaller for Ours {
    fn submit(&mut self, payload: Bytes, done: Box<dyn FnOnce() + Send>) {
        let mut next = self.next.lock().expect("one caller");
        let done = move |result| {
            expect_durable(result);
            done();
        };
        self.log.append(vec![entry(*next, payload)], done).expect("taken");
        *next += 1;
    }
}

/// The bare loop writes as many bytes a round as our log does for such a batch.
pub(crate) struct BareLoop {
    bare: Bare,
    bytes: Vec<u8>,
}

impl BareLoop {
    pub(crate) fn new() -> Self {
        Self { bare: Bare::new(), bytes: Vec::new() }
    }
}

impl Contestant for BareLoop {
    fn batch(&mut self, size: u64) {
        let len = 40 + usize::try_from(size).expect("small") * (36 + PAYLOAD).next_multiple_of(8);
        self.bytes.resize(len, 7);
        self.bare.round(&self.bytes);
    }
}
