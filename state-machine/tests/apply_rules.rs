//! What each command does, rule by rule.

mod world;

use raftmap_state_machine::command::{
    Command, Compare, CompareOp, Condition, Deadline, DeleteRange, Form, KeyRange, Op, RangeOp,
    TagMatch, Target, Txn, TxnOp,
};
use raftmap_state_machine::reply::{Outcome, Refusal, Reply, TxnResult};
use raftmap_state_machine::schema::table;
use raftmap_state_machine::settings::Settings;
use world::{
    World, batch, bytes, delete, delete_prefix, delete_with, put, put_ttl, put_with, touch,
    txn_delete, txn_put,
};

fn refused(reply: &Reply) -> &Refusal {
    reply.refusal().unwrap_or_else(|| panic!("not refused: {reply:?}"))
}

fn invalid(reply: &Reply) -> &str {
    match refused(reply) {
        Refusal::Invalid { field, .. } => field,
        other => panic!("refused otherwise: {other:?}"),
    }
}

fn with(settings: Settings) -> World {
    let mut world = World::new();
    let reply = world.apply(&Op::Form(Form { cluster_id: 1, settings }));
    assert_eq!(reply, Reply { revision: 1, outcome: Outcome::Formed });
    world
}

/// Asserts that the command is refused and leaves no row behind.
fn assert_refused(world: &mut World, op: &Op, refusal: &Refusal) {
    let before = world.clone();
    let reply = world.apply(op);
    assert_eq!((refused(&reply), reply.revision), (refusal, before.meta.revision), "{op:?}");
    let mut rows = world.rows.clone();
    rows.remove(&b"\x00"[..]);
    let mut rows_before = before.rows;
    rows_before.remove(&b"\x00"[..]);
    assert_eq!(rows, rows_before, "a refused command leaves no trace");
    assert_eq!(world.meta.digest, before.meta.digest);
}

// Revisions and versions.

#[test]
fn an_empty_store_is_at_revision_1_and_the_first_change_makes_2() {
    let mut world = World::new();
    assert_eq!((world.meta.revision, world.meta.oldest_revision), (1, 1));
    assert_eq!(world.apply(&put("a", "1")).revision, 2);
}

#[test]
fn a_put_counts_the_version_and_keeps_the_creation() {
    let mut world = World::new();
    let created = world.apply(&put("a", "1"));
    assert_eq!(created.outcome, Outcome::Put { created: true, prev: None });
    let first = world.get("a");
    let overwritten = world.apply(&put("a", "2"));
    assert_eq!(overwritten.outcome, Outcome::Put { created: false, prev: first });
    let item = world.get("a").unwrap();
    assert_eq!((item.create_revision, item.mod_revision, item.version), (2, 3, 2));
}

#[test]
fn the_same_value_again_is_a_change() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    assert_eq!(world.apply(&put("a", "1")).revision, 3);
}

#[test]
fn a_key_that_was_deleted_begins_anew() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    world.apply(&put("a", "2"));
    world.apply(&delete("a"));
    world.apply(&put("a", "3"));
    let item = world.get("a").unwrap();
    assert_eq!((item.create_revision, item.mod_revision, item.version), (5, 5, 1));
}

#[test]
fn deleting_nothing_takes_no_revision() {
    let mut world = World::new();
    let nothing = Outcome::Deleted { deleted: 0, prev: Vec::new() };
    assert_eq!(world.apply(&delete("a")), Reply { revision: 1, outcome: nothing.clone() });
    assert_eq!(world.apply(&delete_prefix("a")), Reply { revision: 1, outcome: nothing });
    assert_eq!(world.apply(&Op::Clear).outcome, Outcome::Cleared { deleted: 0 });
    assert_eq!(world.apply(&Op::Tick).outcome, Outcome::Nothing);
    assert_eq!(world.meta.revision, 1);
}

#[test]
fn an_empty_value_is_a_value() {
    let mut world = World::new();
    world.apply(&put("a", ""));
    assert_eq!(world.value("a").as_deref(), Some(""));
}

