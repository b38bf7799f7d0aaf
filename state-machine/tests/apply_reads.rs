//! What reads show: pages, groups, revisions, events.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod world;

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use raftmap_state_machine::changes;
use raftmap_state_machine::command::{Command, Deadline, Op};
use raftmap_state_machine::error::{ReadError, StoreError};
use raftmap_state_machine::read::{self, ListQuery};
use raftmap_state_machine::rows::{RowIter, Rows};
use raftmap_state_machine::{KeyRange, change::Kind};
use world::{World, batch, bytes, delete, delete_prefix, put, put_ttl, touch, txn_put};

fn prefix(text: &str) -> ListQuery {
    ListQuery { range: KeyRange::prefix(bytes(text)), ..ListQuery::default() }
}

fn texts<'a>(all: impl IntoIterator<Item = &'a Bytes>) -> String {
    all.into_iter().map(|text| String::from_utf8_lossy(text)).collect::<Vec<_>>().join(" ")
}

fn keys(page: &read::Page) -> String {
    texts(page.items.iter().map(|item| &item.key))
}

fn tree() -> World {
    let mut world = World::new();
    for key in ["a", "d/1", "d/2/x", "d/2/y", "d/3", "d/4/z", "e"] {
        world.apply(&put(key, "v"));
    }
    world
}

#[test]
fn a_page_ends_at_its_limit_and_the_next_goes_on() {
    let world = tree();
    let query = ListQuery { limit: 3, ..ListQuery::default() };
    let pages = world.list_all(&query);
    assert_eq!(pages.iter().map(keys).collect::<Vec<_>>(), ["a d/1 d/2/x", "d/2/y d/3 d/4/z", "e"]);
    let exactly = ListQuery { limit: 7, ..ListQuery::default() };
    assert_eq!(world.list(&exactly).next, None, "no cursor when nothing is left");
}

#[test]
fn a_page_ends_before_it_grows_too_large_but_has_one_item() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.apply(&put(key, &"x".repeat(100)));
    }
    let query = |bytes_max| ListQuery { bytes_max, ..ListQuery::default() };
    let counts = |bytes_max| {
        world.list_all(&query(bytes_max)).iter().map(|page| page.count).collect::<Vec<_>>()
    };
    assert_eq!(counts(1), [1, 1, 1]);
    assert_eq!(counts(2 * 165), [2, 1], "an item counts 64 bytes beside key and value");
    assert_eq!(counts(2 * 165 - 1), [1, 1, 1]);
}

#[test]
fn groups_are_counted_and_passed() {
    let world = tree();
    let query = ListQuery { separator: Some(bytes("/")), ..prefix("d/") };
    let page = world.list(&query);
    assert_eq!(
        (keys(&page), texts(&page.prefixes), page.count),
        ("d/1 d/3".into(), "d/2/ d/4/".into(), 4)
    );
    let pages = world.list_all(&ListQuery { limit: 2, ..query.clone() });
    let shown: Vec<_> = pages.iter().map(|page| (keys(page), texts(&page.prefixes))).collect();
    assert_eq!(
        shown,
        [("d/1".into(), "d/2/".into()), ("d/3".into(), "d/4/".into())] as [(String, String); 2]
    );
    let pages = world.list_all(&ListQuery { limit: 1, reverse: true, ..query });
    let shown: Vec<_> = pages.iter().map(|page| keys(page) + &texts(&page.prefixes)).collect();
    assert_eq!(shown, ["d/4/", "d/3", "d/2/", "d/1"]);
}

#[test]
fn without_a_prefix_groups_begin_at_the_key() {
    let world = tree();
    let range = KeyRange { start: bytes("d/2"), end: Some(bytes("z")) };
    let query = ListQuery { range, separator: Some(bytes("/")), ..ListQuery::default() };
    let page = world.list(&query);
    assert_eq!((keys(&page), texts(&page.prefixes)), ("e".into(), "d/".into()));
}

