//! The store alone: commands in, answered and published groups out, through fjall, with everything
//! that a record carries (history, change log, digest, counts).
//!
//! ```text
//!   cargo bench -p raftmap-state-machine --bench store [-- PUTS [VALUE_BYTES] [RUN]]
//! ```
//! One line per run: puts a second by the wall and per CPU second of the apply thread, CPU of the
//! whole process, and bytes written to disk per put (the kernel's count, everything synced at the end).

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and prints"
)]

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use openraft::storage::RaftStateMachine;
use openraft::{Entry, EntryPayload};
use raftmap_state_machine::command::{Condition, Deadline, Op, Put};
use raftmap_state_machine::raft::{log_id_to_raft, snapshot_meta};
use raftmap_state_machine::{
    Command, Incoming, LocalIdentity, LogId, SnapshotData, StateMachine, Store, StoreConfig,
    TypeConfig,
};

/// The node's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type RaftEntry = <TypeConfig as openraft::RaftTypeConfig>::Entry;

const KEY_BYTES: usize = 16;
const ID: LocalIdentity = LocalIdentity { node_id: 1, wal_uuid: 1 };

fn main() {
    let arguments: Vec<_> =
        std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let wanted = arguments.iter().find(|argument| argument.parse::<u64>().is_err());
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted.as_str()));
    let puts = numbers.next().unwrap_or(400_000);
    let value_bytes = usize::try_from(numbers.next().unwrap_or(256)).expect("a value that fits");

    println!(
        "{puts} puts of {KEY_BYTES} B + {value_bytes} B; the wall says least on a busy machine"
    );
    println!(
        "{:<26}{:>11}{:>16}{:>12}{:>14}",
        "run", "puts/s", "puts/apply-CPUs", "CPU s/100k", "disk B/put"
    );
    for group in [256, 64, 16, 1] {
        let puts = if group == 1 { puts / 8 } else { puts };
        let name = format!("new keys, groups of {group}");
        if is_wanted(&name) {
            run(&name, puts, puts, group, value_bytes);
        }
    }
    if is_wanted("overwrites") {
        run("overwrites, groups of 256", puts, puts / 10, 256, value_bytes);
    }
    if is_wanted("bare fjall") {
        bare(puts, value_bytes);
    }
    if is_wanted("gets") {
        reads(puts.min(200_000), value_bytes);
    }
    if is_wanted("snapshot") {
        snapshot(puts, value_bytes);
    }
}

/// Applies `puts` puts over `keys` keys in random order and prints a line.
fn run(name: &str, puts: u64, keys: u64, group: usize, value_bytes: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut machine, store) = open(&dir, 64 << 20);
    let mut random = Random(7);
    if keys < puts {
        let fill = entries(&mut random, 0, keys, keys, value_bytes);
        apply(&mut machine, fill, 256);
        store.checkpoint().expect("a checkpoint");
    }
    let first = store.view().applied().map_or(0, |id| id.index + 1);
    let work = entries(&mut random, first, puts, keys, value_bytes);

    let (cpu, apply_cpu, written) = (cpu(), thread_cpu("apply"), written());
    let begun = Instant::now();
    apply(&mut machine, work, group);
    let took = begun.elapsed();
    let (cpu_used, apply_used) = (self::cpu() - cpu, thread_cpu("apply") - apply_cpu);
    store.checkpoint().expect("a checkpoint");
    let per_put = |amount: f64| amount / as_f64(puts);
    println!(
        "{name:<26}{:>11.0}{:>16.0}{:>12.2}{:>14.0}",
        as_f64(puts) / took.as_secs_f64(),
        as_f64(puts) / apply_used.as_secs_f64(),
        per_put(cpu_used.as_secs_f64()) * 1e5,
        per_put(as_f64(self::written() - written)),
    );
    drop(machine);
    store.close().expect("a close");
}

/// The same keys and values into the engine alone, in batches of 256: what there is to be had.
fn bare(puts: u64, value_bytes: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = fjall::Database::builder(dir.path()).worker_threads(2).open().expect("a database");
    let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(64 << 20);
    let keyspace = db.keyspace("bare", options).expect("a keyspace");
    let mut random = Random(7);
    let work: Vec<_> = (0..puts).map(|n| (key(n), random.value(value_bytes))).collect();
    let (cpu, written, begun) = (cpu(), written(), Instant::now());
    for chunk in work.chunks(256) {
        let mut batch = db.batch();
        for (key, value) in chunk {
            batch.insert(&keyspace, &key[..], &value[..]);
        }
        batch.commit().expect("a commit");
    }
    let took = begun.elapsed();
    let used = self::cpu() - cpu;
    db.persist(fjall::PersistMode::SyncAll).expect("a sync");
    println!(
        "{:<26}{:>11.0}{:>16}{:>12.2}{:>14.0}",
        "bare fjall, batches of 256",
        as_f64(puts) / took.as_secs_f64(),
        "",
        used.as_secs_f64() / as_f64(puts) * 1e5,
        as_f64(self::written() - written) / as_f64(puts),
    );
}

