//! Writes what can be kept of a log as a new one: the same records in the same order and the same places of their
//! segments, under new headers.
//!
//! ```text
//!   old   header(uuid, lsn, salt) frame(lsn, salt, chain: records) … X ???
//!   new   header(UUID, LSN, SALT) frame(LSN, SALT, CHAIN: records) … Seal     FRONTIER  IDENTITY
//! ```
//! - Positions are not used twice: the new log begins above all that is known of the old one, so what was durable
//!   there is below every position here, and bytes of the old log are no frames of the new one.
//! - A vote that is only known from behind the end is written once more, at the end. It is never forgotten when
//!   anything still tells of it.
//! - IDENTITY comes last: without it a directory is not a log.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::damage::{Cause, Damage};
use crate::disk::{Disk, DiskFile, u64_len, write_all};
use crate::error::LogError;
use crate::frame::{FrameBuilder, Place};
use crate::frontier::{self, Frontier, FrontierFile};
use crate::header::{HEADER_BYTES, Header, Predecessor, STRIDE};
use crate::identity;
use crate::index::SegmentIndex;
use crate::record;
use crate::roll::salt;
use crate::scan::{Window, salt_of};
use crate::seal::SealFrame;
use crate::state::State;
use crate::tools::prefix::{Kept, Prefix};
use crate::tools::walk::{self, Base, FrameView, Stretch};
use crate::types::{Identity, VoteParts};

/// Length of a segment that only holds a vote.
const SMALL_SEGMENT: u64 = 16 << 10;

/// What is written where.
pub(crate) struct Transcript<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) identity: Identity,
    /// Goes into the salts.
    pub(crate) seed: u128,
    /// Everything that is known of the old log lies below.
    pub(crate) above_lsn: u64,
    /// The largest vote that is known of.
    pub(crate) vote: Option<VoteParts>,
}

