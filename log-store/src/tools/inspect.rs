//! Every file of a log and what it says of itself, also where it is damaged.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, u64_len};
use crate::error::LogError;
use crate::files::SegmentName;
use crate::frontier::{self, Slot};
use crate::header::{BadHeader, HEADER_BYTES, Header};
use crate::identity;
use crate::index::SegmentIndex;
use crate::record::Record;
use crate::scan::Window;
use crate::state::State;
use crate::stats::RecordCounts;
use crate::tools::listing::Listing;
use crate::tools::walk::{self, Base, FrameView, Gap, Stretch};
use crate::types::{Identity, LogIdParts, VoteParts};

/// Stretches of damage listed of one segment; the rest is counted.
const DAMAGE_MAX: usize = 64;

/// A log's directory. `Display` prints it as a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The directory.
    pub dir: PathBuf,
    /// Whose log it is.
    pub identity: Stated<Identity>,
    /// Both slots of FRONTIER; one `Missing` when there is no file.
    pub frontier: Vec<Stated<FrontierView>>,
    /// By number.
    pub segments: Vec<SegmentView>,
    /// Names and numbers that an open would refuse.
    pub notes: Vec<String>,
    /// Unfinished files, removed at the next open.
    pub temporary: Vec<FileView>,
    /// Copies of all that was ever cut.
    pub quarantine: Vec<FileView>,
    /// The last process had a disk error: what it wrote down.
    pub failed: Option<String>,
    /// The log was made by a repair: what that wrote down.
    pub repaired: Option<String>,
    /// A process has the log open: what it wrote into LOCK.
    pub locked: Option<String>,
}

/// What a file or a block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stated<T> {
    /// It verifies.
    Says(T),
    /// It is not there.
    Missing,
    /// It is there and cannot be believed.
    Unreadable(String),
}

/// A file that is only listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Where it is.
    pub path: PathBuf,
    /// Its length, where that can be read.
    pub bytes: Option<u64>,
}

/// The ends of the log and the vote at one place of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateView {
    /// The vote.
    pub vote: Option<VoteParts>,
    /// What is known to be committed.
    pub committed: Option<LogIdParts>,
    /// The purge frontier.
    pub purged: Option<LogIdParts>,
    /// The last entry, or the purge frontier.
    pub last: Option<LogIdParts>,
}

/// One slot of FRONTIER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontierView {
    /// The log that it tells of.
    pub uuid: u128,
    /// The larger one counts.
    pub counter: u64,
    /// Everything below was durable.
    pub durable_lsn: u64,
    /// The state there.
    pub state: StateView,
}

/// How a header says that the segment before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkView {
    /// Its number.
    pub seq: u64,
    /// Its end.
    pub end_lsn: u64,
    /// Its last chain value.
    pub chain: u32,
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as in docs/log-format.md")]
pub struct HeaderView {
    pub uuid: u128,
    pub seq: u64,
    pub base: u64,
    pub start_lsn: u64,
    pub salt: u64,
    pub capacity: u64,
    pub predecessor: Option<LinkView>,
    pub state: StateView,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// Its file.
    pub file: FileView,
    /// Its header.
    pub header: Stated<HeaderView>,
    /// Behind the last frame that verifies.
    pub end: u64,
    /// Frames that verify.
    pub frames: u64,
    /// Their records, by kind.
    pub records: RecordCounts,
    /// The smallest and the largest index of an entry written here, truncated ones included.
    pub entries: Option<(u64, u64)>,
    /// The entries that are alive at the seal, as the footer lists them: the first and how many.
    pub footer: Option<(u64, u64)>,
    /// The largest position that a frame here says was durable.
    pub synced_lsn: Option<u64>,
    /// Bytes behind `end` up to the end of the file.
    pub slack: u64,
    /// What is not a verifying frame and not zero.
    pub damage: Vec<DamageView>,
    /// Further damage that is not listed.
    pub more_damage: u64,
}

/// Bytes of a segment that do not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageView {
    /// The first of them.
    pub from: u64,
    /// Behind the last of them.
    pub to: u64,
    /// What does not fit at `from`.
    pub why: String,
}

/// Looks at the log in `dir`.
///
/// # Errors
/// `Io` when the directory cannot be listed. Files that cannot be read are part of the result.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Inspection, LogError> {
    let listing = Listing::read(disk, dir)?;
    let identity = match identity::read(disk, &identity::path(dir)) {
        Ok(Some(identity)) => Stated::Says(identity),
        Ok(None) => Stated::Missing,
        Err(error) => Stated::Unreadable(error.to_string()),
    };
    let frontier = match frontier::read_slots(disk, &frontier::path(dir)) {
        Ok(Some(slots)) => slots.map(frontier_view).to_vec(),
        Ok(None) => vec![Stated::Missing],
        Err(error) => vec![Stated::Unreadable(error.to_string())],
    };
    Ok(Inspection {
        dir: dir.to_owned(),
        identity,
        frontier,
        segments: listing.segments.iter().map(|name| segment(disk, name)).collect(),
        notes: listing.notes,
        temporary: listing.temporary,
        quarantine: listing.quarantine,
        failed: listing.failed,
        repaired: listing.repaired,
        locked: listing.locked,
    })
}

