//! Numbers, texts and blobs inside a frame: little endian, lengths in front, nothing implied.
//!
//! [`FrameWriter`] makes one frame with at most one copy of each byte: short blobs are copied behind the
//! numbers, long ones ride along as pieces of their own. [`Reader`] takes it apart again; whatever it
//! hands out is a slice of the bytes received.
//!
//! Always true of `Reader`:
//! - it never panics and never allocates by a length that it read: a length is first compared with what is left;
//! - a message is read to its last byte or it is [`Malformed`].

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FRAME_HEADER, Kind, frame_header};

/// Blobs of this size and above become pieces of their own instead of being copied.
///
/// Below it one copy costs less than another HTTP/2 frame with its header and bookkeeping.
const OWN_PIECE_MIN: usize = 16 * 1024;

/// Texts in messages (addresses, labels, reasons) are shorter than this many bytes.
pub(crate) const TEXT_MAX: usize = 64 * 1024;

/// The bytes are not a message of this protocol: damaged, hostile or from a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub struct Malformed(pub(crate) &'static str);

/// One encoded frame, ready to be sent: the first piece starts with the frame's header.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    first: Bytes,
    rest: std::collections::VecDeque<Bytes>,
}

impl Pieces {
    /// All bytes that are still to be sent.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// The next piece, in order; pieces are never empty.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return self.rest.pop_front();
        }
        Some(std::mem::take(&mut self.first))
    }

    /// All pieces as one; copies unless there is only one.
    pub(crate) fn joined(mut self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut all = BytesMut::with_capacity(self.len());
        while let Some(piece) = self.pop() {
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }
}

/// Writes one frame.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    kind: Kind,
    buffer: BytesMut,
    /// The piece that holds the header, once a long blob ended it.
    first: Option<BytesMut>,
    rest: std::collections::VecDeque<Bytes>,
}

impl FrameWriter {
    /// `body_bytes` is what the caller expects to write; more is possible, at the price of a reallocation.
    pub(crate) fn new(kind: Kind, body_bytes: usize) -> FrameWriter {
        let mut buffer = BytesMut::with_capacity(FRAME_HEADER + body_bytes);
        buffer.resize(FRAME_HEADER, 0);
        FrameWriter { kind, buffer, first: None, rest: std::collections::VecDeque::new() }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.buffer.extend_from_slice(&[value]);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// A count of things that are in memory.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("a frame holds fewer than 2^32 of anything"));
    }

    pub(crate) fn text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_MAX - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.count(end);
        self.buffer.extend_from_slice(&text.as_bytes()[..end]);
    }

    /// A length and its bytes; long ones are passed on, not copied.
    pub(crate) fn blob(&mut self, blob: &Bytes) {
        self.count(blob.len());
        if blob.len() < OWN_PIECE_MIN {
            self.buffer.extend_from_slice(blob);
            return;
        }
        let before = std::mem::take(&mut self.buffer);
        if self.first.is_none() {
            self.first = Some(before);
        } else if !before.is_empty() {
            self.rest.push_back(before.freeze());
        }
        self.rest.push_back(blob.clone());
    }

    /// The frame with its length and checksum filled in.
    pub(crate) fn finish(self) -> Pieces {
        let FrameWriter { kind, buffer, first, mut rest } = self;
        let mut first = match first {
            None => buffer,
            Some(first) => {
                if !buffer.is_empty() {
                    rest.push_back(buffer.freeze());
                }
                first
            }
        };
        let header = frame_header(kind, &first[FRAME_HEADER..], &rest);
        first[..FRAME_HEADER].copy_from_slice(&header);
        Pieces { first: first.freeze(), rest }
    }
}

/// Reads the body of one frame.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    /// How many bytes have not been read yet: the bound for every count and length in the message.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `bytes_min` bytes each; more than fit is refused here.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_beyond| Malformed("a count"))?;
        if count > self.left() / bytes_min.max(1) {
            return Err(Malformed("a count beyond the end of its frame"));
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let len = self.count(1)?;
        if len >= TEXT_MAX {
            return Err(Malformed("a text that is too long"));
        }
        let text = self.take(len)?;
        let text =
            std::str::from_utf8(&text).map_err(|_bad| Malformed("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// A slice of the bytes received; keeps them alive, copies nothing.
    pub(crate) fn blob(&mut self) -> Result<Bytes, Malformed> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// The message must end here.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the message")) }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.bytes.len() {
            return Err(Malformed("a length beyond the end of its frame"));
        }
        Ok(self.bytes.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(found) = self.bytes.first_chunk::<N>().copied() else {
            return Err(Malformed("a message that ends too early"));
        };
        self.bytes.advance(N);
        Ok(found)
    }
}
