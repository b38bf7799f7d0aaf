//! One number for the whole state: equal on every node at equal applied index, or a node is broken (S1).
//!
//! ```text
//!   records   sum mod 2^128 of hash(row) over records and deadlines of the present epoch; a clear sets it to 0
//!   tables    the same over the other replicated tables
//!   chain     hash(chain before, row) for each change, in order: old changes may go without being read again
//! ```
//!
//! Sums do not depend on order or on how rows lie on disk, so they are kept row by row and can be recomputed by any
//! full scan. Meta and history stay outside: the one is compared by its parts, the other follows from the changes.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::error::StoreError;
use crate::meta::Meta;
use crate::rows::Rows;
use crate::schema::{self, table};

/// Rows up to this length are hashed in one piece on the stack: beyond it the streaming state costs less than the copy.
const PIECE_BYTES: usize = 1024;
/// Most changes, deadlines and small records fit in this.
const SMALL_PIECE_BYTES: usize = 128;
/// And most other records in this. A piece is cleared before it is filled, so its size is a cost.
const MIDDLE_PIECE_BYTES: usize = 384;

/// The hash of all replicated rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// Over records and deadlines.
    pub records: u128,
    /// Over the other tables.
    pub tables: u128,
    /// Over the changes since the beginning.
    pub chain: u128,
}

impl Digest {
    pub(crate) fn add_record(&mut self, key: &[u8], row: &[u8]) {
        self.records = self.records.wrapping_add(row_hash(key, row));
    }

    pub(crate) fn remove_record(&mut self, key: &[u8], row: &[u8]) {
        self.records = self.records.wrapping_sub(row_hash(key, row));
    }

    pub(crate) fn link_change(&mut self, key: &[u8], row: &[u8]) {
        self.chain = hash(&[&self.chain.to_le_bytes(), key, row]);
    }

    /// The state in one number, for comparison between nodes.
    #[must_use]
    pub fn state_hash(&self, revision: u64) -> u128 {
        hash(&[
            &self.records.to_le_bytes(),
            &self.tables.to_le_bytes(),
            &self.chain.to_le_bytes(),
            &revision.to_le_bytes(),
        ])
    }

    /// Recomputes the digest from the rows themselves; the chain, which outlives its rows, is taken from `meta`. Reads
    /// every row.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn scan(rows: &impl Rows, meta: &Meta) -> Result<Self, StoreError> {
        let mut digest = Self { chain: meta.digest.chain, ..Self::default() };
        for table in [table::RECORDS, table::DEADLINES] {
            let from = schema::epoch_start(table, meta.epoch);
            for row in rows.scan(&from, Some(&schema::epoch_end(table, meta.epoch)), false) {
                let (key, row) = row?;
                digest.add_record(&key, &row);
            }
        }
        Ok(digest)
    }
}

/// The hash of one row. The length of the key keeps key and row apart.
#[must_use]
pub fn row_hash(key: &[u8], row: &[u8]) -> u128 {
    hash(&[&crate::codec::length(key.len()).to_le_bytes(), key, row])
}

/// XXH3-128 of the parts one after another.
fn hash(parts: &[&[u8]]) -> u128 {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total <= SMALL_PIECE_BYTES {
        return hash_piece::<SMALL_PIECE_BYTES>(parts);
    }
    if total <= MIDDLE_PIECE_BYTES {
        return hash_piece::<MIDDLE_PIECE_BYTES>(parts);
    }
    if total <= PIECE_BYTES {
        return hash_piece::<PIECE_BYTES>(parts);
    }
    let mut state = Xxh3::new();
    parts.iter().for_each(|part| state.update(part));
    state.digest128()
}

fn hash_piece<const BYTES: usize>(parts: &[&[u8]]) -> u128 {
    let mut piece = [0u8; BYTES];
    let mut total = 0;
    for part in parts {
        piece[total..total + part.len()].copy_from_slice(part);
        total += part.len();
    }
    xxh3_128(&piece[..total])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_the_piece() {
        let around = |bytes: usize| bytes - 20..bytes + 20;
        let pieces = [SMALL_PIECE_BYTES, MIDDLE_PIECE_BYTES, PIECE_BYTES, PIECE_BYTES * 3];
        for length in [0, 1].into_iter().chain(pieces.into_iter().flat_map(around)) {
            let row = vec![7u8; length];
            let whole = [&3u64.to_le_bytes()[..], b"key", &row].concat();
            assert_eq!(row_hash(b"key", &row), xxh3_128(&whole));
        }
    }

    #[test]
    fn key_and_row_are_kept_apart() {
        assert_ne!(row_hash(b"ab", b"c"), row_hash(b"a", b"bc"));
    }

    #[test]
    fn a_sum_forgets_what_was_removed_in_any_order() {
        let mut digest = Digest::default();
        digest.add_record(b"a", b"1");
        let one = digest;
        digest.add_record(b"b", b"2");
        digest.add_record(b"c", b"3");
        digest.remove_record(b"b", b"2");
        digest.remove_record(b"c", b"3");
        assert_eq!(digest, one);
    }

    #[test]
    fn a_chain_knows_the_order() {
        let (mut ab, mut ba) = (Digest::default(), Digest::default());
        ab.link_change(b"a", b"1");
        ab.link_change(b"b", b"2");
        ba.link_change(b"b", b"2");
        ba.link_change(b"a", b"1");
        assert_ne!(ab, ba);
        assert_ne!(ab.state_hash(1), ba.state_hash(1));
    }
}
