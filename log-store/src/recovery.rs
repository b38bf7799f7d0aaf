//! Opening a log that is there: read and verify all of it, decide, and only then change anything.
//!
//! ```text
//!   read:    IDENTITY, FRONTIER, every header, every frame     -> Replay
//!   decide:  links, semantics, FRONTIER, the tail's verdict    -> refuse, or accept
//!   accept:  unlink what is purged, quarantine and zero a torn tail, seal the end, FRONTIER
//! ```
//! - A refusal changes nothing on disk.
//! - Accepting may crash at any step and is then simply done again.
//! - The tail is synced before it is read: a killed process leaves bytes in the page cache that are read as
//!   if they were durable, and would be reported as such.
//! - Nothing is ever appended to what an earlier process wrote (L5): the end is sealed, the next frame goes
//!   into a new segment.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, DiskLock, u64_len, write_all};
use crate::error::LogError;
use crate::files::{Files, SegmentName};
use crate::frontier::{self, Frontier, FrontierFile, Slot};
use crate::header::{HEADER_BYTES, Header, Predecessor};
use crate::identity;
use crate::leaders::Leaders;
use crate::planted::Planted;
use crate::quarantine;
use crate::replay::{Replay, SegmentFile, damage};
use crate::scan::{Behind, Window, look_behind};
use crate::seal::{self, SealFrame};
use crate::segments::Segments;
use crate::state::State;
use crate::stats::{RecoveryInfo, Torn};
use crate::types::{Identity, Owner};
use crate::verdict::{TailFacts, Verdict, verdict};

/// A log that was read and put in order.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn DiskLock>,
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) leaders: Leaders,
    pub(crate) segments: Segments,
    /// How the last segment ends; none when there is none.
    pub(crate) tail: Option<Predecessor>,
    /// There until it is handed to the janitor.
    pub(crate) frontier: Option<FrontierFile>,
    /// Files that are longer than what counts of them, to be shortened some time.
    pub(crate) longer: Vec<(Arc<dyn DiskFile>, u64)>,
    /// The same for the last segment, once the next one exists.
    pub(crate) tail_longer: Option<(Arc<dyn DiskFile>, u64)>,
    pub(crate) info: RecoveryInfo,
}

/// Opens the log in `config.dir`, or creates it.
pub(crate) fn recover(
    config: &LogConfig,
    disk: &dyn Disk,
    owner: Owner,
) -> Result<Recovered, LogError> {
    let started = Instant::now();
    let dir = &config.dir;
    disk.create_dir(dir).map_err(LogError::io("create directory", dir))?;
    let lock = lock(disk, dir, owner)?;
    let files = Files::list(disk, dir)?;
    let mut recovered = match begin(disk, dir, &files, owner)? {
        Begin::Create => create(disk, dir, owner, lock)?,
        Begin::Recover(identity, slot) => {
            let found = read(config, disk, &files, identity, slot)?;
            accept(config, disk, &files, found, lock)?
        }
    };
    recovered.info.took = started.elapsed();
    Ok(recovered)
}

fn lock(disk: &dyn Disk, dir: &Path, owner: Owner) -> Result<Box<dyn DiskLock>, LogError> {
    let path = dir.join("LOCK");
    let text = format!("pid {} node {}\n", std::process::id(), owner.node_id);
    match disk.lock(&path, &text) {
        Ok(lock) => Ok(lock),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            let holder = crate::disk::read_small(disk, &path, 100).unwrap_or_default();
            let holder = String::from_utf8_lossy(&holder).trim().to_owned();
            let holder = if holder.is_empty() { holder } else { format!(" ({holder})") };
            Err(LogError::Locked { path, holder })
        }
        Err(e) => Err(LogError::io("lock", &path)(e)),
    }
}

enum Begin {
    Create,
    Recover(Identity, Slot),
}

/// A log that never held anything may be created anew; anything else must be complete.
fn begin(disk: &dyn Disk, dir: &Path, files: &Files, owner: Owner) -> Result<Begin, LogError> {
    let path = identity::path(dir);
    let slot = frontier::read(disk, &dir.join("FRONTIER"))?;
    let Some(identity) = identity::read(disk, &path)? else {
        // IDENTITY is the last file of a creation. Without it there is a creation that did not end.
        let was_used = slot.is_some_and(|slot| slot.frontier.durable_lsn > 0);
        if was_used || !files.segments.is_empty() {
            return Err(damage(&path, 0, "it is missing, but there is a log beside it"));
        }
        return Ok(Begin::Create);
    };
    if identity.node_id != owner.node_id {
        let (found, expected) = (identity.node_id, owner.node_id);
        return Err(LogError::WrongOwner { path, found, expected });
    }
    let path = dir.join("FRONTIER");
    let Some(slot) = slot else {
        return Err(damage(&path, 0, "it is missing, or neither of its slots verifies"));
    };
    if slot.uuid != identity.wal_uuid {
        return Err(damage(&path, 16, "it belongs to another log"));
    }
    Ok(Begin::Recover(identity, slot))
}

