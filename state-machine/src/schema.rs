//! Where each row lies: the only place that builds keys.
//!
//! ```text
//!   00                                      meta               one row
//!   01 name                                 local              outside snapshots and the digest
//!   02 group u64                            applied groups     outside snapshots and the digest
//!   10 epoch key                            records            live keys
//!   11 epoch escaped(key) rev u64 sub u32       history        versions that were overwritten or deleted
//!   20 epoch expires_ms u64 key             deadlines          no value
//!   30 rev u64 sub u32                      changes            one row per event
//! ```
//!
//! Numbers are big-endian, so rows sort by them. A user key stands raw where it is the last part; in the history it is
//! escaped (00 becomes 00 FF, the end is 00 01), which keeps the order of keys and ends each of them.
//!
//! Records, history and deadlines carry the epoch: a clear takes the next epoch and leaves the old rows to the
//! background.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

use crate::types::KeyRange;

/// The first byte of a row's key.
pub mod table {
    /// The meta row.
    pub const META: u8 = 0x00;
    /// What this node alone knows.
    pub const LOCAL: u8 = 0x01;
    /// The sequence of applied groups since the last checkpoint.
    pub const GROUPS: u8 = 0x02;
    /// Live records.
    pub const RECORDS: u8 = 0x10;
    /// Versions that were overwritten or deleted.
    pub const HISTORY: u8 = 0x11;
    /// Keys by deadline.
    pub const DEADLINES: u8 = 0x20;
    /// The change log.
    pub const CHANGES: u8 = 0x30;
}

/// The tables whose rows carry an epoch.
pub const EPOCH_TABLES: [u8; 3] = [table::RECORDS, table::HISTORY, table::DEADLINES];

/// The key of the meta row.
pub const META_KEY: [u8; 1] = [table::META];

/// Table byte and epoch, at most.
const HEAD_BYTES_MAX: usize = 6;
/// An epoch from here on does not fit into one byte: a byte says how many follow.
const LONG_EPOCH: u8 = 0xF8;
/// Revision and sub.
const STAMP_BYTES: usize = 12;
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];
const ESCAPED_END: [u8; 2] = [0x00, 0x01];
const ESCAPED_PAST: [u8; 2] = [0x00, 0x02];

/// The first byte string behind every one that begins with `prefix`; none if there is no such.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xFF)?;
    let (kept, _) = prefix.split_at(last + 1);
    let mut end = kept.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// The smallest byte string greater than `key`.
#[must_use]
pub fn key_after(key: &[u8]) -> Vec<u8> {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after
}

/// The key of a row of this node alone.
#[must_use]
pub fn local_key(name: &str) -> Vec<u8> {
    [&[table::LOCAL], name.as_bytes()].concat()
}

/// The key of an applied group's row.
#[must_use]
pub fn group_key(group: u64) -> [u8; 9] {
    let mut key = [table::GROUPS; 9];
    key[1..].copy_from_slice(&group.to_be_bytes());
    key
}

/// The group of a row that [`group_key`] named.
#[must_use]
pub fn group_of(row_key: &[u8]) -> Option<u64> {
    let (table, group) = row_key.split_first()?;
    (*table == table::GROUPS).then(|| group.try_into().ok().map(u64::from_be_bytes)).flatten()
}

/// What every row key of one table and epoch begins with: two bytes for the first 248 epochs, so that the row keys of
/// short user keys lie in the nodes of the cold tier's memtable and not behind a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What every row key of `table` in `epoch` begins with. Sorts as the epochs do, and none begins with another.
#[must_use]
pub fn epoch_start(table: u8, epoch: u32) -> Head {
    let [a, b, c, d] = epoch.to_be_bytes();
    let (bytes, len) = match epoch {
        0..=0xF7 => ([table, d, 0, 0, 0, 0], 2),
        0xF8..=0xFF => ([table, LONG_EPOCH, d, 0, 0, 0], 3),
        0x100..=0xFFFF => ([table, LONG_EPOCH + 1, c, d, 0, 0], 4),
        0x1_0000..=0xFF_FFFF => ([table, LONG_EPOCH + 2, b, c, d, 0], 5),
        0x100_0000.. => ([table, LONG_EPOCH + 3, a, b, c, d], 6),
    };
    Head { bytes, len }
}

