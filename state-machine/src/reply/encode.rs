//! A reply becomes bytes.

use bytes::Bytes;

use super::{FORMAT, Item, Outcome, Refusal, Reply, TxnResult};
use crate::codec::{Encode, length};

const BYTES_AROUND: usize = 32;

pub(super) fn reply(reply: &Reply) -> Bytes {
    let mut to = Vec::with_capacity(BYTES_AROUND + payload_bytes(&reply.outcome));
    to.push(FORMAT);
    to.put_varint(reply.revision);
    put_outcome(&mut to, &reply.outcome);
    to.into()
}

fn payload_bytes(outcome: &Outcome) -> usize {
    let item = |item: &Item| item.key.len() + item.value.len() + 48;
    let items = |items: &[Item]| items.iter().map(item).sum::<usize>();
    match outcome {
        Outcome::Put { prev, .. } => prev.as_ref().map_or(0, item),
        Outcome::Touched { item: touched } => item(touched),
        Outcome::Deleted { prev, .. } => items(prev),
        Outcome::Txn { results, .. } => results
            .iter()
            .map(|result| match result {
                TxnResult::Put { prev, .. } | TxnResult::Got(prev) => prev.as_ref().map_or(4, item),
                TxnResult::Deleted { prev, .. } => 8 + items(prev),
                TxnResult::Range { items: found, .. } => 8 + items(found),
            })
            .sum(),
        Outcome::Nothing
        | Outcome::Expired { .. }
        | Outcome::Cleared { .. }
        | Outcome::Formed
        | Outcome::Refused(_) => 0,
    }
}

fn put_outcome(to: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Nothing => to.push(0),
        Outcome::Put { created, prev } => {
            to.push(1);
            to.put_flag(*created);
            put_optional_item(to, prev.as_ref());
        }
        Outcome::Touched { item } => {
            to.push(2);
            put_item(to, item);
        }
        Outcome::Deleted { deleted, prev } => {
            to.push(3);
            to.put_varint(*deleted);
            put_items(to, prev);
        }
        Outcome::Txn { succeeded, results } => {
            to.push(4);
            to.put_flag(*succeeded);
            to.put_varint(length(results.len()));
            results.iter().for_each(|result| put_result(to, result));
        }
        Outcome::Expired { deleted, more } => {
            to.push(5);
            to.put_varint(*deleted);
            to.put_flag(*more);
        }
        Outcome::Cleared { deleted } => {
            to.push(6);
            to.put_varint(*deleted);
        }
        Outcome::Formed => to.push(7),
        Outcome::Refused(refusal) => {
            to.push(8);
            put_refusal(to, refusal);
        }
    }
}

fn put_result(to: &mut Vec<u8>, result: &TxnResult) {
    match result {
        TxnResult::Put { created, prev } => {
            to.push(0);
            to.put_flag(*created);
            put_optional_item(to, prev.as_ref());
        }
        TxnResult::Deleted { deleted, prev } => {
            to.push(1);
            to.put_varint(*deleted);
            put_items(to, prev);
        }
        TxnResult::Got(item) => {
            to.push(2);
            put_optional_item(to, item.as_ref());
        }
        TxnResult::Range { items, count } => {
            to.push(3);
            to.put_varint(*count);
            put_items(to, items);
        }
    }
}

fn put_refusal(to: &mut Vec<u8>, refusal: &Refusal) {
    let (tag, number) = match refusal {
        Refusal::NotFound => return to.push(0),
        Refusal::PreconditionFailed { mod_revision } => (1, *mod_revision),
        Refusal::LeaseNotFound => return to.push(2),
        Refusal::RangeTooLarge { limit } => (3, *limit),
        Refusal::KeyTooLarge { limit } => (4, *limit),
        Refusal::ValueTooLarge { limit } => (5, *limit),
        Refusal::RequestTooLarge { limit } => (6, *limit),
        Refusal::TooManyOps { limit } => (7, *limit),
        Refusal::QuotaExceeded { limit } => (8, *limit),
        Refusal::Invalid { field, detail } => {
            to.push(9);
            to.put_string(field.as_bytes());
            return to.put_string(detail.as_bytes());
        }
        Refusal::Malformed => return to.push(10),
    };
    to.push(tag);
    to.put_varint(number);
}

fn put_items(to: &mut Vec<u8>, items: &[Item]) {
    to.put_varint(length(items.len()));
    items.iter().for_each(|item| put_item(to, item));
}

fn put_optional_item(to: &mut Vec<u8>, item: Option<&Item>) {
    to.put_flag(item.is_some());
    if let Some(item) = item {
        put_item(to, item);
    }
}

fn put_item(to: &mut Vec<u8>, item: &Item) {
    to.put_string(&item.key);
    to.put_varint(item.create_revision);
    to.put_varint(item.mod_revision);
    to.put_varint(item.version);
    to.put_varint(item.lease);
    to.put_optional(item.ttl_ms);
    to.put_string(&item.value);
}