fn create(
    disk: &dyn Disk,
    dir: &Path,
    owner: Owner,
    lock: Box<dyn DiskLock>,
) -> Result<Recovered, LogError> {
    let identity = Identity { node_id: owner.node_id, wal_uuid: owner.new_uuid };
    let frontier = FrontierFile::create(disk, &dir.join("FRONTIER"), identity.wal_uuid)?;
    // FRONTIER's name is durable before IDENTITY's: so its absence always means loss.
    disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
    identity::create(disk, dir, identity)?;
    Ok(Recovered {
        lock,
        identity,
        state: State::default(),
        leaders: Leaders::default(),
        segments: Segments::default(),
        tail: None,
        frontier: Some(frontier),
        longer: Vec::new(),
        tail_longer: None,
        info: RecoveryInfo { created: true, clean_shutdown: true, ..RecoveryInfo::default() },
    })
}

/// A log that was read and found good.
struct FoundLog {
    identity: Identity,
    slot: Slot,
    replay: Replay,
    tail: Option<FoundTail>,
}

/// The last segment.
struct FoundTail {
    segment: SegmentFile,
    end: u64,
    chain: u32,
    is_sealed: bool,
    reason: &'static str,
    verdict: Verdict,
    content_end: u64,
}

/// Reads everything and decides. Changes nothing but syncs what is there.
fn read(
    config: &LogConfig,
    disk: &dyn Disk,
    files: &Files,
    identity: Identity,
    slot: Slot,
) -> Result<FoundLog, LogError> {
    let mut segments = Vec::with_capacity(files.segments.len());
    for name in &files.segments {
        segments.push(open_segment(disk, name, identity)?);
    }
    let frontier_path = config.dir.join("FRONTIER");
    let is_blind = config.has(Planted::IgnoreFrontier);
    let frontier = if is_blind { Frontier::default() } else { slot.frontier };
    let mut replay = Replay::new(config, &segments, frontier, frontier_path.clone());
    let mut tail = None;
    let mut rest = segments.into_iter().peekable();
    while let Some(segment) = rest.next() {
        if rest.peek().is_none() && !config.has(Planted::TrustUnsyncedTail) {
            segment.file.sync_all().map_err(LogError::io("sync", &segment.path))?;
        }
        let trusts_cache = config.has(Planted::TrustCacheAfterFailure);
        if (files.has_failed || rest.peek().is_none()) && !trusts_cache {
            segment
                .file
                .forget_cached()
                .map_err(LogError::io("drop the cache of", &segment.path))?;
        }
        match rest.peek() {
            Some(next) => replay.sealed_segment(segment, next)?,
            None => tail = Some(read_tail(config, segment, &mut replay, frontier)?),
        }
    }
    if tail.is_none() && frontier.durable_lsn > 0 {
        return Err(damage(&frontier_path, 40, "the log was used, but there is no segment"));
    }
    replay.finish(tail.as_ref().map(|tail| tail.segment.path.as_path()))?;
    Ok(FoundLog { identity, slot, replay, tail })
}

fn open_segment(
    disk: &dyn Disk,
    name: &SegmentName,
    identity: Identity,
) -> Result<SegmentFile, LogError> {
    let path = &name.path;
    let file = disk.open(path).map_err(LogError::io("open", path))?;
    let file_len = file.len().map_err(LogError::io("read the length of", path))?;
    let mut window = Window::new(Arc::clone(&file), file_len);
    let block = window.get(0, HEADER_BYTES).map_err(LogError::io("read", path))?;
    let Some(block) = block else {
        return Err(damage(path, file_len, "the file is shorter than a header"));
    };
    let (header, chain) = Header::decode(block).map_err(|bad| bad.at(path))?;
    if header.uuid != identity.wal_uuid {
        return Err(damage(path, 16, "the segment belongs to another log"));
    }
    if (header.seq, header.base) != (name.seq, name.base) {
        return Err(damage(path, 32, "the segment has the name of another"));
    }
    Ok(SegmentFile { path: path.clone(), file, file_len, header, chain })
}

fn read_tail(
    config: &LogConfig,
    segment: SegmentFile,
    replay: &mut Replay,
    frontier: Frontier,
) -> Result<FoundTail, LogError> {
    let mut window = Window::new(Arc::clone(&segment.file), segment.file_len);
    let (scanned, is_sealed) = replay.last_segment(&segment, &mut window)?;
    let behind = if is_sealed {
        Behind { later_synced_lsn: None, content_end: scanned.end }
    } else {
        look_behind(&mut window, &segment.header, scanned.end)
            .map_err(LogError::io("read", &segment.path))?
    };
    let ignores_synced = config.has(Planted::IgnoreSyncedLsn);
    let accepts_short = config.has(Planted::AcceptShortTail);
    let facts = TailFacts {
        start_lsn: segment.header.start_lsn,
        end: scanned.end,
        is_sealed,
        capacity: segment.header.capacity,
        file_len: if accepts_short { u64::MAX } else { segment.file_len },
        frontier_lsn: frontier.durable_lsn,
        later_synced_lsn: behind.later_synced_lsn.filter(|_| !ignores_synced),
        content_end: behind.content_end,
        strict_tail: config.strict_tail,
    };
    let verdict = verdict(&facts);
    let reason = scanned.stop.unwrap_or("the log ends");
    if let Verdict::Refuse(refusal) = verdict {
        let last = frontier.state.last.map(|id| id.index);
        return Err(replay.damaged(&segment, scanned.end, last, format!("{reason}; {refusal}")));
    }
    let content_end = behind.content_end;
    let (end, chain) = (scanned.end, scanned.chain);
    Ok(FoundTail { segment, end, chain, is_sealed, reason, verdict, content_end })
}

