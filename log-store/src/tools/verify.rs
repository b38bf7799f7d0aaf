//! Is this log whole? The answer that an open would give, without an open.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::LogConfig;
use crate::damage::{Cause, Damage};
use crate::disk::{Disk, u64_len};
use crate::error::LogError;
use crate::examine::examine;
use crate::frontier;
use crate::identity;
use crate::index::SegmentIndex;
use crate::record::Record;
use crate::scan::Window;
use crate::stats::{RecoveryInfo, Torn};
use crate::tools::listing::Listing;
use crate::tools::walk::{self, Base, FrameView, Stretch};

/// How often a log that a process has open is looked at again before trouble at its end is believed.
const LIVE_LOOKS: usize = 3;

/// What was found. `Display` prints it as a report, [`Outcome::exit_code`] sums it up.
#[derive(Debug)]
pub struct Verification {
    /// The directory.
    pub dir: PathBuf,
    /// The answer.
    pub outcome: Outcome,
    /// What an open would report; none when it would refuse.
    pub info: Option<RecoveryInfo>,
    /// The slow look was taken as well: bytes read once more, past the cache, entry by entry.
    pub deep: Option<Deep>,
    /// What does not keep the log from opening, and should be known.
    pub notes: Vec<String>,
    /// A process has the log open: what it wrote into LOCK. The end may be moving.
    pub locked: Option<String>,
}

/// The answer.
#[derive(Debug)]
pub enum Outcome {
    /// It opens with everything.
    Clean,
    /// It opens; an unfinished write at its end, never acknowledged, is cut.
    Torn(Torn),
    /// It does not open: something that was durable is gone or changed.
    Corrupt(Box<Damage>),
    /// There is nothing to verify: no log, or one whose creation did not end.
    Nothing,
    /// It could not be read, or is of a newer version.
    Unreadable(LogError),
}

/// What the slow look covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deep {
    /// Bytes of segments.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Entries found where a footer says, with the leader and checksum that it says.
    pub footer_entries: u64,
}

impl Outcome {
    /// 0 clean, 1 an unfinished write only, 2 corrupt, 3 unreadable or nothing there.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Torn(_) => 1,
            Self::Corrupt(_) => 2,
            Self::Nothing | Self::Unreadable(_) => 3,
        }
    }
}

/// Verifies the log in `config.dir` as an open would, changing nothing. `deep` reads every byte again, from the
/// disk and not from the cache, and holds the footers against the entries. Never fails: what went wrong is the
/// outcome.
pub fn verify(config: &LogConfig, disk: &dyn Disk, deep: bool) -> Verification {
    let dir = config.dir.clone();
    let listing = match Listing::read(disk, &dir) {
        Ok(listing) => listing,
        Err(error) => return Verification::unreadable(dir, error),
    };
    forget(disk, &dir, &listing, deep);
    let mut found = examine(config, disk, None);
    for _ in 1..LIVE_LOOKS {
        let is_whole = found.as_ref().is_ok_and(|info| info.torn.is_none());
        if is_whole || listing.locked.is_none() {
            break;
        }
        // Its process was writing, rolling or purging meanwhile.
        found = examine(config, disk, None);
    }
    let (outcome, info) = match found {
        Ok(info) => (Outcome::of(&info), Some(info)),
        Err(LogError::Corrupt(damage)) => (Outcome::Corrupt(damage), None),
        Err(error) => (Outcome::Unreadable(error), None),
    };
    let notes = notes(disk, &dir, &listing);
    let locked = listing.locked.clone();
    let mut verification = Verification { dir, outcome, info, deep: None, notes, locked };
    if deep && matches!(verification.outcome, Outcome::Clean | Outcome::Torn(_)) {
        match look_deep(disk, &listing, &mut verification.notes) {
            Ok(deep) => verification.deep = Some(deep),
            Err(error) => verification.outcome = error,
        }
    }
    verification
}

impl Outcome {
    fn of(info: &RecoveryInfo) -> Self {
        match &info.torn {
            _ if info.created => Self::Nothing,
            Some(torn) => Self::Torn(torn.clone()),
            None => Self::Clean,
        }
    }
}

impl Verification {
    fn unreadable(dir: PathBuf, error: LogError) -> Self {
        let outcome = Outcome::Unreadable(error);
        Self { dir, outcome, info: None, deep: None, notes: Vec::new(), locked: None }
    }
}

/// Lets the system read from the disk again what it has in memory, like an open: of the last segment, and of every
/// file when the last process met a disk error. As well as it can: what is not yet written stays, which changes
/// nothing on the disk.
pub(crate) fn forget(disk: &dyn Disk, dir: &Path, listing: &Listing, deep: bool) {
    let count = if deep || listing.failed.is_some() { listing.segments.len() } else { 1 };
    let segments = listing.segments.iter().rev().take(count).map(|segment| segment.path.clone());
    for path in segments.chain([identity::path(dir), frontier::path(dir)]) {
        if let Err(error) = disk.open_to_read(&path).and_then(|file| file.forget_cached()) {
            tracing::debug!(%error, path = %path.display(), "the cache was not dropped");
        }
    }
}

fn notes(disk: &dyn Disk, dir: &Path, listing: &Listing) -> Vec<String> {
    let mut notes = Vec::new();
    if let Ok(Some(slots)) = frontier::read_slots(disk, &frontier::path(dir))
        && slots.iter().filter(|slot| slot.is_some()).count() == 1
    {
        notes.push("one of the two slots of FRONTIER does not verify, the other one counts".into());
    }
    if let Some(text) = &listing.failed {
        notes.push(format!("the last process had a disk error: {text}"));
    }
    if !listing.quarantine.is_empty() {
        let count = listing.quarantine.len();
        notes.push(format!("the quarantine keeps {count} unfinished writes of earlier crashes"));
    }
    notes
}

