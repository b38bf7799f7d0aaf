//! Frames: the unit of everything that nodes say to each other.
//!
//! ```text
//!   | len u32 | crc u32 | version u8 | kind u8 | body ...            |
//!                       '------------- len bytes, crc32c ------------'
//! ```
//!
//! A request or response is one frame or a stream of them. HTTP/2 cuts the bytes as it likes;
//! [`FrameReader`] puts them together again. A frame that lies within one chunk is a slice of it;
//! only a frame that spans chunks is copied, once.
//!
//! The checksum is end to end (TCP's 16 bits miss too much for bytes that become log entries).
//!
//! Always true:
//! - a frame is at most [`FRAME_BYTES_MAX`] long, and memory grows with the bytes that came, not with a
//!   length that was claimed;
//! - the reader yields whole, verified frames in order, or one error and then nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Body;

use super::wire::{Malformed, Reader};

/// The largest frame: above the largest log entry (64 MiB) with room for its neighbours in a batch.
pub const FRAME_BYTES_MAX: usize = 72 * 1024 * 1024;

/// Bytes in front of a frame's body.
pub(crate) const FRAME_HEADER: usize = 10;

/// Length and checksum: what precedes the bytes that `len` counts.
const PREFIX: usize = 8;

/// The only version of the protocol so far.
const VERSION: u8 = 1;

/// How much memory a frame that spans chunks may claim ahead of the bytes that came.
const GROW_MAX: usize = 1024 * 1024;

/// What a frame's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Append = 1,
    Ack = 2,
    Vote = 3,
    VoteReply = 4,
    TransferLeader = 5,
    TransferLeaderReply = 6,
    SnapshotBegin = 7,
    SnapshotOffset = 8,
    SnapshotProgress = 9,
    SnapshotDone = 10,
    Forward = 11,
    ForwardReply = 12,
    ReadIndex = 13,
    ReadIndexReply = 14,
    Hello = 15,
    HelloReply = 16,
    Join = 17,
    JoinReply = 18,
    Call = 19,
    CallReply = 20,
}

impl Kind {
    const ALL: [Kind; 20] = [
        Kind::Append,
        Kind::Ack,
        Kind::Vote,
        Kind::VoteReply,
        Kind::TransferLeader,
        Kind::TransferLeaderReply,
        Kind::SnapshotBegin,
        Kind::SnapshotOffset,
        Kind::SnapshotProgress,
        Kind::SnapshotDone,
        Kind::Forward,
        Kind::ForwardReply,
        Kind::ReadIndex,
        Kind::ReadIndexReply,
        Kind::Hello,
        Kind::HelloReply,
        Kind::Join,
        Kind::JoinReply,
        Kind::Call,
        Kind::CallReply,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    fn byte(self) -> u8 {
        self as u8
    }
}

/// A verified frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
}

impl Frame {
    /// A reader of the body, if this is the kind of frame that is expected here.
    pub(crate) fn expect(self, kind: Kind) -> Result<Reader, Malformed> {
        if self.kind != kind {
            return Err(Malformed("an unexpected kind of frame"));
        }
        Ok(Reader::new(self.body))
    }
}

/// The header of a frame whose body is `first` followed by `rest`.
pub(crate) fn frame_header(kind: Kind, first: &[u8], rest: &VecDeque<Bytes>) -> [u8; FRAME_HEADER] {
    let len = 2 + first.len() + rest.iter().map(Bytes::len).sum::<usize>();
    assert!(len <= FRAME_BYTES_MAX, "a {kind:?} frame of {len} bytes, above {FRAME_BYTES_MAX}");
    let len = u32::try_from(len).expect("the largest frame is far below 4 GiB");
    let head = [VERSION, kind.byte()];
    let mut crc = crc32c::crc32c_append(crc32c::crc32c(&head), first);
    for piece in rest {
        crc = crc32c::crc32c_append(crc, piece);
    }
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    header[8..].copy_from_slice(&head);
    header
}

