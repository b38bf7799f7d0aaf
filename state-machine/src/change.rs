//! The row of one change: what happened to which key, and where the versions before and after lie.
//!
//! ```text
//!   format u8 | kind u8 | flags u8 | clock_ms | key | create_revision | version
//!   [ prev_revision prev_sub ] [ lease ] [ ttl_ms ] [ count ]
//! ```
//!
//! No value: the version after a put is the live record while its `(mod_revision, mod_sub)` is the event's, else the
//! history row of that stamp; the version before lies under `prev` in the history. So a value is written once as a
//! record and once more when it is superseded, and old changes go without being read.

#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::codec::{Decoder, Encode};
use crate::error::Malformed;

const FORMAT: u8 = 1;
const PREV: u8 = 0x01;
const LEASE: u8 = 0x02;
const TTL: u8 = 0x04;
const COUNT: u8 = 0x08;
const FLAGS: u8 = PREV | LEASE | TTL | COUNT;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key was set.
    Put,
    /// A key was removed by a command.
    Delete,
    /// A key was removed because its deadline was reached.
    Expire,
    /// Every key was removed.
    Clear,
}

/// The stamp of a version: the revision that made it, and the place of the event within that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The revision.
    pub revision: u64,
    /// The place within it, from 0.
    pub sub: u32,
}

/// One change of one key, or a clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// Cluster time of the command.
    pub clock_ms: u64,
    /// The key; empty for a clear.
    pub key: Bytes,
    /// The revision that created the key, also of one that is removed here; 0 for a clear.
    pub create_revision: u64,
    /// The version after a put, the last version of a removed key; 0 for a clear.
    pub version: u64,
    /// The version before, if there was one.
    pub prev: Option<Stamp>,
    /// The lease after a put, 0 without.
    pub lease: u64,
    /// What was left of the TTL after a put.
    pub ttl_ms: Option<u64>,
    /// The number of keys that a clear removed; 0 else.
    pub count: u64,
}

impl Change {
    /// The row.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = Vec::with_capacity(64 + self.key.len());
        self.encode_into(&mut to);
        to.into()
    }

    pub(crate) fn encode_into(&self, to: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        to.push(FORMAT);
        to.push(match self.kind {
            Kind::Put => 1,
            Kind::Delete => 2,
            Kind::Expire => 3,
            Kind::Clear => 4,
        });
        to.push(
            flag(self.prev.is_some(), PREV)
                | flag(self.lease != 0, LEASE)
                | flag(self.ttl_ms.is_some(), TTL)
                | flag(self.count != 0, COUNT),
        );
        to.put_varint(self.clock_ms);
        to.put_string(&self.key);
        to.put_varint(self.create_revision);
        to.put_varint(self.version);
        if let Some(prev) = self.prev {
            to.put_varint(prev.revision);
            to.put_varint(u64::from(prev.sub));
        }
        if self.lease != 0 {
            to.put_varint(self.lease);
        }
        if let Some(ttl_ms) = self.ttl_ms {
            to.put_varint(ttl_ms);
        }
        if self.count != 0 {
            to.put_varint(self.count);
        }
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(row: &Bytes) -> Result<Self, Malformed> {
        let mut from = Decoder::new(row, "change row");
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        let kind = match from.u8()? {
            1 => Kind::Put,
            2 => Kind::Delete,
            3 => Kind::Expire,
            4 => Kind::Clear,
            _ => return from.malformed(),
        };
        let flags = from.u8()?;
        if flags & !FLAGS != 0 {
            return from.malformed();
        }
        let change = Self {
            kind,
            clock_ms: from.varint()?,
            key: from.string()?,
            create_revision: from.varint()?,
            version: from.varint()?,
            prev: if flags & PREV == 0 {
                None
            } else {
                Some(Stamp { revision: from.varint()?, sub: from.varint_u32()? })
            },
            lease: if flags & LEASE == 0 { 0 } else { from.varint()? },
            ttl_ms: if flags & TTL == 0 { None } else { Some(from.varint()?) },
            count: if flags & COUNT == 0 { 0 } else { from.varint()? },
        };
        from.end()?;
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let put = Change {
            kind: Kind::Put,
            clock_ms: 1_000,
            key: Bytes::from_static(b"key"),
            create_revision: 2,
            version: 3,
            prev: Some(Stamp { revision: 300, sub: 4 }),
            lease: 0,
            ttl_ms: Some(30_000),
            count: 0,
        };
        let expire = Change { kind: Kind::Expire, ttl_ms: None, lease: 9, ..put.clone() };
        let clear = Change { kind: Kind::Clear, prev: None, count: 12, ..put.clone() };
        for change in [put, expire, clear] {
            assert_eq!(Change::decode(&change.encode()), Ok(change));
        }
    }

    #[test]
    fn a_cut_change_is_malformed() {
        let change = Change {
            kind: Kind::Delete,
            clock_ms: 1,
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            version: 1,
            prev: Some(Stamp { revision: 2, sub: 0 }),
            lease: 0,
            ttl_ms: None,
            count: 0,
        };
        let row = change.encode();
        for end in 0..row.len() {
            assert!(Change::decode(&row.slice(..end)).is_err(), "cut to {end} bytes");
        }
    }
}
