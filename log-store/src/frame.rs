//! One group commit as bytes: a header of 40 bytes, then its records. A frame is valid only as a whole.
//!
//! ```text
//!   0 magic "RFRM"   4 crc32c u32 of the 32 bytes that follow
//!   8 lsn (of this frame)   16 synced lsn (everything below was durable when this was written)
//!  24 body bytes u32   28 records u32   32 salt u32 (low half of the segment's)   36 chain u32
//! ```
//! The header's checksum is verified before its length is used. `lsn` and `salt` keep stale or misplaced
//! bytes from being taken for a frame. `chain` is the value of the frame before, or of the segment's
//! header: the checksum of all record checksums and of the frame header's.
#![warn(clippy::indexing_slicing)]

use crate::codec::Cursor;
use crate::record;

/// Bytes of a frame before its records.
pub(crate) const FRAME_HEAD: usize = 40;

const MAGIC: u32 = u32::from_le_bytes(*b"RFRM");

/// What must match for bytes to be a frame of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lsn: u64,
    pub(crate) salt: u32,
}

/// A frame's header, verified by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) synced_lsn: u64,
    pub(crate) body_len: u32,
    pub(crate) records: u32,
    pub(crate) chain: u32,
    crc: u32,
}

impl FrameHead {
    /// The header at the front of `bytes`, when it is one of this place.
    pub(crate) fn decode(bytes: &[u8], place: Place) -> Result<Self, &'static str> {
        let mut from = Cursor::new(bytes);
        if from.u32() != Some(MAGIC) {
            return Err("there is no frame");
        }
        Self::decode_rest(from, place).unwrap_or(Err("a frame header is cut short"))
    }

    fn decode_rest(mut from: Cursor<'_>, place: Place) -> Option<Result<Self, &'static str>> {
        let crc = from.u32()?;
        let mut fields = Cursor::new(from.take(FRAME_HEAD - 8)?);
        if crc32c::crc32c(fields.rest()) != crc {
            return Some(Err("a frame header does not verify"));
        }
        let lsn = fields.u64()?;
        let synced_lsn = fields.u64()?;
        let (body_len, records) = (fields.u32()?, fields.u32()?);
        let (salt, chain) = (fields.u32()?, fields.u32()?);
        if (Place { lsn, salt }) != place {
            return Some(Err("a frame of another place"));
        }
        if synced_lsn > lsn {
            return Some(Err("a frame claims that more was durable than was written"));
        }
        if records == 0 || body_len % 8 != 0 {
            return Some(Err("a frame's lengths are impossible"));
        }
        Some(Ok(Self { synced_lsn, body_len, records, chain, crc }))
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        u64::from(self.body_len) + FRAME_LEN_OF_HEAD
    }
}

const FRAME_LEN_OF_HEAD: u64 = 40;

/// Whether the bytes begin with a frame header as it was once written, of whatever place.
pub(crate) fn has_intact_head(bytes: &[u8]) -> bool {
    let mut from = Cursor::new(bytes);
    from.u32() == Some(MAGIC)
        && from
            .u32()
            .zip(from.take(FRAME_HEAD - 8))
            .is_some_and(|(crc, f)| crc32c::crc32c(f) == crc)
}

/// Whether a frame of this place may begin with these bytes, as far as they are not lost.
pub(crate) fn may_be_head(
    bytes: &[u8],
    place: Place,
    chain: u32,
    is_lost: impl Fn(usize) -> bool,
) -> bool {
    let known: [(usize, &[u8]); 4] = [
        (0, &MAGIC.to_le_bytes()),
        (8, &place.lsn.to_le_bytes()),
        (32, &place.salt.to_le_bytes()),
        (36, &chain.to_le_bytes()),
    ];
    let mut known = known.iter().flat_map(|(at, field)| (*at..).zip(*field));
    known.all(|(i, byte)| bytes.get(i) == Some(byte) || is_lost(i))
}

/// Builds frames in one buffer that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    records: u32,
    chain: Chain,
}

/// The chain value in the making: the checksum of checksums. They are gathered, because many short
/// checksum runs cost more than a long one.
#[derive(Debug)]
struct Chain {
    gathered: [u8; 256],
    len: usize,
    crc: u32,
}

impl Chain {
    const EMPTY: Self = Self { gathered: [0; 256], len: 0, crc: 0 };

    #[inline]
    fn push(&mut self, crc: u32) {
        if let Some(slot) = self.gathered.get_mut(self.len..self.len + 4) {
            slot.copy_from_slice(&crc.to_le_bytes());
            self.len += 4;
        }
        if self.len == self.gathered.len() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let gathered = self.gathered.get(..self.len).unwrap_or_default();
        self.crc = crc32c::crc32c_append(self.crc, gathered);
        self.len = 0;
    }

