//! Reads a segment's frames and goes on behind what is none.
//!
//! ```text
//!   header | frame | frame | ??????? | frame | 0000000000 | end of file
//!                          ^ gap     ^ the next header of a frame that belongs here
//! ```
//! A frame is found by its header alone (checksum, place and salt fit), so its length is believed and the walk is
//! linear, whatever the bytes are. Whether its records verify is said with it.

use std::io;
use std::ops::ControlFlow;

use crate::codec::Cursor;
use crate::disk::u64_len;
use crate::frame::{FRAME_HEAD, FrameHead, Place, verify_body};
use crate::header::{BadHeader, HEADER_BYTES, Header};
use crate::index::SegmentIndex;
use crate::record::{self, Decoded, Record};
use crate::scan::{Window, salt_of};

/// Where the frames of a segment belong: what makes bytes a frame of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) start_lsn: u64,
    pub(crate) salt: u32,
    /// What the first frame must carry; none when the header does not say it.
    pub(crate) chain: Option<u32>,
}

/// The next part of a segment.
#[derive(Debug)]
pub(crate) enum Stretch<'a> {
    Frame(FrameView<'a>),
    /// Bytes that are no frame of this segment.
    Gap(Gap),
}

/// A frame whose header verifies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameView<'a> {
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) head: FrameHead,
    /// Its chain value when all of it verifies and follows the frame before, or what does not.
    pub(crate) verdict: Result<u32, &'static str>,
    /// What there is of its records.
    pub(crate) body: &'a [u8],
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Behind the last byte that is not zero; `from` when all are.
    pub(crate) content_end: u64,
    /// No frame follows.
    pub(crate) is_last: bool,
    /// Why there is no frame at `from`.
    pub(crate) why: &'static str,
}

/// A record as it is found in a frame's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordView<'a> {
    /// In the segment.
    pub(crate) offset: u64,
    /// Up to the next record.
    pub(crate) bytes: usize,
    pub(crate) record: Result<Decoded<'a>, &'static str>,
    /// What a record that does not verify says of itself, to be taken with care.
    pub(crate) claims: Option<Claim>,
}

impl RecordView<'_> {
    /// The entries that a seal lists, when there are any.
    pub(crate) fn footer(&self) -> Option<SegmentIndex> {
        let Record::Seal(footer) = self.record.ok()?.record else { return None };
        SegmentIndex::decode_footer(footer, 0).filter(|index| index.count() > 0)
    }
}

/// The type and, for an entry, the index that a record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) index: Option<u64>,
}

/// The segment's header, when it has one.
pub(crate) fn header(window: &mut Window) -> io::Result<Result<(Header, u32), BadHeader>> {
    let block = window.get(0, HEADER_BYTES)?;
    Ok(block.map_or(Err(BadHeader::Damaged("the file is shorter than a header")), Header::decode))
}

impl Base {
    pub(crate) fn of(header: &Header, chain: u32) -> Self {
        Self { start_lsn: header.start_lsn, salt: salt_of(header), chain: Some(chain) }
    }

    /// What the first frames say where the header is damaged.
    pub(crate) fn guess(window: &mut Window) -> io::Result<Option<Self>> {
        const LOOK_BYTES: u64 = 1 << 20;
        let len = window.len().saturating_sub(HEADER_BYTES).min(LOOK_BYTES);
        let bytes = window.get(HEADER_BYTES, len)?.unwrap_or_default();
        let found = bytes.windows(FRAME_HEAD).step_by(8).enumerate().find_map(|(i, head)| {
            let mut from = Cursor::new(head);
            from.take(8)?;
            let lsn = from.u64()?;
            from.take(16)?;
            let salt = from.u32()?;
            let start_lsn = lsn.checked_sub(HEADER_BYTES + u64_len(i) * 8)?;
            let is_frame = FrameHead::decode(head, Place { lsn, salt }).is_ok();
            is_frame.then_some(Self { start_lsn, salt, chain: None })
        });
        Ok(found)
    }

    fn place(&self, offset: u64) -> Place {
        Place { lsn: self.start_lsn.saturating_add(offset), salt: self.salt }
    }
}

