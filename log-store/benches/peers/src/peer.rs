//! The crate raft-log: its worker thread writes and syncs what callers have appended.
//!
//! With a flush wait of 0 it syncs each request by itself; with its default of 1 ms it gathers for so long.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::codeq::{Decode, Encode};
use raft_log::{Callback, Config, RaftLog, Types};

use crate::contestant::{Contestant, FromOneCaller, FromThreads, Payloads};
use crate::signal::Signal;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Plain;

impl Types for Plain {
    type LogId = (u64, u64);
    type LogPayload = Payload;
    type Vote = (u64, u64);
    type Callback = Done;
    type UserData = String;

    fn log_index(log_id: &Self::LogId) -> u64 {
        log_id.1
    }

    fn payload_size(payload: &Self::LogPayload) -> u64 {
        payload.0.len() as u64
    }
}

/// Shared, not copied, as ours is; its bytes are those of a `Vec<u8>`.
#[derive(Debug, Clone)]
struct Payload(Bytes);

impl Encode for Payload {
    fn encode<W: io::Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let len = u32::try_from(self.0.len()).expect("a short payload");
        w.write_all(&len.to_be_bytes())?;
        w.write_all(&self.0)?;
        Ok(self.0.len() + 4)
    }
}

impl Decode for Payload {
    fn decode<R: io::Read>(r: R) -> Result<Self, io::Error> {
        Ok(Self(Vec::<u8>::decode(r)?.into()))
    }
}

struct Done(Box<dyn FnOnce() + Send>);

impl Callback for Done {
    fn send(self, result: Result<(), io::Error>) {
        result.expect("durable");
        (self.0)();
    }
}

pub(crate) struct RaftLogCrate {
    inner: Arc<Mutex<Inner>>,
    payloads: Payloads,
    _dir: tempfile::TempDir,
}

struct Inner {
    log: RaftLog<Plain>,
    next: u64,
}

impl RaftLogCrate {
    pub(crate) fn new(flush_wait: Duration) -> Self {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let mut config = Config::new(dir.path().display());
        config.wal.flush_batch_wait = Some(flush_wait);
        let log = RaftLog::open(Arc::new(config)).expect("a new log");
        Self {
            inner: Arc::new(Mutex::new(Inner { log, next: 1 })),
            payloads: Payloads::new(),
            _dir: dir,
        }
    }
}

impl Inner {
    fn append(&mut self, payloads: impl Iterator<Item = Bytes>, done: Box<dyn FnOnce() + Send>) {
        let entries = (self.next..).zip(payloads).map(|(i, payload)| ((1, i), Payload(payload)));
        let mut count = 0;
        self.log.append(entries.inspect(|_| count += 1)).expect("taken");
        self.next += count;
        self.log.flush(true, Some(Done(done))).expect("taken");
    }
}

impl Contestant for RaftLogCrate {
    fn batch(&mut self, size: u64) {
        let (setter, signal) = Signal::new();
        let mut inner = self.inner.lock().expect("one caller");
        let indexes = inner.next..inner.next + size;
        let payloads = indexes.map(|index| self.payloads.get(index));
        inner.append(payloads, Box::new(|| setter.set()));
        signal.wait();
    }

    fn threads(&self) -> Option<Arc<dyn FromThreads>> {
        Some(Arc::new(Shared(Arc::clone(&self.inner))))
    }

    fn caller(&mut self) -> Option<&mut dyn FromOneCaller> {
        Some(self)
    }
}

struct Shared(Arc<Mutex<Inner>>);

impl FromThreads for Shared {
    fn one(&self, _producer: u64, payload: Bytes) {
        let (setter, signal) = Signal::new();
        let mut inner = self.0.lock().expect("no producer panics");
        inner.append(std::iter::once(payload), Box::new(|| setter.set()));
        drop(inner);
        signal.wait();
    }
}

impl FromOneCaller for RaftLogCrate {
    fn submit(&mut self, payload: Bytes, done: Box<dyn FnOnce() + Send>) {
        self.inner.lock().expect("one caller").append(std::iter::once(payload), done);
    }
}