/// Chunks in, frames out.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// What came last and is not consumed yet.
    chunk: Bytes,
    /// The front of a frame that goes on in the next chunk.
    partial: BytesMut,
}

impl FrameReader {
    /// Takes what came. Call [`FrameReader::next_frame`] until it has none before giving more.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the last chunk was not read to its end");
        self.chunk = chunk;
    }

    /// Whether no frame is cut in two here: the only place where a stream may end.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.partial.is_empty() {
            if self.chunk.is_empty() {
                return Ok(None);
            }
            if let Some(total) = total_len(&self.chunk)?
                && self.chunk.len() >= total
            {
                return verify(self.chunk.split_to(total)).map(Some);
            }
        }
        if !self.fill(PREFIX) {
            return Ok(None);
        }
        let total = total_len(&self.partial)?.expect("the prefix is complete");
        if !self.fill(total) {
            return Ok(None);
        }
        verify(self.partial.split().freeze()).map(Some)
    }

    /// Moves bytes from the chunk until the partial frame has `len`; false if there are not enough.
    fn fill(&mut self, len: usize) -> bool {
        let missing = len.saturating_sub(self.partial.len());
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        self.partial.reserve(missing.min(GROW_MAX.max(taken.len())));
        self.partial.extend_from_slice(&taken);
        self.partial.len() >= len
    }
}

/// The whole length of the frame that starts here, once its prefix is there.
fn total_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    if bytes.len() < PREFIX {
        return Ok(None);
    }
    let Some(len) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len =
        usize::try_from(u32::from_le_bytes(*len)).map_err(|_beyond| Malformed("a frame length"))?;
    if !(2..=FRAME_BYTES_MAX).contains(&len) {
        return Err(Malformed("a frame length out of bounds"));
    }
    Ok(Some(PREFIX + len))
}

fn verify(mut frame: Bytes) -> Result<Frame, Malformed> {
    frame.advance(4);
    let crc = frame.get_u32_le();
    if crc32c::crc32c(&frame) != crc {
        return Err(Malformed("a checksum that does not match"));
    }
    if frame.get_u8() != VERSION {
        return Err(Malformed("a version of the protocol that this node does not speak"));
    }
    let kind = Kind::from_byte(frame.get_u8()).ok_or(Malformed("an unknown kind of frame"))?;
    Ok(Frame { kind, body: frame })
}

/// Why a stream of frames ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the connection ended within a frame")]
    Cut,
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// The frames of an HTTP body.
#[derive(Debug)]
pub(crate) struct Frames<B> {
    body: B,
    reader: FrameReader,
    ended: bool,
}

impl<B> Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(crate) fn new(body: B) -> Frames<B> {
        Frames { body, reader: FrameReader::default(), ended: false }
    }

    /// The next frame; `None` at an end between frames. After an error: `None`.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, FrameError>>> {
        while !self.ended {
            match self.reader.next_frame() {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(malformed) => return Poll::Ready(Some(Err(self.end(malformed)))),
            }
            match ready!(self.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.reader.push(chunk),
                Some(Err(error)) => return Poll::Ready(Some(Err(self.end(error)))),
                None if self.reader.is_between_frames() => self.ended = true,
                None => return Poll::Ready(Some(Err(self.end(FrameError::Cut)))),
            }
        }
        Poll::Ready(None)
    }

    /// What follows the frames read so far, raw: first what the reader still holds.
    pub(crate) async fn next_raw(&mut self) -> Option<Result<Bytes, FrameError>> {
        if !self.reader.chunk.is_empty() {
            return Some(Ok(std::mem::take(&mut self.reader.chunk)));
        }
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The next data of the body; anything else (trailers) is skipped.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FrameError>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(FrameError::Broken(error.to_string()))));
                }
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
            }
        }
    }

    fn end<E>(&mut self, error: E) -> FrameError
    where
        FrameError: From<E>,
    {
        self.ended = true;
        FrameError::from(error)
    }
}

#[cfg(test)]
mod tests;