fn frontier_view(slot: Option<Slot>) -> Stated<FrontierView> {
    let Some(slot) = slot else { return Stated::Unreadable("it does not verify".to_owned()) };
    Stated::Says(FrontierView {
        uuid: slot.uuid,
        counter: slot.counter,
        durable_lsn: slot.frontier.durable_lsn,
        state: slot.frontier.state.into(),
    })
}

fn segment(disk: &dyn Disk, name: &SegmentName) -> SegmentView {
    let mut view = SegmentView {
        file: FileView { path: name.path.clone(), bytes: None },
        header: Stated::Missing,
        end: 0,
        frames: 0,
        records: RecordCounts::default(),
        entries: None,
        footer: None,
        synced_lsn: None,
        slack: 0,
        damage: Vec::new(),
        more_damage: 0,
    };
    if let Err(error) = view.read(disk) {
        view.damaged(DamageView { from: view.end, to: view.end, why: error.to_string() });
    }
    view
}

impl SegmentView {
    fn read(&mut self, disk: &dyn Disk) -> std::io::Result<()> {
        let file = disk.open_to_read(&self.file.path)?;
        let len = file.len()?;
        self.file.bytes = Some(len);
        let mut window = Window::new(Arc::clone(&file), len);
        let base = match walk::header(&mut window)? {
            Ok((header, chain)) => {
                self.end = HEADER_BYTES;
                self.header = Stated::Says(header.into());
                Some(Base::of(&header, chain))
            }
            Err(bad) => {
                self.header = Stated::Unreadable(bad.to_string());
                let why = bad.to_string();
                self.damaged(DamageView { from: 0, to: HEADER_BYTES.min(len), why });
                Base::guess(&mut window)?
            }
        };
        if let Some(base) = base {
            walk::walk(&mut window, base, &mut |stretch| {
                match stretch {
                    Stretch::Frame(frame) => self.frame(&frame),
                    Stretch::Gap(gap) => self.gap(&gap),
                }
                ControlFlow::Continue(())
            })?;
        }
        self.slack = len.saturating_sub(self.end);
        Ok(())
    }

    fn frame(&mut self, frame: &FrameView<'_>) {
        let to = frame.offset + u64_len(frame.body.len()) + u64_len(crate::frame::FRAME_HEAD);
        self.synced_lsn = self.synced_lsn.max(Some(frame.head.synced_lsn));
        if let Err(why) = frame.verdict {
            self.damaged(DamageView { from: frame.offset, to, why: why.to_owned() });
            return;
        }
        self.frames += 1;
        self.end = to;
        for found in walk::records(frame) {
            if let Ok(decoded) = found.record {
                self.count(&decoded.record);
            }
        }
    }

    fn count(&mut self, record: &Record<'_>) {
        let records = &mut self.records;
        match record {
            Record::Entry { id, .. } => {
                records.entries += 1;
                let (first, last) = self.entries.unwrap_or((id.index, id.index));
                self.entries = Some((first.min(id.index), last.max(id.index)));
            }
            Record::Vote(_) => records.votes += 1,
            Record::Committed(_) => records.committed += 1,
            Record::TruncateAfter(_) => records.truncations += 1,
            Record::PurgeUpto(_) => records.purges += 1,
            Record::Seal(footer) => {
                records.seals += 1;
                let listed = SegmentIndex::decode_footer(footer, 0);
                self.footer = listed.map(|index| (index.first, index.count()));
            }
        }
    }

    fn gap(&mut self, gap: &Gap) {
        if gap.content_end > gap.from || gap.to < self.file.bytes.unwrap_or(0) {
            let to = if gap.content_end > gap.from { gap.content_end } else { gap.to };
            self.damaged(DamageView { from: gap.from, to, why: gap.why.to_owned() });
        }
    }

    fn damaged(&mut self, damage: DamageView) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(damage);
        } else {
            self.more_damage += 1;
        }
    }
}

impl From<State> for StateView {
    fn from(state: State) -> Self {
        let State { vote, committed, purged, last } = state;
        Self { vote, committed, purged, last }
    }
}

impl From<Header> for HeaderView {
    fn from(header: Header) -> Self {
        let Header { uuid, seq, base, start_lsn, salt, capacity, predecessor, state } = header;
        let predecessor = predecessor.map(|before| LinkView {
            seq: before.seq,
            end_lsn: before.end_lsn,
            chain: before.chain,
        });
        Self { uuid, seq, base, start_lsn, salt, capacity, predecessor, state: state.into() }
    }
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(why) => f.write_str(why),
            Self::TooNew(version) => write!(f, "it has the newer format version {version}"),
        }
    }
}
