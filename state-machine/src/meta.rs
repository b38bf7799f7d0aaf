//! The one row that says where the store is: applied entry, membership, revision, clock, counts, digest, settings.
//!
//! It is written with every group, in the same batch as the rows it describes (S2).

use bytes::Bytes;

use crate::codec::{Decoder, Encode};
use crate::digest::Digest;
use crate::error::Malformed;
use crate::settings::Settings;
use crate::types::LogId;

const FORMAT: u8 = 1;

/// The revision of an empty store; the first change makes the next.
pub const REVISION_EMPTY: u64 = 1;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The entry that made the membership.
    pub membership_log: Option<LogId>,
    /// The membership, in bytes that only the Raft adapter reads; empty before the first.
    pub membership: Bytes,
    /// The cluster's identity, 0 before it is formed.
    pub cluster_id: u128,
    /// One per changing command; [`REVISION_EMPTY`] at first.
    pub revision: u64,
    /// The oldest revision that can still be read.
    pub oldest_revision: u64,
    /// Cluster time in milliseconds. Never goes back.
    pub clock_ms: u64,
    /// Part of the key of every record; a clear takes the next.
    pub epoch: u32,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
    /// Live keys with a deadline of their own.
    pub deadlines: u64,
    /// No deadline row of this epoch lies before this one (`expires_ms ‖ key`, both big-endian): scans start here
    /// instead of walking over the remains of removed rows.
    pub deadlines_from: Bytes,
    /// The hash of all replicated rows.
    pub digest: Digest,
    /// The replicated settings.
    pub settings: Settings,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            applied: None,
            membership_log: None,
            membership: Bytes::new(),
            cluster_id: 0,
            revision: REVISION_EMPTY,
            oldest_revision: REVISION_EMPTY,
            clock_ms: 0,
            epoch: 0,
            keys: 0,
            bytes: 0,
            deadlines: 0,
            deadlines_from: Bytes::new(),
            digest: Digest::default(),
            settings: Settings::default(),
        }
    }
}

impl Meta {
    /// The row.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut row = Vec::with_capacity(256 + self.membership.len() + self.deadlines_from.len());
        row.push(FORMAT);
        put_log_id(&mut row, self.applied);
        put_log_id(&mut row, self.membership_log);
        row.put_string(&self.membership);
        row.extend_from_slice(&self.cluster_id.to_le_bytes());
        row.put_varint(self.revision);
        row.put_varint(self.oldest_revision);
        row.put_varint(self.clock_ms);
        row.put_varint(u64::from(self.epoch));
        row.put_varint(self.keys);
        row.put_varint(self.bytes);
        row.put_varint(self.deadlines);
        row.put_string(&self.deadlines_from);
        row.extend_from_slice(&self.digest.records.to_le_bytes());
        row.extend_from_slice(&self.digest.tables.to_le_bytes());
        row.extend_from_slice(&self.digest.chain.to_le_bytes());
        self.settings.encode(&mut row);
        row.into()
    }

    /// Reads what [`Meta::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(row: &Bytes) -> Result<Self, Malformed> {
        // The membership and the low mark outlive the row: they must not keep it.
        let own = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
        let mut from = Decoder::new(row, "meta row");
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        let meta = Self {
            applied: log_id(&mut from)?,
            membership_log: log_id(&mut from)?,
            membership: own(from.string()?),
            cluster_id: from.u128()?,
            revision: from.varint()?,
            oldest_revision: from.varint()?,
            clock_ms: from.varint()?,
            epoch: from.varint_u32()?,
            keys: from.varint()?,
            bytes: from.varint()?,
            deadlines: from.varint()?,
            deadlines_from: own(from.string()?),
            digest: Digest { records: from.u128()?, tables: from.u128()?, chain: from.u128()? },
            settings: Settings::decode(&mut from)?,
        };
        from.end()?;
        Ok(meta)
    }
}

fn put_log_id(to: &mut Vec<u8>, log_id: Option<LogId>) {
    to.put_flag(log_id.is_some());
    if let Some(log_id) = log_id {
        to.put_varint(log_id.term);
        to.put_varint(log_id.node);
        to.put_varint(log_id.index);
    }
}

fn log_id(from: &mut Decoder<'_>) -> Result<Option<LogId>, Malformed> {
    if !from.flag()? {
        return Ok(None);
    }
    Ok(Some(LogId { term: from.varint()?, node: from.varint()?, index: from.varint()? }))
}
