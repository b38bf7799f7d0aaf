//! What can be saved of a log that does not open: first shown, then written as a new log beside it.
//!
//! ```text
//!   wal                the log as it is; only read, ever
//!   wal.repair.tmp     the new one, built from what verifies, opened once to prove it
//!        exchange      both names at once: there is never no log
//!   wal                the new one       wal.repair.tmp  the old one  ──rename──►  wal.backup-1
//! ```
//! - A crash leaves the old log or the new one under its name, whole; the next repair says which and goes on.
//! - A log that has lost what it may have acknowledged must not pass as the same voter: the new one has a new uuid,
//!   which the store and the peers refuse, unless `keep_identity` says that there is nobody to deceive.

use std::path::PathBuf;

use crate::config::LogConfig;
use crate::damage::{Cause, Damage};
use crate::disk::{Disk, read_small};
use crate::error::LogError;
use crate::examine::examine;
use crate::tools::evidence::Lost;
use crate::tools::listing::Listing;
use crate::tools::salvage::Salvage;
use crate::tools::swap::{
    Beside, Paths, beside, exchange, put_aside, put_away, remove_unfinished, write_mark,
};
use crate::tools::transcribe::Transcript;
use crate::tools::verify::forget;
use crate::types::{Identity, LogIdParts, VoteParts};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairRequest {
    /// How much of the log to keep.
    pub mode: RepairMode,
    /// Whose log it is, where IDENTITY does not say it.
    pub node_id: Option<u64>,
    /// A random number: the uuid of the new log, and the seed of its salts.
    pub new_uuid: u128,
    /// Keep the old uuid: the log goes on as the same voter. Only for a node that is a cluster of itself.
    pub keep_identity: bool,
    /// Where the old log is kept: beside it, so that a rename does it. Default `<dir>.backup-<n>`.
    pub backup: Option<PathBuf>,
}

/// How much of the log to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// The longest part that verifies. Nothing is done to a log that opens.
    Longest,
    /// The frames that end at this position at most; they must verify, and not lie before the first frame.
    /// Positions are of the log as it is now: a repair moves them all.
    TruncateAt(u64),
    /// Everything: nothing but FRONTIER is damaged or missing.
    RebuildFrontier,
}

/// What a repair would do. `Display` prints it as a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// The directory.
    pub dir: PathBuf,
    /// Why an open refuses the log; none when it does not.
    pub damage: Option<Damage>,
    /// Where the kept part ends and why; none when the log ends there.
    pub ends: Option<(PathBuf, u64, String)>,
    /// The entries that are kept: first and last.
    pub keeps: Option<(u64, u64)>,
    /// The position up to which the old log is kept.
    pub keeps_lsn: u64,
    /// Segments that are kept, in whole or in part.
    pub segments: usize,
    /// The vote of the new log: the largest that anything tells of.
    pub vote: Option<VoteParts>,
    /// The purge frontier of the new log.
    pub purged: Option<LogIdParts>,
    /// What is known to be committed in the new log.
    pub committed: Option<LogIdParts>,
    /// The entries that are lost, as far as anything tells of them.
    pub lost: Option<Lost>,
    /// Kept entries from this index on had been dropped or replaced in the old log, by what could not be kept.
    pub outdated_from: Option<u64>,
    /// Something may have followed of which nothing tells.
    pub end_is_open: bool,
    /// A vote may have been given of which nothing tells any more.
    pub votes_may_be_lost: bool,
    /// The node.
    pub node_id: u64,
    /// The log's uuid.
    pub old_uuid: u128,
    /// The uuid that it will have; 0 where it is not drawn yet.
    pub new_uuid: u128,
    /// Where the old log will be.
    pub backup: PathBuf,
    /// What else should be known.
    pub notes: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The log opens as it is.
    NotNeeded,
    /// An earlier repair was cut off behind its exchange: the log is the new one, the old one lies here and gets
    /// its last name when a repair is run.
    ToFinish {
        /// Where the old log is.
        old: PathBuf,
    },
    /// That was done: the old log is kept here. Whether the new one is good is for the next call to say.
    Finished {
        /// Where the old log is.
        backup: PathBuf,
    },
    /// This is what would be done.
    Planned(Box<RepairPlan>),
    /// This was done.
    Done(Box<RepairPlan>),
}