// Conditions.

#[test]
fn if_match_lets_the_right_revision_through_alone() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    let matching = |tags| Condition { if_match: Some(tags), if_none_match: None };
    let stale = put_with("a", "2", Deadline::Default, matching(TagMatch::Revisions(vec![1, 9])));
    let failed = Refusal::PreconditionFailed { mod_revision: 2 };
    assert_refused(&mut world, &stale, &failed);
    let weak = delete_with("a", matching(TagMatch::Revisions(Vec::new())));
    assert_refused(&mut world, &weak, &failed);
    let right = put_with("a", "2", Deadline::Default, matching(TagMatch::Revisions(vec![9, 2])));
    assert_eq!(world.apply(&right).revision, 3);
    assert_eq!(world.apply(&delete_with("a", matching(TagMatch::Any))).revision, 4);
    let absent = Refusal::PreconditionFailed { mod_revision: 0 };
    assert_refused(&mut world, &delete_with("a", matching(TagMatch::Any)), &absent);
    let none = put_with("a", "3", Deadline::Default, matching(TagMatch::Any));
    assert_refused(&mut world, &none, &absent);
}

#[test]
fn if_none_match_creates_once() {
    let mut world = World::new();
    let absent = Condition { if_match: None, if_none_match: Some(TagMatch::Any) };
    let create = put_with("a", "1", Deadline::Default, absent);
    assert_eq!(world.apply(&create).revision, 2);
    assert_refused(&mut world, &create, &Refusal::PreconditionFailed { mod_revision: 2 });
    let other = Condition { if_match: None, if_none_match: Some(TagMatch::Revisions(vec![7])) };
    assert_eq!(world.apply(&put_with("a", "2", Deadline::Default, other)).revision, 3);
}

// Deadlines.

#[test]
fn a_key_lives_until_an_expiry_is_applied() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 100));
    assert_eq!(world.get("a").unwrap().ttl_ms, Some(100));
    world.now_ms += 5_000;
    world.apply(&Op::Tick);
    assert_eq!(world.get("a").unwrap().ttl_ms, Some(0), "due, not gone");
    let reply = world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(reply, Reply { revision: 3, outcome: Outcome::Expired { deleted: 1, more: false } });
    assert_eq!(world.get("a"), None);
}

#[test]
fn nothing_expires_early() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 100));
    world.now_ms += 99;
    let reply = world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(reply, Reply { revision: 2, outcome: Outcome::Expired { deleted: 0, more: false } });
    world.now_ms += 1;
    assert_eq!(world.apply(&Op::ExpireDue { max: 10 }).revision, 3);
}

#[test]
fn a_leader_with_a_clock_behind_does_not_turn_time_back() {
    let mut world = World::new();
    world.now_ms = 10_000;
    world.apply(&Op::Tick);
    world.now_ms = 2_000;
    world.apply(&put_ttl("a", "1", 100));
    assert_eq!(world.meta.clock_ms, 10_000);
    assert_eq!(world.get("a").unwrap().ttl_ms, Some(100), "counted from cluster time");
}

#[test]
fn overwriting_replaces_the_deadline() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 100));
    world.apply(&put("a", "2"));
    world.apply(&put_ttl("b", "1", 100));
    world.apply(&put_ttl("b", "2", 1_000));
    world.now_ms += 500;
    let reply = world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(reply.outcome, Outcome::Expired { deleted: 0, more: false });
    assert_eq!(world.get("a").unwrap().ttl_ms, None);
    assert_eq!(world.get("b").unwrap().ttl_ms, Some(500));
}

#[test]
fn deleting_removes_the_deadline() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 100));
    world.apply(&delete("a"));
    world.apply(&put("a", "2"));
    world.now_ms += 500;
    world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(world.value("a").as_deref(), Some("2"), "the old deadline does not end the new key");
}

