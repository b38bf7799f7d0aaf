//! The first block of a segment: whose it is, where it stands, and the state of the log at its start.
//!
//! ```text
//!   0 magic "RAFTMWAL"   8 version u32   12 flags u32 (0)   16 wal uuid u128
//!  32 seq   40 base index   48 start lsn   56 salt   64 capacity
//!  72 predecessor: seq   80 end lsn   88 chain u32   92 zero u32
//!  96 state (96 bytes)   192 zeros   4092 crc32c of everything before
//! ```
//! Because of the state block an old segment can simply be deleted: vote, committed and purge frontier
//! never live in a deleted file alone. Because of the predecessor a segment's end is known from outside.

use crate::codec::{Cursor, Put, close_block, open_block};
use crate::state::State;

/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: u64 = 4096;
const HEADER_LEN: usize = 4096;

/// The newest version of the log's files that this program reads and the one that it writes.
pub(crate) const VERSION: u32 = 1;

/// A log begins at a multiple of this: a new one at 0, a repaired one above all positions of the old one. More
/// than any log grows between two writings of FRONTIER.
pub(crate) const STRIDE: u64 = 1 << 40;

const MAGIC: &[u8; 8] = b"RAFTMWAL";

/// A segment's header. Never changed once the file has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) uuid: u128,
    /// The number of the segment: without gaps, never used again.
    pub(crate) seq: u64,
    /// The index of the next entry when the segment was made; 0 when any would have done.
    pub(crate) base: u64,
    /// The position of the file's first byte in the log.
    pub(crate) start_lsn: u64,
    /// Goes into every frame, so that bytes of another file or time are not taken for a frame.
    pub(crate) salt: u64,
    /// The length of the file, made durable before it got its name.
    pub(crate) capacity: u64,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) state: State,
}

/// How the segment before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) seq: u64,
    pub(crate) end_lsn: u64,
    /// The chain value of its last frame.
    pub(crate) chain: u32,
}

/// Why a block is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It does not verify.
    Damaged(&'static str),
    /// It is of a version that is not known here.
    TooNew(u32),
}

impl Header {
    /// The block, and the chain value that the first frame carries.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.put(MAGIC);
        out.put_u32(VERSION);
        out.put_u32(0);
        out.put_u128(self.uuid);
        for number in [self.seq, self.base, self.start_lsn, self.salt, self.capacity] {
            out.put_u64(number);
        }
        let predecessor = self.predecessor.unwrap_or(Predecessor { seq: 0, end_lsn: 0, chain: 0 });
        out.put_u64(predecessor.seq);
        out.put_u64(predecessor.end_lsn);
        out.put_u32(predecessor.chain);
        out.put_u32(0);
        self.state.encode(&mut out);
        let block = close_block(out, HEADER_LEN);
        let crc = open_block(&block, HEADER_LEN).map(|(_, crc)| crc);
        (block, crc.expect("a block opens as it was closed"))
    }

    /// The header, and the chain value that the first frame must carry.
    pub(crate) fn decode(block: &[u8]) -> Result<(Self, u32), BadHeader> {
        if !block.starts_with(MAGIC) {
            return Err(BadHeader::Damaged("the header does not begin as one"));
        }
        let wrong = BadHeader::Damaged("the header does not verify");
        let (mut from, crc) = open_block(block, HEADER_LEN).ok_or(wrong)?;
        from.take(MAGIC.len()).ok_or(wrong)?;
        let version = from.u32().filter(|&version| version > 0).ok_or(wrong)?;
        if version > VERSION {
            return Err(BadHeader::TooNew(version));
        }
        let header = Self::decode_fields(&mut from).ok_or(wrong)?;
        if !header.is_sound() {
            return Err(BadHeader::Damaged("the header contradicts itself"));
        }
        Ok((header, crc))
    }

    fn decode_fields(from: &mut Cursor<'_>) -> Option<Self> {
        // Flags that this version does not know.
        if from.u32()? != 0 {
            return None;
        }
        let uuid = from.u128()?;
        let (seq, base, start_lsn) = (from.u64()?, from.u64()?, from.u64()?);
        let (salt, capacity) = (from.u64()?, from.u64()?);
        let predecessor =
            Predecessor { seq: from.u64()?, end_lsn: from.u64()?, chain: from.u32()? };
        from.u32()?;
        let predecessor = (predecessor.seq != 0).then_some(predecessor);
        let state = State::decode(from)?;
        Some(Self { uuid, seq, base, start_lsn, salt, capacity, predecessor, state })
    }

    /// What any header says that was ever written: where the segment before it ends it begins, with the
    /// next number and the next index.
    fn is_sound(&self) -> bool {
        let follows = match self.predecessor {
            None => self.seq == 1 && self.start_lsn.is_multiple_of(STRIDE),
            Some(before) => {
                before.seq.checked_add(1) == Some(self.seq) && before.end_lsn == self.start_lsn
            }
        };
        let next = self.state.last.map_or(Some(0), |last| last.index.checked_add(1));
        let room = (HEADER_BYTES..=u64::from(u32::MAX)).contains(&self.capacity);
        let ends = self.start_lsn.checked_add(self.capacity).is_some();
        follows && next == Some(self.base) && room && ends
    }

    /// The name of the segment's file.
    pub(crate) fn file_name(&self) -> String {
        file_name(self.seq, self.base)
    }
}

