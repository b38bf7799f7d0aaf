//! Whether the bytes behind the end of the log are an unfinished write, or were whole once and have changed.
//!
//! ```text
//!   sectors   |512      |512      |512      |512      |
//!   valid ... frame| X  head rec  | record  | record  |0000     only one frame is ever not durable
//!                       `---- one write, one sync ----'
//!   torn      frame| X  head rec  |000000000| record  |0000     a sector never arrived: a hole
//!   torn      frame| X  head rec  | rec00000|000000000|0000     the write ended early: a hole to the end
//!   whole     frame| X  head rec  | reQord  | record  |0000     everything arrived: it has changed since
//! ```
//! A segment is all zeros before it is written and is never used twice. A crash leaves each sector of the
//! unfinished write as it was written or as it was before, zeros from X on; or it leaves the first bytes of
//! the write, any number of them, and zeros behind. So every byte that is not as it was written lies in a
//! *hole*: a sector that is all zeros from X on, or the zeros behind the last byte that is not zero. A
//! recovery that was zeroing such a write when it crashed leaves one more: the zeros from X to the first
//! byte that is not zero (`quarantine::zero` sees to it that there is no other).
//!
//! The parts of a frame are verified in order: its header, then each record. The first part that does not
//! verify holds a byte that is not as it was written. If that part has no hole, no crash did it: the frame
//! was written whole, may have been acknowledged, and has changed. Then nothing may be cut (L4).
//!
//! What stays open is a part whose own bytes look like a hole (zeros over a whole sector, or at its end
//! and nothing behind): it may be the one or the other, and is taken for torn.

use crate::disk::{SECTOR, u64_len};
use crate::frame::{FRAME_HEAD, FrameHead, Place, has_intact_head, may_be_head};
use crate::record;

/// The bytes behind the end of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unverified<'a> {
    /// Offset X in the file: where the valid frames end. A multiple of 8.
    pub(crate) at: u64,
    /// The file from X on, at least to the end of the sector in which the frame at X ends, if it has one.
    pub(crate) bytes: &'a [u8],
    /// Everything from here on, counted from X, is zero up to the end of the file.
    pub(crate) content_len: u64,
    /// What a frame at X must carry.
    pub(crate) place: Place,
    pub(crate) chain: u32,
}

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tear {
    /// Nothing but zeros.
    Nothing,
    /// A write that did not end. It was never acknowledged.
    Torn,
    /// Not the trace of a crash: it was whole, or never was ours. What does not verify.
    Whole(&'static str),
}

/// Tells which it is, of bytes that are no valid frame.
pub(crate) fn tear(behind: &Unverified<'_>) -> Tear {
    if behind.content_len == 0 {
        return Tear::Nothing;
    }
    let Some(head) = behind.bytes.get(..FRAME_HEAD) else {
        return Tear::Whole("bytes where no frame has room");
    };
    if has_intact_head(head) {
        return behind.body(FrameHead::decode(head, behind.place));
    }
    let is_ours = may_be_head(head, behind.place, behind.chain, |i| behind.has_hole(i, i + 1));
    if is_ours && behind.has_hole(0, FRAME_HEAD) {
        return Tear::Torn;
    }
    Tear::Whole("bytes that no frame of this log begins with")
}

impl Unverified<'_> {
    /// The header is as it was written: what about the rest?
    fn body(&self, head: Result<FrameHead, &'static str>) -> Tear {
        let head = match head {
            Ok(head) if head.chain == self.chain => head,
            Ok(_) => return Tear::Whole("a frame that does not follow the one before it"),
            Err(reason) => return Tear::Whole(reason),
        };
        if self.content_len > head.frame_len() {
            return Tear::Whole("bytes behind a frame that was the last one written");
        }
        let end = usize::try_from(head.frame_len()).unwrap_or(usize::MAX);
        let Some(frame) = self.bytes.get(..end) else {
            return Tear::Whole("a frame that is longer than its file");
        };
        let mut at = FRAME_HEAD;
        for _ in 0..head.records {
            let rest = frame.get(at..).unwrap_or_default();
            match record::verify(rest) {
                Ok((_, padded)) => at += padded,
                Err(reason) => return self.record(at, rest, reason),
            }
        }
        Tear::Whole("bytes behind the last record of a frame")
    }

    /// The record at `at`, with the rest of the frame behind it, does not verify.
    fn record(&self, at: usize, rest: &[u8], reason: &'static str) -> Tear {
        if record::is_intact(rest) {
            return Tear::Whole(reason);
        }
        // Before its length can be believed, that must not be in a hole.
        if self.has_hole(at, at + 8) {
            return Tear::Torn;
        }
        match record::len_within(rest) {
            Some(len) if self.has_hole(at, at + len) => Tear::Torn,
            _ => Tear::Whole(reason),
        }
    }

    /// Whether any byte of the range, counted from X, may never have arrived.
    fn has_hole(&self, from: usize, to: usize) -> bool {
        if u64_len(to) > self.content_len || is_zero(self.bytes.get(..=from).unwrap_or_default()) {
            return true;
        }
        let sector_of = |i: usize| (self.at + u64_len(i)) / SECTOR;
        (sector_of(from)..=sector_of(to - 1)).any(|sector| is_zero(self.sector(sector)))
    }

    /// The part of the sector that lies behind X.
    fn sector(&self, sector: u64) -> &[u8] {
        let from = (sector * SECTOR).saturating_sub(self.at);
        let to = (sector + 1) * SECTOR - self.at;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.get(at(from)..at(to)).unwrap_or_default()
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests;
