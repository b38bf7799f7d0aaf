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

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::LogConfig;
use crate::damage::{Cause, Damage};
use crate::disk::{Disk, read_small, write_all};
use crate::error::LogError;
use crate::examine::examine;
use crate::tools::evidence::Lost;
use crate::tools::salvage::Salvage;
use crate::tools::transcribe::Transcript;
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
    /// The frames that end at this position at most; they must verify.
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
    if let Beside::OldLog = beside(disk, &paths)? {
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
    match beside(disk, &paths)? {
        Beside::OldLog => {
            put_away(disk, &paths)?;
            return Ok(Repair::Finished { backup: paths.backup });
        }
        Beside::Unfinished => remove_unfinished(disk, &paths.tmp)?,
        Beside::Nothing => {}
    }
    let Some((plan, salvage)) = make_plan(config, disk, request, &paths)? else {
        return Ok(Repair::NotNeeded);
    };
    build(config, disk, request, &paths, &plan, &salvage)?;
    exchange(disk, &paths)?;
    put_away(disk, &paths)?;
    Ok(Repair::Done(Box::new(plan)))
}

/// The directories of a repair, all in one.
struct Paths {
    dir: PathBuf,
    tmp: PathBuf,
    backup: PathBuf,
    parent: PathBuf,
}

impl Paths {
    fn of(disk: &dyn Disk, dir: &Path, backup: Option<&Path>) -> Result<Self, RepairError> {
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            let why = format!("{} has no directory above it", dir.display());
            return Err(RepairError::Refused(why));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let beside = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            dir.with_file_name(name)
        };
        let is_free = |path: &PathBuf| disk.list(path).is_err();
        let free = || (1u32..).map(|n| beside(&format!(".backup-{n}"))).find(is_free);
        let backup = match backup {
            Some(path) if path.parent() != dir.parent() || !is_free(&path.to_owned()) => {
                return Err(RepairError::Refused(format!(
                    "the old log is kept by a rename: {} must be a new name in {}",
                    path.display(),
                    parent.display()
                )));
            }
            Some(path) => path.to_owned(),
            None => free().unwrap_or_else(|| beside(".backup")),
        };
        let tmp = beside(".repair.tmp");
        Ok(Self { dir: dir.to_owned(), tmp, backup, parent: parent.to_owned() })
    }
}

/// What an earlier repair has left.
enum Beside {
    Nothing,
    /// A new log that did not get its name, or a part of one.
    Unfinished,
    /// The new log has its name; this is the old one.
    OldLog,
}

const MARK: &str = "REPAIRED";

/// The old log has a lower number than the one that was made of it.
fn beside(disk: &dyn Disk, paths: &Paths) -> Result<Beside, RepairError> {
    let Ok(found) = disk.list(&paths.tmp) else { return Ok(Beside::Nothing) };
    if found.iter().all(|file| file.name == MARK || file.name == "LOCK") {
        return Ok(Beside::Unfinished);
    }
    let (ours, beside) = (generation(disk, &paths.dir), generation(disk, &paths.tmp));
    if ours > beside {
        return Ok(Beside::OldLog);
    }
    if beside == ours + 1 && found.iter().all(|file| file.is_file) {
        return Ok(Beside::Unfinished);
    }
    Err(RepairError::Refused(format!(
        "{} is not what a repair of {} leaves; move it away",
        paths.tmp.display(),
        paths.dir.display()
    )))
}

