//! The longest part of a log, from its beginning, that verifies: what a repair can keep.
//!
//! The rules are those of an open (`replay.rs`), but the first thing that breaks one ends the part instead of
//! refusing the log, and a frame is kept as a whole or not at all.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, u64_len};
use crate::error::Contradiction;
use crate::files::SegmentName;
use crate::frame::FRAME_HEAD;
use crate::header::{HEADER_BYTES, Header, Predecessor};
use crate::index::{EntryPlace, SegmentIndex};
use crate::leaders::Leaders;
use crate::record::Record;
use crate::scan::Window;
use crate::state::State;
use crate::tools::salvage::END_ASKED_FOR;
use crate::tools::walk::{self, Base, FrameView, RecordView, Stretch};

/// A part of a log that can be kept.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    pub(crate) segments: Vec<Kept>,
    /// At its end.
    pub(crate) state: State,
    /// The entries of the last segment.
    pub(crate) index: SegmentIndex,
    /// What ended it; none when the log ends there.
    pub(crate) stop: Option<Stopped>,
    leaders: Leaders,
    /// The first entry that is there, and the one behind the last.
    located: Option<(u64, u64)>,
    pub(crate) end: Option<Predecessor>,
    /// The frame here verifies and does not follow from the log before it.
    contradiction: Option<u64>,
}

/// A segment, as far as it is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Behind its last frame.
    pub(crate) end: u64,
    pub(crate) is_sealed: bool,
    file_len: u64,
}

/// Where the part ends and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) why: String,
}

impl Prefix {
    /// Reads the segments of the log `uuid` in order, frames that end at `limit` (an lsn) at most.
    pub(crate) fn read(
        disk: &dyn Disk,
        names: &[SegmentName],
        uuid: u128,
        limit: Option<u64>,
    ) -> Self {
        let mut prefix = Self::read_upto(disk, names, uuid, limit);
        if let Some(lsn) = prefix.contradiction {
            // A part of the frame was replayed before it was found to contradict the log: without it, once more.
            let stop = prefix.stop.take();
            prefix = Self::read_upto(disk, names, uuid, Some(lsn));
            prefix.stop = stop;
        }
        prefix.check_beginning();
        prefix
    }

    fn read_upto(disk: &dyn Disk, names: &[SegmentName], uuid: u128, limit: Option<u64>) -> Self {
        let mut prefix = Self::default();
        for name in names {
            let kept = prefix.segments.len();
            let (offset, why) = match prefix.segment(disk, name, uuid, limit) {
                Ok(Ok(())) => continue,
                Ok(Err(stopped)) => stopped,
                Err(error) => {
                    let read = prefix.segments.get(kept).map_or(0, |begun| begun.end);
                    (read, error.to_string())
                }
            };
            prefix.stop = Some(Stopped { path: name.path.clone(), offset, why });
            break;
        }
        prefix
    }

    /// How far it goes.
    pub(crate) fn end_lsn(&self) -> u64 {
        self.segments.last().map_or(0, |kept| kept.header.start_lsn.saturating_add(kept.end))
    }

    /// The entries in it: the first and the last.
    pub(crate) fn entries(&self) -> Option<(u64, u64)> {
        let (first, next) = self.located?;
        let first = first.max(self.state.first_possible());
        (first < next).then(|| (first, next - 1))
    }