#[test]
fn many_due_keys_go_in_bounded_steps_each_with_one_revision() {
    let mut world = World::new();
    for n in 0..25 {
        world.apply(&put_ttl(&format!("k{n:02}"), "v", 100));
    }
    world.now_ms += 100;
    let mut steps = Vec::new();
    loop {
        let reply = world.apply(&Op::ExpireDue { max: 10 });
        let Outcome::Expired { deleted, more } = reply.outcome else { panic!("{reply:?}") };
        steps.push((deleted, reply.revision));
        if !more {
            break;
        }
    }
    assert_eq!(steps, [(10, 27), (10, 28), (5, 29)]);
}

#[test]
fn the_settings_bound_an_expiry_too() {
    let mut world = with(Settings { range_delete_max: 2, ..Settings::default() });
    for key in ["a", "b", "c"] {
        world.apply(&put_ttl(key, "v", 100));
    }
    world.now_ms += 100;
    let reply = world.apply(&Op::ExpireDue { max: u32::MAX });
    assert_eq!(reply.outcome, Outcome::Expired { deleted: 2, more: true });
}

#[test]
fn a_key_set_after_the_low_mark_moved_still_expires() {
    let mut world = World::new();
    world.apply(&put_ttl("far", "v", 3_600_000));
    world.apply(&Op::Tick);
    world.apply(&put_ttl("near", "v", 1));
    world.now_ms += 1;
    let reply = world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(reply.outcome, Outcome::Expired { deleted: 1, more: false });
    assert!(world.get("near").is_none() && world.get("far").is_some());
}

#[test]
fn a_default_ttl_holds_for_keys_without_one() {
    let mut world = with(Settings { default_ttl_ms: Some(700), ..Settings::default() });
    world.apply(&put("a", "1"));
    world.apply(&put_ttl("b", "1", 50));
    world.apply(&put_with("c", "1", Deadline::None, Condition::none()));
    let ttls = ["a", "b", "c"].map(|key| world.get(key).unwrap().ttl_ms);
    assert_eq!(ttls, [Some(700), Some(50), None]);
}

#[test]
fn a_touch_takes_no_revision_and_makes_no_event() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 100));
    let digest = world.meta.digest;
    let events = world.table(table::CHANGES);
    world.now_ms += 50;
    let reply = world.apply(&touch("a", Deadline::Ttl(500)));
    let Outcome::Touched { item } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(
        (reply.revision, item.ttl_ms, item.version, item.mod_revision),
        (2, Some(500), 1, 2)
    );
    assert_eq!(world.get("a").as_ref(), Some(item));
    assert_eq!(world.table(table::CHANGES), events);
    assert_ne!(world.meta.digest, digest, "the digest sees it");
    world.now_ms += 100;
    world.apply(&Op::ExpireDue { max: 10 });
    assert!(world.get("a").is_some(), "the old deadline is gone");
    world.apply(&touch("a", Deadline::None));
    assert_eq!((world.get("a").unwrap().ttl_ms, world.meta.deadlines), (None, 0));
}

#[test]
fn touching_an_absent_key_is_refused() {
    let mut world = World::new();
    assert_refused(&mut world, &touch("a", Deadline::Ttl(1)), &Refusal::NotFound);
}

#[test]
fn a_lease_that_nobody_made_is_not_found() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    let leased = put_with("a", "2", Deadline::Lease(9), Condition::none());
    assert_refused(&mut world, &leased, &Refusal::LeaseNotFound);
    assert_refused(&mut world, &touch("a", Deadline::Lease(9)), &Refusal::LeaseNotFound);
    let put_leased = TxnOp::Put {
        key: bytes("b"),
        value: bytes("2"),
        deadline: Deadline::Lease(9),
        prev: false,
    };
    assert_refused(
        &mut world,
        &batch(vec![txn_put("c", "1"), put_leased]),
        &Refusal::LeaseNotFound,
    );
}

