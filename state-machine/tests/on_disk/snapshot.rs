//! Snapshots from one store to another.

use openraft::storage::RaftStateMachine;
use raftmap_state_machine::{Incoming, Op, SnapshotError, SnapshotFile, StoreError};

use crate::support::{
    ID, Node, assert_sound, bytes, count, delete, part_files, put, puts, small, value, with_rows,
};

/// A store with records, history, a clear behind it and deadlines none; and its snapshot.
fn sender(dir: &std::path::Path) -> (Node, SnapshotFile) {
    let mut node = Node::open(dir);
    node.apply(puts("before", 500));
    node.apply([Op::Clear]);
    node.apply(puts("k", 5000));
    node.apply(puts("k", 300));
    node.apply([delete("k00007"), put("last", "x")]);
    let file = node.frozen().write_file().unwrap();
    (node, file)
}

fn receive(node: &mut Node, id: &str, bytes: &[u8]) -> Result<(), SnapshotError> {
    let mut incoming = Incoming::begin(&node.store, id)?;
    for piece in bytes.chunks(100_000) {
        incoming.write(piece)?;
    }
    let (meta, data) = incoming.finish()?;
    node.install(&meta, data).unwrap();
    Ok(())
}

#[test]
fn an_installed_snapshot_is_the_senders_state() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, file) = sender(from.path());
    let mut receiver = Node::open(to.path());
    receiver.apply([put("own", "old")]);
    assert_eq!(value(&receiver.view(), "own"), Some(bytes("old")));

    receive(&mut receiver, file.id(), &std::fs::read(file.path()).unwrap()).unwrap();

    let (theirs, ours) = (sender.view(), receiver.view());
    assert_eq!(ours.meta(), theirs.meta());
    assert_eq!(ours.digest(), theirs.digest());
    assert_sound(&ours);
    assert_eq!(value(&ours, "own"), None, "the hot tier began anew");
    assert_eq!(value(&ours, "last"), Some(bytes("x")));
    assert_eq!(ours.changes(theirs.revision() - 10, 100).unwrap().len(), 10);
    assert_eq!(receiver.store.checkpointed(), theirs.applied());
    assert!(part_files(to.path()).is_empty());

    // And it goes on from there, here as there.
    let mut sender = sender;
    sender.apply([put("after", "1")]);
    receiver.apply([put("after", "1")]);
    assert_eq!(receiver.view().digest(), sender.view().digest());
    drop((theirs, ours));
    receiver.close();
    let receiver = Node::open(to.path());
    assert_eq!(receiver.view().digest(), sender.view().digest());
    assert_sound(&receiver.view());
}

#[test]
fn equal_states_have_equal_files() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_sender, file) = sender(one.path());
    let mut receiver = Node::open(other.path());
    let bytes = std::fs::read(file.path()).unwrap();
    receive(&mut receiver, file.id(), &bytes).unwrap();

    let again = receiver.frozen().write_file().unwrap();

    assert_eq!(again.id(), file.id());
    assert!(std::fs::read(again.path()).unwrap() == bytes);
}

#[test]
fn a_broken_transfer_goes_on_where_it_was_verified() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_sender, file) = sender(from.path());
    let bytes = std::fs::read(file.path()).unwrap();
    let mut receiver = Node::open(to.path());
    let half = bytes.len() / 2;
    let mut incoming = Incoming::begin(&receiver.store, file.id()).unwrap();
    assert_eq!(incoming.offset(), 0);
    incoming.write(&bytes[..half]).unwrap();
    let reached = incoming.offset();
    assert!(reached > 0 && reached <= half as u64);
    drop(incoming);
    // Even over a restart.
    receiver.close();
    let mut receiver2 = Node::open(to.path());

    let mut incoming = Incoming::begin(&receiver2.store, file.id()).unwrap();
    assert_eq!(incoming.offset(), reached);
    incoming.write(&bytes[usize::try_from(reached).unwrap()..]).unwrap();
    let (meta, data) = incoming.finish().unwrap();
    receiver2.install(&meta, data).unwrap();
    assert_sound(&receiver2.view());

    receiver = receiver2;
    assert_eq!(count(&receiver.view()), 5000);
}

