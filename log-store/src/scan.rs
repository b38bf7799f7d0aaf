//! Reads a segment's frames in order, each verified as a whole before anything in it is believed.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, SECTOR, read_full, u64_len};
use crate::frame::{FRAME_HEAD, FrameHead, Place, verify_body};
use crate::header::{HEADER_BYTES, Header};
use crate::record::{self, Decoded};
use crate::tear::{Tear, Unverified, tear};

/// Bytes read at once: large enough for the disk, small enough to stay in the processor's cache.
const BLOCK: usize = 1 << 20;

/// A record and where it is.
#[derive(Debug)]
pub(crate) struct Visited<'a> {
    pub(crate) decoded: Decoded<'a>,
    /// Its offset in the segment.
    pub(crate) offset: u32,
}

/// How far the frames of a segment go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Behind the last valid frame.
    pub(crate) end: u64,
    /// The chain value of the last valid frame.
    pub(crate) chain: u32,
    /// Why the next one is not valid; none when the scan ended at its limit.
    pub(crate) stop: Option<&'static str>,
}

/// A segment's file, read block by block.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    file_len: u64,
    buf: Vec<u8>,
    /// The offset of the first byte in `buf`, and how many are there.
    start: u64,
    filled: usize,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn DiskFile>, file_len: u64) -> Self {
        Self { file, file_len, buf: Vec::new(), start: 0, filled: 0 }
    }

    /// The length of the file.
    pub(crate) fn len(&self) -> u64 {
        self.file_len
    }

    /// The bytes at `offset`, `len` of them; none when the file ends before. The buffer grows with what
    /// is in the file, never with what a length on disk claims.
    pub(crate) fn get(&mut self, offset: u64, len: u64) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(len).is_none_or(|end| end > self.file_len) {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if !self.holds(offset, len) {
            self.fill(offset, len)?;
        }
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        Ok(self.buf.get(from..from + len).filter(|_| from + len <= self.filled))
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        offset >= self.start && offset + u64_len(len) <= self.start + u64_len(self.filled)
    }

    /// Moves the window to `offset`, keeping what it already has from there on.
    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let kept_from = offset
            .checked_sub(self.start)
            .and_then(|from| usize::try_from(from).ok())
            .filter(|&from| from < self.filled)
            .unwrap_or(self.filled);
        self.buf.copy_within(kept_from..self.filled, 0);
        let kept = self.filled - kept_from;
        self.start = offset;
        let wanted = u64_len(len.max(BLOCK)).min(self.file_len - offset);
        let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        self.filled = kept;
        if let Some(rest) = self.buf.get_mut(kept..wanted) {
            // The file has this length: a read that ends before is an error, not the end of the log.
            self.filled += read_full(&*self.file, rest, offset + u64_len(kept))?;
            if self.filled < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// Reads frames from the header on, up to `limit` (an offset) or to the first that is not valid.
/// `visit` gets every record of a valid frame; what it refuses ends the scan with its error.
pub(crate) fn scan<E: From<io::Error>>(
    window: &mut Window,
    header: &Header,
    header_chain: u32,
    limit: Option<u64>,
    mut visit: impl FnMut(u64, Visited<'_>) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut at = Scanned { end: HEADER_BYTES, chain: header_chain, stop: None };
    while limit.is_none_or(|limit| at.end < limit) {
        match next_frame(window, header, &at)? {
            Err(reason) => {
                at.stop = Some(reason);
                break;
            }
            Ok((len, chain)) => {
                let frame = window.get(at.end, len)?.unwrap_or_default();
                visit_records(frame, header.start_lsn + at.end, at.end, &mut visit)?;
                at.end += len;
                at.chain = chain;
            }
        }
    }
    Ok(at)
}

/// The length and the chain value of the frame at `at.end`, when it is valid.
fn next_frame(
    window: &mut Window,
    header: &Header,
    at: &Scanned,
) -> io::Result<Result<(u64, u32), &'static str>> {
    let place = place(header, at.end);
    let Some(head) = window.get(at.end, u64_len(FRAME_HEAD))? else {
        return Ok(Err("the file ends"));
    };
    let head = match FrameHead::decode(head, place) {
        Ok(head) => head,
        Err(reason) => return Ok(Err(reason)),
    };
    if head.chain != at.chain {
        return Ok(Err("a frame does not follow the one before it"));
    }
    let Some(frame) = window.get(at.end, head.frame_len())? else {
        return Ok(Err("a frame is longer than its file"));
    };
    let body = frame.get(FRAME_HEAD..).unwrap_or_default();
    Ok(verify_body(&head, body).map(|chain| (head.frame_len(), chain)))
}

fn visit_records<E>(
    frame: &[u8],
    lsn: u64,
    frame_at: u64,
    visit: &mut impl FnMut(u64, Visited<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = FRAME_HEAD;
    while let Some(decoded) = frame.get(at..).and_then(record::read_verified) {
        let offset = u32::try_from(frame_at + u64_len(at)).expect("segments are below 4 GiB");
        visit(lsn, Visited { decoded, offset })?;
        at += decoded.padded;
    }
    Ok(())
}

/// What is behind the end of the last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The largest `synced_lsn` of valid frames there.
    pub(crate) later_synced_lsn: Option<u64>,
    /// Behind the last byte that is not zero; `from` when all are.
    pub(crate) content_end: u64,
}

/// Looks at everything from `from` on: at each step of 8 bytes there may be a frame.
pub(crate) fn look_behind(window: &mut Window, header: &Header, from: u64) -> io::Result<Behind> {
    let mut behind = Behind { later_synced_lsn: None, content_end: from };
    let mut at = from;
    while at < window.file_len {
        let len = u64_len(BLOCK).min(window.file_len - at);
        let block = window.get(at, len)?.unwrap_or_default();
        if !is_zero(block) {
            look_into(block, at, header, &mut behind);
        }
        // A frame header on the edge is seen whole by the next block.
        at += if at + len < window.file_len { len - u64_len(FRAME_HEAD) } else { len };
    }
    Ok(behind)
}

/// Whether that is an unfinished write.
pub(crate) fn look_closer(
    window: &mut Window,
    header: &Header,
    at: &Scanned,
    content_end: u64,
) -> io::Result<Tear> {
    let place = place(header, at.end);
    let head = window.get(at.end, u64_len(FRAME_HEAD))?.unwrap_or_default();
    let len = FrameHead::decode(head, place).map_or(u64_len(FRAME_HEAD), |head| head.frame_len());
    // To the end of the sector, as far as there is a file.
    let to = (at.end + len).next_multiple_of(SECTOR).min(window.file_len);
    let bytes = window.get(at.end, to - at.end)?.unwrap_or_default();
    let content_len = content_end - at.end;
    Ok(tear(&Unverified { at: at.end, bytes, content_len, place, chain: at.chain }))
}

fn look_into(block: &[u8], block_at: u64, header: &Header, behind: &mut Behind) {
    if let Some(last) = block.iter().rposition(|&byte| byte != 0) {
        behind.content_end = behind.content_end.max(block_at + u64_len(last) + 1);
    }
    for (i, candidate) in block.windows(FRAME_HEAD).step_by(8).enumerate() {
        let offset = block_at + u64_len(i) * 8;
        if let Ok(head) = FrameHead::decode(candidate, place(header, offset)) {
            behind.later_synced_lsn = behind.later_synced_lsn.max(Some(head.synced_lsn));
        }
    }
}

fn place(header: &Header, offset: u64) -> Place {
    Place { lsn: header.start_lsn + offset, salt: salt_of(header) }
}

/// The part of the salt that frames carry.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
pub(crate) fn salt_of(header: &Header) -> u32 {
    header.salt as u32
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.get(..chunk.len()) == Some(chunk))
}