    /// The last segment is kept to its end and is shorter than it was made.
    pub(crate) fn is_short(&self) -> bool {
        let is_short = |kept: &Kept| kept.file_len < kept.header.capacity;
        self.stop.is_none() && self.segments.last().is_some_and(is_short)
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        name: &SegmentName,
        uuid: u128,
        limit: Option<u64>,
    ) -> io::Result<Result<(), (u64, String)>> {
        let no = |why: &str| Ok(Err((0, why.to_owned())));
        let file = disk.open_to_read(&name.path)?;
        let mut window = Window::new(Arc::clone(&file), file.len()?);
        let (header, chain) = match walk::header(&mut window)? {
            Ok(header) => header,
            Err(bad) => return no(&bad.to_string()),
        };
        if header.uuid != uuid {
            return no("the segment belongs to another log");
        }
        if (header.seq, header.base) != (name.seq, name.base) {
            return no("the segment has the name of another");
        }
        if header.start_lsn.checked_add(window.len()).is_none() {
            return no("its position is impossible");
        }
        if let Some(before) = self.segments.last()
            && (!before.is_sealed || header.predecessor != self.end || header.state != self.state)
        {
            return no("it does not follow the segment before it");
        }
        if limit.is_some_and(|limit| header.start_lsn.saturating_add(HEADER_BYTES) > limit) {
            return no(END_ASKED_FOR);
        }
        if self.segments.is_empty() {
            self.state = header.state;
        }
        self.index = SegmentIndex::default();
        let (path, end) = (name.path.clone(), HEADER_BYTES);
        let file_len = window.len();
        self.segments.push(Kept { path, header, end, is_sealed: false, file_len });
        self.end = Some(Predecessor { seq: header.seq, end_lsn: header.start_lsn + end, chain });
        let mut stopped = None;
        walk::walk(&mut window, Base::of(&header, chain), &mut |stretch| {
            stopped = self.stretch(&stretch, limit).err();
            if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(stopped.map_or(Ok(()), Err))
    }

    fn stretch(&mut self, stretch: &Stretch<'_>, limit: Option<u64>) -> Result<(), (u64, String)> {
        let is_sealed = self.segments.last().is_some_and(|kept| kept.is_sealed);
        match stretch {
            Stretch::Gap(gap) if gap.content_end == gap.from => Ok(()),
            Stretch::Gap(_) | Stretch::Frame(_) if is_sealed => Ok(()),
            Stretch::Gap(gap) => Err((gap.from, gap.why.to_owned())),
            Stretch::Frame(frame) => self.frame(frame, limit),
        }
    }

    fn frame(&mut self, frame: &FrameView<'_>, limit: Option<u64>) -> Result<(), (u64, String)> {
        let stop = |why: &str| Err((frame.offset, why.to_owned()));
        let len = u64_len(FRAME_HEAD + frame.body.len());
        let chain = match frame.verdict {
            Ok(chain) => chain,
            Err(why) => return stop(why),
        };
        // Zeros between it and the frame before it.
        if self.segments.last().is_none_or(|kept| kept.end != frame.offset) {
            return stop("a frame does not follow the one before it");
        }
        if limit.is_some_and(|limit| frame.lsn.saturating_add(len) > limit) {
            return stop(END_ASKED_FOR);
        }
        let mut is_sealed = false;
        for found in walk::records(frame) {
            match self.step(&found) {
                Ok(seals) => is_sealed |= seals,
                Err(contradiction) => {
                    self.contradiction = Some(frame.lsn);
                    return stop(&contradiction.to_string());
                }
            }
        }
        if let (Some(kept), Some(end)) = (self.segments.last_mut(), &mut self.end) {
            kept.end = frame.offset + len;
            kept.is_sealed = is_sealed;
            (end.end_lsn, end.chain) = (frame.lsn + len, chain);
        }
        Ok(())
    }

    /// One record; whether it seals the segment.
    fn step(&mut self, found: &RecordView<'_>) -> Result<bool, Contradiction> {
        let Ok(decoded) = found.record else { return Err(Contradiction::Seal) };
        let state = &mut self.state;
        match decoded.record {
            Record::Entry { id, .. } => {
                state.entry(id)?;
                self.leaders.push(id);
                let place = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
                let end = place(found.offset.saturating_add(u64_len(found.bytes)));
                let place = EntryPlace { offset: place(found.offset), crc: decoded.crc, end };
                self.index.push(id, place);
                self.located = match self.located {
                    Some((first, next)) if next == id.index => Some((first, next + 1)),
                    _ => Some((id.index, id.index + 1)),
                };
            }
            Record::Vote(vote) => state.vote(vote)?,
            Record::Committed(id) => state.committed(id)?,
            Record::TruncateAfter(keep) => {
                let known = keep.and_then(|id| Some((self.leaders.at(id.index)?, id.leader())));
                if known.is_some_and(|(ours, theirs)| ours != theirs) {
                    return Err(Contradiction::Truncate { keep: keep.map(|id| id.index) });
                }
                state.truncate(keep)?;
                let next = keep.map_or(0, |id| id.index + 1);
                self.leaders.truncate(next);
                self.index.truncate(next);
                self.located = self.located.map(|(first, end)| (first, end.min(next)));
                self.located = self.located.filter(|(first, end)| first < end);
            }
            Record::PurgeUpto(id) => {
                state.purge(id)?;
                let next = state.next_index().unwrap_or(0);
                self.leaders.purge(state.first_possible(), next);
            }
            Record::Seal(footer) => {
                let listed = SegmentIndex::decode_footer(footer, self.index.end);
                if listed.is_none_or(|listed| !self.index.agrees(&listed)) {
                    return Err(Contradiction::Seal);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A log whose first segments are missing has no beginning to keep.
    fn check_beginning(&mut self) {
        let Some(first) = self.segments.first() else { return };
        let possible = self.state.first_possible();
        let has_entries = self.state.last.is_some_and(|last| last.index >= possible);
        let is_complete = match self.state.purged {
            None => first.header.seq == 1,
            Some(_) => !has_entries || self.located.is_some_and(|(first, _)| first <= possible),
        };
        if !is_complete {
            let why = "segments at the beginning of the log are missing".to_owned();
            let stop = Stopped { path: first.path.clone(), offset: 0, why };
            *self = Self { stop: Some(stop), ..Self::default() };
        }
    }
}
