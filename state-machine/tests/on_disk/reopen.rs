//! Stops of every kind: what was applied is a whole prefix, and what is missing is noticed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use raftmap_state_machine::stats::Found;
use raftmap_state_machine::{LocalIdentity, StoreError, open};

use crate::support::{
    ID, Node, assert_sound, bytes, copy, copy_into, eventually, put, puts, small, value, with_rows,
};

#[test]
fn a_clean_stop_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    assert_eq!(node.store.recovery().found, Found::Nothing);
    node.apply(puts("k", 2000));
    let before = node.view();
    let (meta, digest) = (before.meta().clone(), before.digest());
    drop(before);
    node.close();

    let node = Node::open(dir.path());

    let recovery = node.store.recovery();
    assert_eq!((recovery.found, recovery.groups_checked), (Found::Clean, 0));
    assert_eq!((recovery.applied, recovery.keys), (meta.applied, 2000));
    assert_eq!((node.view().meta(), node.view().digest()), (&meta, digest));
    assert_eq!(node.store.checkpointed(), meta.applied);
    assert_sound(&node.view());
}

#[test]
fn a_store_that_is_dropped_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("k", 600));
    let digest = node.view().digest();
    drop(node);

    let node = Node::open(dir.path());

    assert_eq!(node.store.recovery().found, Found::Unclean);
    assert_eq!(node.store.recovery().groups_checked, 3);
    assert_eq!(node.view().digest(), digest);
}

const KILLED: &str = "RAFTMAP_TEST_KILLED_DIR";

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "run by a_killed_process_leaves_a_whole_prefix, in a process of its own"]
fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(KILLED) else { return };
    let mut node = Node::open(Path::new(&dir));
    loop {
        let next = node.view().applied().map_or(1, |id| id.index + 1);
        let last = node.apply((next..next + 25).map(numbered));
        if last.is_multiple_of(2000) {
            node.store.checkpoint().unwrap();
        }
        println!("applied {last}");
    }
}

fn numbered(index: u64) -> raftmap_state_machine::Op {
    let mut value = vec![7; 400];
    value[..8].copy_from_slice(&index.to_le_bytes());
    put(format!("n{index:08}"), value)
}

#[test]
fn a_killed_process_leaves_a_whole_prefix() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=4 {
        let told = run_and_kill(dir.path(), round * 150);

        let node = Node::open(dir.path());
        let view = node.view();
        let applied = view.applied().map_or(0, |id| id.index);
        assert!(applied >= told, "{told} was told, {applied} is there");
        assert_eq!(view.meta().keys, applied, "each entry makes a key");
        for index in 1..=applied {
            let found = value(&view, format!("n{index:08}")).unwrap();
            assert_eq!(found[..8], index.to_le_bytes());
        }
        assert_sound(&view);
    }
}

/// Lets the process apply until it has told so many lines, kills it, and gives what it told last.
fn run_and_kill(dir: &Path, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["reopen::the_process_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(KILLED, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("applied ").and_then(|index| index.parse().ok()))
        .take(lines)
        .last();
    child.kill().unwrap();
    child.wait().unwrap();
    told.expect("it applied something")
}

#[test]
fn a_store_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Node::open(dir.path());

    let second = open(small(dir.path()), ID);

    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
}

#[test]
fn another_nodes_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Node::open(dir.path()).close();

    for id in [LocalIdentity { node_id: 2, ..ID }, LocalIdentity { wal_uuid: 5, ..ID }] {
        let opened = open(small(dir.path()), id);
        assert!(matches!(opened, Err(StoreError::Foreign { .. })), "{opened:?}");
    }
    Node::open(dir.path()).close();
}

#[test]
fn a_hole_in_the_groups_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.store.checkpoint().unwrap();
    for n in 0..10 {
        node.apply([put("a", n.to_string())]);
    }
    drop(node);
    drop(Node::open(dir.path()));
    // As if a journal had been cut in its middle: one group is gone, later ones are there.
    let checkpoint = current(dir.path());
    eventually_unlocked(dir.path());
    with_rows(dir.path(), "gen-1", |rows| {
        for group in [checkpoint + 1, checkpoint + 2, checkpoint + 4] {
            rows.insert(group_key(group), "").unwrap();
        }
    });
    let before = std::fs::read(dir.path().join("CURRENT")).unwrap();

    let opened = open(small(dir.path()), ID);

    let Err(StoreError::Damaged { detail }) = opened else { panic!("{opened:?}") };
    assert!(detail.contains(&format!("{0} to {0}", checkpoint + 3)), "{detail}");
    assert_eq!(std::fs::read(dir.path().join("CURRENT")).unwrap(), before);
}

fn group_key(group: u64) -> Vec<u8> {
    [&[0x02][..], &group.to_be_bytes()].concat()
}

/// The group that CURRENT names.
fn current(dir: &Path) -> u64 {
    let bytes = std::fs::read(dir.join("CURRENT")).unwrap();
    u64::from_le_bytes(bytes[19..27].try_into().unwrap())
}

fn eventually_unlocked(dir: &Path) {
    let lock = std::fs::File::open(dir.join("LOCK")).unwrap();
    eventually("the dropped store is closed", || lock.try_lock().is_ok());
}

#[test]
fn a_generation_that_went_back_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);
    node.close();
    let older = copy(dir.path());
    let mut node = Node::open(dir.path());
    node.apply([put("a", "2")]);
    node.close();
    std::fs::remove_dir_all(dir.path().join("gen-1")).unwrap();
    copy_into(&older.path().join("gen-1"), &dir.path().join("gen-1"));

    let opened = open(small(dir.path()), ID);

    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
}

#[test]
fn a_missing_part_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);
    node.close();

    let without_current = copy(dir.path());
    std::fs::remove_file(without_current.path().join("CURRENT")).unwrap();
    let opened = open(small(without_current.path()), ID);
    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
    assert!(without_current.path().join("gen-1").is_dir(), "nothing was deleted");

    let without_generation = copy(dir.path());
    std::fs::remove_dir_all(without_generation.path().join("gen-1")).unwrap();
    let opened = open(small(without_generation.path()), ID);
    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");

    let flipped = copy(dir.path());
    let path = flipped.path().join("CURRENT");
    let mut current = std::fs::read(&path).unwrap();
    current[12] ^= 1;
    std::fs::write(&path, current).unwrap();
    let opened = open(small(flipped.path()), ID);
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
}

#[test]
fn a_creation_that_was_cut_short_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let finished = tempfile::tempdir().unwrap();
    Node::open(finished.path()).close();
    // What is on the disk just before the first generation is named.
    let mut none = b"RMAPCUR\n\x01\x00\x00".to_vec();
    none.extend_from_slice(&[0; 40]);
    none.extend_from_slice(&crc32c::crc32c(&none).to_le_bytes());
    std::fs::write(dir.path().join("CURRENT"), none).unwrap();
    std::fs::write(dir.path().join("CURRENT.tmp"), "half").unwrap();
    copy_into(&finished.path().join("gen-1"), &dir.path().join("gen-1"));

    let mut node = Node::open(dir.path());

    assert_eq!(node.store.recovery().found, Found::Nothing);
    assert!(!dir.path().join("CURRENT.tmp").exists());
    node.apply([put("a", "1")]);
    assert_eq!(value(&node.view(), "a"), Some(bytes("1")));
}
