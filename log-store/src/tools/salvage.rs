//! Looks through a damaged log: what of it can be kept, and what is known of the rest.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, u64_len};
use crate::error::LogError;
use crate::files::SegmentName;
use crate::frontier::{self, Frontier, Slot};
use crate::header::{HEADER_BYTES, Header};
use crate::identity;
use crate::record::Record;
use crate::scan::Window;
use crate::tools::evidence::Evidence;
use crate::tools::listing::Listing;
use crate::tools::prefix::Prefix;
use crate::tools::repair::{RepairError, RepairMode};
use crate::tools::walk::{self, Base, RecordView, Stretch};
use crate::types::Identity;

/// What a repair works with.
#[derive(Debug)]
pub(crate) struct Salvage {
    pub(crate) prefix: Prefix,
    pub(crate) evidence: Evidence,
    /// The log's own.
    pub(crate) uuid: u128,
    /// Whose it is, where IDENTITY says so.
    pub(crate) node_id: Option<u64>,
    /// Where its first frame lies; none when its first segment does not tell.
    pub(crate) first_lsn: Option<u64>,
    /// FRONTIER tells how far it was durable at least.
    pub(crate) has_end: bool,
    pub(crate) notes: Vec<String>,
}

impl Salvage {
    /// Looks at all files of the log in `dir`; what is kept ends at `limit` (an lsn) at most.
    pub(crate) fn find(
        disk: &dyn Disk,
        dir: &Path,
        limit: Option<u64>,
    ) -> Result<Self, RepairError> {
        let listing = Listing::read(disk, dir)?;
        let mut notes = listing.notes.clone();
        let identity = match identity::read(disk, &identity::path(dir)) {
            Ok(identity) => identity,
            Err(LogError::TooNew { path, found, known }) => {
                return Err(LogError::TooNew { path, found, known }.into());
            }
            Err(error) => {
                notes.push(format!("IDENTITY cannot be read: {error}"));
                None
            }
        };
        let slots = frontier::read_slots(disk, &frontier::path(dir)).unwrap_or_default();
        let newest = slots.into_iter().flatten().flatten().max_by_key(|slot| slot.counter);
        let Some(uuid) = uuid(disk, identity, newest, &listing.segments) else {
            let why = "nothing here tells which log this is: IDENTITY, FRONTIER and every header are damaged";
            return Err(RepairError::Refused(why.to_owned()));
        };
        let slot = newest.filter(|slot| slot.uuid == uuid);
        match (newest, slot) {
            (None, _) => notes.push("FRONTIER does not say how far the log was durable".to_owned()),
            (Some(other), None) => {
                notes.push(format!("FRONTIER is of the log {:032x}", other.uuid));
            }
            (Some(_), Some(_)) => {}
        }
        let prefix = Prefix::read(disk, &listing.segments, uuid, limit);
        if prefix.is_short() {
            notes.push(
                "the last segment is shorter than it was made: its end, or a segment behind it, is lost"
                    .to_owned(),
            );
        }
        let frontier = slot.map(|slot| slot.frontier);
        let mut evidence = Evidence::new(prefix.state, prefix.end_lsn());
        gather(disk, &listing.segments, uuid, &prefix, frontier, &mut evidence);
        let node_id = identity.map(|identity| identity.node_id);
        let first = listing.segments.first().and_then(|name| header(disk, name));
        let first = first.filter(|header| header.uuid == uuid);
        let first_lsn = first.map(|header| header.start_lsn.saturating_add(HEADER_BYTES));
        Ok(Self { prefix, evidence, uuid, node_id, first_lsn, has_end: slot.is_some(), notes })
    }