#[test]
fn all_pages_show_the_moment_of_the_first() {
    let mut world = tree();
    let query = ListQuery { limit: 3, ..ListQuery::default() };
    let first = world.list(&query);
    world.apply(&delete("d/3"));
    world.apply(&put("d/2/zz", "new"));
    world.apply(&put("e", "new"));
    let rest = ListQuery { limit: 0, at: Some(first.revision), after: first.next.clone(), ..query };
    let page = world.list(&rest);
    assert_eq!((keys(&page), page.revision), ("d/2/y d/3 d/4/z e".into(), first.revision));
    assert!(page.items.iter().all(|item| item.value == "v"));
}

#[test]
fn the_ttl_on_all_pages_is_that_of_the_first() {
    let mut world = World::new();
    for key in ["a", "b"] {
        world.apply(&put_ttl(key, "v", 1_000));
    }
    world.now_ms += 300;
    world.apply(&Op::Tick);
    let query = ListQuery { limit: 1, ..ListQuery::default() };
    let first = world.list(&query);
    world.now_ms += 300;
    world.apply(&put("c", "v"));
    let second = world.list(&ListQuery {
        at: Some(first.revision),
        after: first.next.clone(),
        ..query.clone()
    });
    assert_eq!([&first, &second].map(|page| page.items[0].ttl_ms), [Some(700), Some(700)]);
    let historic = world.list_all(&ListQuery { at: Some(first.revision), ..query });
    assert!(historic.iter().all(|page| page.items[0].ttl_ms == Some(1_000)), "as at the event");
}

#[test]
fn a_cursor_of_somebody_else_is_refused() {
    let world = tree();
    for after in [&b""[..], b"\x01", b"\x01\x00", b"\x03\x00a", b"\x01\x07a", b"\xFF\xFF\xFF"] {
        let query = ListQuery { after: Some(bytes(after)), ..ListQuery::default() };
        let result = read::list(&world.rows, &world.meta, &query);
        assert!(matches!(result, Err(ReadError::BadCursor)), "{after:?}: {result:?}");
    }
}

#[test]
fn a_cursor_never_leaves_the_bounds() {
    let world = tree();
    for reverse in [false, true] {
        for position in ["A", "d/", "d/2/x", "z"] {
            let after = [b"\x01\x00", position.as_bytes()].concat();
            let page =
                world.list(&ListQuery { after: Some(bytes(after)), reverse, ..prefix("d/2/") });
            assert!(page.items.iter().all(|item| item.key.starts_with(b"d/2/")));
        }
    }
}

#[test]
fn counting_covers_the_whole_range() {
    let mut world = tree();
    let count = |world: &World, at| {
        world.list(&ListQuery { count_only: true, limit: 1, at, ..prefix("d/") }).count
    };
    assert_eq!(count(&world, None), 5);
    let before = world.meta.revision;
    world.apply(&delete_prefix("d/2/"));
    assert_eq!((count(&world, None), count(&world, Some(before))), (3, 5));
}

#[test]
fn keys_can_be_listed_without_values() {
    let world = tree();
    let page = world.list(&ListQuery { keys_only: true, ..prefix("d/") });
    assert!(page.items.iter().all(|item| item.value.is_empty() && item.version == 1));
}

#[test]
fn prefixes_of_the_largest_bytes_have_an_end() {
    let mut world = World::new();
    let key = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    for last in [&b"\xFE"[..], b"\xFF", b"\xFF\xFF", b"\xFF\xFF\x00"] {
        let put = raftmap_state_machine::command::Put {
            key: key(last),
            value: Bytes::new(),
            deadline: Deadline::None,
            condition: raftmap_state_machine::command::Condition::none(),
            prev: false,
        };
        world.apply(&Op::Put(put));
    }
    let count = |prefix: &[u8]| {
        let range = KeyRange::prefix(key(prefix));
        world.list(&ListQuery { range, ..ListQuery::default() }).count
    };
    assert_eq!((count(b"\xFF"), count(b"\xFF\xFF"), count(b"\xFE")), (3, 2, 1));
}