/// How many repairs made this log.
fn generation(disk: &dyn Disk, dir: &Path) -> u64 {
    let text = read_small(disk, &dir.join(MARK), 4096).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("generation "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn remove_unfinished(disk: &dyn Disk, tmp: &Path) -> Result<(), LogError> {
    // The mark goes last: without it the rest would not be known for what it is.
    let mut found = disk.list(tmp).map_err(LogError::io("list", tmp))?;
    found.sort_by_key(|file| file.name == MARK);
    for file in found {
        let path = tmp.join(file.name);
        if path.ends_with(MARK) {
            disk.sync_dir(tmp).map_err(LogError::io("sync directory", tmp))?;
        }
        disk.remove(&path).map_err(LogError::io("remove", &path))?;
    }
    disk.sync_dir(tmp).map_err(LogError::io("sync directory", tmp))
}

/// What is to be done; none when there is nothing to do.
fn make_plan(
    config: &LogConfig,
    disk: &dyn Disk,
    request: &RepairRequest,
    paths: &Paths,
) -> Result<Option<(RepairPlan, Salvage)>, RepairError> {
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
        notes: salvage.notes.clone(),
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

/// The first file of a new log: what it was made of, for people, and its number, for the next repair.
fn write_mark(disk: &dyn Disk, paths: &Paths, plan: &RepairPlan) -> Result<(), LogError> {
    let path = paths.tmp.join(MARK);
    let number = generation(disk, &paths.dir) + 1;
    let text = format!("generation {number}\n{plan}");
    let file = disk.create(&path).map_err(LogError::io("create", &path))?;
    write_all(&*file, text.as_bytes(), 0).map_err(LogError::io("write", &path))?;
    file.sync_all().map_err(LogError::io("sync", &path))?;
    disk.sync_dir(&paths.tmp).map_err(LogError::io("sync directory", &paths.tmp))
}

fn exchange(disk: &dyn Disk, paths: &Paths) -> Result<(), RepairError> {
    // Both are complete under their names before they change them.
    for dir in [&paths.tmp, &paths.dir, &paths.parent] {
        disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))?;
    }
    disk.exchange_dirs(&paths.dir, &paths.tmp).map_err(|error| {
        RepairError::Refused(format!(
            "{} and {} cannot change places here ({error}); the new log is complete, exchange them by hand",
            paths.dir.display(),
            paths.tmp.display()
        ))
    })?;
    Ok(disk.sync_dir(&paths.parent).map_err(LogError::io("sync directory", &paths.parent))?)
}

/// Gives the old log its last name.
fn put_away(disk: &dyn Disk, paths: &Paths) -> Result<(), LogError> {
    let Paths { tmp, backup, parent, .. } = paths;
    // It may have changed places just before a crash.
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))?;
    disk.move_dir(tmp, backup).map_err(LogError::io("rename", tmp))?;
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log       {} of node {}", self.dir.display(), self.node_id)?;
        match &self.damage {
            Some(damage) => {
                let (file, offset) = (damage.file.display(), damage.offset);
                writeln!(f, "refused   {file} at byte {offset}: {}", damage.reason)?;
            }
            None => writeln!(f, "refused   no, it opens as it is")?,
        }
        match self.keeps {
            Some((first, last)) => write!(f, "keeps     entries {first} to {last}")?,
            None => write!(f, "keeps     no entries")?,
        }
        writeln!(f, ", up to lsn {} in {} segments", self.keeps_lsn, self.segments)?;
        if let Some((path, offset, why)) = &self.ends {
            writeln!(f, "ends      {} at byte {offset}: {why}", path.display())?;
        }
        match self.lost {
            Some(Lost { first, last, at_least: false }) => {
                writeln!(f, "LOST      entries {first} to {last}")?;
            }
            Some(Lost { first, last, at_least: true }) => {
                writeln!(
                    f,
                    "LOST      at least entries {first} to {last}; what followed cannot be told"
                )?;
            }
            None if self.end_is_open => {
                writeln!(f, "LOST      no entry that is known of; what followed cannot be told")?;
            }
            None => writeln!(f, "LOST      no entry")?,
        }
        if let Some(first) = self.outdated_from {
            writeln!(f, "OUTDATED  kept entries from {first} on had been replaced or dropped")?;
        }
        match (self.votes_may_be_lost, self.vote) {
            (true, Some(vote)) => writeln!(f, "VOTE      {vote} is kept; a later one may be lost")?,
            (true, None) => writeln!(f, "VOTE      none is known of; one may be lost")?,
            (false, Some(vote)) => writeln!(f, "vote      {vote}, none is lost")?,
            (false, None) => writeln!(f, "vote      there was none")?,
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        writeln!(f, "backup    the old log is kept as {}", self.backup.display())?;
        if self.new_uuid == self.old_uuid {
            writeln!(f, "identity  log {:032x} is KEPT", self.old_uuid)?;
            f.write_str(KEPT)
        } else {
            let (old, new) = (self.old_uuid, self.new_uuid);
            match new {
                0 => writeln!(f, "identity  log {old:032x} gets a new uuid")?,
                _ => writeln!(f, "identity  log {old:032x} becomes {new:032x}")?,
            }
            f.write_str(ANEW)
        }
    }
}

const KEPT: &str = "\
This node goes on as the same voter, although it may have forgotten what it acknowledged. Right only if it
is a cluster of itself. With other voters it can elect a leader that lacks committed writes: data are lost
without a sign of it.
";

const ANEW: &str = "\
This node may have forgotten what it acknowledged and whom it voted for. It must not vote again under its
id: its store and its peers refuse the new log. In a cluster: remove this member, empty its directories,
join it under a new id; the repaired log is for reading. Only a cluster of this node alone may go on with
it: then repair again with --keep-identity.
";