/// The name of a segment's file.
pub(crate) fn file_name(seq: u64, base: u64) -> String {
    format!("{seq:016}-{base:020}.wal")
}

/// The numbers in a segment's name. None for a name that this program never gives.
pub(crate) fn parse_file_name(name: &str) -> Option<(u64, u64)> {
    let (seq, base) = name.strip_suffix(".wal")?.split_once('-')?;
    let (seq, base) = (seq.parse().ok()?, base.parse().ok()?);
    (file_name(seq, base) == name && seq > 0).then_some((seq, base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogIdParts, VoteParts};

    fn header() -> Header {
        let last = Some(LogIdParts { term: 5, node: 2, index: 899 });
        Header {
            uuid: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10,
            seq: 7,
            base: 900,
            start_lsn: 1 << 20,
            salt: 0x1122_3344_5566_7788,
            capacity: 65536,
            predecessor: Some(Predecessor { seq: 6, end_lsn: 1 << 20, chain: 0xABCD }),
            state: State {
                vote: Some(VoteParts { term: 5, node: 2, committed: true }),
                committed: last,
                purged: None,
                last,
            },
        }
    }

    #[test]
    fn it_reads_back_as_written_and_no_bit_may_change() {
        let (block, chain) = header().encode();
        assert_eq!(Header::decode(&block), Ok((header(), chain)));
        for bit in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_damage() {
        let good = header();
        let before = good.predecessor;
        let wrong = [
            Header { predecessor: None, ..good },
            Header { start_lsn: good.start_lsn + 8, ..good },
            Header { seq: 8, ..good },
            Header { base: 899, ..good },
            Header { capacity: 4095, ..good },
            Header { capacity: 1 << 32, ..good },
            Header {
                start_lsn: u64::MAX - 7,
                predecessor: before.map(|p| Predecessor { end_lsn: u64::MAX - 7, ..p }),
                ..good
            },
        ];
        for header in wrong {
            let decoded = Header::decode(&header.encode().0);
            assert!(matches!(decoded, Err(BadHeader::Damaged(_))), "{header:?}");
        }
    }

    /// The checksum of a block that ends with its own checksum is the same number for all of them.
    #[test]
    fn the_chain_value_of_another_header_is_another() {
        let other = Header { capacity: 4096, ..header() };
        assert_ne!(header().encode().1, other.encode().1);
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let (mut block, _) = header().encode();
        block[8] = 2;
        block.truncate(HEADER_LEN - 4);
        let block = close_block(block, HEADER_LEN);
        assert_eq!(Header::decode(&block), Err(BadHeader::TooNew(2)));
    }

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(parse_file_name(&header().file_name()), Some((7, 900)));
        for name in [
            "7-900.wal",
            "0000000000000000-00000000000000000001.wal",
            "+000000000000007-00000000000000000900.wal",
            "0000000000000007-00000000000000000900.wal.bak",
            "0000000000000007-00000000000000000900",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
