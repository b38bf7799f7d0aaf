//! The bytes of a snapshot file.
//!
//! ```text
//!   header | chunk | chunk | ... | footer | trailer
//!
//!   header   magic 8 | format u16 | meta length u32 | meta | blake3 of all before
//!   chunk    head | stored bytes          ~1 MiB of rows; a row is never split
//!   footer   head | root 32 | rows u64 | raw bytes u64 | chunks u32 | (offset u64) of each chunk
//!   trailer  offset of the footer u64 | magic 8
//!
//!   head     kind u8 | codec u8 | 0 u16 | raw length u32 | stored length u32 | blake3 of the raw bytes
//!   row      key length u16 | row length u32 | key | row            ascending by key
//!   root     blake3(header hash ‖ every chunk's hash)
//! ```
//! All numbers little-endian. Each frame verifies by itself as it arrives, so a transfer can stop and
//! go on at any frame's end, and holds one frame in memory. The same state has the same bytes on every
//! node: nothing in it depends on the machine that wrote it.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};

use crate::snapshot::SnapshotError;

const MAGIC: &[u8; 8] = b"RMAPSNP\n";
const END_MAGIC: &[u8; 8] = b"RMAPEND\n";
const FORMAT: u16 = 1;

const HASH_BYTES: usize = 32;
const PREAMBLE_BYTES: usize = 8 + 2 + 4;
const HEAD_BYTES: usize = 12 + HASH_BYTES;
const TRAILER_BYTES: usize = 16;
const FOOTER_FIXED_BYTES: usize = HASH_BYTES + 8 + 8 + 4;
const ROW_HEAD_BYTES: usize = 6;

/// A chunk is closed when it holds this much; one row may make it longer.
const CHUNK_RAW_BYTES: usize = 1 << 20;
/// No frame is longer. The longest row is far below; a receiver holds at most two such buffers.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// The meta is a few KiB; its membership part grows with the nodes.
const META_BYTES_MAX: usize = 16 << 20;

const KIND_CHUNK: u8 = 1;
const KIND_FOOTER: u8 = 2;
const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;

type Hash = [u8; HASH_BYTES];

/// What a whole snapshot holds: rows, and their bytes before compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Totals {
    rows: u64,
    raw_bytes: u64,
}

/// Writes a snapshot in one pass.
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    raw: Vec<u8>,
    totals: Totals,
    root: blake3::Hasher,
    offsets: Vec<u64>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub(crate) fn begin(mut out: W, meta: &[u8]) -> io::Result<Self> {
        let mut header = Vec::with_capacity(PREAMBLE_BYTES + meta.len() + HASH_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&length(meta.len())?.to_le_bytes());
        header.extend_from_slice(meta);
        let hash = blake3::hash(&header);
        header.extend_from_slice(hash.as_bytes());
        out.write_all(&header)?;
        let mut root = blake3::Hasher::new();
        root.update(hash.as_bytes());
        Ok(Self {
            out,
            written: header.len() as u64,
            raw: Vec::with_capacity(CHUNK_RAW_BYTES + (64 << 10)),
            totals: Totals { rows: 0, raw_bytes: 0 },
            root,
            offsets: Vec::new(),
        })
    }

    /// Adds a row; keys must ascend.
    pub(crate) fn row(&mut self, key: &[u8], row: &[u8]) -> io::Result<()> {
        let key_len = u16::try_from(key.len()).map_err(too_long)?;
        self.raw.extend_from_slice(&key_len.to_le_bytes());
        self.raw.extend_from_slice(&length(row.len())?.to_le_bytes());
        self.raw.extend_from_slice(key);
        self.raw.extend_from_slice(row);
        self.totals.rows += 1;
        if self.raw.len() >= CHUNK_RAW_BYTES { self.chunk() } else { Ok(()) }
    }

    /// Writes what is left, the footer and the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.raw.is_empty() {
            self.chunk()?;
        }
        let footer_offset = self.written;
        let mut body = Vec::with_capacity(FOOTER_FIXED_BYTES + 8 * self.offsets.len());
        body.extend_from_slice(self.root.finalize().as_bytes());
        body.extend_from_slice(&self.totals.rows.to_le_bytes());
        body.extend_from_slice(&self.totals.raw_bytes.to_le_bytes());
        body.extend_from_slice(&length(self.offsets.len())?.to_le_bytes());
        for offset in &self.offsets {
            body.extend_from_slice(&offset.to_le_bytes());
        }
        let hash = blake3::hash(&body);
        self.frame(KIND_FOOTER, CODEC_NONE, body.len(), hash.as_bytes(), &body)?;
        self.out.write_all(&footer_offset.to_le_bytes())?;
        self.out.write_all(END_MAGIC)?;
        Ok(self.out)
    }

    fn chunk(&mut self) -> io::Result<()> {
        let hash = blake3::hash(&self.raw);
        self.root.update(hash.as_bytes());
        self.offsets.push(self.written);
        self.totals.raw_bytes += self.raw.len() as u64;
        let raw = std::mem::take(&mut self.raw);
        let packed = lz4_flex::block::compress(&raw);
        if packed.len() < raw.len() {
            self.frame(KIND_CHUNK, CODEC_LZ4, raw.len(), hash.as_bytes(), &packed)?;
        } else {
            self.frame(KIND_CHUNK, CODEC_NONE, raw.len(), hash.as_bytes(), &raw)?;
        }
        self.raw = raw;
        self.raw.clear();
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        codec: u8,
        raw_len: usize,
        hash: &Hash,
        stored: &[u8],
    ) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&[kind, codec, 0, 0]);
        head.extend_from_slice(&length(raw_len)?.to_le_bytes());
        head.extend_from_slice(&length(stored.len())?.to_le_bytes());
        head.extend_from_slice(hash);
        self.out.write_all(&head)?;
        self.out.write_all(stored)?;
        self.written += (head.len() + stored.len()) as u64;
        Ok(())
    }
}