#[test]
fn the_longest_ttl_does_not_overflow() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", u64::MAX));
    assert_eq!(world.get("a").unwrap().ttl_ms, Some(u64::MAX - 1_000));
    world.now_ms = u64::MAX;
    world.apply(&Op::Tick);
    let reply = world.apply(&Op::ExpireDue { max: 1 });
    assert_eq!(reply.outcome, Outcome::Expired { deleted: 1, more: false });
}

// Ranges and clear.

#[test]
fn a_range_goes_in_one_revision() {
    let mut world = World::new();
    for key in ["a", "b/1", "b/2", "c"] {
        world.apply(&put(key, "v"));
    }
    let reply = world.apply(&delete_prefix("b/"));
    let Outcome::Deleted { deleted, prev } = &reply.outcome else { panic!("{reply:?}") };
    let keys: Vec<_> = prev.iter().map(|item| &item.key[..]).collect();
    assert_eq!((reply.revision, *deleted, keys), (6, 2, vec![&b"b/1"[..], b"b/2"]));
    assert_eq!(world.meta.keys, 2);
}

#[test]
fn a_range_too_large_is_refused_whole() {
    let mut world = with(Settings { range_delete_max: 2, ..Settings::default() });
    for key in ["a", "b", "c"] {
        world.apply(&put(key, "v"));
    }
    assert_refused(&mut world, &delete_prefix(""), &Refusal::RangeTooLarge { limit: 2 });
    let two = Op::DeleteRange(DeleteRange {
        range: KeyRange { start: bytes("b"), end: None },
        prev: false,
    });
    assert_eq!(world.apply(&two).outcome, Outcome::Deleted { deleted: 2, prev: Vec::new() });
}

#[test]
fn the_records_of_a_deleted_range_must_fit_the_reply() {
    let mut world = with(Settings { reply_bytes_max: 1024, ..Settings::default() });
    world.apply(&put("a", &"x".repeat(600)));
    world.apply(&put("b", &"x".repeat(600)));
    assert_refused(&mut world, &delete_prefix(""), &Refusal::RangeTooLarge { limit: 1024 });
    let silent = Op::DeleteRange(DeleteRange { range: KeyRange::all(), prev: false });
    assert_eq!(world.apply(&silent).outcome, Outcome::Deleted { deleted: 2, prev: Vec::new() });
}

#[test]
fn an_inverted_range_is_empty() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    let range = KeyRange { start: bytes("b"), end: Some(bytes("a")) };
    let reply = world.apply(&Op::DeleteRange(DeleteRange { range, prev: false }));
    assert_eq!(reply.outcome, Outcome::Deleted { deleted: 0, prev: Vec::new() });
}

#[test]
fn a_clear_takes_one_revision_and_compacts_what_was_before() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.apply(&put_ttl(key, "v", 100));
    }
    let reply = world.apply(&Op::Clear);
    assert_eq!(reply, Reply { revision: 5, outcome: Outcome::Cleared { deleted: 3 } });
    assert_eq!((world.meta.keys, world.meta.bytes, world.meta.deadlines), (0, 0, 0));
    assert_eq!(world.meta.oldest_revision, 5);
    assert_eq!(world.get("a"), None);
    world.now_ms += 1_000;
    let expired = world.apply(&Op::ExpireDue { max: 10 });
    assert_eq!(
        expired.outcome,
        Outcome::Expired { deleted: 0, more: false },
        "old deadlines are void"
    );
    world.apply(&put("a", "new"));
    let item = world.get("a").unwrap();
    assert_eq!((item.create_revision, item.version), (6, 1));
}

#[test]
fn commands_after_a_clear_in_the_same_group_see_an_empty_store() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    let commands = [put("b", "1"), Op::Clear, put("a", "2"), delete("b")]
        .map(|op| Command::encode(&op, world.now_ms));
    let replies = world.apply_all(&commands);
    assert_eq!(replies[2].outcome, Outcome::Put { created: true, prev: None });
    assert_eq!(replies[3].outcome, Outcome::Deleted { deleted: 0, prev: Vec::new() });
    assert_eq!(world.meta.keys, 1);
}