/// Puts the log in order. From here on nothing is refused, only the disk can still fail.
fn accept(
    config: &LogConfig,
    disk: &dyn Disk,
    files: &Files,
    found: FoundLog,
    lock: Box<dyn DiskLock>,
) -> Result<Recovered, LogError> {
    let FoundLog { identity, slot, mut replay, tail } = found;
    let dir = &config.dir;
    let mut frontier = FrontierFile::open(disk, &dir.join("FRONTIER"), slot)?;
    let mut info = replay.info();
    info.frontier_lsn = slot.frontier.durable_lsn;
    info.after_failure = files.has_failed;
    // First what gives room back: a full disk must not keep the log from opening.
    files.remove_temporary(disk)?;
    let mut segments = std::mem::take(&mut replay.segments);
    if let Some(purged) = replay.state.purged {
        info.leftovers = remove_purged(disk, dir, &mut segments, purged.index)?;
    }
    let mut end = None;
    let mut tail_longer = None;
    if let Some(tail) = tail {
        info.clean_shutdown =
            tail.is_sealed && tail.segment.header.start_lsn + tail.end == slot.frontier.durable_lsn;
        let closed = close_tail(config, disk, &tail, &mut segments, &mut info)?;
        tail_longer = Some((Arc::clone(&tail.segment.file), closed.file_end));
        end = Some(closed.predecessor);
    }
    let durable_lsn = end.map_or(0, |end: Predecessor| end.end_lsn);
    let now = Frontier { durable_lsn, state: replay.state };
    if frontier.frontier() != now {
        // A killed process may have renamed its last segment and not synced the name. FRONTIER must not
        // outlive it: it would say for ever that a segment is lost.
        disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
        frontier.write(now)?;
    }
    files.remove_failed_marker(disk)?;
    disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
    info.end_lsn = durable_lsn;
    Ok(Recovered {
        lock,
        identity,
        state: replay.state,
        leaders: replay.leaders,
        segments,
        tail: end,
        frontier: Some(frontier),
        longer: replay.longer,
        tail_longer,
        info,
    })
}

fn remove_purged(
    disk: &dyn Disk,
    dir: &Path,
    segments: &mut Segments,
    purged: u64,
) -> Result<u64, LogError> {
    let removable = segments.remove_purged(purged);
    for segment in &removable {
        crate::files::unlink(disk, dir, &segment.path)?;
    }
    Ok(u64_len(removable.len()))
}

struct Closed {
    predecessor: Predecessor,
    file_end: u64,
}

/// Leaves the last segment sealed at its end.
fn close_tail(
    config: &LogConfig,
    disk: &dyn Disk,
    tail: &FoundTail,
    segments: &mut Segments,
    info: &mut RecoveryInfo,
) -> Result<Closed, LogError> {
    let FoundTail { segment, end, chain, .. } = tail;
    info.zero_tail_bytes = segment.file_len.saturating_sub(tail.content_end);
    if let Verdict::Cut { to } = tail.verdict {
        let kept = if config.has(Planted::SkipQuarantine) {
            config.dir.join("quarantine")
        } else {
            quarantine::keep(disk, &config.dir, segment, *end, to)?
        };
        if !config.has(Planted::LeaveTornTail) && !config.has(Planted::AppendToInheritedTail) {
            quarantine::zero(segment, *end, to)?;
        }
        info.torn = Some(Torn {
            segment: segment.path.clone(),
            offset: *end,
            bytes: to - end,
            reason: tail.reason.to_owned(),
            quarantine: kept,
        });
    }
    if tail.is_sealed || config.has(Planted::AppendToInheritedTail) {
        let end_lsn = segment.header.start_lsn + end;
        let predecessor = Predecessor { seq: segment.header.seq, end_lsn, chain: *chain };
        let file_end = if tail.is_sealed { *end } else { segment.file_len };
        return Ok(Closed { predecessor, file_end });
    }
    let footer = seal::footer(segments, *end).expect("the last segment is the current one");
    let seal = SealFrame::encode(&footer, &segment.header, *end, *chain);
    write_all(&*segment.file, &seal.bytes, *end).map_err(LogError::io("write", &segment.path))?;
    if !config.has(Planted::TrustUnsyncedTail) {
        segment.file.sync_all().map_err(LogError::io("sync", &segment.path))?;
    }
    segments.seal_is_on_disk();
    let file_end = end + u64_len(seal.bytes.len());
    let end_lsn = segment.header.start_lsn + file_end;
    let predecessor = Predecessor { seq: segment.header.seq, end_lsn, chain: seal.chain };
    Ok(Closed { predecessor, file_end })
}
