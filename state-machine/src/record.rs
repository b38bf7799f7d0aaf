//! The row of a live key, and of a version that it once had.
//!
//! ```text
//!   record    format u8 | flags u8 | create_revision | mod_revision | mod_sub | version
//!             [ lease ] [ expires_ms ] [ event_ttl_ms ] | value
//!   history   until_revision u64 BE | until_sub u32 BE | record
//! ```
//!
//! Numbers without a type are varints; the flags say which of the optional ones are there. `(mod_revision, mod_sub)`
//! names the event that made the version. A touch changes `lease` and `expires_ms` and makes no event, so what was left
//! of the TTL at the event is kept beside them.
//!
//! A history row is valid for revisions N with `mod_revision <= N < until_revision`.

#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::codec::{Decoder, Encode};
use crate::error::{Malformed, StoreError};
use crate::reply::Item;

const FORMAT: u8 = 1;
const LEASE: u8 = 0x01;
const EXPIRES: u8 = 0x02;
const EVENT_TTL: u8 = 0x04;
const FLAGS: u8 = LEASE | EXPIRES | EVENT_TTL;

/// Bytes before the record in a history row.
const UNTIL_BYTES: usize = 12;

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision that made this version.
    pub mod_revision: u64,
    /// The place of its event within that revision.
    pub mod_sub: u32,
    /// 1 at creation, one more with each change.
    pub version: u64,
    /// Its lease, 0 without.
    pub lease: u64,
    /// When it ends, in cluster time.
    pub expires_ms: Option<u64>,
    /// What was left of its TTL at the event that made it.
    pub event_ttl_ms: Option<u64>,
    /// The value, sharing the memory of the row.
    pub value: Bytes,
}

impl Record {
    /// Appends the row without the value.
    pub(crate) fn encode_header(&self, to: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        to.push(FORMAT);
        to.push(
            flag(self.lease != 0, LEASE)
                | flag(self.expires_ms.is_some(), EXPIRES)
                | flag(self.event_ttl_ms.is_some(), EVENT_TTL),
        );
        to.put_varint(self.create_revision);
        to.put_varint(self.mod_revision);
        to.put_varint(u64::from(self.mod_sub));
        to.put_varint(self.version);
        if self.lease != 0 {
            to.put_varint(self.lease);
        }
        for number in [self.expires_ms, self.event_ttl_ms].into_iter().flatten() {
            to.put_varint(number);
        }
    }

    /// The row. It is an allocation of its own, of exactly its length: a cache may keep it and pins nothing else.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut header = Vec::with_capacity(64);
        self.encode_header(&mut header);
        join(&[&header, &self.value])
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(row: &Bytes) -> Result<Self, Malformed> {
        let mut from = Decoder::new(row, "record row");
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        let flags = from.u8()?;
        if flags & !FLAGS != 0 {
            return from.malformed();
        }
        let optional = |flag: u8, from: &mut Decoder<'_>| {
            if flags & flag == 0 { Ok(None) } else { from.varint().map(Some) }
        };
        Ok(Self {
            create_revision: from.varint()?,
            mod_revision: from.varint()?,
            mod_sub: from.varint_u32()?,
            version: from.varint()?,
            lease: optional(LEASE, &mut from)?.unwrap_or(0),
            expires_ms: optional(EXPIRES, &mut from)?,
            event_ttl_ms: optional(EVENT_TTL, &mut from)?,
            value: from.tail(),
        })
    }

    /// As [`Record::decode`], for a row that lies under `row_key`.
    pub(crate) fn of_row(row_key: &[u8], row: &Bytes) -> Result<Self, StoreError> {
        Self::decode(row).map_err(|error| StoreError::corrupt("record", row_key, error))
    }

    /// The record as a reader sees it at `clock_ms`.
    #[must_use]
    pub fn into_item(self, key: Bytes, clock_ms: u64) -> Item {
        let ttl_ms = self.expires_ms.map(|expires_ms| expires_ms.saturating_sub(clock_ms));
        self.item(key, ttl_ms)
    }

    /// The record as a reader saw it at its own event.
    #[must_use]
    pub fn into_item_at_event(self, key: Bytes) -> Item {
        let ttl_ms = self.event_ttl_ms;
        self.item(key, ttl_ms)
    }

    fn item(self, key: Bytes, ttl_ms: Option<u64>) -> Item {
        Item {
            key,
            value: self.value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
            ttl_ms: if self.lease == 0 { ttl_ms } else { None },
        }
    }
}

/// The history row of the version in `record_row`, which `(until_revision, until_sub)` ended.
pub(crate) fn history_row(until_revision: u64, until_sub: u32, record_row: &[u8]) -> Bytes {
    join(&[&until_revision.to_be_bytes(), &until_sub.to_be_bytes(), record_row])
}

/// When the version in a history row ended, and its record row.
pub(crate) fn split_history_row(row: &Bytes) -> Result<(u64, u32, Bytes), Malformed> {
    let malformed = Malformed { what: "history row" };
    let (until, record) = row.split_at_checked(UNTIL_BYTES).ok_or(malformed)?;
    let (revision, sub) = until.split_first_chunk().ok_or(malformed)?;
    let sub = sub.try_into().or(Err(malformed))?;
    Ok((u64::from_be_bytes(*revision), u32::from_be_bytes(sub), row.slice_ref(record)))
}

/// One allocation of exactly the length of all parts.
pub(crate) fn join(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            create_revision: 2,
            mod_revision: 300,
            mod_sub: 1,
            version: 3,
            lease: 0,
            expires_ms: Some(5_000),
            event_ttl_ms: Some(4_000),
            value: Bytes::from_static(b"value"),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let plain = Record { expires_ms: None, event_ttl_ms: None, ..record() };
        let leased = Record { lease: 7, expires_ms: None, event_ttl_ms: None, ..record() };
        for record in [record(), plain, leased] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_row_shares_its_value() {
        let row = record().encode();
        let value = Record::decode(&row).unwrap().value;
        assert_eq!(value.as_ptr(), row.slice(row.len() - value.len()..).as_ptr());
    }

    #[test]
    fn a_cut_or_foreign_header_is_malformed() {
        let row = record().encode();
        let header = row.len() - 5;
        for end in 0..header {
            assert!(Record::decode(&row.slice(..end)).is_err(), "cut to {end} bytes");
        }
        assert!(Record::decode(&Bytes::from_static(&[2, 0, 1, 1, 0, 1])).is_err(), "format 2");
        assert!(Record::decode(&Bytes::from_static(&[1, 8, 1, 1, 0, 1])).is_err(), "unknown flag");
    }

    #[test]
    fn the_ttl_of_an_item_is_what_is_left() {
        let key = || Bytes::from_static(b"k");
        assert_eq!(record().into_item(key(), 1_000).ttl_ms, Some(4_000));
        assert_eq!(record().into_item(key(), 9_000).ttl_ms, Some(0), "due, and not yet removed");
        assert_eq!(record().into_item_at_event(key()).ttl_ms, Some(4_000));
    }

    #[test]
    fn a_history_row_holds_its_record() {
        let row = history_row(9, 2, &record().encode());
        let (revision, sub, record_row) = split_history_row(&row).unwrap();
        assert_eq!((revision, sub, Record::decode(&record_row)), (9, 2, Ok(record())));
        assert!(split_history_row(&Bytes::from_static(&[0; 11])).is_err());
    }
}
