//! The rows of this node alone: who it is, and how far its background removal got.
//!
//! They lie in the same keyspace as the replicated rows, outside snapshots and the digest, and are
//! written anew into every generation.

use bytes::Bytes;

use crate::codec::{Decoder, Encode};
use crate::error::{Malformed, StoreError};
use crate::generation::Frozen;
use crate::schema;

const FORMAT: u8 = 1;
const IDENTITY: &str = "identity";
const SWEPT: &str = "swept";

/// Whose store this is. A store never changes hands: its log holds the other half of what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalIdentity {
    /// The node's id in the cluster.
    pub node_id: u64,
    /// The identity of the node's log.
    pub wal_uuid: u128,
}

impl LocalIdentity {
    /// The row that says so.
    pub(crate) fn row(self) -> (Vec<u8>, Vec<u8>) {
        let mut row = vec![FORMAT];
        row.put_varint(self.node_id);
        row.extend_from_slice(&self.wal_uuid.to_le_bytes());
        (schema::local_key(IDENTITY), row)
    }

    /// Fails with [`StoreError::Foreign`] unless the store is this node's and belongs to its log.
    pub(crate) fn check(self, rows: &Frozen) -> Result<(), StoreError> {
        let key = schema::local_key(IDENTITY);
        let row = rows.get(&key)?.ok_or_else(|| StoreError::Damaged {
            detail: "the row that says whose store this is".to_owned(),
        })?;
        let found =
            Self::decode(&row).map_err(|error| StoreError::corrupt("identity row", &key, error))?;
        if found == self {
            return Ok(());
        }
        Err(StoreError::Foreign {
            detail: format!(
                "it belongs to node {} and log {:032x}, this is node {} with log {:032x}",
                found.node_id, found.wal_uuid, self.node_id, self.wal_uuid
            ),
        })
    }

    fn decode(row: &Bytes) -> Result<Self, Malformed> {
        let mut from = Decoder::new(row, "identity row");
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        let found = Self { node_id: from.varint()?, wal_uuid: from.u128()? };
        from.end()?;
        Ok(found)
    }
}

/// How far the removal of old rows got: nothing of older epochs or revisions is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Swept {
    pub(crate) epoch: u32,
    pub(crate) oldest_revision: u64,
}

impl Swept {
    /// The row that says so.
    pub(crate) fn row(self) -> (Vec<u8>, Vec<u8>) {
        let mut row = vec![FORMAT];
        row.put_varint(u64::from(self.epoch));
        row.put_varint(self.oldest_revision);
        (schema::local_key(SWEPT), row)
    }

    /// What the store says; nothing was swept where it says nothing.
    pub(crate) fn read(rows: &Frozen) -> Result<Self, StoreError> {
        let key = schema::local_key(SWEPT);
        let Some(row) = rows.get(&key)? else { return Ok(Self::default()) };
        Self::decode(&row).map_err(|error| StoreError::corrupt("swept row", &key, error))
    }

    fn decode(row: &Bytes) -> Result<Self, Malformed> {
        let mut from = Decoder::new(row, "swept row");
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        let found = Self { epoch: from.varint_u32()?, oldest_revision: from.varint()? };
        from.end()?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_rows_survive_their_bytes() {
        let identity = LocalIdentity { node_id: 300, wal_uuid: 1 << 100 };
        assert_eq!(LocalIdentity::decode(&identity.row().1.into()), Ok(identity));
        let swept = Swept { epoch: 9, oldest_revision: 1 << 40 };
        assert_eq!(Swept::decode(&swept.row().1.into()), Ok(swept));
    }

    #[test]
    fn local_rows_are_not_replicated() {
        let identity = LocalIdentity { node_id: 1, wal_uuid: 2 };
        assert!(!schema::is_replicated(&identity.row().0));
        assert!(!schema::is_replicated(&Swept::default().row().0));
    }
}