// Transactions.

fn compare(key: &str, target: Target, op: CompareOp) -> Compare {
    Compare { key: bytes(key), target, op }
}

fn succeeds(world: &mut World, compare: Compare) -> bool {
    let reply = world.apply(&Op::Txn(Txn { compare: vec![compare], ..Txn::default() }));
    let Outcome::Txn { succeeded, results } = reply.outcome else { panic!("{reply:?}") };
    assert!(results.is_empty());
    succeeded
}

#[test]
fn every_property_can_be_compared() {
    let mut world = World::new();
    world.apply(&put("x", "0"));
    world.apply(&put("a", "m"));
    world.apply(&put("a", "n"));
    let holding = [
        (Target::Value(bytes("n")), CompareOp::Eq),
        (Target::Value(bytes("m")), CompareOp::Gt),
        (Target::Value(bytes("na")), CompareOp::Lt),
        (Target::Value(bytes("m")), CompareOp::Ne),
        (Target::Version(2), CompareOp::Eq),
        (Target::Version(1), CompareOp::Gt),
        (Target::CreateRevision(3), CompareOp::Eq),
        (Target::ModRevision(4), CompareOp::Eq),
        (Target::ModRevision(5), CompareOp::Lt),
        (Target::Lease(0), CompareOp::Eq),
        (Target::Exists(true), CompareOp::Eq),
        (Target::Exists(false), CompareOp::Ne),
    ];
    for (target, op) in holding {
        assert!(succeeds(&mut world, compare("a", target.clone(), op)), "{target:?} {op:?}");
        let opposite = match op {
            CompareOp::Eq => CompareOp::Ne,
            CompareOp::Ne | CompareOp::Lt | CompareOp::Gt => CompareOp::Eq,
        };
        assert!(!succeeds(&mut world, compare("a", target.clone(), opposite)), "{target:?}");
    }
}

#[test]
fn on_an_absent_key_numbers_are_0_and_values_never_compare() {
    let mut world = World::new();
    for target in
        [Target::Version(0), Target::CreateRevision(0), Target::ModRevision(0), Target::Lease(0)]
    {
        assert!(succeeds(&mut world, compare("a", target, CompareOp::Eq)));
    }
    for op in [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Gt] {
        assert!(!succeeds(&mut world, compare("a", Target::Value(bytes("")), op)));
    }
    assert!(succeeds(&mut world, compare("a", Target::Exists(false), CompareOp::Eq)));
}

#[test]
fn a_false_comparison_runs_the_other_list() {
    let mut world = World::new();
    let txn = Op::Txn(Txn {
        compare: vec![compare("a", Target::Exists(true), CompareOp::Eq)],
        success: vec![txn_put("a", "yes")],
        failure: vec![txn_put("a", "no"), TxnOp::Get { key: bytes("a") }],
    });
    let reply = world.apply(&txn);
    let got = TxnResult::Got(world.get("a"));
    let results = vec![TxnResult::Put { created: true, prev: None }, got];
    assert_eq!(reply.outcome, Outcome::Txn { succeeded: false, results });
    assert_eq!(world.value("a").as_deref(), Some("no"));
}

