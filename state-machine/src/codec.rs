//! Bytes in and out: the few shapes that commands, replies and rows are made of.
//!
//! Numbers are LEB128 varints in their shortest form, or fixed little-endian where a place is patched or compared;
//! byte strings are a varint length and the bytes. Every value has exactly one encoding, so equal meaning is equal bytes.
//!
//! A [`Decoder`] never panics and never allocates more than the input could fill, whatever the bytes are.

#![warn(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::error::Malformed;

/// The longest varint: 64 bits in groups of seven.
const VARINT_BYTES_MAX: usize = 10;

/// The length of a byte string as it is written. Lengths in memory always fit.
pub(crate) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

pub(crate) trait Encode {
    fn put_varint(&mut self, value: u64);
    fn put_string(&mut self, bytes: &[u8]);
    fn put_flag(&mut self, flag: bool);
    fn put_optional(&mut self, value: Option<u64>);
}

impl Encode for Vec<u8> {
    fn put_varint(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7F).to_le_bytes()[0];
            value >>= 7;
            if value == 0 {
                self.push(low);
                return;
            }
            self.push(low | 0x80);
        }
    }

    fn put_string(&mut self, bytes: &[u8]) {
        self.put_varint(length(bytes.len()));
        self.extend_from_slice(bytes);
    }

    fn put_flag(&mut self, flag: bool) {
        self.push(u8::from(flag));
    }

    fn put_optional(&mut self, value: Option<u64>) {
        self.put_flag(value.is_some());
        if let Some(value) = value {
            self.put_varint(value);
        }
    }
}

/// Reads one value after another; byte strings share the input's memory.
pub(crate) struct Decoder<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// `what` names the thing in errors.
    pub(crate) fn new(source: &'a Bytes, what: &'static str) -> Self {
        Self { source, rest: source, what }
    }

    pub(crate) fn malformed<T>(&self) -> Result<T, Malformed> {
        Err(Malformed { what: self.what })
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed { what: self.what })?;
        self.rest = rest;
        Ok(*first)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (fixed, rest) = self.rest.split_first_chunk().ok_or(Malformed { what: self.what })?;
        self.rest = rest;
        Ok(*fixed)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => self.malformed(),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        // Most numbers are small.
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for place in 0..VARINT_BYTES_MAX {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7F);
            let shift = 7 * u32::try_from(place).unwrap_or(u32::MAX);
            // The tenth byte holds the last bit; a zero in last place would be a second encoding of the same number.
            if (place == VARINT_BYTES_MAX - 1 && low > 1) || (byte == 0 && place > 0) {
                return self.malformed();
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.malformed()
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, Malformed> {
        let what = self.what;
        u32::try_from(self.varint()?).or(Err(Malformed { what }))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        if self.flag()? { self.varint().map(Some) } else { Ok(None) }
    }

    pub(crate) fn string(&mut self) -> Result<Bytes, Malformed> {
        let length = self.varint()?;
        let Some((bytes, rest)) =
            usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length))
        else {
            return self.malformed();
        };
        self.rest = rest;
        Ok(self.source.slice_ref(bytes))
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let what = self.what;
        String::from_utf8(self.string()?.into()).or(Err(Malformed { what }))
    }

    /// A counted list. Each element takes at least one byte, so a count beyond what is left is a lie.
    pub(crate) fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > self.remaining() {
            return self.malformed();
        }
        // Elements are larger in memory than encoded: grow with what really decodes, not with what was announced.
        let mut list = Vec::with_capacity(count.min(LIST_CAPACITY_MAX));
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// Everything that is left.
    pub(crate) fn tail(&mut self) -> Bytes {
        self.source.slice_ref(std::mem::take(&mut self.rest))
    }

    /// Says that the value is complete: trailing bytes are as wrong as missing ones.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { self.malformed() }
    }
}

/// Elements for which room is made before the first of them decoded.
const LIST_CAPACITY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u64, Malformed> {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut decoder = Decoder::new(&bytes, "number");
        let value = decoder.varint()?;
        decoder.end()?;
        Ok(value)
    }

    #[test]
    fn a_number_has_one_encoding() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            assert_eq!(varint(&bytes), Ok(value));
        }
        assert!(varint(&[0x80, 0x00]).is_err(), "zero in two bytes");
        assert!(varint(&[0xFF; 10]).is_err(), "more than 64 bits");
        assert!(varint(&[0x80]).is_err(), "cut");
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut bytes = Vec::new();
        bytes.put_varint(u64::MAX);
        let bytes = Bytes::from(bytes);
        assert!(Decoder::new(&bytes, "string").string().is_err());
        assert!(Decoder::new(&bytes, "list").list(Decoder::u8).is_err());
    }
}