    /// Whether what is asked for can be done.
    pub(crate) fn check(&self, mode: RepairMode) -> Result<(), RepairError> {
        let end = self.prefix.end_lsn();
        let refused = |why: String| Err(RepairError::Refused(why));
        match mode {
            RepairMode::Longest => Ok(()),
            // A position of the log as it was before an earlier repair, or an entry's index.
            RepairMode::TruncateAt(lsn) if self.first_lsn.is_none_or(|first| lsn < first) => {
                refused(match self.first_lsn {
                    Some(first) => {
                        format!("lsn {lsn} is none of this log: its first frame lies at {first}")
                    }
                    None => "the log's first segment does not tell where it begins".to_owned(),
                })
            }
            RepairMode::TruncateAt(lsn) => match &self.prefix.stop {
                // It ended where it was told to.
                Some(stop) if stop.why == END_ASKED_FOR => Ok(()),
                _ if lsn <= end => Ok(()),
                _ => refused(format!(
                    "the log verifies up to lsn {end} only: truncate there or before"
                )),
            },
            RepairMode::RebuildFrontier if self.has_end => {
                refused("FRONTIER verifies: there is nothing to rebuild".to_owned())
            }
            RepairMode::RebuildFrontier if self.prefix.is_short() => refused(
                "more than FRONTIER is damaged: the last segment is shorter than it was made"
                    .to_owned(),
            ),
            RepairMode::RebuildFrontier => match &self.prefix.stop {
                Some(stop) => refused(format!(
                    "more than FRONTIER is damaged: {} at byte {}: {}",
                    stop.path.display(),
                    stop.offset,
                    stop.why
                )),
                None => Ok(()),
            },
        }
    }
}

/// Why a part ends that was told where to end.
pub(crate) const END_ASKED_FOR: &str = "the end that was asked for";

/// Which log this is: by IDENTITY, or else FRONTIER, or else the first header.
fn uuid(
    disk: &dyn Disk,
    identity: Option<Identity>,
    slot: Option<Slot>,
    names: &[SegmentName],
) -> Option<u128> {
    let stated = identity.map(|identity| identity.wal_uuid).or(slot.map(|slot| slot.uuid));
    stated.or_else(|| names.iter().find_map(|name| Some(header(disk, name)?.uuid)))
}

fn header(disk: &dyn Disk, name: &SegmentName) -> Option<Header> {
    let file = disk.open_to_read(&name.path).ok()?;
    let mut window = Window::new(Arc::clone(&file), file.len().ok()?);
    let (header, _) = walk::header(&mut window).ok()?.ok()?;
    Some(header)
}

/// Everything behind the kept part that tells of the log, in the order of the log.
fn gather(
    disk: &dyn Disk,
    names: &[SegmentName],
    uuid: u128,
    prefix: &Prefix,
    frontier: Option<Frontier>,
    evidence: &mut Evidence,
) {
    let end = prefix.end_lsn();
    let durable_lsn = frontier.map_or(0, |frontier| frontier.durable_lsn);
    let mut gathering = Gathering { end, found_lsn: end, is_sealed: false, frontier, evidence };
    let mut has_last = false;
    for (i, name) in names.iter().enumerate() {
        let is_last = i + 1 == names.len();
        match gathering.segment(disk, name, uuid).unwrap_or(Found::Nothing) {
            // Only the last one has the length that it was made with.
            found if is_last => has_last = found == Found::Whole,
            Found::Nothing => {
                // How long it was is not known, but what follows it tells that it ended.
                let next = gathering.evidence.known_lsn.saturating_add(1);
                gathering.evidence.blind(next);
            }
            Found::Whole | Found::Short => {}
        }
    }
    // A sealed one has a successor, unless the log was closed: then FRONTIER tells of it.
    let is_followed = gathering.is_sealed && durable_lsn < gathering.found_lsn;
    let found_lsn = gathering.found_lsn;
    gathering.frontier(u64::MAX);
    // FRONTIER is behind the log, so what it tells of and is not there had no end that anything tells of.
    if !has_last || is_followed || durable_lsn > found_lsn {
        evidence.blind(u64::MAX);
    }
}

/// What there is of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing that is of this log.
    Nothing,
    /// It is shorter than it was made.
    Short,
    Whole,
}