#[test]
fn revisions_out_of_reach_are_told_apart() {
    let mut world = tree();
    world.apply(&Op::Clear);
    let now = world.meta.revision;
    assert!(
        matches!(world.get_at("a", now + 1), Err(ReadError::Future { revision }) if revision == now)
    );
    assert!(matches!(
        world.get_at("a", now - 1),
        Err(ReadError::Compacted { oldest_revision }) if oldest_revision == now
    ));
    assert!(matches!(world.get_at("a", now), Ok(None)));
    let query = ListQuery { at: Some(now - 1), count_only: true, ..ListQuery::default() };
    assert!(matches!(
        read::list(&world.rows, &world.meta, &query),
        Err(ReadError::Compacted { .. })
    ));
}

/// Counts the rows that are read.
struct Counting<'a> {
    rows: &'a BTreeMap<Bytes, Bytes>,
    read: Cell<usize>,
}

impl Rows for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read.set(self.read.get() + 1);
        Rows::get(self.rows, key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        let rows = self.rows.scan(from, to, reverse);
        Box::new(rows.inspect(|_| self.read.set(self.read.get() + 1)))
    }
}

/// 3 groups of 1,000 keys, one key with 1,000 versions among 3, at a revision in the middle.
fn deep() -> (World, u64) {
    let mut world = World::new();
    for group in ["a", "b", "c"] {
        let keys: Vec<_> = (0..1_000).map(|n| txn_put(&format!("{group}/{n:04}"), "v")).collect();
        world.apply(&batch(keys));
    }
    world.apply(&put("x", "first"));
    // In one group each: every group is checked row by row.
    let versions = |world: &mut World, numbers: std::ops::Range<u32>| {
        let puts = numbers.map(|n| Command::encode(&put("y", &n.to_string()), world.now_ms));
        world.apply_all(&puts.collect::<Vec<_>>());
    };
    versions(&mut world, 0..500);
    let middle = world.meta.revision;
    versions(&mut world, 500..1_000);
    world.apply(&delete("x"));
    world.apply(&put("z", "last"));
    (world, middle)
}

#[test]
fn groups_and_long_histories_are_passed_without_reading_them() {
    let (world, middle) = deep();
    for reverse in [false, true] {
        for (at, expected) in [(None, "y z"), (Some(middle), "x y")] {
            let rows = Counting { rows: &world.rows, read: Cell::new(0) };
            let query =
                ListQuery { separator: Some(bytes("/")), reverse, at, ..ListQuery::default() };
            let page = read::list(&rows, &world.meta, &query).unwrap();
            let mut shown = page.items;
            shown.sort_by(|one, other| one.key.cmp(&other.key));
            assert_eq!(texts(shown.iter().map(|item| &item.key)), expected);
            assert_eq!(page.count, 5, "and three groups");
            if at.is_some() {
                assert_eq!(shown[1].value, "499");
            }
            assert!(rows.read.get() < 200, "{} rows read", rows.read.get());
        }
    }
}

#[test]
fn a_key_is_read_at_a_revision_without_walking_its_history() {
    let (world, middle) = deep();
    for revision in [middle - 400, middle, middle + 400] {
        let rows = Counting { rows: &world.rows, read: Cell::new(0) };
        let item = read::get_at(&rows, &world.meta, b"y", revision).unwrap().unwrap();
        assert_eq!(item.mod_revision, revision);
        assert!(rows.read.get() <= 2, "{} rows read", rows.read.get());
    }
}

#[test]
fn the_first_deadline_is_found() {
    let mut world = World::new();
    let first = |world: &World| read::first_deadline(&world.rows, &world.meta).unwrap();
    assert_eq!(first(&world), None);
    world.apply(&put_ttl("a", "1", 500));
    world.apply(&put_ttl("b", "1", 100));
    assert_eq!(first(&world), Some(1_100));
    world.apply(&touch("b", Deadline::Ttl(900)));
    assert_eq!(first(&world), Some(1_500));
    world.apply(&Op::Clear);
    assert_eq!(first(&world), None);
}

