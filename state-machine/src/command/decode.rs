//! Bytes become an operation, or nothing does.

#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use super::encode::tag;
use super::{
    Compare, CompareOp, Condition, Deadline, Delete, DeleteRange, FORMAT, Form, KeyRange, Op, Put,
    RangeOp, TagMatch, Target, Touch, Txn, TxnOp,
};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::settings::Settings;

pub(super) fn command(bytes: &Bytes) -> Result<(u64, Op), Malformed> {
    let mut from = Decoder::new(bytes, "command");
    if from.u8()? != FORMAT {
        return from.malformed();
    }
    let at_ms = from.u64()?;
    let op = op(&mut from)?;
    from.end()?;
    Ok((at_ms, op))
}

fn op(from: &mut Decoder<'_>) -> Result<Op, Malformed> {
    Ok(match from.u8()? {
        tag::PUT => {
            let prev = from.flag()?;
            let deadline = deadline(from)?;
            let condition = condition(from)?;
            let (key, value) = (from.string()?, from.string()?);
            Op::Put(Put { key, value, deadline, condition, prev })
        }
        tag::TOUCH => {
            let deadline = deadline(from)?;
            let condition = condition(from)?;
            Op::Touch(Touch { key: from.string()?, deadline, condition })
        }
        tag::DELETE => {
            let prev = from.flag()?;
            let condition = condition(from)?;
            Op::Delete(Delete { key: from.string()?, condition, prev })
        }
        tag::DELETE_RANGE => {
            let prev = from.flag()?;
            Op::DeleteRange(DeleteRange { range: range(from)?, prev })
        }
        tag::CLEAR => Op::Clear,
        tag::TXN => Op::Txn(Txn {
            compare: from.list(compare)?,
            success: from.list(txn_op)?,
            failure: from.list(txn_op)?,
        }),
        tag::EXPIRE_DUE => Op::ExpireDue { max: from.varint_u32()? },
        tag::FORM => {
            let cluster_id = from.u128()?;
            Op::Form(Form { cluster_id, settings: Settings::decode(from)? })
        }
        tag::TICK => Op::Tick,
        _ => return from.malformed(),
    })
}

fn deadline(from: &mut Decoder<'_>) -> Result<Deadline, Malformed> {
    Ok(match from.u8()? {
        0 => Deadline::Default,
        1 => Deadline::None,
        2 => Deadline::Ttl(from.varint()?),
        3 => Deadline::Lease(from.varint()?),
        _ => return from.malformed(),
    })
}

fn condition(from: &mut Decoder<'_>) -> Result<Condition, Malformed> {
    Ok(Condition { if_match: tag_match(from)?, if_none_match: tag_match(from)? })
}

fn tag_match(from: &mut Decoder<'_>) -> Result<Option<TagMatch>, Malformed> {
    Ok(match from.u8()? {
        0 => None,
        1 => Some(TagMatch::Any),
        2 => Some(TagMatch::Revisions(from.list(Decoder::varint)?)),
        _ => return from.malformed(),
    })
}

fn range(from: &mut Decoder<'_>) -> Result<KeyRange, Malformed> {
    let start = from.string()?;
    let end = if from.flag()? { Some(from.string()?) } else { None };
    Ok(KeyRange { start, end })
}

fn compare(from: &mut Decoder<'_>) -> Result<Compare, Malformed> {
    let op = match from.u8()? {
        0 => CompareOp::Eq,
        1 => CompareOp::Ne,
        2 => CompareOp::Lt,
        3 => CompareOp::Gt,
        _ => return from.malformed(),
    };
    let key = from.string()?;
    let target = match from.u8()? {
        0 => Target::Value(from.string()?),
        1 => Target::Version(from.varint()?),
        2 => Target::CreateRevision(from.varint()?),
        3 => Target::ModRevision(from.varint()?),
        4 => Target::Lease(from.varint()?),
        5 => Target::Exists(from.flag()?),
        _ => return from.malformed(),
    };
    Ok(Compare { key, target, op })
}

fn txn_op(from: &mut Decoder<'_>) -> Result<TxnOp, Malformed> {
    Ok(match from.u8()? {
        0 => {
            let prev = from.flag()?;
            let deadline = deadline(from)?;
            TxnOp::Put { key: from.string()?, value: from.string()?, deadline, prev }
        }
        1 => {
            let prev = from.flag()?;
            TxnOp::Delete { range: range(from)?, prev }
        }
        2 => TxnOp::Get { key: from.string()? },
        3 => {
            let (reverse, keys_only, count_only) = (from.flag()?, from.flag()?, from.flag()?);
            let limit = from.varint_u32()?;
            TxnOp::Range(RangeOp { range: range(from)?, limit, reverse, keys_only, count_only })
        }
        _ => return from.malformed(),
    })
}
