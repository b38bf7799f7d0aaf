//! What the pure half costs: a group of commands from bytes to effects, and a page of a list.
//!
//! `cargo bench -p raftmap-state-machine --bench apply`; a "thrpt" of 1 Melem/s is 1 µs per command.

#![expect(clippy::unwrap_used, reason = "what fails here fails the bench")]

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raftmap_state_machine::apply::{Effects, Group};
use raftmap_state_machine::command::{Command, Condition, Deadline, Op, Put};
use raftmap_state_machine::read::{self, ListQuery};
use raftmap_state_machine::rows::{RowIter, Rows};
use raftmap_state_machine::{LogId, Meta, StoreError};

const GROUP: u64 = 256;
const VALUE_BYTES: usize = 256;
/// Few enough to stay in the processor's cache: the store's own reads are measured elsewhere.
const KEYS: u64 = 2_048;

/// A store without rows.
struct Nothing;

impl Rows for Nothing {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _from: &[u8], _to: Option<&[u8]>, _reverse: bool) -> RowIter<'_> {
        Box::new(std::iter::empty())
    }
}

fn put(key: u64, deadline: Deadline) -> Command {
    let put = Put {
        // Keys spread like hashed ones, 16 bytes.
        key: format!("{:016x}", key.wrapping_mul(0x9E37_79B9_7F4A_7C15)).into(),
        value: vec![7; VALUE_BYTES].into(),
        deadline,
        condition: Condition::none(),
        prev: false,
    };
    Command::encode(&Op::Put(put), 1_000)
}

fn puts(deadline: Deadline) -> Vec<Command> {
    (0..GROUP).map(|n| put(n * 7 % KEYS, deadline)).collect()
}

fn apply(rows: &impl Rows, meta: Meta, commands: &[Command]) -> Effects {
    let mut group = Group::new(rows, meta);
    for (index, command) in (1..).zip(commands) {
        let log_id = LogId { term: 1, node: 1, index };
        black_box(group.apply(log_id, command).unwrap());
    }
    group.finish().unwrap()
}

fn filled() -> (BTreeMap<Bytes, Bytes>, Meta) {
    let commands: Vec<_> = (0..KEYS).map(|n| put(n, Deadline::None)).collect();
    let effects = apply(&Nothing, Meta::default(), &commands);
    let rows = effects.rows.into_iter().filter_map(|(key, row)| Some((key, row?))).collect();
    (rows, effects.meta)
}

fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply 256 puts of 256 B");
    group.throughput(Throughput::Elements(GROUP));
    let (rows, meta) = filled();
    for (name, deadline) in [("", Deadline::None), (" with a TTL", Deadline::Ttl(60_000))] {
        let commands = puts(deadline);
        group.bench_function(format!("new keys{name}"), |bencher| {
            bencher.iter(|| apply(&Nothing, Meta::default(), &commands));
        });
        group.bench_function(format!("present keys{name}"), |bencher| {
            bencher.iter_batched(
                || meta.clone(),
                |meta| apply(&rows, meta, &commands),
                BatchSize::SmallInput,
            );
        });
    }
    let one = vec![put(1, Deadline::None); usize::try_from(GROUP).unwrap()];
    group.bench_function("one key", |bencher| {
        bencher.iter(|| apply(&Nothing, Meta::default(), &one));
    });
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let command = put(1, Deadline::None);
    let (_, op) = command.decode().unwrap();
    group.bench_function("encode a put", |bencher| bencher.iter(|| Command::encode(&op, 1_000)));
    group.bench_function("decode a put", |bencher| bencher.iter(|| command.decode()));
    group.finish();
}

fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list");
    let (rows, meta) = filled();
    group.throughput(Throughput::Elements(1_000));
    let query = ListQuery { limit: 1_000, ..ListQuery::default() };
    group.bench_function("1000 items now", |bencher| {
        bencher.iter(|| read::list(&rows, &meta, &query).unwrap());
    });
    let query = ListQuery { at: Some(meta.revision - 1), ..query };
    group.bench_function("1000 items at a revision", |bencher| {
        bencher.iter(|| read::list(&rows, &meta, &query).unwrap());
    });
    group.finish();
}

criterion_group!(benches, groups, codec, lists);
criterion_main!(benches);