/// Why nothing was repaired. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A process has the log open.
    #[error("{} is open by a process{holder}; stop it first", path.display())]
    Open {
        /// The lock file.
        path: PathBuf,
        /// What the process wrote into it.
        holder: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
    /// The disk.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What `repair` would do, changing nothing.
///
/// # Errors
/// As `repair`.
pub fn plan_repair(
    config: &LogConfig,
    disk: &dyn Disk,
    request: &RepairRequest,
) -> Result<Repair, RepairError> {
    let dir = &config.dir;
    let path = dir.join("LOCK");
    if disk.is_locked(&path).map_err(LogError::io("look at", &path))? {
        let holder = read_small(disk, &path, 100).unwrap_or_default();
        let holder = format!(" ({})", String::from_utf8_lossy(&holder).trim());
        return Err(RepairError::Open { path, holder });
    }
    let paths = Paths::of(disk, dir, request.backup.as_deref())?;
    if beside(disk, &paths)? == Beside::OldLog {
        return Ok(Repair::ToFinish { old: paths.tmp });
    }
    let planned = make_plan(config, disk, request, &paths)?;
    Ok(planned.map_or(Repair::NotNeeded, |(plan, _)| Repair::Planned(Box::new(plan))))
}

/// Writes what can be saved as a new log and puts it in the place of the old one, which is kept. Loses what
/// `plan_repair` says: to be called by someone who has read that.
///
/// # Errors
/// `Open` when a process has the log open, `Refused` when what is asked for cannot be, `Log` when the disk fails.
/// The log is as it was then, but for `Log` after the exchange: then the next call goes on.
pub fn repair(
    config: &LogConfig,
    disk: &dyn Disk,
    request: &RepairRequest,
) -> Result<Repair, RepairError> {
    let dir = &config.dir;
    let path = dir.join("LOCK");
    let text = format!("pid {} repair\n", std::process::id());
    let _lock = match disk.lock(&path, &text) {
        Ok(lock) => lock,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            let holder = read_small(disk, &path, 100).unwrap_or_default();
            let holder = format!(" ({})", String::from_utf8_lossy(&holder).trim());
            return Err(RepairError::Open { path, holder });
        }
        Err(e) => return Err(LogError::io("lock", &path)(e).into()),
    };
    let paths = Paths::of(disk, dir, request.backup.as_deref())?;
    let found = beside(disk, &paths)?;
    match found {
        Beside::OldLog => {
            put_away(disk, &paths)?;
            return Ok(Repair::Finished { backup: paths.backup });
        }
        Beside::Unfinished => remove_unfinished(disk, &paths.tmp)?,
        Beside::WholeLog | Beside::Nothing => {}
    }
    let Some((plan, salvage)) = make_plan(config, disk, request, &paths)? else {
        return Ok(Repair::NotNeeded);
    };
    if found == Beside::WholeLog {
        put_aside(disk, &paths)?;
    }
    build(config, disk, request, &paths, &plan, &salvage)?;
    exchange(disk, &paths)?;
    put_away(disk, &paths)?;
    Ok(Repair::Done(Box::new(plan)))
}