/// How many bytes of a row key are its table and epoch.
fn head_len(row_key: &[u8]) -> usize {
    match row_key.get(1) {
        Some(first) if *first >= LONG_EPOCH => usize::from(*first - LONG_EPOCH) + 3,
        _ => 2,
    }
}

/// What lies behind table and epoch.
fn behind_head(row_key: &[u8]) -> Option<&[u8]> {
    row_key.get(head_len(row_key)..)
}

/// The bound behind every row key of `table` in `epoch`.
#[must_use]
pub fn epoch_end(table: u8, epoch: u32) -> Vec<u8> {
    prefix_end(&epoch_start(table, epoch)).unwrap_or_else(|| vec![0xFF])
}

/// The key of a record's row, appended to `to`.
pub fn push_record_key(to: &mut BytesMut, epoch: u32, key: &[u8]) {
    to.reserve(HEAD_BYTES_MAX + key.len());
    to.extend_from_slice(&epoch_start(table::RECORDS, epoch));
    to.extend_from_slice(key);
}

/// The key of a record's row.
#[must_use]
pub fn record_key(epoch: u32, key: &[u8]) -> Vec<u8> {
    [&*epoch_start(table::RECORDS, epoch), key].concat()
}

/// The user's key in a record's row key, sharing its memory.
#[must_use]
pub fn record_user_key(row_key: &Bytes) -> Bytes {
    row_key.slice(head_len(row_key).min(row_key.len())..)
}

/// The row keys of the records of `range`: from (inclusive) and to (exclusive).
#[must_use]
pub fn record_bounds(epoch: u32, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let to = match &range.end {
        Some(end) => record_key(epoch, end),
        None => epoch_end(table::RECORDS, epoch),
    };
    (record_key(epoch, &range.start), to)
}

/// Appends the escaped `key` without its end.
fn push_escaped(to: &mut BytesMut, key: &[u8]) {
    // Zeros are rare: copy what lies between them.
    for (place, piece) in key.split(|byte| *byte == 0).enumerate() {
        if place > 0 {
            to.extend_from_slice(&ESCAPED_ZERO);
        }
        to.extend_from_slice(piece);
    }
}

fn escaped(epoch: u32, key: &[u8], end: [u8; 2]) -> BytesMut {
    let mut to = BytesMut::with_capacity(HEAD_BYTES_MAX + key.len() + end.len() + STAMP_BYTES);
    to.extend_from_slice(&epoch_start(table::HISTORY, epoch));
    push_escaped(&mut to, key);
    to.extend_from_slice(&end);
    to
}

/// What every history row key of `key` begins with; less than those of every greater key.
#[must_use]
pub fn history_start(epoch: u32, key: &[u8]) -> Vec<u8> {
    escaped(epoch, key, ESCAPED_END).into()
}

/// The bound behind every history row key of `key`.
#[must_use]
pub fn history_end(epoch: u32, key: &[u8]) -> Vec<u8> {
    escaped(epoch, key, ESCAPED_PAST).into()
}

/// The key of the history row of the version that `key` got at `(revision, sub)`, appended to `to`.
pub fn push_history_key(to: &mut BytesMut, epoch: u32, key: &[u8], revision: u64, sub: u32) {
    to.reserve(HEAD_BYTES_MAX + key.len() + ESCAPED_END.len() + STAMP_BYTES);
    to.extend_from_slice(&epoch_start(table::HISTORY, epoch));
    push_escaped(to, key);
    to.extend_from_slice(&ESCAPED_END);
    to.extend_from_slice(&revision.to_be_bytes());
    to.extend_from_slice(&sub.to_be_bytes());
}

/// The key of the history row of the version that `key` got at `(revision, sub)`.
#[must_use]
pub fn history_key(epoch: u32, key: &[u8], revision: u64, sub: u32) -> Vec<u8> {
    let mut row_key = BytesMut::new();
    push_history_key(&mut row_key, epoch, key, revision, sub);
    row_key.into()
}