impl Transcript<'_> {
    /// Writes the log durably, with everything but the directory's own name.
    pub(crate) fn write(&self, prefix: &Prefix) -> Result<(), LogError> {
        let start = first_position(self.above_lsn).ok_or_else(|| {
            Damage::refuse(
                Cause::Contradiction,
                self.dir,
                0,
                "positions of the old log leave no room above them",
            )
        })?;
        let mut at = Ending { lsn: start, predecessor: None, state: prefix.state };
        let old_start = prefix.segments.first().map_or(0, |kept| kept.header.start_lsn);
        let last = prefix.segments.len().checked_sub(1);
        for (i, kept) in prefix.segments.iter().enumerate() {
            let shift = Shift { old_start, start };
            let index = (Some(i) == last).then_some(&prefix.index);
            at = self.segment(kept, shift, at, index)?;
        }
        let state = State { vote: self.vote.max(prefix.state.vote), ..prefix.state };
        if prefix.segments.is_empty() || state.vote != prefix.state.vote {
            at = self.last_words(prefix, at, state)?;
        }
        let path = frontier::path(self.dir);
        let mut file = FrontierFile::create(self.disk, &path, self.identity.wal_uuid)?;
        file.write(Frontier { durable_lsn: at.lsn, state: at.state })?;
        let dir = self.dir;
        self.disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
        identity::create(self.disk, dir, self.identity)
    }

    /// Copies a segment, frame by frame; the last one, whose entries `index` lists, is sealed.
    fn segment(
        &self,
        kept: &Kept,
        shift: Shift,
        before: Ending,
        index: Option<&SegmentIndex>,
    ) -> Result<Ending, LogError> {
        let seq = kept.header.seq;
        let seals = index.filter(|_| !kept.is_sealed).map(|index| footer_len(index) + kept.end);
        let header = Header {
            uuid: self.identity.wal_uuid,
            start_lsn: shift.lsn(kept.header.start_lsn),
            salt: salt(self.seed, seq),
            capacity: kept.header.capacity.max(seals.unwrap_or(kept.end)),
            predecessor: before.predecessor.or_else(|| {
                kept.header
                    .predecessor
                    .map(|old| Predecessor { end_lsn: shift.lsn(kept.header.start_lsn), ..old })
            }),
            ..kept.header
        };
        // The last segment has the length that it was made with; an earlier one ends with its last frame.
        let len = if index.is_some() { header.capacity } else { kept.end };
        let mut out = Output::create(self, &header, len)?;
        self.copy_frames(kept, &mut out)?;
        if let Some(index) = index.filter(|_| !kept.is_sealed) {
            out.seal(index.clone())?;
        }
        out.finish(before.state)
    }

    fn copy_frames(&self, kept: &Kept, out: &mut Output) -> Result<(), LogError> {
        let path = &kept.path;
        let read = |error| LogError::io("read", path)(error);
        let file = self.disk.open_to_read(path).map_err(read)?;
        let mut window = Window::new(Arc::clone(&file), file.len().map_err(read)?);
        let found = walk::header(&mut window).map_err(read)?;
        let Ok((header, chain)) = found else {
            return Err(changed(path, 0));
        };
        let mut copied = Ok(());
        walk::walk(&mut window, Base::of(&header, chain), &mut |stretch| {
            copied = match stretch {
                Stretch::Frame(frame) if frame.offset < kept.end => out.copy(&frame, path),
                _ => return ControlFlow::Break(()),
            };
            if copied.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(read)?;
        copied?;
        if out.offset == kept.end { Ok(()) } else { Err(changed(path, out.offset)) }
    }

    /// A last segment of its own, for a vote that is not in what was kept, or for a log of which nothing was.
    fn last_words(
        &self,
        prefix: &Prefix,
        before: Ending,
        state: State,
    ) -> Result<Ending, LogError> {
        let seq = before.predecessor.map_or(1, |last| last.seq.saturating_add(1));
        // Nothing is kept: the segment begins with what is known.
        let begins = if prefix.segments.is_empty() { state } else { prefix.state };
        let header = Header {
            uuid: self.identity.wal_uuid,
            seq,
            base: begins.next_index().unwrap_or(0),
            start_lsn: before.lsn,
            salt: salt(self.seed, seq),
            capacity: SMALL_SEGMENT,
            predecessor: before.predecessor,
            state: begins,
        };
        let mut out = Output::create(self, &header, header.capacity)?;
        if let Some(vote) = state.vote {
            out.vote(vote)?;
        }
        out.seal(SegmentIndex::default())?;
        out.finish(state)
    }
}

/// Where the new log ends so far.
#[derive(Debug, Clone, Copy)]
struct Ending {
    lsn: u64,
    predecessor: Option<Predecessor>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
struct Shift {
    old_start: u64,
    start: u64,
}

impl Shift {
    /// The new position of an old one; `first_position` left room for it.
    fn lsn(self, old: u64) -> u64 {
        self.start.saturating_add(old.saturating_sub(self.old_start))
    }
}

/// Where a new log begins when everything of the old one lies below `above`.
fn first_position(above: u64) -> Option<u64> {
    let start = above.checked_add(1)?.checked_next_multiple_of(STRIDE)?;
    // The same length once more, and room to go on.
    start.checked_add(above)?.checked_add(STRIDE)?;
    Some(start)
}

fn footer_len(index: &SegmentIndex) -> u64 {
    crate::seal::frame_len(index.offsets.len(), index.leaders.runs().len())
}

fn changed(path: &Path, offset: u64) -> LogError {
    Damage::refuse(Cause::Rotten, path, offset, "it reads differently than a moment ago")
}

/// A segment being written.
struct Output {
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    header: Header,
    offset: u64,
    chain: u32,
    builder: FrameBuilder,
}

impl Output {
    fn create(transcript: &Transcript<'_>, header: &Header, len: u64) -> Result<Self, LogError> {
        let path = transcript.dir.join(header.file_name());
        let file = transcript.disk.create(&path).map_err(LogError::io("create", &path))?;
        file.allocate(len).map_err(LogError::io("allocate", &path))?;
        let (block, chain) = header.encode();
        write_all(&*file, &block, 0).map_err(LogError::io("write", &path))?;
        let builder = FrameBuilder::default();
        Ok(Self { path, file, header: *header, offset: HEADER_BYTES, chain, builder })
    }

    fn copy(&mut self, frame: &FrameView<'_>, from: &Path) -> Result<(), LogError> {
        if frame.verdict.is_err() || frame.offset != self.offset {
            return Err(changed(from, frame.offset));
        }
        self.builder.begin(0);
        let mut body = frame.body;
        for found in walk::records(frame) {
            let Ok(decoded) = found.record else { return Err(changed(from, found.offset)) };
            let (record, rest) = body.split_at_checked(found.bytes).unwrap_or((body, &[]));
            self.builder.add(|out| {
                out.extend_from_slice(record);
                decoded.crc
            });
            body = rest;
        }
        self.write_frame()
    }

    fn vote(&mut self, vote: VoteParts) -> Result<(), LogError> {
        self.builder.begin(0);
        self.builder.add(|out| record::put_vote(out, vote));
        self.write_frame()
    }

    fn write_frame(&mut self) -> Result<(), LogError> {
        let lsn = self.header.start_lsn.saturating_add(self.offset);
        let place = Place { lsn, salt: salt_of(&self.header) };
        // Each frame was durable before the next one, and here all are before the log has its name.
        let (bytes, chain) = self.builder.finish(place, lsn, self.chain);
        write_all(&*self.file, bytes, self.offset).map_err(LogError::io("write", &self.path))?;
        self.offset += u64_len(bytes.len());
        self.chain = chain;
        Ok(())
    }

    fn seal(&mut self, index: SegmentIndex) -> Result<(), LogError> {
        let footer = index.into_footer(Arc::clone(&self.file));
        let seal = SealFrame::encode(&footer, &self.header, self.offset, self.chain);
        write_all(&*self.file, &seal.bytes, self.offset)
            .map_err(LogError::io("write", &self.path))?;
        self.offset += seal.len();
        self.chain = seal.chain;
        Ok(())
    }

    fn finish(self, state: State) -> Result<Ending, LogError> {
        self.file.sync_all().map_err(LogError::io("sync", &self.path))?;
        let lsn = self.header.start_lsn.saturating_add(self.offset);
        let seq = self.header.seq;
        let predecessor = Some(Predecessor { seq, end_lsn: lsn, chain: self.chain });
        Ok(Ending { lsn, predecessor, state })
    }
}
