//! The ways in which entries are handed over, and one contestant's turn in one of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::{Contestant, Payloads};
use crate::engine::RaftEngine;
use crate::ours::{BareLoop, Ours};
use crate::peer::RaftLogCrate;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Batch,
    Threads,
    Caller,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) entries_per_second: f64,
    /// Bytes handed to the system an entry, and bytes that it had to bring to the disk for them.
    pub(crate) written: f64,
    pub(crate) to_disk: f64,
}

impl Form {
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Batch, Self::Threads, Self::Caller].into_iter().find(|form| form.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Threads => "threads",
            Self::Caller => "caller",
        }
    }

    /// The names of the contestants; ours is the first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Batch => &["ours", "bare loop", "raft-log", "raft-engine", "raft-engine, plain"],
            Self::Threads => &["ours", "raft-log", "raft-log, 1 ms", "raft-engine"],
            Self::Caller => &["ours", "raft-log", "raft-log, 1 ms"],
        }
    }

    /// Those of them that are logs like ours.
    pub(crate) fn is_peer(name: &str) -> bool {
        name.starts_with("raft-")
    }

    pub(crate) fn contestants(self) -> Vec<Box<dyn Contestant>> {
        self.names().iter().map(|name| contestant(name)).collect()
    }

    pub(crate) fn take_turn(self, log: &mut dyn Contestant, size: u64, turn: Duration) -> Turn {
        let before = Written::now();
        let ran = match self {
            Self::Batch => batches(log, size, turn),
            Self::Threads => threads(log, size, turn),
            Self::Caller => caller(log, size, turn),
        };
        let after = Written::now();
        let per_entry = |before: u64, after: u64| (after - before) as f64 / ran.all as f64;
        Turn {
            entries_per_second: ran.entries as f64 / ran.took.as_secs_f64(),
            written: per_entry(before.calls, after.calls),
            to_disk: per_entry(before.disk, after.disk),
        }
    }
}

fn contestant(name: &str) -> Box<dyn Contestant> {
    match name {
        "ours" => Box::new(Ours::new()),
        "bare loop" => Box::new(BareLoop::new()),
        "raft-log" => Box::new(RaftLogCrate::new(Duration::ZERO)),
        "raft-log, 1 ms" => Box::new(RaftLogCrate::new(Duration::from_millis(1))),
        "raft-engine" => Box::new(RaftEngine::new(true)),
        "raft-engine, plain" => Box::new(RaftEngine::new(false)),
        other => panic!("no contestant is called {other}"),
    }
}

struct Ran {
    entries: u64,
    took: Duration,
    /// With those outside of the measured time.
    all: u64,
}

fn batches(log: &mut dyn Contestant, size: u64, turn: Duration) -> Ran {
    let began = Instant::now();
    let mut entries = 0;
    while began.elapsed() < turn {
        log.batch(size);
        entries += size;
    }
    Ran { entries, took: began.elapsed(), all: entries }
}

/// The threads are there before the measured time begins, and end after it.
fn threads(log: &mut dyn Contestant, count: u64, turn: Duration) -> Ran {
    let log = log.threads().expect("it takes entries from many threads");
    let payloads = Payloads::new();
    let stop = AtomicBool::new(false);
    let counts: Vec<_> = (0..count).map(|_| Padded(AtomicU64::new(0))).collect();
    let all = || counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum::<u64>();
    let begin = Barrier::new(counts.len() + 1);
    let (entries, took) = thread::scope(|scope| {
        for (producer, count) in (0..).zip(&counts) {
            let (log, stop, begin, payloads) = (&log, &stop, &begin, &payloads);
            let work = move || {
                begin.wait();
                while !stop.load(Ordering::Relaxed) {
                    let number = count.0.load(Ordering::Relaxed);
                    log.one(producer, payloads.get(producer.wrapping_mul(61) + number));
                    count.0.store(number + 1, Ordering::Relaxed);
                }
            };
            let stack = thread::Builder::new().stack_size(256 << 10);
            stack.spawn_scoped(scope, work).expect("a thread");
        }
        begin.wait();
        thread::sleep(turn / 8);
        let (began, before) = (Instant::now(), all());
        thread::sleep(turn);
        let ran = (all() - before, began.elapsed());
        stop.store(true, Ordering::Relaxed);
        ran
    });
    Ran { entries, took, all: all() }
}

/// Does not share a cache line with its neighbours.
#[repr(align(128))]
struct Padded(AtomicU64);

fn caller(log: &mut dyn Contestant, in_flight: u64, turn: Duration) -> Ran {
    let log = log.caller().expect("a call does not wait");
    let payloads = Payloads::new();
    let answered = Arc::new(AtomicU64::new(0));
    let caller = thread::current();
    let began = Instant::now();
    let mut asked = 0;
    loop {
        let durable = answered.load(Ordering::Acquire);
        let is_over = began.elapsed() >= turn;
        if is_over && durable == asked {
            return Ran { entries: asked, took: began.elapsed(), all: asked };
        }
        let room = if is_over { 0 } else { in_flight - (asked - durable) };
        for _ in 0..room {
            let (answered, caller) = (Arc::clone(&answered), caller.clone());
            // Who waits for many is woken by the first answer, and finds more of them on its way.
            let done = move || {
                answered.fetch_add(1, Ordering::Release);
                caller.unpark();
            };
            log.submit(payloads.get(asked), Box::new(done));
            asked += 1;
        }
        if answered.load(Ordering::Acquire) == durable {
            thread::park();
        }
    }
}

/// What this process has written so far, by the system's count.
struct Written {
    calls: u64,
    disk: u64,
}

impl Written {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/io").expect("the system counts");
        let field = |name| {
            let mut lines = text.lines().filter_map(|line| line.split_once(": "));
            let value = lines.find(|(key, _)| *key == name).map(|(_, value)| value.parse());
            value.expect("a known field").expect("a number")
        };
        Self { calls: field("wchar"), disk: field("write_bytes") }
    }
}