/// Walks over everything behind the header, until `visit` breaks.
pub(crate) fn walk(
    window: &mut Window,
    base: Base,
    visit: &mut dyn FnMut(Stretch<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut at = HEADER_BYTES;
    let mut chain = base.chain;
    while at < window.len() {
        let head = match head_at(window, at, base)? {
            Ok(head) => head,
            Err(why) => {
                let gap = gap(window, at, base, why)?;
                at = gap.to;
                chain = None;
                if visit(Stretch::Gap(gap)).is_break() {
                    break;
                }
                continue;
            }
        };
        let len = head.frame_len().min(window.len() - at);
        let is_whole = len == head.frame_len();
        let bytes = window.get(at, len)?.unwrap_or_default();
        let body = bytes.get(FRAME_HEAD..).unwrap_or_default();
        let verdict = match chain {
            _ if !is_whole => Err("a frame is longer than its file"),
            Some(chain) if chain != head.chain => Err("a frame does not follow the one before it"),
            _ => verify_body(&head, body),
        };
        let lsn = base.place(at).lsn;
        let frame = FrameView { offset: at, lsn, head, verdict, body };
        chain = verdict.ok();
        at += len;
        if visit(Stretch::Frame(frame)).is_break() {
            break;
        }
    }
    Ok(())
}

fn head_at(
    window: &mut Window,
    at: u64,
    base: Base,
) -> io::Result<Result<FrameHead, &'static str>> {
    let head = window.get(at, u64_len(FRAME_HEAD))?;
    Ok(head.map_or(Err("the file ends"), |head| FrameHead::decode(head, base.place(at))))
}

/// From `from` up to the next header of a frame that belongs here, or to the end of the file.
fn gap(window: &mut Window, from: u64, base: Base, why: &'static str) -> io::Result<Gap> {
    const BLOCK: u64 = 1 << 20;
    let mut gap = Gap { from, to: window.len(), content_end: from, is_last: true, why };
    let mut at = from;
    while at < window.len() {
        let len = BLOCK.min(window.len() - at);
        let block = window.get(at, len)?.unwrap_or_default();
        let heads = block.windows(FRAME_HEAD).step_by(8).enumerate();
        let found = heads.map(|(i, head)| (at + u64_len(i) * 8, head)).find(|&(offset, head)| {
            offset > from && FrameHead::decode(head, base.place(offset)).is_ok()
        });
        let end = found.map_or(at + len, |(offset, _)| offset);
        let in_gap = usize::try_from(end - at).map_err(io::Error::other)?;
        let in_gap = block.get(..in_gap).unwrap_or_default();
        if let Some(last) = in_gap.iter().rposition(|&byte| byte != 0) {
            gap.content_end = at + u64_len(last) + 1;
        }
        if let Some((offset, _)) = found {
            (gap.to, gap.is_last) = (offset, false);
            break;
        }
        // A header on the edge is seen whole by the next block.
        at += if at + len < window.len() { len - u64_len(FRAME_HEAD) } else { len };
    }
    Ok(gap)
}

/// The records of a frame in order. One that does not verify is passed over when its length can be right; if not,
/// the rest of the frame is one unreadable record.
pub(crate) fn records<'a>(frame: &FrameView<'a>) -> impl Iterator<Item = RecordView<'a>> {
    let mut body = frame.body;
    let mut offset = frame.offset + u64_len(FRAME_HEAD);
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let view = record_at(body, offset);
        offset += u64_len(view.bytes);
        body = body.get(view.bytes..).unwrap_or_default();
        Some(view)
    })
}

fn record_at(body: &[u8], offset: u64) -> RecordView<'_> {
    match record::decode(body) {
        Ok(decoded) => {
            let (bytes, record) = (decoded.padded, Ok(decoded));
            RecordView { offset, bytes, record, claims: None }
        }
        Err(why) => {
            let claimed = record::claimed_len(body).and_then(|len| usize::try_from(len).ok());
            let bytes = claimed.map_or(body.len(), |len| len.min(body.len()));
            RecordView { offset, bytes, record: Err(why), claims: claim(body) }
        }
    }
}

fn claim(body: &[u8]) -> Option<Claim> {
    let mut from = Cursor::new(body);
    from.take(8)?;
    let kind_of_record = from.u8()?;
    from.take(3)?;
    Some(Claim { index: if kind_of_record == record::ENTRY { from.u64() } else { None } })
}
