//! What is wrong with a command by itself, whatever is in the store. Checked before anything runs.

use bytes::Bytes;

use crate::codec::length;
use crate::command::{Compare, CompareOp, Deadline, Form, KeyRange, Op, Target, Txn, TxnOp};
use crate::reply::Refusal;
use crate::settings::Settings;

pub(super) fn check(settings: &Settings, command_bytes: usize, op: &Op) -> Result<(), Refusal> {
    let limit = settings.request_bytes_max;
    if length(command_bytes) > limit && !matches!(op, Op::Form(_)) {
        return Err(Refusal::RequestTooLarge { limit });
    }
    match op {
        Op::Put(put) => {
            check_key(settings, &put.key)?;
            check_value(settings, &put.value)?;
            check_deadline(put.deadline)
        }
        Op::Touch(touch) => {
            check_key(settings, &touch.key)?;
            check_deadline(touch.deadline)
        }
        Op::Delete(delete) => check_key(settings, &delete.key),
        Op::DeleteRange(delete) => check_range(settings, &delete.range),
        Op::Txn(txn) => check_txn(settings, txn),
        Op::Form(form) => check_form(form),
        Op::Clear | Op::ExpireDue { .. } | Op::Tick => Ok(()),
    }
}

fn invalid(field: &str, detail: &str) -> Refusal {
    Refusal::Invalid { field: field.to_owned(), detail: detail.to_owned() }
}

fn check_key(settings: &Settings, key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(invalid("key", "a key has at least one byte"));
    }
    let limit = settings.key_bytes_max;
    if length(key.len()) > limit { Err(Refusal::KeyTooLarge { limit }) } else { Ok(()) }
}

fn check_value(settings: &Settings, value: &Bytes) -> Result<(), Refusal> {
    let limit = settings.value_bytes_max;
    if length(value.len()) > limit { Err(Refusal::ValueTooLarge { limit }) } else { Ok(()) }
}

fn check_deadline(deadline: Deadline) -> Result<(), Refusal> {
    match deadline {
        Deadline::Ttl(0) => Err(invalid("ttl", "a TTL is more than 0")),
        Deadline::Lease(0) => Err(invalid("lease", "0 is no lease")),
        Deadline::Default | Deadline::None | Deadline::Ttl(_) | Deadline::Lease(_) => Ok(()),
    }
}

/// Bounds may be one byte longer than a key: the bound right behind the longest key is.
fn check_range(settings: &Settings, range: &KeyRange) -> Result<(), Refusal> {
    let limit = settings.key_bytes_max;
    let too_long = |bound: &Bytes| length(bound.len()) > limit + 1;
    if too_long(&range.start) || range.end.as_ref().is_some_and(too_long) {
        return Err(Refusal::KeyTooLarge { limit });
    }
    Ok(())
}

/// Both branches are checked, whichever will run.
fn check_txn(settings: &Settings, txn: &Txn) -> Result<(), Refusal> {
    let limit = settings.txn_ops_max;
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if length(longest) > limit {
        return Err(Refusal::TooManyOps { limit });
    }
    txn.compare.iter().try_for_each(|compare| check_compare(settings, compare))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| check_txn_op(settings, op))
}

fn check_compare(settings: &Settings, compare: &Compare) -> Result<(), Refusal> {
    check_key(settings, &compare.key)?;
    let ordered = matches!(compare.op, CompareOp::Lt | CompareOp::Gt);
    if ordered && matches!(compare.target, Target::Exists(_)) {
        return Err(invalid("op", "`exists` has no order"));
    }
    Ok(())
}

fn check_txn_op(settings: &Settings, op: &TxnOp) -> Result<(), Refusal> {
    match op {
        TxnOp::Put { key, value, deadline, .. } => {
            check_key(settings, key)?;
            check_value(settings, value)?;
            check_deadline(*deadline)
        }
        TxnOp::Delete { range, .. } => check_range(settings, range),
        TxnOp::Get { key } => check_key(settings, key),
        TxnOp::Range(read) => check_range(settings, &read.range),
    }
}

fn check_form(form: &Form) -> Result<(), Refusal> {
    if form.cluster_id == 0 {
        return Err(invalid("cluster_id", "0 is no identity"));
    }
    form.settings.validate().map_err(|problems| match problems.first() {
        Some(problem) => invalid(problem.field, &problem.to_string()),
        None => invalid("settings", "out of bounds"),
    })
}
