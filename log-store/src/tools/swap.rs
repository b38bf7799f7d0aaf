//! The directories of a repair: the new log beside the old one, and how they change places.
//!
//! ```text
//!   wal  REPAIRED: generation n        the old log
//!   wal.repair.tmp  REPAIRED: n + 1    a part of the new one: after a crash it is thrown away; with IDENTITY it is put
//!                                      aside, for marks can be lost and it may be the only good log
//!        exchange
//!   wal  n + 1      wal.repair.tmp  n  after a crash the old one is put away: it gets its last name
//! ```
//! The mark REPAIRED is the first file of a new log and the last to go. What is removed has no IDENTITY: nothing that
//! ever was a log.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, read_small, write_all};
use crate::error::LogError;
use crate::tools::repair::{RepairError, RepairPlan};

/// The directories of a repair, all in one.
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) backup: PathBuf,
    /// For what lies in `tmp` and is neither a part of a new log nor known to be the old one.
    pub(crate) aside: PathBuf,
    parent: PathBuf,
}

impl Paths {
    pub(crate) fn of(
        disk: &dyn Disk,
        dir: &Path,
        backup: Option<&Path>,
    ) -> Result<Self, RepairError> {
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
        let free = |kind: &str| {
            let free = (1u32..).map(|n| beside(&format!(".{kind}-{n}"))).find(is_free);
            free.unwrap_or_else(|| beside(&format!(".{kind}")))
        };
        let backup = match backup {
            Some(path) if path.parent() != dir.parent() || !is_free(&path.to_owned()) => {
                return Err(RepairError::Refused(format!(
                    "the old log is kept by a rename: {} must be a new name in {}",
                    path.display(),
                    parent.display()
                )));
            }
            Some(path) => path.to_owned(),
            None => free("backup"),
        };
        let (tmp, aside) = (beside(".repair.tmp"), free("aside"));
        Ok(Self { dir: dir.to_owned(), tmp, backup, aside, parent: parent.to_owned() })
    }
}

/// What an earlier repair has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// A new log that did not get its name, or a part of one.
    Unfinished,
    /// By the marks a new log that did not get its name. It is complete, and marks can be lost, so it is kept.
    WholeLog,
    /// The new log has its name; this is the old one.
    OldLog,
}

const MARK: &str = "REPAIRED";

/// The old log has a lower number than the one that was made of it.
pub(crate) fn beside(disk: &dyn Disk, paths: &Paths) -> Result<Beside, RepairError> {
    let found = match disk.list(&paths.tmp) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Beside::Nothing),
        Err(e) => return Err(LogError::io("list", &paths.tmp)(e).into()),
    };
    if found.iter().all(|file| file.name == MARK || file.name == "LOCK") {
        return Ok(Beside::Unfinished);
    }
    let (ours, beside) = (generation(disk, &paths.dir), generation(disk, &paths.tmp));
    if ours > beside {
        return Ok(Beside::OldLog);
    }
    if beside == ours + 1 && found.iter().all(|file| file.is_file) {
        // IDENTITY is the last file of a new log. With it the directory is a log, whatever the marks say, and may be the
        // only one that is left.
        let is_log = found.iter().any(|file| file.name == "IDENTITY");
        return Ok(if is_log { Beside::WholeLog } else { Beside::Unfinished });
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

pub(crate) fn remove_unfinished(disk: &dyn Disk, tmp: &Path) -> Result<(), LogError> {
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

/// The first file of a new log: what it was made of, for people, and its number, for the next repair.
pub(crate) fn write_mark(
    disk: &dyn Disk,
    paths: &Paths,
    plan: &RepairPlan,
) -> Result<(), LogError> {
    let path = paths.tmp.join(MARK);
    let number = generation(disk, &paths.dir) + 1;
    let kept = if plan.new_uuid == plan.old_uuid { IDENTITY_KEPT } else { "identity new" };
    let text = format!("generation {number}\n{kept}\n{plan}");
    let file = disk.create(&path).map_err(LogError::io("create", &path))?;
    write_all(&*file, text.as_bytes(), 0).map_err(LogError::io("write", &path))?;
    file.sync_all().map_err(LogError::io("sync", &path))?;
    disk.sync_dir(&paths.tmp).map_err(LogError::io("sync directory", &paths.tmp))
}

/// In the mark: the log goes on as the voter that it was, and nobody has looked yet whether there are others.
const IDENTITY_KEPT: &str = "identity kept";

const MARK_BYTES_MAX: usize = 64 << 10;

/// Whether a repair has kept the identity of the log in `dir`, and [`settle_kept_identity`] was not called since.
///
/// # Errors
/// The mark of the repair cannot be read.
pub fn keeps_identity(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    Ok(mark(disk, dir)?.lines().any(|line| line == IDENTITY_KEPT))
}

/// The log in `dir` may go on with the identity that a repair has kept: its node is a cluster of itself. From now
/// on [`keeps_identity`] says no, so that the cluster may grow.
///
/// # Errors
/// The disk.
pub fn settle_kept_identity(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let text = mark(disk, dir)?.replacen(IDENTITY_KEPT, "identity settled", 1);
    let (tmp, path) = (dir.join("REPAIRED.tmp"), dir.join(MARK));
    let file = disk.create(&tmp).map_err(LogError::io("create", &tmp))?;
    write_all(&*file, text.as_bytes(), 0).map_err(LogError::io("write", &tmp))?;
    file.sync_all().map_err(LogError::io("sync", &tmp))?;
    disk.rename(&tmp, &path).map_err(LogError::io("rename", &path))?;
    disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))
}

/// The text of the mark; empty where there is none.
fn mark(disk: &dyn Disk, dir: &Path) -> Result<String, LogError> {
    let path = dir.join(MARK);
    match read_small(disk, &path, MARK_BYTES_MAX) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(LogError::io("read", &path)(e)),
    }
}

pub(crate) fn exchange(disk: &dyn Disk, paths: &Paths) -> Result<(), RepairError> {
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
pub(crate) fn put_away(disk: &dyn Disk, paths: &Paths) -> Result<(), LogError> {
    move_tmp(disk, paths, &paths.backup)
}

/// Makes room for a new log.
pub(crate) fn put_aside(disk: &dyn Disk, paths: &Paths) -> Result<(), LogError> {
    move_tmp(disk, paths, &paths.aside)
}

fn move_tmp(disk: &dyn Disk, paths: &Paths, to: &Path) -> Result<(), LogError> {
    let Paths { tmp, parent, .. } = paths;
    // It may have changed places just before a crash.
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))?;
    disk.move_dir(tmp, to).map_err(LogError::io("rename", tmp))?;
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))
}
