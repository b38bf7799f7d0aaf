//! Entries in, groups out.

use openraft::{Entry, EntryPayload};
use raftmap_state_machine::Tier;

use crate::support::{Node, assert_sound, at, bytes, count, entry, eventually, put, puts, value};

#[test]
fn whoever_hears_of_an_entry_finds_it_in_the_view() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let applied = node.store.applied();
    assert_eq!(*applied.borrow(), 0);

    let last = node.apply([put("a", "1"), put("b", "2")]);

    assert_eq!(*applied.borrow(), last);
    let view = node.view();
    assert_eq!(view.applied().map(|id| id.index), Some(last));
    assert_eq!(value(&view, "a"), Some(bytes("1")));
    assert_eq!(value(&view, "b"), Some(bytes("2")));
    assert_eq!(view.revision(), 3);
    assert_sound(&view);
}

#[test]
fn a_view_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "old"), put("gone", "x")]);
    let before = node.view();

    node.apply([put("a", "new"), put("b", "2"), crate::support::delete("gone")]);

    assert_eq!(value(&before, "a"), Some(bytes("old")));
    assert_eq!(value(&before, "b"), None);
    assert_eq!(value(&before, "gone"), Some(bytes("x")));
    assert_eq!(count(&before), 2);
    assert_eq!(value(&node.view(), "a"), Some(bytes("new")));
    assert_eq!(value(&node.view(), "gone"), None);
}

#[test]
fn an_entry_that_was_applied_is_not_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    let last = node.apply([put("a", "1"), put("a", "2")]);
    let before = node.view();

    node.apply_entries(vec![
        entry(last - 1, &put("a", "1")),
        entry(last, &put("a", "2")),
        entry(last + 1, &put("b", "3")),
    ]);

    let view = node.view();
    assert_eq!(view.revision(), before.revision() + 1);
    assert_eq!(value(&view, "a"), Some(bytes("2")));
    assert_eq!(value(&view, "b"), Some(bytes("3")));
}

#[test]
fn a_blank_entry_moves_the_applied_index_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);
    let before = node.view();

    node.apply_entries(vec![Entry { log_id: at(9), payload: EntryPayload::Blank }]);

    let view = node.view();
    assert_eq!(view.applied().map(|id| id.index), Some(9));
    assert_eq!((view.revision(), view.digest()), (before.revision(), before.digest()));
}

#[test]
fn a_record_is_hot_once_it_was_written_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);
    assert_eq!(node.view().get(b"a").unwrap().1, Tier::Hot);
    node.close();

    let node = Node::open(dir.path());
    let view = node.view();
    assert_eq!(view.get_hot(b"a"), None);
    assert_eq!(view.get(b"a").unwrap().1, Tier::Cold);
    assert_eq!(view.get(b"a").unwrap().1, Tier::Hot);
    assert!(view.get_hot(b"a").unwrap().is_some());
    assert_eq!(view.get(b"absent").unwrap(), (None, Tier::Cold));
    assert_eq!(view.get_hot(b"absent"), Some(None));
}

#[test]
fn a_long_call_becomes_several_groups_and_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());

    node.apply(puts("k", 10_000));

    let stats = node.store.stats();
    assert_eq!(stats.entries, 10_000);
    assert!(stats.groups >= 10_000 / 256, "{stats:?}");
    assert_eq!(stats.keys, 10_000);
    assert_sound(&node.view());
}

#[test]
fn an_idle_store_lets_go_of_its_last_view() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1")]);

    let last = std::sync::Arc::downgrade(&node.view());

    eventually("a new View", || last.upgrade().is_none());
    assert_eq!(value(&node.view(), "a"), Some(bytes("1")));
}