/// The row keys of the history of `range`: from (inclusive) and to (exclusive).
#[must_use]
pub fn history_bounds(epoch: u32, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let to = match &range.end {
        Some(end) => history_start(epoch, end),
        None => epoch_end(table::HISTORY, epoch),
    };
    (history_start(epoch, &range.start), to)
}

/// The parts of a history row's key: the escaped user key with its end, the revision and the sub.
#[must_use]
pub fn split_history_key(row_key: &[u8]) -> Option<(&[u8], u64, u32)> {
    let (rest, sub) = behind_head(row_key)?.split_last_chunk()?;
    let (escaped, revision) = rest.split_last_chunk()?;
    Some((escaped, u64::from_be_bytes(*revision), u32::from_be_bytes(*sub)))
}

/// What this history row's key shares with those of the same user key: [`history_start`].
#[must_use]
pub fn history_start_of(row_key: &Bytes) -> Option<Bytes> {
    let end = row_key.len().checked_sub(STAMP_BYTES)?;
    (end > head_len(row_key)).then(|| row_key.slice(..end))
}

/// The user's key behind what [`history_start_of`] gave.
#[must_use]
pub fn history_user_key(start: &[u8]) -> Option<Vec<u8>> {
    unescape(behind_head(start)?)
}

/// The user's key of an escaped one; none if it was not escaped by us.
#[must_use]
pub fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let body = escaped.strip_suffix(&ESCAPED_END)?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xFF) {
            return None;
        }
    }
    Some(key)
}

/// The key of a deadline's row, appended to `to`.
pub fn push_deadline_key(to: &mut BytesMut, epoch: u32, expires_ms: u64, key: &[u8]) {
    to.reserve(HEAD_BYTES_MAX + size_of::<u64>() + key.len());
    to.extend_from_slice(&epoch_start(table::DEADLINES, epoch));
    to.extend_from_slice(&expires_ms.to_be_bytes());
    to.extend_from_slice(key);
}

/// The key of a deadline's row.
#[must_use]
pub fn deadline_key(epoch: u32, expires_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut row_key = BytesMut::new();
    push_deadline_key(&mut row_key, epoch, expires_ms, key);
    row_key.into()
}

/// A deadline row's key behind its epoch: what low marks are made of.
#[must_use]
pub fn deadline_suffix(row_key: &Bytes) -> Bytes {
    row_key.slice(head_len(row_key).min(row_key.len())..)
}

/// The deadline row's key with this suffix.
#[must_use]
pub fn deadline_from_suffix(epoch: u32, suffix: &[u8]) -> Vec<u8> {
    [&epoch_start(table::DEADLINES, epoch)[..], suffix].concat()
}

/// The deadline and the user's key of a deadline row's key.
#[must_use]
pub fn split_deadline_key(row_key: &Bytes) -> Option<(u64, Bytes)> {
    let (expires_ms, key) = behind_head(row_key)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*expires_ms), row_key.slice_ref(key)))
}

/// The key of a change's row.
#[must_use]
pub fn change_key(revision: u64, sub: u32) -> [u8; 1 + STAMP_BYTES] {
    let mut key = [table::CHANGES; 1 + STAMP_BYTES];
    key[1..9].copy_from_slice(&revision.to_be_bytes());
    key[9..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// The revision and the sub of a change's row key.
#[must_use]
pub fn split_change_key(row_key: &[u8]) -> Option<(u64, u32)> {
    let (_, rest) = row_key.split_first()?;
    let (revision, sub) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*revision), u32::from_be_bytes(sub.try_into().ok()?)))
}

