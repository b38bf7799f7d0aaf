//! Random commands give what a plain model gives: replies, every key at every revision, lists, events.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod world;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use raftmap_state_machine::changes;
use raftmap_state_machine::command::{Command, Form, KeyRange, Op};
use raftmap_state_machine::read::{self, ListQuery, Page};
use raftmap_state_machine::reply::Item;
use raftmap_state_machine::settings::Settings;
use world::World;
use world::model::{Keys, Model, Seen, item};

fn settings() -> impl Strategy<Value = Settings> {
    let small = Settings {
        range_delete_max: 3,
        keys_max: Some(5),
        quota_bytes: Some(40),
        default_ttl_ms: Some(25),
        ..Settings::default()
    };
    prop_oneof![Just(Settings::default()), Just(small)]
}

/// Runs the same commands through both.
fn run(settings: Settings, history: &[(u64, Op)]) -> (World, Model) {
    let (mut world, mut model) = (World::new(), Model::default());
    let form = Op::Form(Form { cluster_id: 7, settings });
    let ops = std::iter::once(&(0, form)).chain(history).cloned().collect::<Vec<_>>();
    for (passed_ms, op) in &ops {
        world.now_ms += passed_ms;
        let reply = world.apply(op);
        let expected = model.apply(op, world.now_ms);
        assert_eq!((reply.outcome, reply.revision), (expected, model.revision), "{op:?}");
    }
    (world, model)
}

fn items_at(keys: &Keys, range: &KeyRange) -> Vec<Item> {
    let in_range = keys.iter().filter(|(key, _)| range.contains(key));
    in_range.map(|(key, entry)| item(key, entry, entry.event_ttl_ms)).collect()
}

/// What a list shows: items and groups in the order of their keys.
#[derive(Debug, PartialEq)]
enum Line {
    Item(Item),
    Group(Bytes),
}

fn lines(pages: Vec<Page>, reverse: bool) -> Vec<Line> {
    let mut all = Vec::new();
    for page in pages {
        // Items and groups of a page come in two lists; a group sorts with the keys in it.
        let mut lines: Vec<_> = page.items.into_iter().map(Line::Item).collect();
        lines.extend(page.prefixes.into_iter().map(Line::Group));
        lines.sort_by_key(|line| match line {
            Line::Item(item) => item.key.clone(),
            Line::Group(group) => group.clone(),
        });
        if reverse {
            lines.reverse();
        }
        all.extend(lines);
    }
    all
}