fn length(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(too_long)
}

fn too_long(error: std::num::TryFromIntError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// A verified part of a snapshot.
#[derive(Debug)]
pub(crate) enum Part {
    /// The encoded meta.
    Header(Bytes),
    /// Rows; iterate with [`rows`].
    Chunk(Vec<u8>),
    /// Every chunk was there.
    Footer,
    /// Nothing may follow.
    End,
}

/// Takes a snapshot's bytes in pieces of any size and gives back its verified parts.
pub(crate) struct Parser {
    buffer: BytesMut,
    expect: Expect,
    /// Bytes of the parts given out so far: where a transfer may go on.
    verified: u64,
    rows: u64,
    raw_bytes: u64,
    root: blake3::Hasher,
    offsets: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Header,
    Frame,
    Trailer { footer: u64 },
    Nothing,
}

impl Parser {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            expect: Expect::Header,
            verified: 0,
            rows: 0,
            raw_bytes: 0,
            root: blake3::Hasher::new(),
            offsets: Vec::new(),
        }
    }

    /// Bytes of all parts given out: a frame's end.
    pub(crate) fn verified(&self) -> u64 {
        self.verified
    }

    /// Forgets what was fed beyond the last whole part: the next bytes are those at
    /// [`Parser::verified`].
    pub(crate) fn rewound(mut self) -> Self {
        self.buffer.clear();
        self
    }

    /// Whether the whole snapshot was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.expect == Expect::Nothing
    }

    /// Adds what arrived; call [`Parser::next`] until it gives nothing.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next verified part with the bytes it was made of, or `None` until more was fed.
    pub(crate) fn next(&mut self) -> Result<Option<(Part, Bytes)>, SnapshotError> {
        let Some(len) = self.part_len()? else { return Ok(None) };
        if self.buffer.len() < len {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(len).freeze();
        let part = match self.expect {
            Expect::Header => self.header(&bytes)?,
            Expect::Frame => self.frame(&bytes)?,
            Expect::Trailer { footer } => self.trailer(&bytes, footer)?,
            Expect::Nothing => return Err(refused("bytes after the end")),
        };
        self.verified += len as u64;
        Ok(Some((part, bytes)))
    }

    /// Length of the part that begins the buffer, once its own head has arrived.
    fn part_len(&self) -> Result<Option<usize>, SnapshotError> {
        match self.expect {
            Expect::Header => self.header_len(),
            Expect::Frame => self.frame_len(),
            Expect::Trailer { .. } => Ok(Some(TRAILER_BYTES)),
            Expect::Nothing if self.buffer.is_empty() => Ok(None),
            Expect::Nothing => Err(refused("bytes after the end")),
        }
    }

    fn header_len(&self) -> Result<Option<usize>, SnapshotError> {
        let Some(mut preamble) = self.buffer.get(..PREAMBLE_BYTES) else { return Ok(None) };
        if preamble.get(..8) != Some(MAGIC.as_slice()) {
            return Err(refused("not a snapshot"));
        }
        preamble.advance(8);
        let format = preamble.get_u16_le();
        if format != FORMAT {
            return Err(SnapshotError::Refused {
                reason: format!("snapshot format {format}, this node reads {FORMAT}"),
            });
        }
        let meta = bounded(preamble.get_u32_le(), META_BYTES_MAX)?;
        Ok(Some(PREAMBLE_BYTES + meta + HASH_BYTES))
    }

    fn frame_len(&self) -> Result<Option<usize>, SnapshotError> {
        let Some(head) = self.buffer.get(..HEAD_BYTES) else { return Ok(None) };
        let head = Head::parse(head)?;
        Ok(Some(HEAD_BYTES + head.stored_len))
    }

    fn header(&mut self, bytes: &Bytes) -> Result<Part, SnapshotError> {
        let body = bytes.len() - HASH_BYTES;
        let hash = blake3::hash(&bytes[..body]);
        if hash.as_bytes()[..] != bytes[body..] {
            return Err(refused("header does not verify"));
        }
        self.root.update(hash.as_bytes());
        self.expect = Expect::Frame;
        Ok(Part::Header(bytes.slice(PREAMBLE_BYTES..body)))
    }

    fn frame(&mut self, bytes: &Bytes) -> Result<Part, SnapshotError> {
        let (head, stored) = bytes.split_at(HEAD_BYTES);
        let head = Head::parse(head)?;
        let raw = head.unpack(stored)?;
        if blake3::hash(&raw).as_bytes() != &head.hash {
            return Err(refused("chunk does not verify"));
        }
        if head.kind == KIND_FOOTER {
            return self.footer(&raw);
        }
        self.root.update(&head.hash);
        self.offsets.push(self.verified);
        self.raw_bytes += raw.len() as u64;
        for row in rows(&raw) {
            row?;
            self.rows += 1;
        }
        Ok(Part::Chunk(raw))
    }

    fn footer(&mut self, body: &[u8]) -> Result<Part, SnapshotError> {
        let (mut fixed, mut offsets) =
            body.split_at_checked(FOOTER_FIXED_BYTES).ok_or_else(|| refused("footer is short"))?;
        let root_matches = fixed[..HASH_BYTES] == self.root.finalize().as_bytes()[..];
        fixed.advance(HASH_BYTES);
        let totals = Totals { rows: fixed.get_u64_le(), raw_bytes: fixed.get_u64_le() };
        let seen = Totals { rows: self.rows, raw_bytes: self.raw_bytes };
        let chunks_match = u64::from(fixed.get_u32_le()) == self.offsets.len() as u64
            && offsets.len() == 8 * self.offsets.len()
            && self.offsets.iter().all(|offset| offsets.get_u64_le() == *offset);
        if !(root_matches && chunks_match && totals == seen) {
            return Err(refused("footer does not fit its chunks"));
        }
        self.expect = Expect::Trailer { footer: self.verified };
        Ok(Part::Footer)
    }

    fn trailer(&mut self, mut bytes: &[u8], footer: u64) -> Result<Part, SnapshotError> {
        if bytes.get_u64_le() != footer || bytes != END_MAGIC {
            return Err(refused("trailer does not verify"));
        }
        self.expect = Expect::Nothing;
        Ok(Part::End)
    }
}