struct Gathering<'a> {
    /// Where the kept part ends.
    end: u64,
    /// Up to here there is something in the files, whatever it is.
    found_lsn: u64,
    /// There is a seal in the segment.
    is_sealed: bool,
    /// Not yet reached.
    frontier: Option<Frontier>,
    evidence: &'a mut Evidence,
}

impl Gathering<'_> {
    fn segment(
        &mut self,
        disk: &dyn Disk,
        name: &SegmentName,
        uuid: u128,
    ) -> std::io::Result<Found> {
        let file = disk.open_to_read(&name.path)?;
        let mut window = Window::new(Arc::clone(&file), file.len()?);
        self.is_sealed = false;
        let (mut is_first, mut is_short) = (false, false);
        let base = match walk::header(&mut window)? {
            // It says nothing of this log.
            Ok((header, _)) if header.uuid != uuid => return Ok(Found::Nothing),
            Ok((header, chain)) => {
                if header.start_lsn >= self.end {
                    self.frontier(header.start_lsn);
                    self.evidence.state(header.start_lsn, &header.state);
                }
                self.found_lsn = self.found_lsn.max(header.start_lsn.saturating_add(HEADER_BYTES));
                is_first = header.state.last.is_none();
                is_short = window.len() < header.capacity;
                Some(Base::of(&header, chain))
            }
            // Without a header nothing says that it is of this log, but its place does, if it follows.
            Err(_) => Base::guess(&mut window)?.filter(|base| base.start_lsn >= self.end),
        };
        let Some(base) = base else { return Ok(Found::Nothing) };
        walk::walk(&mut window, base, &mut |stretch| {
            self.stretch(&stretch, base, is_first);
            ControlFlow::Continue(())
        })?;
        Ok(if is_short { Found::Short } else { Found::Whole })
    }

    fn stretch(&mut self, stretch: &Stretch<'_>, base: Base, is_first: bool) {
        if let Stretch::Frame(frame) = stretch {
            let is_seal = |found: RecordView<'_>| {
                found.record.is_ok_and(|decoded| matches!(decoded.record, Record::Seal(_)))
            };
            self.is_sealed |= walk::records(frame).any(is_seal);
        }
        match stretch {
            Stretch::Frame(frame) if frame.lsn >= self.end => {
                self.frontier(frame.lsn);
                let at = |offset: u64| base.start_lsn.saturating_add(offset);
                for found in walk::records(frame) {
                    let end = at(found.offset.saturating_add(u64_len(found.bytes)));
                    self.evidence.record(&found, end);
                    if let Some(index) = found.footer().filter(|_| is_first) {
                        self.evidence.begins(index.first);
                    }
                }
                let len = u64_len(crate::frame::FRAME_HEAD + frame.body.len());
                self.evidence.claims_durable(frame.head.synced_lsn);
                self.found_lsn = self.found_lsn.max(frame.lsn.saturating_add(len));
            }
            Stretch::Gap(gap) => {
                // Zeros up to the next frame were something as well.
                let to = if gap.is_last { gap.content_end } else { gap.to };
                let lsn = base.start_lsn.saturating_add(to.next_multiple_of(8));
                if to > gap.from && lsn > self.end {
                    self.evidence.blind(lsn);
                    self.found_lsn = self.found_lsn.max(lsn);
                }
            }
            Stretch::Frame(_) => {}
        }
    }

    /// The log has come to `lsn`: what FRONTIER says of a place before it comes first.
    fn frontier(&mut self, lsn: u64) {
        let is_due = |frontier: &Frontier| frontier.durable_lsn <= lsn;
        let Some(frontier) = self.frontier.take_if(|frontier| is_due(frontier)) else { return };
        if frontier.durable_lsn > self.end {
            self.evidence.state(frontier.durable_lsn, &frontier.state);
        } else {
            self.evidence.vote = self.evidence.vote.max(frontier.state.vote);
        }
    }
}
