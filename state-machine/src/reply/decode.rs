//! Bytes become a reply.

#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use super::{FORMAT, Item, Outcome, Refusal, Reply, TxnResult};
use crate::codec::Decoder;
use crate::error::Malformed;

pub(super) fn reply(bytes: &Bytes) -> Result<Reply, Malformed> {
    let mut from = Decoder::new(bytes, "reply");
    if from.u8()? != FORMAT {
        return from.malformed();
    }
    let revision = from.varint()?;
    let outcome = outcome(&mut from)?;
    from.end()?;
    Ok(Reply { revision, outcome })
}

fn outcome(from: &mut Decoder<'_>) -> Result<Outcome, Malformed> {
    Ok(match from.u8()? {
        0 => Outcome::Nothing,
        1 => Outcome::Put { created: from.flag()?, prev: optional_item(from)? },
        2 => Outcome::Touched { item: item(from)? },
        3 => Outcome::Deleted { deleted: from.varint()?, prev: from.list(item)? },
        4 => Outcome::Txn { succeeded: from.flag()?, results: from.list(result)? },
        5 => Outcome::Expired { deleted: from.varint()?, more: from.flag()? },
        6 => Outcome::Cleared { deleted: from.varint()? },
        7 => Outcome::Formed,
        8 => Outcome::Refused(refusal(from)?),
        _ => return from.malformed(),
    })
}

fn result(from: &mut Decoder<'_>) -> Result<TxnResult, Malformed> {
    Ok(match from.u8()? {
        0 => TxnResult::Put { created: from.flag()?, prev: optional_item(from)? },
        1 => TxnResult::Deleted { deleted: from.varint()?, prev: from.list(item)? },
        2 => TxnResult::Got(optional_item(from)?),
        3 => {
            let count = from.varint()?;
            TxnResult::Range { items: from.list(item)?, count }
        }
        _ => return from.malformed(),
    })
}

fn refusal(from: &mut Decoder<'_>) -> Result<Refusal, Malformed> {
    Ok(match from.u8()? {
        0 => Refusal::NotFound,
        1 => Refusal::PreconditionFailed { mod_revision: from.varint()? },
        2 => Refusal::LeaseNotFound,
        3 => Refusal::RangeTooLarge { limit: from.varint()? },
        4 => Refusal::KeyTooLarge { limit: from.varint()? },
        5 => Refusal::ValueTooLarge { limit: from.varint()? },
        6 => Refusal::RequestTooLarge { limit: from.varint()? },
        7 => Refusal::TooManyOps { limit: from.varint()? },
        8 => Refusal::QuotaExceeded { limit: from.varint()? },
        9 => Refusal::Invalid { field: from.text()?, detail: from.text()? },
        10 => Refusal::Malformed,
        _ => return from.malformed(),
    })
}

fn optional_item(from: &mut Decoder<'_>) -> Result<Option<Item>, Malformed> {
    if from.flag()? { item(from).map(Some) } else { Ok(None) }
}

fn item(from: &mut Decoder<'_>) -> Result<Item, Malformed> {
    Ok(Item {
        key: from.string()?,
        create_revision: from.varint()?,
        mod_revision: from.varint()?,
        version: from.varint()?,
        lease: from.varint()?,
        ttl_ms: from.optional()?,
        value: from.string()?,
    })
}