#[test]
fn damaged_bytes_are_refused_and_change_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_sender, file) = sender(from.path());
    let bytes = std::fs::read(file.path()).unwrap();
    let mut receiver = Node::open(to.path());
    receiver.apply([put("own", "1")]);

    for at in [0, 20, bytes.len() / 3, bytes.len() / 2, bytes.len() - 30, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let result = receive(&mut receiver, file.id(), &flipped);
        assert!(matches!(result, Err(SnapshotError::Refused { .. })), "byte {at}: {result:?}");
        for part in part_files(to.path()) {
            std::fs::remove_file(part).unwrap();
        }
    }
    for len in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        let result = receive(&mut receiver, file.id(), &bytes[..len]);
        assert!(matches!(result, Err(SnapshotError::Refused { .. })), "{len} bytes: {result:?}");
        for part in part_files(to.path()) {
            std::fs::remove_file(part).unwrap();
        }
    }

    assert_eq!(value(&receiver.view(), "own"), Some(crate::support::bytes("1")));
    assert_eq!(receiver.store.failed(), None);
    receive(&mut receiver, file.id(), &bytes).unwrap();
    assert_sound(&receiver.view());
}

#[test]
fn an_id_that_is_not_its_own_is_refused() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_sender, file) = sender(from.path());
    let bytes = std::fs::read(file.path()).unwrap();
    let mut receiver = Node::open(to.path());

    for id in ["1-1-00000000000000000001", "../CURRENT", "a/b", "", "."] {
        let result = receive(&mut receiver, id, &bytes);
        assert!(matches!(result, Err(SnapshotError::Refused { .. })), "{id}: {result:?}");
    }
    assert_eq!(receiver.view().applied(), None);
}

#[test]
fn one_snapshot_is_received_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let first = Incoming::begin(&node.store, "1-1-5").unwrap();

    let second = Incoming::begin(&node.store, "1-1-6");

    assert!(matches!(second, Err(SnapshotError::Busy)), "{second:?}");
    drop(first);
    Incoming::begin(&node.store, "1-1-6").unwrap();
}

#[test]
fn a_fresh_file_is_sent_again_and_an_old_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.snapshot_reuse_entries_max = 10;
    let mut node = Node::try_open(config).unwrap();
    node.apply(puts("k", 100));
    let first = node.frozen().write_file().unwrap();

    node.apply(puts("k", 10));
    let again = node.frozen();
    assert_eq!(again.meta_parts(), *first.meta(), "the label is the file's");
    assert_eq!(again.write_file().unwrap().path(), first.path());

    node.apply([put("one", "more")]);
    let fresh = node.frozen().write_file().unwrap();
    assert_ne!(fresh.path(), first.path());
    assert_eq!(fresh.meta().applied, node.view().applied());

    // A file stays while somebody sends it, then goes.
    let old = first.path().to_owned();
    assert!(old.exists());
    drop(first);
    assert!(!old.exists());
}

#[test]
fn a_file_below_the_purged_log_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let last = node.apply(puts("k", 100));
    let first = node.frozen().write_file().unwrap();
    node.apply([put("a", "1")]);

    node.store.follow_log(move || last + 1);

    assert_ne!(node.frozen().meta_parts(), *first.meta());
}

#[test]
fn a_frozen_state_can_be_installed_directly() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut sender, _file) = sender(from.path());
    let snapshot = sender.block_on(async |machine| machine.get_current_snapshot().await);
    let snapshot = snapshot.unwrap().unwrap();
    let mut receiver = Node::open(to.path());

    let installed = receiver.block_on(async |machine| {
        machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await
    });

    installed.unwrap();
    assert_eq!(receiver.view().digest(), sender.view().digest());
}

#[test]
fn snapshot_files_of_an_earlier_process_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (node, file) = sender(dir.path());
    let stale = file.path().with_file_name("snap-of-a-killed-process");
    std::fs::copy(file.path(), &stale).unwrap();
    drop(file);
    node.close();

    let (_machine, _store) = raftmap_state_machine::open(small(dir.path()), ID).unwrap();

    assert!(!stale.exists());
}

#[test]
fn a_store_whose_rows_are_not_those_of_its_digest_sends_nothing_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("k", 100));
    node.close();
    // A record vanishes behind the engine's back.
    with_rows(dir.path(), "gen-1", |rows| {
        let keys = rows.iter().map(|row| row.into_inner().unwrap().0);
        let mut named = keys.filter(|key| key.windows(6).any(|part| part == b"k00050"));
        // Records come before the changes that name them.
        rows.remove(named.next().expect("its row")).unwrap();
    });
    let mut node = Node::open(dir.path());

    let written = node.frozen().write_file();

    let Err(StoreError::Damaged { detail }) = written else { panic!("{written:?}") };
    assert!(detail.contains("digest"), "{detail}");
    assert!(node.store.failed().is_some_and(|why| why.contains("digest")));
    let left = std::fs::read_dir(node.store.snapshot_dir()).unwrap().count();
    assert_eq!(left, 0, "no part of a file");
}
