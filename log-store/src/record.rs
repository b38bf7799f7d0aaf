//! One change of the log as bytes.
//!
//! ```text
//!   0 crc32c u32 (of all that follows, padding included)   4 len u32 (of the whole record, without padding)
//!   8 type u8   9 codec u8 (0: plain)   10 kind u8 (entries)   11 zero
//!  12 body, then zeros up to a multiple of 8
//!
//!   1 Entry          index, term, node, payload
//!   2 Vote           term, node, committed u8
//!   3 Committed      term, node, index
//!   4 TruncateAfter  present u8, term, node, index: the last entry that stays
//!   5 PurgeUpto      term, node, index
//!   6 Seal           the segment's footer, see `footer.rs`
//! ```
//! All records form one ordered stream; the log is what replaying it gives.
#![warn(clippy::indexing_slicing)]

use crate::codec::{Cursor, Put};
use crate::types::{EntryParts, LogIdParts, VoteParts};

/// Bytes of a record before its body.
pub(crate) const RECORD_HEAD: usize = 12;
const RECORD_HEAD_BYTES: u64 = 12;
/// Bytes of an entry's record before its payload.
const ENTRY_HEAD: usize = RECORD_HEAD + 24;

/// The type of an entry's record.
pub(crate) const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE_AFTER: u8 = 4;
const PURGE_UPTO: u8 = 5;
const SEAL: u8 = 6;

/// A record, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Entry { id: LogIdParts, kind: u8, payload: &'a [u8] },
    Vote(VoteParts),
    Committed(LogIdParts),
    TruncateAfter(Option<LogIdParts>),
    PurgeUpto(LogIdParts),
    Seal(&'a [u8]),
}

/// A record and what surrounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decoded<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) crc: u32,
    /// Bytes up to the next record.
    pub(crate) padded: usize,
}

/// Bytes that a record with this much before the padding takes.
pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Appends an entry's record; its checksum.
#[expect(clippy::indexing_slicing, reason = "the record was just written at start")]
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &EntryParts) -> u32 {
    let LogIdParts { term, node, index } = entry.id;
    let len = ENTRY_HEAD + entry.payload.len();
    let len_on_disk = u32::try_from(len).expect("payloads are limited far below 4 GiB");
    let mut head = [0; ENTRY_HEAD];
    head[4..8].copy_from_slice(&len_on_disk.to_le_bytes());
    (head[8], head[10]) = (ENTRY, entry.kind);
    head[12..20].copy_from_slice(&index.to_le_bytes());
    head[20..28].copy_from_slice(&term.to_le_bytes());
    head[28..36].copy_from_slice(&node.to_le_bytes());

    let start = out.len();
    out.reserve(padded(len));
    out.put(&head);
    out.put(&entry.payload);
    out.resize(start + padded(len), 0);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Appends a vote's record; its checksum.
pub(crate) fn put_vote(out: &mut Vec<u8>, vote: VoteParts) -> u32 {
    let start = begin(out, VOTE, 0);
    out.put_u64(vote.term);
    out.put_u64(vote.node);
    out.put(&[u8::from(vote.committed)]);
    end(out, start)
}

/// Appends the record of what is committed; its checksum.
pub(crate) fn put_committed(out: &mut Vec<u8>, id: LogIdParts) -> u32 {
    let start = begin(out, COMMITTED, 0);
    out.put_log_id(id);
    end(out, start)
}

/// Appends a truncation's record; its checksum.
pub(crate) fn put_truncate_after(out: &mut Vec<u8>, keep: Option<LogIdParts>) -> u32 {
    let start = begin(out, TRUNCATE_AFTER, 0);
    out.put(&[u8::from(keep.is_some())]);
    out.put_log_id(keep.unwrap_or(LogIdParts { term: 0, node: 0, index: 0 }));
    end(out, start)
}

/// Appends a purge's record; its checksum.
pub(crate) fn put_purge_upto(out: &mut Vec<u8>, id: LogIdParts) -> u32 {
    let start = begin(out, PURGE_UPTO, 0);
    out.put_log_id(id);
    end(out, start)
}

/// Appends a seal's record; its checksum.
pub(crate) fn put_seal(out: &mut Vec<u8>, footer: &[u8]) -> u32 {
    let start = begin(out, SEAL, 0);
    out.put(footer);
    end(out, start)
}

fn begin(out: &mut Vec<u8>, kind_of_record: u8, kind: u8) -> usize {
    let start = out.len();
    out.put(&[0, 0, 0, 0, 0, 0, 0, 0, kind_of_record, 0, kind, 0]);
    start
}

#[expect(clippy::indexing_slicing, reason = "begin() wrote the head at start")]
fn end(out: &mut Vec<u8>, start: usize) -> u32 {
    let len = u32::try_from(out.len() - start).expect("payloads are limited far below 4 GiB");
    out.resize(start + padded(out.len() - start), 0);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The record at the front of `bytes`, verified, or why there is none.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded<'_>, &'static str> {
    verify(bytes)?;
    read_verified(bytes).ok_or("a record of a kind that is not known")
}

/// The record at the front of `bytes`, which `verify` has found good.
pub(crate) fn read_verified(bytes: &[u8]) -> Option<Decoded<'_>> {
    let mut from = Cursor::new(bytes);
    let crc = from.u32()?;
    let padded = padded(usize::try_from(from.u32()?).ok()?);
    Some(Decoded { record: parse(bytes)?, crc, padded })
}

/// Checks the record at the front of `bytes`: its checksum and the bytes up to the next record.
pub(crate) fn verify(bytes: &[u8]) -> Result<(u32, usize), &'static str> {
    let mut from = Cursor::new(bytes);
    let crc = from.u32().ok_or("a record is cut short")?;
    let len = from.u32().ok_or("a record is cut short")?;
    let len = usize::try_from(len).ok().ok_or("a record's length is impossible")?;
    if len < RECORD_HEAD {
        return Err("a record's length is impossible");
    }
    let padded = padded(len);
    let covered = bytes.get(4..padded).ok_or("a record is longer than its frame")?;
    if crc32c::crc32c(covered) != crc {
        return Err("a record does not verify");
    }
    if parse(bytes).is_none() {
        return Err("a record of a kind that is not known");
    }
    Ok((crc, padded))
}

