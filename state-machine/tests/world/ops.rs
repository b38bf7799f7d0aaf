//! Random commands over few keys, so that they meet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use raftmap_state_machine::KeyRange;
use raftmap_state_machine::command::{
    Compare, CompareOp, Condition, Deadline, Delete, DeleteRange, Op, Put, RangeOp, TagMatch,
    Target, Touch, Txn, TxnOp,
};

/// Keys that are prefixes of each other, with zeros, separators and the largest byte.
pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    let keys: [&'static [u8]; 12] = [
        b"a",
        b"a\x00",
        b"a\x00\xFF",
        b"a/",
        b"a/b",
        b"a/b/c",
        b"a/c",
        b"ab",
        b"b/a",
        b"b/b",
        b"\xFF",
        b"\xFF\xFF",
    ];
    select(keys.to_vec()).prop_map(Bytes::from_static)
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        4 => Just(Deadline::Default),
        1 => Just(Deadline::None),
        3 => (0u64..60).prop_map(Deadline::Ttl),
        1 => (0u64..3).prop_map(Deadline::Lease),
    ]
}

fn tags() -> impl Strategy<Value = Option<TagMatch>> {
    prop_oneof![
        6 => Just(None),
        1 => Just(Some(TagMatch::Any)),
        1 => vec(1u64..40, 0..4).prop_map(|revisions| Some(TagMatch::Revisions(revisions))),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    (tags(), tags()).prop_map(|(if_match, if_none_match)| Condition { if_match, if_none_match })
}

pub(crate) fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(|key| KeyRange::single(&key)),
        key().prop_map(KeyRange::prefix),
        (key(), option::of(key())).prop_map(|(start, end)| KeyRange { start, end }),
        Just(KeyRange::all()),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        value().prop_map(Target::Value),
        (0u64..4).prop_map(Target::Version),
        (0u64..40).prop_map(Target::CreateRevision),
        (0u64..40).prop_map(Target::ModRevision),
        (0u64..2).prop_map(Target::Lease),
        any::<bool>().prop_map(Target::Exists),
    ];
    let op = select(vec![CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Gt]);
    (key(), target, op).prop_map(|(key, target, op)| Compare { key, target, op })
}

fn txn_op() -> impl Strategy<Value = TxnOp> {
    let put = (key(), value(), deadline(), any::<bool>())
        .prop_map(|(key, value, deadline, prev)| TxnOp::Put { key, value, deadline, prev });
    let read = (range(), 0u32..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(range, limit, reverse, keys_only, count_only)| {
            TxnOp::Range(RangeOp { range, limit, reverse, keys_only, count_only })
        },
    );
    prop_oneof![
        4 => put,
        2 => (range(), any::<bool>()).prop_map(|(range, prev)| TxnOp::Delete { range, prev }),
        1 => key().prop_map(|key| TxnOp::Get { key }),
        2 => read,
    ]
}

fn txn() -> impl Strategy<Value = Op> {
    (vec(compare(), 0..2), vec(txn_op(), 0..5), vec(txn_op(), 0..3))
        .prop_map(|(compare, success, failure)| Op::Txn(Txn { compare, success, failure }))
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let put = (key(), value(), deadline(), condition(), any::<bool>()).prop_map(
        |(key, value, deadline, condition, prev)| {
            Op::Put(Put { key, value, deadline, condition, prev })
        },
    );
    let touch = (key(), deadline(), condition())
        .prop_map(|(key, deadline, condition)| Op::Touch(Touch { key, deadline, condition }));
    let delete = (key(), condition(), any::<bool>())
        .prop_map(|(key, condition, prev)| Op::Delete(Delete { key, condition, prev }));
    let range = (range(), any::<bool>())
        .prop_map(|(range, prev)| Op::DeleteRange(DeleteRange { range, prev }));
    prop_oneof![
        12 => put,
        3 => touch,
        4 => delete,
        2 => range,
        5 => txn(),
        3 => (0u32..4).prop_map(|max| Op::ExpireDue { max }),
        1 => Just(Op::Clear),
        1 => Just(Op::Tick),
    ]
}

/// Commands and the cluster time that passes before each.
pub(crate) fn history(length: usize) -> impl Strategy<Value = Vec<(u64, Op)>> {
    vec((prop_oneof![3 => Just(0u64), 2 => 1u64..30], op()), 1..length)
}

/// Puts and deletes alone, over `keys`.
fn plain_history(
    keys: impl Strategy<Value = String>,
    length: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<(u64, Op)>> {
    let op = (keys, any::<u8>(), 0u8..4).prop_map(|(key, value, kind)| {
        if kind == 0 { super::delete(&key) } else { super::put(&key, &value.to_string()) }
    });
    vec((Just(0), op), length)
}

/// Many versions of few keys: histories are passed by seeks.
pub(crate) fn long_histories() -> impl Strategy<Value = Vec<(u64, Op)>> {
    plain_history(select(vec!["a", "b", "b\0"]).prop_map(str::to_owned), 60..120)
}

/// Many keys in few groups: groups are passed by seeks.
pub(crate) fn large_groups() -> impl Strategy<Value = Vec<(u64, Op)>> {
    let keys = (select(vec!["a/", "b/", "b/c/", "d"]), 0u8..30);
    plain_history(keys.prop_map(|(group, n)| format!("{group}{n:02}")), 60..120)
}
