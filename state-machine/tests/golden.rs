//! The bytes of everything that lies in a log, in a row or on the wire. If one of these changes, nodes of two versions
//! do not understand each other, and old directories cannot be read: that takes a new format byte, not a new golden line.
//!
//! Fields are kept apart by spaces, as they are in the format's description.

mod world;

use bytes::Bytes;
use raftmap_state_machine::change::{Change, Kind, Stamp};
use raftmap_state_machine::command::{
    Command, Compare, CompareOp, Condition, Deadline, Delete, DeleteRange, Form, Op, Put, RangeOp,
    TagMatch, Target, Touch, Txn, TxnOp,
};
use raftmap_state_machine::digest::Digest;
use raftmap_state_machine::meta::Meta;
use raftmap_state_machine::record::Record;
use raftmap_state_machine::reply::{Item, Outcome, Refusal, Reply, TxnResult};
use raftmap_state_machine::schema;
use raftmap_state_machine::settings::Settings;
use raftmap_state_machine::{KeyRange, LogId};
use world::{World, bytes, delete, put, put_ttl};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_bytes(what: &str, bytes: &[u8], golden: &str) {
    assert_eq!(hex(bytes), golden.replace(' ', ""), "{what}");
}

fn assert_command(op: Op, golden: &str) {
    let command = Command::encode(&op, 1_000);
    assert_bytes(&format!("{op:?}"), command.as_bytes(), &format!("01 e803000000000000 {golden}"));
    assert_eq!(command.decode(), Ok((1_000, op)));
}

fn assert_reply(outcome: Outcome, golden: &str) {
    let reply = Reply { revision: 300, outcome };
    let encoded = reply.encode();
    assert_bytes(&format!("{reply:?}"), &encoded, &format!("01 ac02 {golden}"));
    assert_eq!(Reply::decode(&encoded), Ok(reply));
}

#[test]
fn commands_on_one_key() {
    let condition = Condition {
        if_match: Some(TagMatch::Revisions(vec![7, 300])),
        if_none_match: Some(TagMatch::Any),
    };
    let ttl = Put {
        key: bytes("key"),
        value: bytes("value"),
        deadline: Deadline::Ttl(500),
        condition: Condition::none(),
        prev: true,
    };
    let conditional = Put {
        value: Bytes::new(),
        deadline: Deadline::Lease(9),
        condition: condition.clone(),
        prev: false,
        ..ttl.clone()
    };
    let touch = Touch { key: bytes("key"), deadline: Deadline::None, condition: Condition::none() };
    let delete = Delete { key: bytes("key"), condition, prev: true };
    // op, prev, deadline, if_match, if_none_match, key, value
    assert_command(Op::Put(ttl), "01 01 02f403 00 00 03 6b6579 05 76616c7565");
    assert_command(Op::Put(conditional), "01 00 0309 02 02 07 ac02 01 03 6b6579 00");
    // op, deadline, conditions, key
    assert_command(Op::Touch(touch), "02 01 00 00 03 6b6579");
    // op, prev, conditions, key
    assert_command(Op::Delete(delete), "03 01 02 02 07 ac02 01 03 6b6579");
}

#[test]
fn commands_on_many_keys() {
    // op, prev, start, has end, end
    let prefix = DeleteRange { range: KeyRange::prefix(bytes("a/")), prev: false };
    assert_command(Op::DeleteRange(prefix), "04 00 02 612f 01 02 6130");
    let all = DeleteRange { range: KeyRange::all(), prev: true };
    assert_command(Op::DeleteRange(all), "04 01 00 00");
    assert_command(Op::Clear, "05");
    assert_command(Op::ExpireDue { max: 512 }, "07 8004");
    assert_command(Op::Tick, "09");
}

#[test]
fn the_command_that_forms_a_cluster() {
    let settings = Settings { keys_max: Some(1_000_000), ..Settings::default() };
    // op, cluster id, format, then the settings in the order of their fields
    assert_command(
        Op::Form(Form { cluster_id: 0x0102, settings }),
        "08 02010000000000000000000000000000 01 8020 80808004 8008 80808008 80808002 904e 904e \
         01 c0843d 00 00 c0cf24 8080808004 c0cf24 8092f401 8080808004",
    );
}

