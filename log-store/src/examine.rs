//! Looking at a log: read and verify all of it, and decide. What `open` accepts or refuses is decided here.
//!
//! ```text
//!   IDENTITY, FRONTIER      whose log this is, how far it was durable
//!   every segment           header, link, frames, records: replayed in order       -> Replay
//!   the last one            where its valid frames end, what is behind them        -> Verdict
//! ```
//! - It locks, syncs and writes nothing, so it gives the same answer as `open` on a log that nobody has open,
//!   also from a disk that can only be read.
//! - One segment is open for reading at a time, and the next one for its header, however many there are (L7).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::config::LogConfig;
use crate::damage::{Cause, Damage};
use crate::disk::{Disk, u64_len};
use crate::error::LogError;
use crate::files::Files;
use crate::frontier::{self, Frontier, Slot};
use crate::header::Header;
use crate::identity;
use crate::located::Removable;
use crate::planted::Planted;
use crate::replay::Replay;
use crate::scan::{Behind, Scanned, Window, look_behind, look_closer};
use crate::segment_file::SegmentFile;
use crate::stats::{RecoveryInfo, Torn};
use crate::tear::Tear;
use crate::types::Identity;
use crate::verdict::{TailFacts, Verdict, verdict};

/// What `Log::open` would find in `config.dir` and decide about it: the same answer, without changing,
/// locking or syncing anything. `created` says that there is no log yet, or one whose creation did not
/// end; `torn` tells of an unfinished write that an open would cut and keep.
///
/// The owner is checked only when `node_id` is given. A log that a process has open is read as it is at
/// that moment: its end may look torn.
///
/// # Errors
/// As `Log::open` gives them: `Corrupt`, `WrongOwner`, `TooNew`, `Io`.
pub fn examine(
    config: &LogConfig,
    disk: &dyn Disk,
    node_id: Option<u64>,
) -> Result<RecoveryInfo, LogError> {
    let started = Instant::now();
    let files = Files::list(disk, &config.dir)?;
    let mut info = match look(config, disk, &files, node_id)? {
        Examined::Nothing => RecoveryInfo::nothing(),
        Examined::Log(found) => found.info,
    };
    info.took = started.elapsed();
    Ok(info)
}

/// What is in a directory.
#[derive(Debug)]
pub(crate) enum Examined {
    /// There never was a log, or its creation did not end.
    Nothing,
    /// A good one.
    Log(Box<FoundLog>),
}

/// A log that was read and found good.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(crate) identity: Identity,
    pub(crate) slot: Slot,
    pub(crate) replay: Replay,
    /// The last segment; none when there is none yet.
    pub(crate) tail: Option<FoundTail>,
    /// Segments that the purge frontier covers and that are still there.
    pub(crate) leftovers: Vec<Removable>,
    pub(crate) info: RecoveryInfo,
}

/// The last segment.
#[derive(Debug)]
pub(crate) struct FoundTail {
    pub(crate) segment: SegmentFile,
    /// Where its valid frames end.
    pub(crate) end: u64,
    pub(crate) chain: u32,
    pub(crate) is_sealed: bool,
    /// The unfinished write behind `end` reaches up to here.
    pub(crate) cut_to: Option<u64>,
    reason: &'static str,
    content_end: u64,
}

/// Reads everything and decides.
pub(crate) fn look(
    config: &LogConfig,
    disk: &dyn Disk,
    files: &Files,
    node_id: Option<u64>,
) -> Result<Examined, LogError> {
    let Some((identity, slot)) = begin(disk, &config.dir, files, node_id)? else {
        return Ok(Examined::Nothing);
    };
    let is_blind = config.has(Planted::IgnoreFrontier);
    let frontier = if is_blind { Frontier::default() } else { slot.frontier };
    let (mut replay, tail) = read(config, disk, files, identity, frontier)?;
    let purged = replay.state.purged;
    let leftovers =
        purged.map_or_else(Vec::new, |purged| replay.segments.remove_purged(purged.index));
    let mut info = replay.info();
    info.frontier_lsn = slot.frontier.durable_lsn;
    info.after_failure = files.has_failed;
    info.leftovers = u64_len(leftovers.len());
    if let Some(tail) = &tail {
        tail.tell(&mut info);
    }
    Ok(Examined::Log(Box::new(FoundLog { identity, slot, replay, tail, leftovers, info })))
}

/// Whose log it is and how far it was durable; none when it never held anything and may be created anew.
fn begin(
    disk: &dyn Disk,
    dir: &Path,
    files: &Files,
    node_id: Option<u64>,
) -> Result<Option<(Identity, Slot)>, LogError> {
    let path = identity::path(dir);
    let slot = frontier::read(disk, &frontier::path(dir))?;
    let Some(identity) = identity::read(disk, &path)? else {
        // IDENTITY is the last file of a creation. Without it there is a creation that did not end.
        let was_used = slot.is_some_and(|slot| slot.frontier.durable_lsn > 0);
        if was_used || files.were_used() {
            return Err(Damage::refuse(
                Cause::Identity,
                &path,
                0,
                "it is missing, but there is a log beside it",
            ));
        }
        return Ok(None);
    };
    if let Some(expected) = node_id.filter(|&id| id != identity.node_id) {
        return Err(LogError::WrongOwner { path, found: identity.node_id, expected });
    }
    let path = frontier::path(dir);
    let Some(slot) = slot else {
        return Err(Damage::refuse(
            Cause::Frontier,
            &path,
            0,
            "it is missing, or neither of its slots verifies",
        ));
    };
    if slot.uuid != identity.wal_uuid {
        return Err(Damage::refuse(Cause::Foreign, &path, 16, "it belongs to another log"));
    }
    Ok(Some((identity, slot)))
}