/// Reads all segments once more, frame by frame, and every entry that a footer lists.
fn look_deep(disk: &dyn Disk, listing: &Listing, notes: &mut Vec<String>) -> Result<Deep, Outcome> {
    let mut deep = Deep::default();
    let last = listing.segments.last().map(|segment| &segment.path);
    for name in &listing.segments {
        let path = &name.path;
        let unreadable = |error: io::Error| Outcome::Unreadable(LogError::io("read", path)(error));
        let file = disk.open_to_read(path).map_err(unreadable)?;
        let len = file.len().map_err(unreadable)?;
        let mut window = Window::new(Arc::clone(&file), len);
        let header = walk::header(&mut window).map_err(unreadable)?;
        let (header, chain) = header.map_err(|bad| corrupt(path, 0, &bad.to_string()))?;
        let base = Base::of(&header, chain);
        let mut look = SegmentLook { is_last: Some(path) == last, ..SegmentLook::default() };
        walk::walk(&mut window, base, &mut |stretch| look.take(&stretch)).map_err(unreadable)?;
        if let Some((offset, why)) = look.damage {
            return Err(corrupt(path, offset, why));
        }
        if look.has_more {
            notes.push(format!("{} is not empty behind its seal", path.display()));
        }
        if let Some(index) = &look.footer {
            hold_against(&mut window, index)
                .map_err(unreadable)?
                .map_err(|(offset, why)| corrupt(path, offset, why))?;
            deep.footer_entries += index.count();
        }
        deep.bytes += len;
        deep.frames += look.frames;
    }
    Ok(deep)
}

#[derive(Default)]
struct SegmentLook {
    is_last: bool,
    is_sealed: bool,
    /// Something lies behind the seal.
    has_more: bool,
    frames: u64,
    footer: Option<SegmentIndex>,
    damage: Option<(u64, &'static str)>,
}

impl SegmentLook {
    fn take(&mut self, stretch: &Stretch<'_>) -> ControlFlow<()> {
        if self.is_sealed {
            // An open does not look here, nor does anything else.
            self.has_more |= match stretch {
                Stretch::Gap(gap) => gap.content_end > gap.from,
                Stretch::Frame(_) => true,
            };
            return ControlFlow::Continue(());
        }
        match stretch {
            Stretch::Frame(frame) => match frame.verdict {
                Ok(_) => self.frame(frame),
                Err(why) => self.damage = Some((frame.offset, why)),
            },
            Stretch::Gap(gap) if gap.content_end > gap.from => {
                self.damage = Some((gap.from, gap.why));
            }
            Stretch::Gap(_) => {}
        }
        // What is behind the end of the last segment was judged by `examine`.
        self.damage = self.damage.take().filter(|_| !self.is_last);
        if self.damage.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn frame(&mut self, frame: &FrameView<'_>) {
        self.frames += 1;
        for found in walk::records(frame) {
            let is_seal = |record| matches!(record, Record::Seal(_));
            self.is_sealed |= found.record.is_ok_and(|decoded| is_seal(decoded.record));
            self.footer = self.footer.take().or_else(|| found.footer());
        }
    }
}

/// Every entry that the footer lists: is it there, is it that one?
fn hold_against(
    window: &mut Window,
    index: &SegmentIndex,
) -> io::Result<Result<(), (u64, &'static str)>> {
    for (i, (&offset, &crc)) in index.offsets.iter().zip(&index.crcs).enumerate() {
        let at = u64::from(offset);
        let wrong = Ok(Err((at, "the footer lists an entry that is not there")));
        let entry = index.first + u64_len(i);
        let Some(len) = window.get(at, 8)?.and_then(crate::record::claimed_len) else {
            return wrong;
        };
        let Some(decoded) = window.get(at, len)?.and_then(|b| crate::record::decode(b).ok()) else {
            return wrong;
        };
        let is_listed = matches!(decoded.record, Record::Entry { id, .. }
            if id.index == entry && index.leaders.at(entry) == Some(id.leader()));
        if !is_listed || decoded.crc != crc {
            return wrong;
        }
    }
    Ok(Ok(()))
}

fn corrupt(path: &Path, offset: u64, why: &str) -> Outcome {
    Outcome::Corrupt(Box::new(Damage::of(Cause::Rotten, path, offset, why)))
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        match &self.outcome {
            Outcome::Clean => writeln!(f, "{dir}: clean")?,
            Outcome::Torn(torn) => writeln!(
                f,
                "{dir}: torn tail only\n  {torn}\n  It was never acknowledged. Nothing to do: the next start \
                 cuts it and keeps a copy."
            )?,
            Outcome::Corrupt(damage) => {
                writeln!(f, "{dir}: CORRUPT ({})\n  {damage}", damage.cause)?;
            }
            Outcome::Nothing => writeln!(f, "{dir}: there is no log here")?,
            Outcome::Unreadable(error) => writeln!(f, "{dir}: cannot be read: {error}")?,
        }
        if let Some(info) = self.info.as_ref().filter(|info| !info.created) {
            writeln!(f, "  {info}")?;
        }
        if let Some(deep) = &self.deep {
            let Deep { bytes, frames, footer_entries } = deep;
            writeln!(
                f,
                "  read again past the cache: {bytes} bytes, {frames} frames; {footer_entries} entries are where \
                 the footers say"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        if let Some(holder) = &self.locked {
            writeln!(f, "  note: a process has it open ({holder}): its end may be moving")?;
        }
        Ok(())
    }
}
