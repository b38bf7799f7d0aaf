//! Little-endian numbers in and out of bytes. Reading never panics: what is not there is `None`.
#![warn(clippy::indexing_slicing)]

use crate::types::LogIdParts;

/// Reads numbers from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn log_id(&mut self) -> Option<LogIdParts> {
        Some(LogIdParts { term: self.u64()?, node: self.u64()?, index: self.u64()? })
    }
}

/// Writes numbers to the end of a buffer.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }

    fn put_log_id(&mut self, id: LogIdParts) {
        self.put_u64(id.term);
        self.put_u64(id.node);
        self.put_u64(id.index);
    }
}

impl Put for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Seals a block of fixed length: zeros up to the last four bytes, there the checksum of the rest.
pub(crate) fn close_block(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(bytes.len() + 4 <= len, "{} bytes do not fit a block of {len}", bytes.len());
    bytes.resize(len - 4, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32(crc);
    bytes
}

/// Opens such a block: its content, when the checksum is right, and that checksum.
pub(crate) fn open_block(bytes: &[u8], len: usize) -> Option<(Cursor<'_>, u32)> {
    let block = bytes.get(..len)?;
    let (content, crc) = block.split_at_checked(len.checked_sub(4)?)?;
    let crc = Cursor::new(crc).u32()?;
    (crc32c::crc32c(content) == crc).then_some((Cursor::new(content), crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_opens_only_as_it_was_closed() {
        let block = close_block(b"content".to_vec(), 64);
        let (mut cursor, _) = open_block(&block, 64).unwrap();
        assert_eq!(cursor.take(7), Some(&b"content"[..]));
        for bit in 0..64 * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open_block(&flipped, 64).is_none(), "bit {bit}");
        }
        assert!(open_block(&block[..63], 64).is_none());
    }

    #[test]
    fn reading_past_the_end_is_none() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.u64(), None);
        assert_eq!(cursor.u8(), Some(1));
        assert_eq!(cursor.take(3), None);
        assert_eq!(cursor.rest(), [2, 3]);
    }
}
