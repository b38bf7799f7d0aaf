//! Readers beside the writer: every read is exactly what its View says, whichever tier answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use raftmap_state_machine::{KeyRange, ListQuery, Op, Store};

use crate::support::{Node, assert_sound, bytes, delete, put, put_all, small};

const KEYS: u64 = 600;
const ENTRIES: u64 = 24_000;
const READERS: u64 = 3;

/// The key that entry `index` touches.
fn key_of(index: u64) -> u64 {
    (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % KEYS
}

fn name(key: u64) -> String {
    format!("key-{:04}", key)
}

fn op(index: u64) -> Op {
    if index.is_multiple_of(7) {
        return delete(name(key_of(index)));
    }
    put(name(key_of(index)), written(index))
}

/// Mostly small, now and then too large for the hot tier.
fn written(index: u64) -> Bytes {
    let len = if index.is_multiple_of(401) { 70_000 } else { 300 };
    let mut value = vec![0; len];
    value[..8].copy_from_slice(&index.to_le_bytes());
    value.into()
}

/// What a key is after the entries up to `applied`: the entry that set it last, if it is there.
fn expected(touched: &[Vec<u64>], key: u64, applied: u64) -> Option<u64> {
    let entries = &touched[usize::try_from(key).unwrap()];
    let last = entries[..entries.partition_point(|index| *index <= applied)].last().copied()?;
    (!last.is_multiple_of(7)).then_some(last)
}

#[test]
fn every_read_is_exact_at_its_view_while_the_hot_tier_is_thrashed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.hot_bytes_max = 96 << 10;
    let mut node = Node::try_open(config).unwrap();
    let mut touched = vec![Vec::new(); usize::try_from(KEYS).unwrap()];
    for index in 1..=ENTRIES {
        touched[usize::try_from(key_of(index)).unwrap()].push(index);
    }
    let touched = Arc::new(touched);
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));

    thread::scope(|scope| {
        for reader in 0..READERS {
            let (store, touched) = (node.store.clone(), Arc::clone(&touched));
            let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
            scope.spawn(move || {
                let mut random = reader + 1;
                while !done.load(Ordering::Relaxed) {
                    reads.fetch_add(check_a_view(&store, &touched, &mut random), Ordering::Relaxed);
                }
            });
        }
        for first in (1..=ENTRIES).step_by(40) {
            node.apply((first..first + 40).map(op));
        }
        done.store(true, Ordering::Relaxed);
    });

    let hot = node.store.stats().hot;
    assert!(reads.load(Ordering::Relaxed) > 1000, "{reads:?}");
    assert!(hot.hits > 100 && hot.promotions > 100 && hot.evictions > 100, "{hot:?}");
    assert!(hot.refused > 0, "{hot:?}");
    assert_sound(&node.view());
}

/// Reads some keys of one View, each by a way of its own; gives how many.
fn check_a_view(store: &Store, touched: &[Vec<u64>], random: &mut u64) -> u64 {
    let view = store.view();
    let applied = view.applied().map_or(0, |id| id.index);
    for _ in 0..50 {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let key = *random % KEYS;
        let read = match view.get_hot(name(key).as_bytes()) {
            Some(item) if random.is_multiple_of(2) => item,
            _ => view.get(name(key).as_bytes()).unwrap().0,
        };
        let found = read.map(|item| u64::from_le_bytes(item.value[..8].try_into().unwrap()));
        assert_eq!(found, expected(touched, key, applied), "key {key} at {applied}");
    }
    50
}

#[test]
fn no_view_shows_a_part_of_a_group() {
    const WIDTH: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let keys = || (0..WIDTH).map(|n| format!("torn-{n:02}"));
    node.apply([put_all(keys(), "0")]);
    let done = Arc::new(AtomicBool::new(false));

    thread::scope(|scope| {
        for _ in 0..READERS {
            let (store, done) = (node.store.clone(), Arc::clone(&done));
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_whole(&store, WIDTH);
                }
            });
        }
        // Long values, so that memtables are flushed all the time.
        for round in 1..1500_u32 {
            node.apply([put_all(keys(), &format!("{round:0500}"))]);
        }
        done.store(true, Ordering::Relaxed);
    });

    assert!(node.store.stats().cold.tables > 0, "nothing was flushed");
    assert_sound(&node.view());
}

fn assert_whole(store: &Store, width: usize) {
    let view = store.view();
    let range = KeyRange::prefix(bytes("torn-"));
    let page = view.list(&ListQuery { range, ..ListQuery::default() }).unwrap();
    assert_eq!(page.items.len(), width);
    let first = &page.items[0];
    assert_eq!(first.mod_revision, view.revision());
    for item in &page.items {
        assert_eq!((item.mod_revision, &item.value), (first.mod_revision, &first.value));
        assert_eq!(view.get(&item.key).unwrap().0.unwrap().value, first.value);
    }
}
