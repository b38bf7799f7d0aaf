//! A clear is one small step; the rows go in the background.

use raftmap_state_machine::Op;

use crate::support::{Node, assert_sound, bytes, count, eventually, put, puts, value, with_rows};

const KEYS: u32 = 3000;

#[test]
fn a_cleared_key_is_gone_from_every_tier_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("k", 100));
    let before = node.view();

    node.apply([Op::Clear, put("k00001", "new")]);

    let view = node.view();
    assert_eq!(view.get_hot(b"k00000"), None, "the hot tier began anew");
    assert_eq!(value(&view, "k00000"), None);
    assert_eq!(value(&view, "k00001"), Some(bytes("new")));
    assert_eq!(count(&view), 1);
    assert_sound(&view);
    assert_eq!(count(&before), 100);
    assert!(value(&before, "k00000").is_some());
}

#[test]
fn the_rows_of_a_cleared_store_go_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply(puts("k", KEYS));
    node.apply(puts("k", KEYS));

    node.apply([Op::Clear]);

    // A record, its older version and two changes for each key.
    let expected = 4 * u64::from(KEYS);
    eventually("old rows are removed", || node.store.stats().swept_rows >= expected);
    node.apply([put("a", "1")]);
    assert_sound(&node.view());
    node.close();
    let left = with_rows(dir.path(), "gen-1", |rows| {
        [0x10, 0x11, 0x20, 0x30].map(|table| rows.prefix([table]).count())
    });
    assert_eq!(left, [1, 0, 0, 2], "the new record; its change and the clear's");
}

#[test]
fn a_removal_that_was_cut_short_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.apply([put("a", "1"), Op::Clear, put("b", "2")]);
    eventually("old rows are removed", || node.store.stats().swept_rows > 0);
    node.close();
    let old = [0x10, 0, 0, 0, 0, b'a'];
    with_rows(dir.path(), "gen-1", |rows| {
        rows.insert(old, "as if it had not been reached").unwrap();
        rows.remove(b"\x01swept").unwrap();
    });

    let node = Node::open(dir.path());

    eventually("the row is removed", || node.store.stats().swept_rows > 0);
    assert_sound(&node.view());
    node.close();
    with_rows(dir.path(), "gen-1", |rows| {
        assert!(!rows.contains_key(old).unwrap());
        assert_eq!(rows.prefix([0x10]).count(), 1);
    });
}

#[test]
fn clears_in_a_row_leave_the_last_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    for round in 0..5 {
        node.apply(puts("k", 600));
        node.apply([put("round", round.to_string()), Op::Clear, put("a", round.to_string())]);
    }

    let view = node.view();
    assert_eq!(count(&view), 1);
    assert_eq!(value(&view, "a"), Some(bytes("4")));
    eventually("old rows are removed", || node.store.stats().swept_rows >= 5 * 1200);
    assert_sound(&node.view());
}