#[test]
fn operations_see_the_ones_before_them_in_ranges_too() {
    let mut world = World::new();
    for key in ["d/1", "d/2", "d/4"] {
        world.apply(&put(key, "old"));
    }
    let range = |reverse, limit| {
        let range = KeyRange::prefix(bytes("d/"));
        TxnOp::Range(RangeOp { range, limit, reverse, keys_only: true, count_only: false })
    };
    let count = TxnOp::Range(RangeOp {
        range: KeyRange::prefix(bytes("d/")),
        limit: 1,
        reverse: false,
        keys_only: false,
        count_only: true,
    });
    let reply = world.apply(&batch(vec![
        txn_put("d/3", "new"),
        txn_delete("d/2"),
        txn_put("d/5", "new"),
        range(false, 0),
        range(true, 2),
        count,
    ]));
    let Outcome::Txn { results, .. } = &reply.outcome else { panic!("{reply:?}") };
    let keys = |result: &TxnResult| match result {
        TxnResult::Range { items, count } => {
            assert!(items.iter().all(|item| item.value.is_empty()), "keys only");
            let keys = items.iter().map(|item| String::from_utf8_lossy(&item.key).into_owned());
            (keys.collect::<Vec<_>>().join(" "), *count)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(keys(&results[3]), ("d/1 d/3 d/4 d/5".to_owned(), 4));
    assert_eq!(keys(&results[4]), ("d/5 d/4".to_owned(), 2));
    assert_eq!(keys(&results[5]), (String::new(), 4), "count_only counts the whole range");
    assert_eq!(reply.revision, 5, "one revision for all");
}

#[test]
fn one_key_twice_makes_two_versions_and_two_events() {
    let mut world = World::new();
    let before = world.table(table::CHANGES).len();
    world.apply(&batch(vec![txn_put("a", "1"), txn_put("a", "2")]));
    let item = world.get("a").unwrap();
    assert_eq!((item.version, item.create_revision, item.mod_revision), (2, 2, 2));
    assert_eq!(world.table(table::CHANGES).len(), before + 2);
}

#[test]
fn a_put_and_a_delete_of_an_absent_key_are_a_change() {
    let mut world = World::new();
    assert_eq!(world.apply(&batch(vec![txn_put("a", "1"), txn_delete("a")])).revision, 2);
    assert_eq!((world.get("a"), world.meta.keys), (None, 0));
    assert_eq!(world.apply(&batch(vec![txn_delete("a")])).revision, 2, "a delete alone is none");
}

#[test]
fn a_transaction_that_fails_in_the_middle_leaves_no_trace() {
    let mut world = with(Settings { range_delete_max: 2, ..Settings::default() });
    for key in ["a", "b", "c"] {
        world.apply(&put_ttl(key, "v", 100));
    }
    let all = TxnOp::Delete { range: KeyRange::all(), prev: false };
    let txn = batch(vec![txn_put("d", "1"), txn_delete("a"), txn_put("b", "2"), all]);
    assert_refused(&mut world, &txn, &Refusal::RangeTooLarge { limit: 2 });
    let replies = world.apply_all(
        &[put("e", "1"), txn, put("f", "1")].map(|op| Command::encode(&op, world.now_ms)),
    );
    assert_eq!(replies.iter().map(|reply| reply.revision).collect::<Vec<_>>(), [5, 5, 6]);
    assert_eq!(world.meta.keys, 5);
}

#[test]
fn the_deletes_of_a_transaction_share_one_bound() {
    let mut world = with(Settings { range_delete_max: 2, ..Settings::default() });
    for key in ["a1", "a2", "b1", "b2"] {
        world.apply(&put(key, "v"));
    }
    let range =
        |prefix: &str| TxnOp::Delete { range: KeyRange::prefix(bytes(prefix)), prev: false };
    let both = batch(vec![range("a"), range("b")]);
    assert_refused(&mut world, &both, &Refusal::RangeTooLarge { limit: 2 });
    let one_more = batch(vec![range("a"), txn_delete("b1")]);
    assert_refused(&mut world, &one_more, &Refusal::RangeTooLarge { limit: 2 });
}

#[test]
fn a_transaction_replies_within_its_bound() {
    let mut world = with(Settings { reply_bytes_max: 1024, ..Settings::default() });
    world.apply(&put("a", &"x".repeat(600)));
    let get = || TxnOp::Get { key: bytes("a") };
    let refusal = Refusal::RangeTooLarge { limit: 1024 };
    assert_refused(&mut world, &batch(vec![get(), get()]), &refusal);
    assert_refused(
        &mut world,
        &batch(vec![
            txn_put("a", "1"),
            txn_put("b", "1"),
            get(),
            txn_put("a", "2"),
            txn_put("a", &"y".repeat(700)),
            txn_put("a", "3"),
        ]),
        &refusal,
    );
    assert!(world.apply(&batch(vec![get()])).refusal().is_none());
}

#[test]
fn both_lists_are_checked_before_one_runs() {
    let mut world = World::new();
    let bad =
        |op| Op::Txn(Txn { failure: vec![op], success: vec![txn_put("a", "1")], ..Txn::default() });
    assert_eq!(invalid(&world.apply(&bad(txn_put("", "1")))), "key");
    let long = "k".repeat(4097);
    let limit = 4096;
    assert_refused(&mut world, &bad(txn_put(&long, "1")), &Refusal::KeyTooLarge { limit });
    assert_refused(
        &mut world,
        &bad(TxnOp::Get { key: bytes(&long) }),
        &Refusal::KeyTooLarge { limit },
    );
    let unordered = Op::Txn(Txn {
        compare: vec![compare("a", Target::Exists(true), CompareOp::Lt)],
        ..Txn::default()
    });
    assert_eq!(invalid(&world.apply(&unordered)), "op");
    assert_eq!(world.get("a"), None);
}

#[test]
fn each_list_of_a_transaction_has_a_bound() {
    let mut world = with(Settings { txn_ops_max: 2, ..Settings::default() });
    let ops = |n| vec![txn_put("a", "1"); n];
    let compares = vec![compare("a", Target::Version(0), CompareOp::Eq); 3];
    let refusal = Refusal::TooManyOps { limit: 2 };
    assert_refused(&mut world, &batch(ops(3)), &refusal);
    assert_refused(&mut world, &Op::Txn(Txn { failure: ops(3), ..Txn::default() }), &refusal);
    assert_refused(&mut world, &Op::Txn(Txn { compare: compares, ..Txn::default() }), &refusal);
    assert_eq!(world.apply(&batch(ops(2))).revision, 2);
}

// Limits and quotas.

#[test]
fn keys_and_values_have_bounds_to_the_byte() {
    let settings = Settings { key_bytes_max: 4, value_bytes_max: 5, ..Settings::default() };
    let mut world = with(settings);
    assert_refused(&mut world, &put("abcde", "1"), &Refusal::KeyTooLarge { limit: 4 });
    assert_refused(&mut world, &put("a", "123456"), &Refusal::ValueTooLarge { limit: 5 });
    assert_refused(&mut world, &delete("abcde"), &Refusal::KeyTooLarge { limit: 4 });
    assert_refused(&mut world, &delete_prefix("abcdef"), &Refusal::KeyTooLarge { limit: 4 });
    assert_eq!(invalid(&world.apply(&put("", "1"))), "key");
    assert_eq!(invalid(&world.apply(&put_ttl("a", "1", 0))), "ttl");
    let no_lease = put_with("a", "1", Deadline::Lease(0), Condition::none());
    assert_eq!(invalid(&world.apply(&no_lease)), "lease");
    assert_eq!(world.apply(&put("abcd", "12345")).revision, 2);
}

#[test]
fn the_longest_key_that_settings_allow_can_be_stored() {
    let settings = Settings { key_bytes_max: 16 * 1024, ..Settings::default() };
    let mut world = with(settings);
    let key = "\0".repeat(16 * 1024);
    world.apply(&put(&key, "1"));
    world.apply(&put_ttl(&key, "2", 10));
    assert_eq!(world.get_at(&key, 2).unwrap().unwrap().value, "1");
    assert!(world.rows.keys().all(|row_key| row_key.len() < 65_535));
}

#[test]
fn a_command_beyond_the_request_bound_is_refused() {
    let settings = Settings {
        key_bytes_max: 100,
        value_bytes_max: 1_000,
        request_bytes_max: 2_124,
        ..Settings::default()
    };
    let mut world = with(settings);
    let txn = batch(vec![txn_put("a", &"x".repeat(1_000)); 3]);
    assert_refused(&mut world, &txn, &Refusal::RequestTooLarge { limit: 2_124 });
}

#[test]
fn a_full_store_takes_overwrites_and_deletes_alone() {
    let mut world = with(Settings { keys_max: Some(2), ..Settings::default() });
    world.apply(&put("a", "1"));
    world.apply(&put("b", "1"));
    let refusal = Refusal::QuotaExceeded { limit: 2 };
    assert_refused(&mut world, &put("c", "1"), &refusal);
    assert_refused(&mut world, &batch(vec![txn_put("c", "1")]), &refusal);
    assert!(world.apply(&put("a", "2")).refusal().is_none());
    let swap = batch(vec![txn_put("c", "1"), txn_delete("a")]);
    assert!(world.apply(&swap).refusal().is_none(), "judged by what the whole leaves");
    world.apply(&delete("b"));
    assert!(world.apply(&put("d", "1")).refusal().is_none(), "clears by itself");
}

#[test]
fn a_quota_in_bytes_counts_keys_and_values() {
    let mut world = with(Settings { quota_bytes: Some(10), ..Settings::default() });
    world.apply(&put("a", "123456789"));
    assert_eq!(world.meta.bytes, 10);
    let refusal = Refusal::QuotaExceeded { limit: 10 };
    assert_refused(&mut world, &put("b", ""), &refusal);
    assert_refused(&mut world, &put("a", "1234567890"), &refusal);
    assert!(world.apply(&put("a", "123456780")).refusal().is_none(), "the same size fits");
    assert!(world.apply(&put("a", "1")).refusal().is_none());
    assert!(world.apply(&put("b", "1234567")).refusal().is_none());
}

#[test]
fn a_store_above_its_quota_takes_what_does_not_grow() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.apply(&put(key, "12345"));
    }
    // The bounds come after the keys.
    let settings = Settings { keys_max: Some(2), quota_bytes: Some(10), ..Settings::default() };
    world.apply(&Op::Form(Form { cluster_id: 1, settings }));
    assert!(world.apply(&put("a", "54321")).refusal().is_none(), "the same size");
    assert!(world.apply(&batch(vec![txn_put("a", "1"), txn_delete("b")])).refusal().is_none());
    assert_refused(&mut world, &put("d", "1"), &Refusal::QuotaExceeded { limit: 2 });
}