/// Whether a record begins here whose bytes are as they were written, of whatever kind.
pub(crate) fn is_intact(bytes: &[u8]) -> bool {
    let crc = Cursor::new(bytes).u32();
    let covered = len_within(bytes).and_then(|len| bytes.get(4..padded(len)));
    covered.is_some_and(|covered| Some(crc32c::crc32c(covered)) == crc)
}

/// The length that a record beginning here claims, when it is possible.
pub(crate) fn len_within(bytes: &[u8]) -> Option<usize> {
    let mut from = Cursor::new(bytes);
    from.u32()?;
    let len = usize::try_from(from.u32()?).ok()?;
    (len >= RECORD_HEAD && padded(len) <= bytes.len()).then_some(len)
}

fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let mut from = Cursor::new(bytes);
    from.u32()?;
    let len = usize::try_from(from.u32()?).ok()?;
    let (kind_of_record, codec, kind, zero) = (from.u8()?, from.u8()?, from.u8()?, from.u8()?);
    let mut body = Cursor::new(from.take(len.checked_sub(RECORD_HEAD)?)?);
    if codec != 0 || zero != 0 || (kind != 0 && kind_of_record != ENTRY) {
        return None;
    }
    let record = match kind_of_record {
        ENTRY => {
            let (index, term, node) = (body.u64()?, body.u64()?, body.u64()?);
            let id = LogIdParts { term, node, index };
            return Some(Record::Entry { id, kind, payload: body.rest() });
        }
        SEAL => return Some(Record::Seal(body.rest())),
        VOTE => Record::Vote(VoteParts {
            term: body.u64()?,
            node: body.u64()?,
            committed: flag(body.u8()?)?,
        }),
        COMMITTED => Record::Committed(body.log_id()?),
        TRUNCATE_AFTER => {
            let present = flag(body.u8()?)?;
            let id = body.log_id()?;
            Record::TruncateAfter(present.then_some(id))
        }
        PURGE_UPTO => Record::PurgeUpto(body.log_id()?),
        _ => return None,
    };
    body.rest().is_empty().then_some(record)
}

/// Bytes up to the next record, as the record at the front of `bytes` claims.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<u64> {
    let mut from = Cursor::new(bytes);
    from.u32()?;
    let len = u64::from(from.u32()?);
    (len >= RECORD_HEAD_BYTES).then(|| len.next_multiple_of(8))
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_kind_reads_back_as_written() {
        let id = LogIdParts { term: 3, node: 2, index: 9 };
        let vote = VoteParts { term: 3, node: 2, committed: true };
        let entry = EntryParts { id, kind: 5, payload: Bytes::from_static(b"payload") };
        let mut out = Vec::new();
        put_entry(&mut out, &entry);
        put_vote(&mut out, vote);
        put_committed(&mut out, id);
        put_truncate_after(&mut out, None);
        put_truncate_after(&mut out, Some(id));
        put_purge_upto(&mut out, id);
        put_seal(&mut out, b"footer");

        let mut rest = &out[..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            let decoded = decode(rest).unwrap();
            records.push(decoded.record);
            rest = &rest[decoded.padded..];
        }
        let expected = [
            Record::Entry { id, kind: 5, payload: b"payload" },
            Record::Vote(vote),
            Record::Committed(id),
            Record::TruncateAfter(None),
            Record::TruncateAfter(Some(id)),
            Record::PurgeUpto(id),
            Record::Seal(b"footer"),
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn no_bit_of_a_record_may_change_padding_included() {
        let id = LogIdParts { term: 3, node: 2, index: 9 };
        let entry = EntryParts { id, kind: 5, payload: Bytes::from_static(b"12345") };
        let mut out = Vec::new();
        put_entry(&mut out, &entry);
        assert_eq!(out.len() % 8, 0);
        for bit in 0..out.len() * 8 {
            let mut flipped = out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..out.len() {
            assert!(decode(&out[..len]).is_err(), "cut to {len}");
        }
    }
}