/// Replays all segments.
fn read(
    config: &LogConfig,
    disk: &dyn Disk,
    files: &Files,
    identity: Identity,
    frontier: Frontier,
) -> Result<(Replay, Option<FoundTail>), LogError> {
    let frontier_path = frontier::path(&config.dir);
    let mut names = files.segments.iter();
    let mut open_next = || names.next().map(|name| SegmentFile::open(disk, name, identity));
    let mut next = open_next().transpose()?;
    let first = next.as_ref().map(|segment| &segment.header);
    let mut replay = Replay::new(config, first, frontier, frontier_path.clone());
    let mut tail = None;
    while let Some(segment) = next {
        next = open_next().transpose()?;
        match &next {
            Some(next) => replay.sealed_segment(segment, next)?,
            None => tail = Some(read_tail(config, segment, &mut replay, frontier)?),
        }
    }
    if tail.is_none() && frontier.durable_lsn > 0 {
        return Err(Damage::refuse(
            Cause::Missing,
            &frontier_path,
            40,
            "the log was used, but there is no segment",
        ));
    }
    replay.finish(tail.as_ref().map(|tail| tail.segment.path.as_path()))?;
    Ok((replay, tail))
}

fn read_tail(
    config: &LogConfig,
    segment: SegmentFile,
    replay: &mut Replay,
    frontier: Frontier,
) -> Result<FoundTail, LogError> {
    let mut window = Window::new(Arc::clone(&segment.file), segment.file_len);
    let (scanned, is_sealed) = replay.last_segment(&segment, &mut window)?;
    let (behind, tear) = if is_sealed {
        (Behind { later_synced_lsn: None, content_end: scanned.end }, Tear::Nothing)
    } else {
        what_is_behind(&mut window, &segment.header, &scanned)
            .map_err(LogError::io("read", &segment.path))?
    };
    let ignores_synced = config.has(Planted::IgnoreSyncedLsn);
    let accepts_short = config.has(Planted::AcceptShortTail);
    let cuts_anything = config.has(Planted::CutWithoutHole);
    let facts = TailFacts {
        start_lsn: segment.header.start_lsn,
        end: scanned.end,
        is_sealed,
        capacity: segment.header.capacity,
        file_len: if accepts_short { u64::MAX } else { segment.file_len },
        frontier_lsn: frontier.durable_lsn,
        later_synced_lsn: behind.later_synced_lsn.filter(|_| !ignores_synced),
        content_end: behind.content_end,
        tear: if cuts_anything && tear != Tear::Nothing { Tear::Torn } else { tear },
        strict_tail: config.strict_tail,
    };
    let reason = scanned.stop.unwrap_or("the log ends");
    let cut_to = match verdict(&facts) {
        Verdict::Keep => None,
        Verdict::Cut { to } => Some(to),
        Verdict::Refuse(refusal) => {
            let last = frontier.state.last.map(|id| id.index);
            // What stopped the scan says more, unless there is simply nothing.
            let text = match facts.tear {
                Tear::Torn => format!("{reason}; {refusal}"),
                Tear::Nothing | Tear::Whole(_) => refusal.to_string(),
            };
            return Err(replay.damaged(refusal.cause(), &segment, scanned.end, last, text));
        }
    };
    let content_end = behind.content_end;
    let (end, chain) = (scanned.end, scanned.chain);
    Ok(FoundTail { segment, end, chain, is_sealed, cut_to, reason, content_end })
}

/// Looks at the bytes behind the last valid frame.
fn what_is_behind(
    window: &mut Window,
    header: &Header,
    scanned: &Scanned,
) -> io::Result<(Behind, Tear)> {
    let behind = look_behind(window, header, scanned.end)?;
    let tear = look_closer(window, header, scanned, behind.content_end)?;
    Ok((behind, tear))
}

impl FoundTail {
    fn tell(&self, info: &mut RecoveryInfo) {
        info.end_lsn = self.segment.header.start_lsn + self.end;
        info.found_lsn = info.end_lsn;
        info.clean_shutdown = self.is_sealed && info.end_lsn == info.frontier_lsn;
        info.zero_tail_bytes = self.segment.file_len.saturating_sub(self.content_end);
        info.torn = self.cut_to.map(|to| Torn {
            segment: self.segment.path.clone(),
            offset: self.end,
            bytes: to - self.end,
            reason: self.reason.to_owned(),
            quarantine: None,
        });
    }
}