/// Reads every key once from the cold tier, then from the hot one.
fn reads(keys: u64, value_bytes: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut machine, store) = open(&dir, 256 << 20);
    let mut random = Random(9);
    apply(&mut machine, entries(&mut random, 0, keys, keys, value_bytes), 256);
    drop(machine);
    store.close().expect("a close");
    let (machine, store) = open(&dir, 256 << 20);
    println!("open with {keys} keys: {} ms", store.recovery().ms);
    let (view, resident) = (store.view(), resident());
    for name in ["cold gets", "hot gets"] {
        let begun = Instant::now();
        let mut found = 0;
        for n in 0..keys {
            found += u64::from(view.get(&key(n)).expect("a readable row").0.is_some());
        }
        assert_eq!(found, keys);
        println!("{name:<26}{:>11.0}", as_f64(keys) / begun.elapsed().as_secs_f64());
    }
    let hot = store.stats().hot;
    println!(
        "hot tier: {} entries, {} B counted, {} B resident",
        hot.entries,
        hot.bytes,
        self::resident() - resident
    );
    drop((view, machine));
    store.close().expect("a close");
}

/// Writes a snapshot file, receives it into another store and installs it.
fn snapshot(keys: u64, value_bytes: usize) {
    let (from, to) = (tempfile::tempdir(), tempfile::tempdir());
    let (from, to) = (from.expect("a directory"), to.expect("a directory"));
    let (mut sender, sender_store) = open(&from, 0);
    apply(&mut sender, entries(&mut Random(9), 0, keys, keys, value_bytes), 256);
    let (mut receiver, receiver_store) = open(&to, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let current = runtime.block_on(sender.get_current_snapshot()).expect("a snapshot");
    let Some(SnapshotData::Frozen(frozen)) = current.map(|current| current.snapshot) else {
        panic!("something was applied");
    };
    let mut begun = Instant::now();
    let mut lap = |what: &str| {
        println!("snapshot of {keys} keys, {what:<22}{:>6} ms", begun.elapsed().as_millis());
        begun = Instant::now();
    };
    let file = frozen.write_file().expect("a file");
    lap(&format!("written, {} MB", file.bytes() >> 20));
    let bytes = fs::read(file.path()).expect("its bytes");
    let mut incoming = Incoming::begin(&receiver_store, file.id()).expect("a receiver");
    for piece in bytes.chunks(1 << 20) {
        incoming.write(piece).expect("verified bytes");
    }
    lap("received");
    let (meta, data) = incoming.finish().expect("a generation");
    lap("prepared");
    let meta = snapshot_meta(&meta).expect("a label");
    runtime.block_on(receiver.install_snapshot(&meta, data)).expect("an install");
    lap("installed");
    assert_eq!(receiver_store.view().digest(), sender_store.view().digest());
}

fn open(dir: &tempfile::TempDir, hot_bytes_max: u64) -> (StateMachine, Store) {
    let mut config = StoreConfig::new(dir.path());
    config.hot_bytes_max = hot_bytes_max;
    raftmap_state_machine::open(config, ID).expect("a store")
}

fn apply(machine: &mut StateMachine, entries: Vec<RaftEntry>, group: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut entries = entries.into_iter().peekable();
    runtime.block_on(async {
        // One call per group, as openraft makes one per advance of the commit index.
        while entries.peek().is_some() {
            let calls = if group < 256 { group } else { 16 * 256 };
            let chunk: Vec<_> =
                entries.by_ref().take(calls).map(|entry| Ok((entry, None))).collect();
            machine.apply(stream::iter(chunk)).await.expect("an applied group");
        }
    });
}

fn entries(
    random: &mut Random,
    first: u64,
    count: u64,
    keys: u64,
    value_bytes: usize,
) -> Vec<RaftEntry> {
    // Every key once when there are as many puts as keys, in an order without locality.
    (0..count)
        .map(|n| {
            let nth = if count == keys { n } else { random.next() % keys };
            let value = random.value(value_bytes);
            let put = Put {
                key: Bytes::copy_from_slice(&key(nth)),
                value: Bytes::from(value),
                deadline: Deadline::None,
                condition: Condition::none(),
                prev: false,
            };
            let command = Command::encode(&Op::Put(put), n);
            let log_id = log_id_to_raft(LogId { term: 1, node: 1, index: first + n });
            Entry { log_id, payload: EntryPayload::Normal(command) }
        })
        .collect()
}

/// The nth key: scattered, without a repeat.
fn key(n: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    key[8..].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

struct Random(u64);

impl Random {
    fn value(&mut self, bytes: usize) -> Vec<u8> {
        let words = (0..bytes.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(bytes).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

/// CPU time of a `stat` file, in the kernel's ticks of 10 ms.
fn stat_cpu(path: &std::path::Path) -> Duration {
    let stat = fs::read_to_string(path).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

fn cpu() -> Duration {
    stat_cpu("/proc/self/stat".as_ref())
}

fn thread_cpu(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .map(|task| stat_cpu(&task.path().join("stat")))
        .sum()
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0)
}