    /// All records, then the frame's own header.
    fn finish(&mut self, head_crc: u32) -> u32 {
        self.push(head_crc);
        self.flush();
        self.crc
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FrameBuilder {
    /// Begins a frame. A buffer that an unusually large frame has left behind is given back.
    pub(crate) fn begin(&mut self, usual: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > usual.saturating_mul(4) {
            self.bytes.shrink_to(usual);
        }
        self.bytes.resize(FRAME_HEAD, 0);
        self.records = 0;
        self.chain = Chain::EMPTY;
    }

    /// Adds the record that `put` writes: its offset in the frame and its checksum.
    pub(crate) fn add(&mut self, put: impl FnOnce(&mut Vec<u8>) -> u32) -> (u32, u32) {
        let offset = u32::try_from(self.bytes.len()).expect("a frame is far below 4 GiB");
        let crc = put(&mut self.bytes);
        self.chain.push(crc);
        self.records += 1;
        (offset, crc)
    }

    /// Bytes of the frame so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Completes the frame for its place; its bytes and its chain value.
    #[expect(clippy::indexing_slicing, reason = "begin() made room for the head")]
    pub(crate) fn finish(&mut self, place: Place, synced_lsn: u64, chain: u32) -> (&[u8], u32) {
        let body_len = u32::try_from(self.bytes.len() - FRAME_HEAD).expect("far below 4 GiB");
        let mut fields = [0; FRAME_HEAD - 8];
        fields[..8].copy_from_slice(&place.lsn.to_le_bytes());
        fields[8..16].copy_from_slice(&synced_lsn.to_le_bytes());
        fields[16..20].copy_from_slice(&body_len.to_le_bytes());
        fields[20..24].copy_from_slice(&self.records.to_le_bytes());
        fields[24..28].copy_from_slice(&place.salt.to_le_bytes());
        fields[28..].copy_from_slice(&chain.to_le_bytes());
        let crc = crc32c::crc32c(&fields);
        self.bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes[8..FRAME_HEAD].copy_from_slice(&fields);
        (&self.bytes, self.chain.finish(crc))
    }
}

/// Verifies every record of a frame's body; the chain value that the next frame must carry.
pub(crate) fn verify_body(head: &FrameHead, mut body: &[u8]) -> Result<u32, &'static str> {
    let mut chain = Chain::EMPTY;
    for _ in 0..head.records {
        let (crc, padded) = record::verify(body)?;
        chain.push(crc);
        body = body.get(padded..).ok_or("a record is longer than its frame")?;
    }
    if !body.is_empty() {
        return Err("a frame has bytes behind its last record");
    }
    Ok(chain.finish(head.crc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::VoteParts;

    const PLACE: Place = Place { lsn: 8192, salt: 7 };

    fn frame() -> (Vec<u8>, u32) {
        let mut builder = FrameBuilder::default();
        builder.begin(64);
        for term in 1..=3 {
            builder.add(|out| record::put_vote(out, VoteParts { term, node: 1, committed: false }));
        }
        let (bytes, chain) = builder.finish(PLACE, 8000, 99);
        (bytes.to_vec(), chain)
    }

    fn verify(bytes: &[u8], place: Place) -> Result<u32, &'static str> {
        let head = FrameHead::decode(bytes, place)?;
        let end = usize::try_from(head.frame_len()).unwrap();
        if head.chain != 99 {
            return Err("the chain is broken");
        }
        verify_body(&head, bytes.get(FRAME_HEAD..end).ok_or("short")?)
    }

    #[test]
    fn it_verifies_in_its_place_alone() {
        let (bytes, chain) = frame();
        assert_eq!(verify(&bytes, PLACE), Ok(chain));
        assert!(verify(&bytes, Place { lsn: 8200, ..PLACE }).is_err());
        assert!(verify(&bytes, Place { salt: 8, ..PLACE }).is_err());
    }

    #[test]
    fn the_chain_is_the_checksum_of_all_checksums() {
        for records in [0, 1, 63, 64, 65, 200] {
            let crcs: Vec<u32> = (0..=records).map(|n| n * 0x0101_0101).collect();
            let mut chain = Chain::EMPTY;
            crcs[..crcs.len() - 1].iter().for_each(|crc| chain.push(*crc));
            let bytes: Vec<u8> = crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
            assert_eq!(chain.finish(crcs[crcs.len() - 1]), crc32c::crc32c(&bytes), "{records}");
        }
    }

    #[test]
    fn no_bit_may_change_and_no_byte_may_lack() {
        let (bytes, _) = frame();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&flipped, PLACE).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(verify(&bytes[..len], PLACE).is_err(), "cut to {len}");
        }
    }
}
