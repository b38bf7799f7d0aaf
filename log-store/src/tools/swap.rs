//! The directories of a repair: the new log beside the old one, and how they change places.
//!
//! ```text
//!   wal  REPAIRED: generation n        the old log
//!   wal.repair.tmp  REPAIRED: n + 1    the new one, or a part of it: after a crash it is thrown away
//!        exchange
//!   wal  n + 1      wal.repair.tmp  n  after a crash the old one is put away: it gets its last name
//! ```
//! The mark REPAIRED is the first file of a new log and the last to go, so what lies in `wal.repair.tmp` is always
//! known for what it is.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, read_small, write_all};
use crate::error::LogError;
use crate::tools::repair::{RepairError, RepairPlan};

/// The directories of a repair, all in one.
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) backup: PathBuf,
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
pub(crate) enum Beside {
    Nothing,
    /// A new log that did not get its name, or a part of one.
    Unfinished,
    /// The new log has its name; this is the old one.
    OldLog,
}

const MARK: &str = "REPAIRED";

/// The old log has a lower number than the one that was made of it.
pub(crate) fn beside(disk: &dyn Disk, paths: &Paths) -> Result<Beside, RepairError> {
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
    let text = format!("generation {number}\n{plan}");
    let file = disk.create(&path).map_err(LogError::io("create", &path))?;
    write_all(&*file, text.as_bytes(), 0).map_err(LogError::io("write", &path))?;
    file.sync_all().map_err(LogError::io("sync", &path))?;
    disk.sync_dir(&paths.tmp).map_err(LogError::io("sync directory", &paths.tmp))
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
    let Paths { tmp, backup, parent, .. } = paths;
    // It may have changed places just before a crash.
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))?;
    disk.move_dir(tmp, backup).map_err(LogError::io("rename", tmp))?;
    disk.sync_dir(parent).map_err(LogError::io("sync directory", parent))
}