// Events.

fn events(world: &World, since: u64, limit: u32) -> Vec<changes::Event> {
    changes::changes(&world.rows, &world.meta, since, limit).unwrap()
}

#[test]
fn a_revision_is_never_split() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    world.apply(&batch(vec![txn_put("a", "2"), txn_put("b", "1"), txn_put("a", "3")]));
    world.apply(&delete("a"));
    let revisions = |since, limit| {
        events(&world, since, limit).iter().map(|event| event.stamp.revision).collect::<Vec<_>>()
    };
    assert_eq!(revisions(0, 1), [2]);
    assert_eq!(revisions(2, 1), [3, 3, 3]);
    assert_eq!(revisions(0, 2), [2, 3, 3, 3]);
    assert_eq!(revisions(3, 100), [4]);
    assert_eq!(revisions(4, 100), [] as [u64; 0]);
}

#[test]
fn an_event_shows_the_records_of_its_moment() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 1_000));
    world.now_ms += 400;
    world.apply(&touch("a", Deadline::Ttl(5_000)));
    world.now_ms += 100;
    world.apply(&put("a", "2"));
    world.apply(&put("a", "3"));
    let events = events(&world, 0, 10);
    let record = |n: usize| changes::record(&world.rows, &world.meta, &events[n]).unwrap().unwrap();
    let prev = |n: usize| changes::prev(&world.rows, &world.meta, &events[n]).unwrap();
    assert_eq!((record(0).value, record(0).ttl_ms, prev(0)), (bytes("1"), Some(1_000), None));
    assert_eq!((record(1).value, record(1).ttl_ms, record(1).version), (bytes("2"), None, 2));
    let before = prev(1).unwrap();
    assert_eq!(
        (before.value, before.ttl_ms),
        (bytes("1"), Some(4_900)),
        "what was left of the touched TTL"
    );
    assert_eq!(record(2).value, "3", "the live record");
    assert_eq!(prev(2).map(|item| item.value), Some(bytes("2")));
}

#[test]
fn a_removed_key_is_told_with_what_it_was() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 10));
    world.now_ms += 10;
    world.apply(&Op::ExpireDue { max: 1 });
    world.apply(&put("a", "2"));
    world.apply(&delete("a"));
    let removed: Vec<_> = events(&world, 0, 10)
        .into_iter()
        .filter(|event| event.change.kind != Kind::Put)
        .map(|event| {
            assert_eq!(changes::record(&world.rows, &world.meta, &event).unwrap(), None);
            let prev = changes::prev(&world.rows, &world.meta, &event).unwrap().unwrap();
            (event.stamp.revision, event.change.kind, prev.value)
        })
        .collect();
    assert_eq!(removed, [(3, Kind::Expire, bytes("1")), (5, Kind::Delete, bytes("2"))]);
}

#[test]
fn who_resumes_right_before_a_clear_gets_it_and_earlier_ones_do_not() {
    let mut world = tree();
    let old = events(&world, 0, 1).remove(0);
    let before = world.meta.revision;
    world.apply(&Op::Clear);
    world.apply(&put("a", "new"));
    let kinds = |since| {
        events(&world, since, 10)
            .iter()
            .map(|event| (event.change.kind, event.change.count))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(before), [(Kind::Clear, 7), (Kind::Put, 0)]);
    assert_eq!(kinds(0), kinds(before), "the oldest kept");
    let earlier = changes::changes(&world.rows, &world.meta, before - 1, 10);
    assert!(
        matches!(earlier, Err(ReadError::Compacted { oldest_revision }) if oldest_revision == before + 1)
    );
    let later = changes::changes(&world.rows, &world.meta, before + 3, 10);
    assert!(matches!(later, Err(ReadError::Future { .. })));
    let void = changes::record(&world.rows, &world.meta, &old);
    assert!(matches!(void, Err(ReadError::Compacted { .. })), "{void:?}");
}