#[test]
fn a_transaction() {
    let compare = |target, op| Compare { key: bytes("k"), target, op };
    let range = |prefix: &str| KeyRange::prefix(bytes(prefix));
    let txn = Txn {
        compare: vec![
            compare(Target::Value(bytes("v")), CompareOp::Eq),
            compare(Target::Version(1), CompareOp::Ne),
            compare(Target::CreateRevision(2), CompareOp::Lt),
            compare(Target::ModRevision(3), CompareOp::Gt),
            compare(Target::Lease(4), CompareOp::Eq),
            compare(Target::Exists(true), CompareOp::Ne),
        ],
        success: vec![
            TxnOp::Put {
                key: bytes("k"),
                value: bytes("v"),
                deadline: Deadline::Default,
                prev: true,
            },
            TxnOp::Delete { range: range("d"), prev: false },
        ],
        failure: vec![
            TxnOp::Get { key: bytes("k") },
            TxnOp::Range(RangeOp {
                range: range("r"),
                limit: 10,
                reverse: true,
                keys_only: false,
                count_only: true,
            }),
        ],
    };
    assert_command(
        Op::Txn(txn),
        // comparisons: op, key, target, operand
        "06 06 00 016b 00 0176 01 016b 01 01 02 016b 02 02 03 016b 03 03 00 016b 04 04 01 016b 05 01 \
         02 00 01 00 016b 0176 01 00 0164 01 0165 \
         02 02 016b 03 01 00 01 0a 0172 01 0173",
    );
}

#[test]
fn replies() {
    let item = Item {
        key: bytes("k"),
        value: bytes("v"),
        create_revision: 2,
        mod_revision: 300,
        version: 3,
        lease: 0,
        ttl_ms: Some(500),
    };
    // key, create_revision, mod_revision, version, lease, ttl, value
    let golden = "016b 02 ac02 03 00 01f403 0176";
    assert_reply(Outcome::Nothing, "00");
    assert_reply(Outcome::Put { created: true, prev: None }, "01 01 00");
    assert_reply(
        Outcome::Put { created: false, prev: Some(item.clone()) },
        &format!("01 00 01 {golden}"),
    );
    assert_reply(Outcome::Touched { item: item.clone() }, &format!("02 {golden}"));
    assert_reply(
        Outcome::Deleted { deleted: 1, prev: vec![item.clone()] },
        &format!("03 01 01 {golden}"),
    );
    assert_reply(Outcome::Expired { deleted: 512, more: true }, "05 8004 01");
    assert_reply(Outcome::Cleared { deleted: 7 }, "06 07");
    assert_reply(Outcome::Formed, "07");
    let results = vec![
        TxnResult::Put { created: true, prev: None },
        TxnResult::Deleted { deleted: 2, prev: Vec::new() },
        TxnResult::Got(Some(item.clone())),
        TxnResult::Got(None),
        TxnResult::Range { items: vec![item], count: 9 },
    ];
    assert_reply(
        Outcome::Txn { succeeded: true, results },
        &format!("04 01 05 00 01 00 01 02 00 02 01 {golden} 02 00 03 09 01 {golden}"),
    );
}

#[test]
fn refusals() {
    let limit = 300;
    let refusals = [
        (Refusal::NotFound, "00"),
        (Refusal::PreconditionFailed { mod_revision: 0 }, "01 00"),
        (Refusal::LeaseNotFound, "02"),
        (Refusal::RangeTooLarge { limit }, "03 ac02"),
        (Refusal::KeyTooLarge { limit }, "04 ac02"),
        (Refusal::ValueTooLarge { limit }, "05 ac02"),
        (Refusal::RequestTooLarge { limit }, "06 ac02"),
        (Refusal::TooManyOps { limit }, "07 ac02"),
        (Refusal::QuotaExceeded { limit }, "08 ac02"),
        (
            Refusal::Invalid { field: "key".to_owned(), detail: "no".to_owned() },
            "09 03 6b6579 02 6e6f",
        ),
        (Refusal::Malformed, "0a"),
    ];
    for (refusal, golden) in refusals {
        assert_reply(Outcome::Refused(refusal), &format!("08 {golden}"));
    }
}

#[test]
fn row_keys() {
    assert_bytes("meta", &schema::META_KEY, "00");
    assert_bytes("local", &schema::local_key("node"), "01 6e6f6465");
    assert_bytes("group", &schema::group_key(258), "02 0000000000000102");
    assert_bytes("record", &schema::record_key(5, b"k\0"), "10 05 6b00");
    assert_bytes(
        "history",
        &schema::history_key(5, b"k\0", 258, 3),
        "11 05 6b 00ff 0001 0000000000000102 00000003",
    );
    assert_bytes("deadline", &schema::deadline_key(5, 258, b"k"), "20 05 0000000000000102 6b");
    assert_bytes("a late epoch", &schema::record_key(0x1F4, b"k"), "10 f9 01f4 6b");
    assert_bytes("change", &schema::change_key(258, 3), "30 0000000000000102 00000003");
}

#[test]
fn record_rows() {
    let record = Record {
        create_revision: 2,
        mod_revision: 300,
        mod_sub: 1,
        version: 3,
        lease: 0,
        expires_ms: None,
        event_ttl_ms: None,
        value: bytes("value"),
    };
    // format, flags, create_revision, mod_revision, mod_sub, version, the optional ones, value
    assert_bytes("plain", &record.encode(), "01 00 02 ac02 01 03 76616c7565");
    let ttl = Record { expires_ms: Some(1_500), event_ttl_ms: Some(500), ..record.clone() };
    assert_bytes("with a TTL", &ttl.encode(), "01 06 02 ac02 01 03 dc0b f403 76616c7565");
    let leased = Record { lease: 9, ..record };
    assert_bytes("leased", &leased.encode(), "01 01 02 ac02 01 03 09 76616c7565");
}