/// Whether the row is part of the replicated state: of snapshots and of what must be equal on every node.
#[must_use]
pub fn is_replicated(row_key: &[u8]) -> bool {
    !matches!(row_key.first(), None | Some(&table::LOCAL | &table::GROUPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = [
            &b""[..],
            b"\x00",
            b"\x00\x00",
            b"\x00\x01",
            b"\x00\xFF",
            b"\x01",
            b"a",
            b"a\x00",
            b"a\x00b",
            b"a\x01",
            b"ab",
            b"b",
            b"\xFE\xFF",
            b"\xFF",
            b"\xFF\x00",
            b"\xFF\xFF",
        ]
        .iter()
        .map(|key| key.to_vec())
        .collect();
        keys.sort();
        keys
    }

    #[test]
    fn history_rows_sort_by_key_then_by_revision() {
        let mut rows = Vec::new();
        for key in keys() {
            assert!(history_start(7, &key) < history_end(7, &key));
            for (revision, sub) in [(1, 0), (1, 1), (2, 0), (256, 0), (u64::MAX, u32::MAX)] {
                let row_key = history_key(7, &key, revision, sub);
                assert!(row_key >= history_start(7, &key) && row_key < history_end(7, &key));
                rows.push(row_key);
            }
        }
        assert!(rows.is_sorted());
        assert!(rows.first() >= Some(&epoch_start(table::HISTORY, 7).to_vec()));
        assert!(rows.last() < Some(&epoch_end(table::HISTORY, 7)));
    }

    #[test]
    fn a_history_key_gives_its_parts_back() {
        for key in keys() {
            let row_key = history_key(1, &key, 9, 3);
            let (escaped, revision, sub) = split_history_key(&row_key).unwrap();
            assert_eq!((unescape(escaped), revision, sub), (Some(key), 9, 3));
        }
        assert_eq!(unescape(b"a\x00b\x00\x01"), None, "an unescaped zero");
        assert_eq!(split_history_key(b"\x11\x00\x00\x00\x00abc"), None);
    }

    #[test]
    fn bounds_hold_the_rows_of_their_range_alone() {
        for start in keys() {
            for end in keys() {
                let range = KeyRange {
                    start: Bytes::from(start.clone()),
                    end: Some(Bytes::from(end.clone())),
                };
                let (from, to) = record_bounds(3, &range);
                let (old_from, old_to) = history_bounds(3, &range);
                for key in keys() {
                    let row = record_key(3, &key);
                    let old = history_key(3, &key, 5, 0);
                    assert_eq!(from <= row && row < to, range.contains(&key));
                    assert_eq!(old_from <= old && old < old_to, range.contains(&key));
                }
            }
        }
    }

    #[test]
    fn heads_sort_as_their_epochs_and_none_begins_with_another() {
        let epochs =
            [0, 1, 0xF7, 0xF8, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFF_FFFF, 0x100_0000, u32::MAX];
        let heads = epochs.map(|epoch| epoch_start(table::RECORDS, epoch));
        for pair in heads.windows(2) {
            assert!(*pair[0] < *pair[1] && !pair[1].starts_with(&pair[0]), "{pair:?}");
            assert!(prefix_end(&pair[0]).unwrap().as_slice() <= &*pair[1]);
        }
        for epoch in epochs {
            let row_key = Bytes::from(record_key(epoch, b"\xF9key"));
            assert_eq!(record_user_key(&row_key), b"\xF9key"[..]);
            let row_key = Bytes::from(deadline_key(epoch, 7, b"k"));
            assert_eq!(split_deadline_key(&row_key), Some((7, Bytes::from_static(b"k"))));
            let row_key = history_key(epoch, b"k", 3, 1);
            assert_eq!(split_history_key(&row_key).map(|(_, rev, sub)| (rev, sub)), Some((3, 1)));
        }
    }

    #[test]
    fn the_last_epoch_has_an_end() {
        let (_, to) = record_bounds(u32::MAX, &KeyRange::all());
        assert!(record_key(u32::MAX, &[0xFF; 8]) < to);
        assert!(to < vec![table::HISTORY, 0, 0, 0, 1]);
    }

    #[test]
    fn other_keys_give_their_parts_back() {
        let row_key = Bytes::from(deadline_key(2, 77, b"k"));
        assert_eq!(split_deadline_key(&row_key), Some((77, Bytes::from_static(b"k"))));
        assert_eq!(deadline_from_suffix(2, &deadline_suffix(&row_key)), row_key);
        assert_eq!(split_change_key(&change_key(5, 6)), Some((5, 6)));
        assert_eq!(group_of(&group_key(8)), Some(8));
        assert_eq!(group_of(&change_key(5, 6)), None);
        assert_eq!(record_user_key(&Bytes::from(record_key(2, b"k"))), "k");
        assert!(
            is_replicated(&META_KEY) && !is_replicated(&local_key("node")) && !is_replicated(b"")
        );
    }
}
