//! An install leaves the old state or the new one, wherever it is cut.

use raftmap_state_machine::{Incoming, SnapshotFile};
use tempfile::TempDir;

use crate::support::{
    Node, assert_sound, bytes, copy, eventually, generations, part_files, put, puts, value,
};

fn sender() -> (TempDir, Node, SnapshotFile) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("new", 2000));
    let file = node.frozen().write_file().unwrap();
    (dir, node, file)
}

fn receiver() -> (TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("old", 1000));
    node.store.checkpoint().unwrap();
    (dir, node)
}

/// Opens what a crash left, and says which state it is by its digest.
fn reopened(dir: &TempDir) -> u128 {
    let node = Node::open(dir.path());
    assert_sound(&node.view());
    assert_eq!(generations(dir.path()).len(), 1, "leftovers are deleted");
    node.view().digest()
}

#[test]
fn a_crash_at_each_step_leaves_the_old_state_or_the_new() {
    let (_from, sender, file) = sender();
    let (to, mut receiver) = receiver();
    let (old, new) = (receiver.view().digest(), sender.view().digest());
    let bytes = std::fs::read(file.path()).unwrap();

    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    incoming.write(&bytes[..bytes.len() / 2]).unwrap();
    let while_receiving = copy(to.path());
    incoming.write(&bytes[bytes.len() / 2..]).unwrap();
    let received = copy(to.path());
    let (meta, data) = incoming.finish().unwrap();
    assert_eq!(generations(to.path()), ["gen-1", "gen-2"]);
    let prepared = copy(to.path());
    let reader = receiver.view();
    receiver.install(&meta, data).unwrap();
    let installed = copy(to.path());
    assert_eq!(generations(installed.path()), ["gen-1", "gen-2"], "a reader holds the old one");

    assert_eq!(reopened(&while_receiving), old);
    assert_eq!(part_files(while_receiving.path()).len(), 1, "to be resumed");
    assert_eq!(reopened(&received), old);
    assert_eq!(reopened(&prepared), old);
    assert_eq!(reopened(&installed), new);
    drop(reader);
}

#[test]
fn a_snapshot_that_was_received_before_a_crash_is_installed_after_it() {
    let (_from, sender, file) = sender();
    let (to, receiver) = receiver();
    let bytes = std::fs::read(file.path()).unwrap();
    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    incoming.write(&bytes).unwrap();
    let crashed = copy(to.path());

    let mut node = Node::open(crashed.path());
    let incoming = Incoming::begin(&node.store, file.id()).unwrap();
    assert_eq!(incoming.offset(), file.bytes(), "nothing is sent twice");
    let (meta, data) = incoming.finish().unwrap();
    node.install(&meta, data).unwrap();

    assert_eq!(node.view().digest(), sender.view().digest());
}

#[test]
fn a_reader_of_the_old_state_reads_it_to_the_end() {
    let (_from, _sender, file) = sender();
    let (to, mut receiver) = receiver();
    let reader = receiver.view();
    let digest = reader.digest();
    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    incoming.write(&std::fs::read(file.path()).unwrap()).unwrap();
    let (meta, data) = incoming.finish().unwrap();

    receiver.install(&meta, data).unwrap();

    assert_eq!(reader.scan_digest().unwrap(), digest);
    assert!(value(&reader, "old00001").is_some());
    assert_eq!(value(&receiver.view(), "old00001"), None);
    assert!(value(&receiver.view(), "new00001").is_some());
    drop(reader);
    eventually("the old generation is deleted", || generations(to.path()) == ["gen-2"]);
    receiver.apply([put("after", "1")]);
    assert_sound(&receiver.view());
}

#[test]
fn a_prepared_generation_that_is_not_installed_is_deleted() {
    let (_from, _sender, file) = sender();
    let (to, mut receiver) = receiver();
    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    incoming.write(&std::fs::read(file.path()).unwrap()).unwrap();

    drop(incoming.finish().unwrap());

    eventually("it is deleted", || generations(to.path()) == ["gen-1"]);
    receiver.apply([put("a", "1")]);
    assert_eq!(value(&receiver.view(), "a"), Some(bytes("1")));
}

#[test]
fn a_label_that_does_not_fit_is_refused() {
    let (_from, _sender, file) = sender();
    let (_to, mut receiver) = receiver();
    let digest = receiver.view().digest();
    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    incoming.write(&std::fs::read(file.path()).unwrap()).unwrap();
    let (mut meta, data) = incoming.finish().unwrap();
    meta.applied = meta.applied.map(|id| raftmap_state_machine::LogId { index: 1, ..id });

    assert!(receiver.install(&meta, data).is_err());

    assert_eq!(receiver.view().digest(), digest);
}
