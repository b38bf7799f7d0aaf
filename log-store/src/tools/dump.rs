//! Every record of a log in the order in which it was written, also behind damage.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, u64_len};
use crate::error::LogError;
use crate::files::SegmentName;
use crate::header::HEADER_BYTES;
use crate::index::SegmentIndex;
use crate::record::Record;
use crate::scan::Window;
use crate::tools::listing::Listing;
use crate::tools::walk::{self, Base, FrameView, RecordView, Stretch};
use crate::types::{LogIdParts, VoteParts};

/// The next thing in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dumped<'a> {
    /// A record.
    Record(DumpedRecord<'a>),
    /// Bytes that are no record.
    Damage {
        /// In which file.
        segment: &'a Path,
        /// The first of them.
        from: u64,
        /// Behind the last of them that is not zero.
        to: u64,
        /// What does not fit.
        why: String,
    },
}

/// A record and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedRecord<'a> {
    /// The file.
    pub segment: &'a Path,
    /// Its offset in the file.
    pub offset: u64,
    /// Its position in the log.
    pub lsn: u64,
    /// The position of its frame: of the group commit that it was written with.
    pub frame_lsn: u64,
    /// Its frame verifies as a whole. If not, an open does not believe the record, even if it verifies itself.
    pub in_whole_frame: bool,
    /// Bytes up to the next record.
    pub bytes: u64,
    /// What it says.
    pub what: What<'a>,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The next entry.
    Entry {
        /// Its id.
        id: LogIdParts,
        /// What the payload is; a number of the caller.
        kind: u8,
        /// The payload.
        payload: &'a [u8],
    },
    /// The vote from here on.
    Vote(VoteParts),
    /// Entries up to it are known to be committed.
    Committed(LogIdParts),
    /// The last entry that stays.
    TruncateAfter(Option<LogIdParts>),
    /// Entries up to it are gone.
    PurgeUpto(LogIdParts),
    /// The segment ends; its footer lists this many entries from `first` on.
    Seal {
        /// The index of the first.
        first: u64,
        /// How many.
        entries: u64,
    },
    /// It does not verify.
    Unreadable {
        /// What does not fit.
        why: &'static str,
        /// The index that it names, if it says that it is an entry. Not to be believed.
        claims_index: Option<u64>,
    },
}

/// Which records are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Entries with these indexes.
    pub indexes: RangeInclusive<u64>,
    /// Votes, what is committed, purges and seals as well.
    pub all_kinds: bool,
}

impl Default for Wanted {
    /// All entries, and the truncations between them.
    fn default() -> Self {
        Self { indexes: 0..=u64::MAX, all_kinds: false }
    }
}

/// Tells `visit` of every wanted record and of all damage, until it breaks. Entries that a later truncation drops
/// are there, and so is that truncation. Memory: the largest frame.
///
/// # Errors
/// `Io` when the directory cannot be listed. Files that cannot be read are told as damage.
pub fn dump(
    disk: &dyn Disk,
    dir: &Path,
    wanted: &Wanted,
    visit: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let listing = Listing::read(disk, dir)?;
    let mut flow = ControlFlow::Continue(());
    for name in &listing.segments {
        let segment = &name.path;
        if let Err(error) = read_segment(disk, name, wanted, visit, &mut flow) {
            let why = error.to_string();
            flow = visit(Dumped::Damage { segment, from: 0, to: 0, why });
        }
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

fn read_segment(
    disk: &dyn Disk,
    name: &SegmentName,
    wanted: &Wanted,
    visit: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
    flow: &mut ControlFlow<()>,
) -> std::io::Result<()> {
    let segment = name.path.as_path();
    let file = disk.open_to_read(segment)?;
    let len = file.len()?;
    let mut window = Window::new(Arc::clone(&file), len);
    let base = match walk::header(&mut window)? {
        Ok((header, chain)) => Some(Base::of(&header, chain)),
        Err(bad) => {
            let to = HEADER_BYTES.min(len);
            *flow = visit(Dumped::Damage { segment, from: 0, to, why: bad.to_string() });
            Base::guess(&mut window)?
        }
    };
    let Some(base) = base.filter(|_| flow.is_continue()) else { return Ok(()) };
    walk::walk(&mut window, base, &mut |stretch| {
        *flow = match stretch {
            Stretch::Frame(frame) => read_frame(segment, base, &frame, wanted, visit),
            Stretch::Gap(gap) if gap.content_end > gap.from || gap.to < len => {
                let (from, to) = (gap.from, gap.content_end);
                visit(Dumped::Damage { segment, from, to, why: gap.why.to_owned() })
            }
            Stretch::Gap(_) => ControlFlow::Continue(()),
        };
        *flow
    })
}

fn read_frame(
    segment: &Path,
    base: Base,
    frame: &FrameView<'_>,
    wanted: &Wanted,
    visit: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if let Err(why) = frame.verdict {
        let to = frame.offset + u64_len(crate::frame::FRAME_HEAD + frame.body.len());
        visit(Dumped::Damage { segment, from: frame.offset, to, why: why.to_owned() })?;
    }
    for found in walk::records(frame) {
        let what = what(&found);
        if wanted.wants(&what) {
            visit(Dumped::Record(DumpedRecord {
                segment,
                offset: found.offset,
                lsn: base.start_lsn.saturating_add(found.offset),
                frame_lsn: frame.lsn,
                in_whole_frame: frame.verdict.is_ok(),
                bytes: u64_len(found.bytes),
                what,
            }))?;
        }
    }
    ControlFlow::Continue(())
}

fn what<'a>(found: &RecordView<'a>) -> What<'a> {
    match found.record {
        Ok(decoded) => match decoded.record {
            Record::Entry { id, kind, payload } => What::Entry { id, kind, payload },
            Record::Vote(vote) => What::Vote(vote),
            Record::Committed(id) => What::Committed(id),
            Record::TruncateAfter(keep) => What::TruncateAfter(keep),
            Record::PurgeUpto(id) => What::PurgeUpto(id),
            Record::Seal(footer) => {
                let listed = SegmentIndex::decode_footer(footer, 0);
                let (first, entries) = listed.map_or((0, 0), |i| (i.first, i.count()));
                What::Seal { first, entries }
            }
        },
        Err(why) => {
            What::Unreadable { why, claims_index: found.claims.and_then(|claim| claim.index) }
        }
    }
}

impl Wanted {
    fn wants(&self, what: &What<'_>) -> bool {
        match what {
            What::Entry { id, .. } => self.indexes.contains(&id.index),
            // It drops something that was asked for.
            What::TruncateAfter(keep) => {
                self.all_kinds || keep.is_none_or(|keep| keep.index < *self.indexes.end())
            }
            What::Vote(_) | What::Committed(_) | What::PurgeUpto(_) | What::Seal { .. } => {
                self.all_kinds
            }
            What::Unreadable { .. } => true,
        }
    }
}