/// What is to be done; none when there is nothing to do.
fn make_plan(
    config: &LogConfig,
    disk: &dyn Disk,
    request: &RepairRequest,
    paths: &Paths,
) -> Result<Option<(RepairPlan, Salvage)>, RepairError> {
    if let Ok(listing) = Listing::read(disk, &config.dir) {
        forget(disk, &config.dir, &listing, false);
    }
    let damage = match examine(config, disk, None) {
        Ok(info) if info.created => {
            let why = format!("there is no log in {}", config.dir.display());
            return Err(RepairError::Refused(why));
        }
        Ok(_) if request.mode == RepairMode::Longest => return Ok(None),
        Ok(_) => None,
        Err(LogError::Corrupt(damage)) => Some(*damage),
        // A part of it that the disk does not give back is damage like any other.
        Err(LogError::Io { op, path, source }) => {
            Some(Damage::of(Cause::Rotten, &path, 0, format!("{op}: {source}")))
        }
        Err(error) => return Err(error.into()),
    };
    let limit = match request.mode {
        RepairMode::TruncateAt(lsn) => Some(lsn),
        RepairMode::Longest | RepairMode::RebuildFrontier => None,
    };
    let salvage = Salvage::find(disk, &config.dir, limit)?;
    salvage.check(request.mode)?;
    if let (Some(own), Some(given)) = (salvage.node_id, request.node_id)
        && own != given
    {
        return Err(RepairError::Refused(format!("this is the log of node {own}, not of {given}")));
    }
    let Some(node_id) = salvage.node_id.or(request.node_id) else {
        let why = "IDENTITY does not say whose log this is: name the node with --id";
        return Err(RepairError::Refused(why.to_owned()));
    };
    let mut notes = salvage.notes.clone();
    if beside(disk, paths)? == Beside::WholeLog {
        let (tmp, aside) = (paths.tmp.display(), paths.aside.display());
        notes.push(format!("a whole log lies in {tmp}; it is kept as {aside}"));
    }
    let old_uuid = salvage.uuid;
    let new_uuid = if request.keep_identity { old_uuid } else { request.new_uuid };
    let plan = RepairPlan {
        dir: config.dir.clone(),
        damage,
        ends: salvage.prefix.stop.clone().map(|stop| (stop.path, stop.offset, stop.why)),
        keeps: salvage.prefix.entries(),
        keeps_lsn: salvage.prefix.end_lsn(),
        segments: salvage.prefix.segments.len(),
        vote: salvage.evidence.vote,
        purged: salvage.prefix.state.purged,
        committed: salvage.prefix.state.committed,
        lost: salvage.evidence.lost(salvage.has_end),
        outdated_from: salvage.evidence.outdated_from(),
        end_is_open: salvage.evidence.is_open(salvage.has_end),
        votes_may_be_lost: salvage.evidence.votes_may_be_lost(salvage.has_end),
        node_id,
        old_uuid,
        new_uuid,
        backup: paths.backup.clone(),
        notes,
    };
    Ok(Some((plan, salvage)))
}

/// Writes the new log and proves that it opens with what is promised.
fn build(
    config: &LogConfig,
    disk: &dyn Disk,
    request: &RepairRequest,
    paths: &Paths,
    plan: &RepairPlan,
    salvage: &Salvage,
) -> Result<(), RepairError> {
    let tmp = &paths.tmp;
    disk.create_dir(tmp).map_err(LogError::io("create directory", tmp))?;
    write_mark(disk, paths, plan)?;
    let identity = Identity { node_id: plan.node_id, wal_uuid: plan.new_uuid };
    let (above_lsn, vote) = (salvage.evidence.known_lsn, plan.vote);
    let seed = request.new_uuid;
    Transcript { disk, dir: tmp, identity, seed, above_lsn, vote }.write(&salvage.prefix)?;
    let built = LogConfig { dir: tmp.clone(), ..config.clone() };
    let info = examine(&built, disk, Some(plan.node_id))?;
    let entries = info.first_index.zip(info.last_index);
    if (entries, info.vote, info.torn) != (plan.keeps, plan.vote, None) {
        return Err(RepairError::Refused(format!(
            "the new log in {} is not what was to be kept; the old one is untouched",
            tmp.display()
        )));
    }
    Ok(())
}