#[test]
fn change_rows() {
    let put = Change {
        kind: Kind::Put,
        clock_ms: 1_000,
        key: bytes("k"),
        create_revision: 2,
        version: 3,
        prev: Some(Stamp { revision: 300, sub: 1 }),
        lease: 0,
        ttl_ms: Some(500),
        count: 0,
    };
    // format, kind, flags, clock, key, create_revision, version, prev, lease, ttl, count
    assert_bytes("put", &put.encode(), "01 01 05 e807 016b 02 03 ac02 01 f403");
    let first = Change { prev: None, ttl_ms: None, lease: 9, ..put.clone() };
    assert_bytes("leased put", &first.encode(), "01 01 02 e807 016b 02 03 09");
    let delete = Change { kind: Kind::Delete, ttl_ms: None, ..put.clone() };
    assert_bytes("delete", &delete.encode(), "01 02 01 e807 016b 02 03 ac02 01");
    let expire = Change { kind: Kind::Expire, ..delete.clone() };
    assert_bytes("expire", &expire.encode(), "01 03 01 e807 016b 02 03 ac02 01");
    let clear = Change {
        kind: Kind::Clear,
        key: Bytes::new(),
        create_revision: 0,
        version: 0,
        prev: None,
        count: 300,
        ..delete
    };
    assert_bytes("clear", &clear.encode(), "01 04 08 e807 00 00 00 ac02");
}

#[test]
fn the_meta_row() {
    let meta = Meta {
        applied: Some(LogId { term: 2, node: 1, index: 300 }),
        membership_log: Some(LogId { term: 1, node: 1, index: 0 }),
        membership: bytes("members"),
        cluster_id: 0x0102,
        revision: 300,
        oldest_revision: 2,
        clock_ms: 1_000,
        epoch: 1,
        keys: 4,
        bytes: 5,
        deadlines: 6,
        deadlines_from: bytes("mark"),
        digest: Digest { records: 7, tables: 8, chain: 9 },
        settings: Settings::default(),
    };
    let row = meta.encode();
    assert_bytes(
        "meta",
        &row,
        "01 01 02 01 ac02 01 01 01 00 07 6d656d62657273 02010000000000000000000000000000 \
         ac02 02 e807 01 04 05 06 04 6d61726b 07000000000000000000000000000000 \
         08000000000000000000000000000000 09000000000000000000000000000000 \
         01 8020 80808004 8008 80808008 80808002 904e 904e 00 00 00 c0cf24 8080808004 c0cf24 \
         8092f401 8080808004",
    );
    assert_eq!(Meta::decode(&row), Ok(meta));
    for end in 0..row.len() {
        assert!(Meta::decode(&row.slice(..end)).is_err(), "cut to {end} bytes");
    }
}

#[test]
fn the_rows_of_a_small_story() {
    let mut world = World::new();
    world.apply(&put_ttl("a", "1", 500));
    world.apply(&put("a", "2"));
    world.apply(&put("b", "x"));
    world.apply(&delete("b"));
    world.rows.remove(&schema::META_KEY[..]);
    let rows: Vec<_> =
        world.rows.iter().map(|(key, row)| format!("{} {}", hex(key), hex(row))).collect();
    let golden = [
        // a, version 2
        "10 00 61 | 01 00 02 03 00 02 32",
        // a, version 1: until revision 3
        "11 00 61 0001 0000000000000002 00000000 | 0000000000000003 00000000 01 06 02 02 00 01 dc0b f403 31",
        // b, version 1: until revision 5
        "11 00 62 0001 0000000000000004 00000000 | 0000000000000005 00000000 01 00 04 04 00 01 78",
        // put a, put a, put b, delete b
        "30 0000000000000002 00000000 | 01 01 04 e807 0161 02 01 f403",
        "30 0000000000000003 00000000 | 01 01 01 e807 0161 02 02 02 00",
        "30 0000000000000004 00000000 | 01 01 00 e807 0162 04 01",
        "30 0000000000000005 00000000 | 01 02 01 e807 0162 04 01 04 00",
    ]
    .map(|line| line.replace(' ', "").replace('|', " "));
    assert_eq!(rows, golden);
    let Digest { records, tables, chain } = world.meta.digest;
    let digest =
        [records, tables, chain, world.meta.digest.state_hash(5)].map(|n| format!("{n:032x}"));
    assert_eq!(
        digest,
        [
            "eeafc410f98fbd4f5cd5d39b80c3ec83",
            "00000000000000000000000000000000",
            "c29475d9cd2df78a05b8278efea00b62",
            "4d96e41321a7db0a9183c37fcf646c83",
        ]
    );
}
