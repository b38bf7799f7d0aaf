//! An operation becomes bytes.

use bytes::Bytes;

use super::{
    AT_MS, Compare, CompareOp, Condition, Deadline, FORMAT, KeyRange, Op, RangeOp, TagMatch,
    Target, TxnOp,
};
use crate::codec::Encode;

/// The op's byte. A new op takes the next; none is ever used again.
pub(super) mod tag {
    pub(crate) const PUT: u8 = 1;
    pub(crate) const TOUCH: u8 = 2;
    pub(crate) const DELETE: u8 = 3;
    pub(crate) const DELETE_RANGE: u8 = 4;
    pub(crate) const CLEAR: u8 = 5;
    pub(crate) const TXN: u8 = 6;
    pub(crate) const EXPIRE_DUE: u8 = 7;
    pub(crate) const FORM: u8 = 8;
    pub(crate) const TICK: u8 = 9;
}

/// What most commands need besides their keys and values.
const BYTES_AROUND: usize = 64;

pub(super) fn op_name(tag: u8) -> &'static str {
    match tag {
        tag::PUT => "put",
        tag::TOUCH => "touch",
        tag::DELETE => "delete",
        tag::DELETE_RANGE => "delete range",
        tag::CLEAR => "clear",
        tag::TXN => "txn",
        tag::EXPIRE_DUE => "expire due",
        tag::FORM => "form",
        tag::TICK => "tick",
        _ => "unknown",
    }
}

/// The command with zeros in the place of its time.
pub(super) fn unstamped(op: &Op) -> Vec<u8> {
    let mut to = Vec::with_capacity(BYTES_AROUND + payload_bytes(op));
    to.push(FORMAT);
    to.resize(AT_MS.end, 0);
    match op {
        Op::Put(put) => {
            to.push(tag::PUT);
            to.put_flag(put.prev);
            put_deadline(&mut to, put.deadline);
            put_condition(&mut to, &put.condition);
            to.put_string(&put.key);
            to.put_string(&put.value);
        }
        Op::Touch(touch) => {
            to.push(tag::TOUCH);
            put_deadline(&mut to, touch.deadline);
            put_condition(&mut to, &touch.condition);
            to.put_string(&touch.key);
        }
        Op::Delete(delete) => {
            to.push(tag::DELETE);
            to.put_flag(delete.prev);
            put_condition(&mut to, &delete.condition);
            to.put_string(&delete.key);
        }
        Op::DeleteRange(delete) => {
            to.push(tag::DELETE_RANGE);
            to.put_flag(delete.prev);
            put_range(&mut to, &delete.range);
        }
        Op::Clear => to.push(tag::CLEAR),
        Op::Txn(txn) => {
            to.push(tag::TXN);
            put_list(&mut to, &txn.compare, put_compare);
            put_list(&mut to, &txn.success, put_txn_op);
            put_list(&mut to, &txn.failure, put_txn_op);
        }
        Op::ExpireDue { max } => {
            to.push(tag::EXPIRE_DUE);
            to.put_varint(u64::from(*max));
        }
        Op::Form(form) => {
            to.push(tag::FORM);
            to.extend_from_slice(&form.cluster_id.to_le_bytes());
            form.settings.encode(&mut to);
        }
        Op::Tick => to.push(tag::TICK),
    }
    to
}

/// A close guess, so that the bytes are allocated once.
fn payload_bytes(op: &Op) -> usize {
    let txn_op = |op: &TxnOp| match op {
        TxnOp::Put { key, value, .. } => key.len() + value.len() + 16,
        TxnOp::Delete { range, .. } | TxnOp::Range(RangeOp { range, .. }) => {
            range_bytes(range) + 16
        }
        TxnOp::Get { key } => key.len() + 4,
    };
    match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Touch(touch) => touch.key.len(),
        Op::Delete(delete) => delete.key.len(),
        Op::DeleteRange(delete) => range_bytes(&delete.range),
        Op::Txn(txn) => {
            let compares: usize = txn.compare.iter().map(|compare| compare.key.len() + 16).sum();
            compares + txn.success.iter().chain(&txn.failure).map(txn_op).sum::<usize>()
        }
        Op::Form(_) => 128,
        Op::Clear | Op::ExpireDue { .. } | Op::Tick => 0,
    }
}

fn range_bytes(range: &KeyRange) -> usize {
    range.start.len() + range.end.as_ref().map_or(0, Bytes::len)
}

fn put_list<T>(to: &mut Vec<u8>, list: &[T], element: impl Fn(&mut Vec<u8>, &T)) {
    to.put_varint(crate::codec::length(list.len()));
    list.iter().for_each(|one| element(to, one));
}

fn put_deadline(to: &mut Vec<u8>, deadline: Deadline) {
    match deadline {
        Deadline::Default => to.push(0),
        Deadline::None => to.push(1),
        Deadline::Ttl(ms) => {
            to.push(2);
            to.put_varint(ms);
        }
        Deadline::Lease(id) => {
            to.push(3);
            to.put_varint(id);
        }
    }
}

fn put_condition(to: &mut Vec<u8>, condition: &Condition) {
    for tags in [&condition.if_match, &condition.if_none_match] {
        match tags {
            None => to.push(0),
            Some(TagMatch::Any) => to.push(1),
            Some(TagMatch::Revisions(revisions)) => {
                to.push(2);
                put_list(to, revisions, |to, revision| to.put_varint(*revision));
            }
        }
    }
}

fn put_range(to: &mut Vec<u8>, range: &KeyRange) {
    to.put_string(&range.start);
    to.put_flag(range.end.is_some());
    if let Some(end) = &range.end {
        to.put_string(end);
    }
}

fn put_compare(to: &mut Vec<u8>, compare: &Compare) {
    to.push(match compare.op {
        CompareOp::Eq => 0,
        CompareOp::Ne => 1,
        CompareOp::Lt => 2,
        CompareOp::Gt => 3,
    });
    to.put_string(&compare.key);
    let (tag, number) = match &compare.target {
        Target::Value(value) => {
            to.push(0);
            return to.put_string(value);
        }
        Target::Version(number) => (1, *number),
        Target::CreateRevision(number) => (2, *number),
        Target::ModRevision(number) => (3, *number),
        Target::Lease(number) => (4, *number),
        Target::Exists(exists) => {
            to.push(5);
            return to.put_flag(*exists);
        }
    };
    to.push(tag);
    to.put_varint(number);
}

fn put_txn_op(to: &mut Vec<u8>, op: &TxnOp) {
    match op {
        TxnOp::Put { key, value, deadline, prev } => {
            to.push(0);
            to.put_flag(*prev);
            put_deadline(to, *deadline);
            to.put_string(key);
            to.put_string(value);
        }
        TxnOp::Delete { range, prev } => {
            to.push(1);
            to.put_flag(*prev);
            put_range(to, range);
        }
        TxnOp::Get { key } => {
            to.push(2);
            to.put_string(key);
        }
        TxnOp::Range(read) => {
            to.push(3);
            to.put_flag(read.reverse);
            to.put_flag(read.keys_only);
            to.put_flag(read.count_only);
            to.put_varint(u64::from(read.limit));
            put_range(to, &read.range);
        }
    }
}