struct Head {
    kind: u8,
    codec: u8,
    raw_len: usize,
    stored_len: usize,
    hash: Hash,
}

impl Head {
    fn parse(mut bytes: &[u8]) -> Result<Self, SnapshotError> {
        let kind = bytes.get_u8();
        let codec = bytes.get_u8();
        let zero = bytes.get_u16_le();
        let raw_len = bounded(bytes.get_u32_le(), FRAME_BYTES_MAX)?;
        let stored_len = bounded(bytes.get_u32_le(), FRAME_BYTES_MAX)?;
        let hash = Hash::try_from(bytes).map_err(|_wrong_length| refused("frame head is short"))?;
        let known = matches!(
            (kind, codec),
            (KIND_CHUNK, CODEC_NONE | CODEC_LZ4) | (KIND_FOOTER, CODEC_NONE)
        );
        if !known || zero != 0 || stored_len > raw_len {
            return Err(refused("frame head does not verify"));
        }
        Ok(Self { kind, codec, raw_len, stored_len, hash })
    }

    fn unpack(&self, stored: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let raw = match self.codec {
            CODEC_LZ4 => lz4_flex::block::decompress(stored, self.raw_len).map_err(|error| {
                SnapshotError::Refused { reason: format!("chunk does not unpack: {error}") }
            })?,
            _ => stored.to_vec(),
        };
        if raw.len() == self.raw_len { Ok(raw) } else { Err(refused("chunk has another length")) }
    }
}