// Formation and garbage.

#[test]
fn a_cluster_is_formed_once() {
    let settings = Settings { range_delete_max: 5, ..Settings::default() };
    let mut world = with(settings.clone());
    let form = |cluster_id, settings| Op::Form(Form { cluster_id, settings });
    let again = world.apply(&form(1, Settings::default()));
    assert_eq!(again.outcome, Outcome::Formed, "a retry");
    assert_eq!(world.meta.settings, settings, "and the first settings stay");
    assert_eq!(invalid(&world.apply(&form(2, Settings::default()))), "cluster_id");
    assert_eq!(world.meta.cluster_id, 1);
}

#[test]
fn a_cluster_is_not_formed_with_nonsense() {
    let mut world = World::new();
    let form = |cluster_id, settings| Op::Form(Form { cluster_id, settings });
    assert_eq!(invalid(&world.apply(&form(0, Settings::default()))), "cluster_id");
    let broken = Settings { txn_ops_max: 0, ..Settings::default() };
    assert_eq!(invalid(&world.apply(&form(1, broken))), "txn_ops_max");
    assert_eq!(world.meta.cluster_id, 0);
}

#[test]
fn garbage_is_refused_and_does_not_move_the_clock() {
    let mut world = World::new();
    let mut bytes = Command::encode(&put("a", "1"), u64::MAX).as_bytes().to_vec();
    bytes.push(0);
    let reply = world.apply_all(&[Command::from_bytes(bytes.into())]).remove(0);
    assert_eq!(reply, Reply { revision: 1, outcome: Outcome::Refused(Refusal::Malformed) });
    assert_eq!((world.meta.clock_ms, world.meta.applied.unwrap().index), (0, 1));
}
