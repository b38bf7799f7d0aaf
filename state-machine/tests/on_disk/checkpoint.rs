//! Checkpoints: what is told to openraft is on the disk.

use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use raftmap_state_machine::raft::log_id_from_raft;

use crate::support::{Node, eventually, put, puts, small, with_rows};

#[test]
fn nothing_applied_is_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());

    let snapshot = node.block_on(async |machine| machine.get_current_snapshot().await).unwrap();

    assert!(snapshot.is_none());
    assert_eq!(node.store.checkpointed(), None);
}

#[test]
fn building_a_snapshot_makes_the_frozen_state_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let last = node.apply([put("a", "1")]);
    let builder = node.block_on(async |machine| machine.try_create_snapshot_builder(false).await);
    let mut builder = builder.expect("never deferred");
    let later = node.apply([put("b", "2")]);
    assert_eq!(node.store.checkpointed(), None);

    let built = node.block_on(async |_| builder.build_snapshot().await).unwrap();

    // The label is that of the moment it was frozen at, though more is durable by now.
    assert_eq!(built.meta.last_log_id.map(|id| id.index), Some(last));
    assert_eq!(node.store.checkpointed().map(|id| id.index), Some(later));
}

#[test]
fn the_current_snapshot_is_durable_and_current() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);

    let snapshot = node.block_on(async |machine| machine.get_current_snapshot().await).unwrap();

    let id = snapshot.unwrap().meta.last_log_id.as_ref().map(log_id_from_raft);
    assert_eq!(id, node.view().applied());
    assert_eq!(id, node.store.checkpointed());
}

#[test]
fn a_checkpoint_is_due_after_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.checkpoint_bytes = 100_000;
    let mut node = Node::try_open(config).unwrap();
    node.apply([put("a", "1")]);
    assert!(!node.store.checkpoint_due());

    node.apply(puts("k", 1000));
    assert!(node.store.checkpoint_due());

    node.store.checkpoint().unwrap();
    assert!(!node.store.checkpoint_due());
}

#[test]
fn a_checkpoint_lets_the_rows_of_its_groups_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    for n in 0..50 {
        node.apply([put("a", n.to_string())]);
    }

    node.store.checkpoint().unwrap();

    eventually("group rows are removed", || node.store.stats().swept_rows == 50);
    node.apply([put("a", "after")]);
    drop(node);
    let rows = with_rows_eventually(dir.path());
    assert_eq!(rows, 1, "only the group after the checkpoint");
}

/// Group rows left in the engine, once the dropped store has closed it.
fn with_rows_eventually(dir: &std::path::Path) -> usize {
    // The lock of the store is released when its engine is closed.
    let lock = std::fs::File::open(dir.join("LOCK")).unwrap();
    eventually("the dropped store is closed", || lock.try_lock().is_ok());
    with_rows(dir, "gen-1", |rows| rows.prefix([0x02]).count())
}