fn expected_lines(items: Vec<Item>, query: &ListQuery) -> Vec<Line> {
    let from = query.range.as_prefix().map_or(0, Bytes::len);
    let mut lines = Vec::new();
    for mut item in items {
        let group = query.separator.as_ref().and_then(|separator| {
            let at = item.key[from..].windows(separator.len()).position(|w| w == &separator[..])?;
            Some(item.key.slice(..from + at + separator.len()))
        });
        if query.keys_only {
            item.value = Bytes::new();
        }
        let line = group.map_or(Line::Item(item), Line::Group);
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    if query.reverse {
        lines.reverse();
    }
    lines
}

fn check_lists(world: &World, model: &Model, base: &ListQuery) {
    for (revision, keys) in &model.at {
        let query = ListQuery { at: Some(*revision), ..base.clone() };
        let items = items_at(keys, &query.range);
        let count = u64::try_from(items.len()).unwrap();
        let pages = world.list_all(&query);
        for page in &pages {
            let shown = page.items.len() + page.prefixes.len();
            assert!(query.limit == 0 || shown <= usize::try_from(query.limit).unwrap());
            assert_eq!((page.count, page.revision), (u64::try_from(shown).unwrap(), *revision));
        }
        assert_eq!(lines(pages, query.reverse), expected_lines(items, &query), "{query:?}");
        let counted = world.list(&ListQuery { count_only: true, ..query });
        assert_eq!(counted.count, count);
    }
    let now =
        ListQuery { at: None, separator: None, keys_only: false, reverse: false, ..base.clone() };
    let shown: Vec<_> = world.list_all(&now).into_iter().flat_map(|page| page.items).collect();
    assert_eq!(shown, model.in_range(&now.range), "now");
}

fn events_after(world: &World, since: u64, limit: u32) -> Vec<Seen> {
    let events = changes::changes(&world.rows, &world.meta, since, limit).unwrap();
    events
        .into_iter()
        .map(|event| Seen {
            revision: event.stamp.revision,
            kind: event.change.kind,
            key: event.change.key.clone(),
            record: changes::record(&world.rows, &world.meta, &event).unwrap(),
            prev: changes::prev(&world.rows, &world.meta, &event).unwrap(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn replies_and_every_revision_are_those_of_the_model(
        settings in settings(),
        history in world::ops::history(40),
    ) {
        let (world, model) = run(settings, &history);
        prop_assert_eq!(world.meta.oldest_revision, model.oldest_revision);
        for (revision, keys) in &model.at {
            let everything = items_at(keys, &KeyRange::all());
            for expected in &everything {
                let key = &expected.key;
                let found = read::get_at(&world.rows, &world.meta, key, *revision);
                prop_assert_eq!(found.unwrap(), Some(expected.clone()));
            }
            let page = world.list(&ListQuery { at: Some(*revision), ..ListQuery::default() });
            prop_assert_eq!(page.items, everything);
        }
    }

    #[test]
    fn lists_page_through_what_the_model_holds(
        history in world::ops::history(40),
        range in world::ops::range(),
        limit in 0u32..4,
        bytes_max in prop_oneof![Just(0u64), 1u64..300],
        reverse: bool,
        keys_only: bool,
        separator in prop_oneof![Just(None), Just(Some(Bytes::from_static(b"/")))],
    ) {
        let (world, model) = run(Settings::default(), &history);
        let query = ListQuery { range, limit, bytes_max, reverse, keys_only, separator, ..ListQuery::default() };
        check_lists(&world, &model, &query);
    }

    #[test]
    fn events_are_those_of_the_model_in_whole_revisions(
        history in world::ops::history(40),
        limit in 1u32..5,
    ) {
        let (world, model) = run(Settings::default(), &history);
        prop_assert_eq!(events_after(&world, 0, u32::MAX), model.events.clone());
        let mut since = 0;
        let mut followed = Vec::new();
        loop {
            let events = events_after(&world, since, limit);
            let Some(last) = events.last() else { break };
            since = last.revision;
            followed.extend(events);
        }
        prop_assert_eq!(followed, model.events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn long_histories_and_large_groups_list_as_short_ones_do(
        history in prop_oneof![world::ops::long_histories(), world::ops::large_groups()],
        limit in 0u32..4,
        reverse: bool,
        separator in prop_oneof![Just(None), Just(Some(Bytes::from_static(b"/")))],
    ) {
        let (world, model) = run(Settings::default(), &history);
        let query = ListQuery { limit, reverse, separator, ..ListQuery::default() };
        check_lists(&world, &model, &query);
        for (revision, keys) in &model.at {
            for (key, entry) in keys {
                let found = read::get_at(&world.rows, &world.meta, key, *revision).unwrap();
                prop_assert_eq!(found, Some(item(key, entry, None)));
            }
        }
    }
}

#[test]
fn a_forwarded_reply_is_the_reply() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..100 {
        let history = world::ops::history(30).new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for (passed_ms, op) in history {
            world.now_ms += passed_ms;
            let command = Command::encode(&op, world.now_ms);
            assert_eq!(command.decode(), Ok((world.now_ms, op)));
            let reply = world.apply_all(&[command]).remove(0);
            assert_eq!(raftmap_state_machine::Reply::decode(&reply.encode()), Ok(reply));
        }
    }
}
