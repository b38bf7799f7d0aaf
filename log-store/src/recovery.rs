//! Opening a log: settle what a killed process left in the cache, look, and only then change anything.
//!
//! ```text
//!   settle:  lock; the last segment is synced, its cache dropped
//!   look:    read, verify, decide (`examine`)                        -> refuse, or accept
//!   accept:  unlink what is purged, quarantine and zero a torn tail, seal the end, FRONTIER
//! ```
//! - A refusal changes nothing on disk.
//! - Accepting may crash, or meet a full disk, at any step and is then simply done again.
//! - The tail is synced before it is read: a killed process leaves bytes in the page cache that are read as
//!   if they were durable, and would be reported as such.
//! - Nothing is ever appended to what an earlier process wrote (L5): the end is sealed, the next frame goes
//!   into a new segment.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::config::LogConfig;
use crate::disk::{Disk, DiskLock, write_sectors};
use crate::error::LogError;
use crate::examine::{Examined, FoundLog, FoundTail, look};
use crate::files::{self, Files};
use crate::frontier::{self, Frontier, FrontierFile};
use crate::header::Predecessor;
use crate::identity;
use crate::leaders::Leaders;
use crate::planted::Planted;
use crate::quarantine;
use crate::seal::{self, SealFrame};
use crate::segments::Segments;
use crate::state::State;
use crate::stats::RecoveryInfo;
use crate::types::{Identity, Owner};

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
    pub(crate) longer: Vec<(PathBuf, u64)>,
    /// The same for the last segment, once the next one exists.
    pub(crate) tail_longer: Option<(PathBuf, u64)>,
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
    settle(config, disk, &files)?;
    let mut recovered = match look(config, disk, &files, Some(owner.node_id))? {
        Examined::Nothing => {
            files.remove_temporary(disk)?;
            create(disk, dir, owner, lock)?
        }
        Examined::Log(found) => accept(config, disk, &files, *found, lock)?,
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

/// Makes what is going to be read the same as what a power cut would leave: names and bytes of a killed
/// process become durable, bytes that the system only believes to have written are forgotten.
///
/// Names first of all: were a segment removed, or FRONTIER written, on top of a rename or a removal that is in
/// the cache alone, the power could undo the older change and keep the newer one.
///
/// Only the last segment can hold such bytes, unless the last process met a disk error: then every file can.
fn settle(config: &LogConfig, disk: &dyn Disk, files: &Files) -> Result<(), LogError> {
    disk.sync_dir(&config.dir).map_err(LogError::io("sync directory", &config.dir))?;
    let trusts_cache = config.has(Planted::TrustCacheAfterFailure);
    if let Some(last) = files.segments.last() {
        let file = disk.open(&last.path).map_err(LogError::io("open", &last.path))?;
        if !config.has(Planted::TrustUnsyncedTail) {
            file.sync_all().map_err(LogError::io("sync", &last.path))?;
        }
        if !trusts_cache {
            file.forget_cached().map_err(LogError::io("drop the cache of", &last.path))?;
        }
    }
    if !files.has_failed || trusts_cache {
        return Ok(());
    }
    let dir = &config.dir;
    let segments = files.segments.iter().map(|segment| segment.path.clone());
    for path in segments.chain([identity::path(dir), frontier::path(dir)]) {
        match disk.open_to_read(&path).and_then(|file| file.forget_cached()) {
            // What is missing is judged when it is looked for.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            forgotten => forgotten.map_err(LogError::io("drop the cache of", &path))?,
        }
    }
    Ok(())
}

fn create(
    disk: &dyn Disk,
    dir: &Path,
    owner: Owner,
    lock: Box<dyn DiskLock>,
) -> Result<Recovered, LogError> {
    let identity = Identity { node_id: owner.node_id, wal_uuid: owner.new_uuid };
    let frontier = FrontierFile::create(disk, &frontier::path(dir), identity.wal_uuid)?;
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
        info: RecoveryInfo::nothing(),
    })
}

/// Puts the log in order. From here on nothing is refused, only the disk can still fail.
fn accept(
    config: &LogConfig,
    disk: &dyn Disk,
    files: &Files,
    found: FoundLog,
    lock: Box<dyn DiskLock>,
) -> Result<Recovered, LogError> {
    let FoundLog { identity, slot, mut replay, tail, leftovers, mut info } = found;
    let dir = &config.dir;
    let mut frontier = FrontierFile::open(disk, &frontier::path(dir), slot)?;
    // First what gives room back: a full disk must not keep the log from opening.
    files.remove_temporary(disk)?;
    for segment in &leftovers {
        files::unlink(disk, dir, &segment.path)?;
    }
    let mut segments = std::mem::take(&mut replay.segments);
    let mut end = None;
    let mut tail_longer = None;
    if let Some(tail) = tail {
        let closed = close_tail(config, disk, &tail, &mut segments, &mut info)?;
        tail_longer = Some((tail.segment.path, closed.file_end));
        end = Some(closed.predecessor);
    }
    let durable_lsn = end.map_or(0, |end: Predecessor| end.end_lsn);
    let now = Frontier { durable_lsn, state: replay.state };
    if frontier.frontier() != now {
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
    if tail.is_sealed {
        let end_lsn = segment.header.start_lsn + end;
        let predecessor = Predecessor { seq: segment.header.seq, end_lsn, chain: *chain };
        return Ok(Closed { predecessor, file_end: *end });
    }
    let path = &segment.path;
    let file = disk.open(path).map_err(LogError::io("open", path))?;
    if let Some(to) = tail.cut_to {
        if let Some(torn) = info.torn.as_mut().filter(|_| !config.has(Planted::SkipQuarantine)) {
            torn.quarantine = Some(quarantine::keep(disk, &config.dir, segment, *end, to)?);
        }
        if !config.has(Planted::LeaveTornTail) {
            quarantine::zero(&*file, path, *end, to)?;
        }
    }
    if config.has(Planted::AppendToInheritedTail) {
        let end_lsn = segment.header.start_lsn + end;
        let predecessor = Predecessor { seq: segment.header.seq, end_lsn, chain: *chain };
        return Ok(Closed { predecessor, file_end: segment.file_len });
    }
    let footer = seal::footer(segments, *end).expect("the last segment is the current one");
    let seal = SealFrame::encode(&footer, &segment.header, *end, *chain);
    write_sectors(&*file, &seal.bytes, *end).map_err(LogError::io("write", path))?;
    if !config.has(Planted::TrustUnsyncedTail) {
        file.sync_all().map_err(LogError::io("sync", path))?;
    }
    segments.seal_is_on_disk();
    let file_end = end + seal.len();
    let end_lsn = segment.header.start_lsn + file_end;
    let predecessor = Predecessor { seq: segment.header.seq, end_lsn, chain: seal.chain };
    Ok(Closed { predecessor, file_end })
}
