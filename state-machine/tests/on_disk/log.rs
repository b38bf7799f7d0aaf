//! What a store knows of the log beside it: a log that ends before that has lost something.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftmap_state_machine::StoreError;

use crate::support::{Node, bytes, put, small, value};

/// A log that is durable up to a position that the test moves.
#[derive(Clone, Default)]
struct Log(Arc<AtomicU64>);

impl Log {
    fn at(position: u64) -> Log {
        Log(Arc::new(AtomicU64::new(position)))
    }

    fn grow_to(&self, position: u64) {
        self.0.store(position, Ordering::Relaxed);
    }

    fn meet(&self, node: &Node) -> Result<(), StoreError> {
        let log = self.0.clone();
        let found = log.load(Ordering::Relaxed);
        node.store.meet_log(found, move || log.load(Ordering::Relaxed))
    }
}

fn seen(dir: &Path) -> u64 {
    Node::open(dir).store.log_seen()
}

#[test]
fn a_log_that_ends_before_what_was_seen_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    Log::at(5_000).meet(&node).unwrap();
    node.close();
    let before = std::fs::read(dir.path().join("CURRENT")).unwrap();

    let node = Node::open(dir.path());
    let refused = Log::at(4_999).meet(&node).unwrap_err();

    assert!(matches!(refused, StoreError::LogBehind { ends: 4_999, seen: 5_000 }), "{refused}");
    assert_eq!(
        refused.to_string(),
        "the log ends at 4999, this store has seen it durable up to 5000: it is an older copy or \
         its end is lost"
    );
    assert_eq!(std::fs::read(dir.path().join("CURRENT")).unwrap(), before);
}

#[test]
fn what_was_written_since_the_log_was_found_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    Log::at(5_000).meet(&node).unwrap();
    node.close();
    let node = Node::open(dir.path());

    // It ended at 4900; its open sealed it, and now it is longer than what was seen.
    let refused = node.store.meet_log(4_900, || 5_100).unwrap_err();

    assert!(matches!(refused, StoreError::LogBehind { ends: 4_900, seen: 5_000 }), "{refused}");
    assert_eq!(node.store.log_seen(), 5_000);
}

#[test]
fn a_log_that_went_on_without_the_store_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    Log::at(5_000).meet(&node).unwrap();
    node.close();

    for position in [5_000, 900_000] {
        let node = Node::open(dir.path());
        Log::at(position).meet(&node).unwrap();
        assert_eq!(node.store.log_seen(), position);
        node.close();
    }
}

#[test]
fn each_checkpoint_and_a_clean_stop_write_down_how_far_the_log_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let log = Log::at(4_096);
    log.meet(&node).unwrap();

    node.apply([put("a", "1")]);
    log.grow_to(6_000);
    assert_eq!(node.store.log_seen(), 4_096, "apply writes nothing down");
    node.store.checkpoint().unwrap();
    assert_eq!(node.store.log_seen(), 6_000);

    // A vote, for example: nothing was applied.
    log.grow_to(7_000);
    node.close();
    assert_eq!(seen(dir.path()), 7_000);
}

#[test]
fn an_install_forgets_nothing_of_the_log() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sender = Node::open(from.path());
    sender.apply([put("a", "1")]);
    let frozen = sender.frozen();
    let mut node = Node::open(to.path());
    Log::at(8_000).meet(&node).unwrap();

    let meta = frozen.meta_parts();
    node.install(&meta, raftmap_state_machine::SnapshotData::Frozen(frozen)).unwrap();

    assert_eq!(value(&node.view(), "a"), Some(bytes("1")));
    assert_eq!(node.store.log_seen(), 8_000);
    drop(node);
    crate::support::eventually("the dropped store is closed", || {
        let lock = std::fs::File::open(to.path().join("LOCK")).unwrap();
        lock.try_lock().is_ok()
    });
    assert_eq!(seen(to.path()), 8_000);
}

#[test]
fn a_store_of_the_version_before_opens_and_has_seen_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);
    Log::at(8_000).meet(&node).unwrap();
    node.close();
    // As it wrote CURRENT: format 1, without the position.
    let path = dir.path().join("CURRENT");
    let mut current = std::fs::read(&path).unwrap();
    current.truncate(current.len() - 12);
    current[8..10].copy_from_slice(&1_u16.to_le_bytes());
    let crc = crc32c::crc32c(&current);
    current.extend_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, current).unwrap();

    let node = Node::try_open(small(dir.path())).unwrap();

    assert_eq!(node.store.log_seen(), 0);
    assert_eq!(value(&node.view(), "a"), Some(bytes("1")));
    Log::at(10).meet(&node).unwrap();
    assert_eq!(node.store.log_seen(), 10);
}