/// The rows of a verified chunk.
pub(crate) fn rows(mut raw: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), SnapshotError>> {
    std::iter::from_fn(move || {
        if raw.is_empty() {
            return None;
        }
        let row = split_row(raw);
        raw = match row {
            Some((_, rest)) => rest,
            None => &[],
        };
        Some(row.map(|(row, _)| row).ok_or_else(|| refused("row is cut")))
    })
}

type KeyAndRow<'a> = (&'a [u8], &'a [u8]);

fn split_row(raw: &[u8]) -> Option<(KeyAndRow<'_>, &[u8])> {
    let (mut head, rest) = raw.split_at_checked(ROW_HEAD_BYTES)?;
    let key_len = usize::from(head.get_u16_le());
    let row_len = usize::try_from(head.get_u32_le()).ok()?;
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (row, rest) = rest.split_at_checked(row_len)?;
    Some(((key, row), rest))
}

fn bounded(len: u32, max: usize) -> Result<usize, SnapshotError> {
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= max)
        .ok_or_else(|| refused("length out of bounds"))
}

fn refused(reason: &str) -> SnapshotError {
    SnapshotError::Refused { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: u32) -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), b"meta").unwrap();
        for n in 0..rows {
            let value = vec![u8::try_from(n % 251).unwrap(); 3000];
            writer.row(&n.to_be_bytes(), &value).unwrap();
        }
        writer.finish().unwrap()
    }

    /// Everything a receiver learns from `bytes` that arrive in pieces of `piece`.
    fn parse(bytes: &[u8], piece: usize) -> Result<(Bytes, Vec<u32>, bool), SnapshotError> {
        let mut parser = Parser::new();
        let (mut meta, mut keys) = (Bytes::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            parser.feed(piece);
            while let Some((part, _)) = parser.next()? {
                match part {
                    Part::Header(bytes) => meta = bytes,
                    Part::Chunk(raw) => {
                        for row in rows(&raw) {
                            keys.push(u32::from_be_bytes(row?.0.try_into().unwrap()));
                        }
                    }
                    Part::Footer | Part::End => {}
                }
            }
        }
        Ok((meta, keys, parser.is_complete()))
    }

    #[test]
    fn what_was_written_is_read_in_pieces_of_any_size() {
        let bytes = sample(1000);
        for piece in [1000, 4096, 1 << 20, bytes.len()] {
            let (meta, keys, complete) = parse(&bytes, piece).unwrap();
            assert_eq!(meta.as_ref(), b"meta");
            assert_eq!(keys, (0..1000).collect::<Vec<_>>());
            assert!(complete);
        }
        let small = sample(1);
        assert!(parse(&small, 1).unwrap().2);
        assert!(parse(&sample(0), 7).unwrap().2);
    }

    #[test]
    fn any_flipped_byte_is_refused() {
        let bytes = sample(3);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            let complete = parse(&flipped, bytes.len()).is_ok_and(|(.., complete)| complete);
            assert!(!complete, "byte {at}");
        }
    }

    #[test]
    fn a_cut_file_is_never_complete() {
        let bytes = sample(3);
        for len in 0..bytes.len() {
            let (.., complete) = parse(&bytes[..len], bytes.len()).unwrap();
            assert!(!complete, "{len} bytes");
        }
    }

    #[test]
    fn a_missing_or_moved_chunk_is_refused() {
        let bytes = sample(1000);
        let mut parser = Parser::new();
        parser.feed(&bytes);
        let mut parts = Vec::new();
        while let Some((_, bytes)) = parser.next().unwrap() {
            parts.push(bytes);
        }
        assert!(parts.len() >= 6, "header, three chunks, footer, trailer");

        let without = [&parts[..1], &parts[2..]].concat().concat();
        assert!(parse(&without, 1 << 20).is_err());
        let mut swapped = parts;
        swapped.swap(1, 2);
        assert!(parse(&swapped.concat(), 1 << 20).is_err());
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut bytes = sample(1);
        bytes.push(0);
        assert!(parse(&bytes, bytes.len()).is_err());
    }
}
