//! The names in the log's directory.

use std::path::{Path, PathBuf};

use crate::damage::{Cause, Damage};
use crate::disk::Disk;
use crate::error::LogError;
use crate::header::parse_file_name;

/// What is in the directory, as far as it is ours.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Ascending, without a gap.
    pub(crate) segments: Vec<SegmentName>,
    temporary: Vec<PathBuf>,
    /// An earlier process left the mark that its disk failed.
    pub(crate) has_failed: bool,
    /// An earlier process has cut something.
    pub(crate) has_quarantine: bool,
    dir: PathBuf,
}

/// A segment's file, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentName {
    pub(crate) seq: u64,
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
}

impl Files {
    /// Reads the directory. A name that ends like a segment's but is none refuses: it may be a segment
    /// that someone renamed.
    pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let mut files = Self { dir: dir.to_owned(), ..Self::default() };
        for found in disk.list(dir).map_err(LogError::io("list", dir))? {
            let path = dir.join(&found.name);
            if found.name.ends_with(".wal") {
                let Some((seq, base)) = parse_file_name(&found.name).filter(|_| found.is_file)
                else {
                    return Err(Damage::refuse(
                        Cause::Misplaced,
                        &path,
                        0,
                        "this is not a segment of the log",
                    ));
                };
                files.segments.push(SegmentName { seq, base, path });
            } else if found.name.ends_with(".tmp") && found.is_file {
                files.temporary.push(path);
            } else if found.name == FAILED {
                files.has_failed = true;
            } else if found.name == QUARANTINE {
                files.has_quarantine = true;
            }
        }
        files.segments.sort_by_key(|segment| (segment.seq, segment.base));
        files.check_order()?;
        Ok(files)
    }

    /// Whether there is anything that only a log leaves whose creation had ended.
    pub(crate) fn were_used(&self) -> bool {
        !self.segments.is_empty() || self.has_failed || self.has_quarantine
    }

    fn check_order(&self) -> Result<(), LogError> {
        for pair in self.segments.windows(2) {
            if let [a, b] = pair
                && a.seq + 1 != b.seq
            {
                let (cause, reason) = if a.seq == b.seq {
                    (Cause::Misplaced, format!("two segments have the number {}", a.seq))
                } else {
                    (Cause::Missing, format!("segment {} is followed by {}", a.seq, b.seq))
                };
                return Err(Damage::refuse(cause, &b.path, 0, reason));
            }
        }
        Ok(())
    }

    /// Removes what an earlier process did not finish.
    pub(crate) fn remove_temporary(&self, disk: &dyn Disk) -> Result<(), LogError> {
        for path in &self.temporary {
            disk.remove(path).map_err(LogError::io("remove", path))?;
        }
        Ok(())
    }

    pub(crate) fn remove_failed_marker(&self, disk: &dyn Disk) -> Result<(), LogError> {
        let path = self.dir.join(FAILED);
        if self.has_failed {
            disk.remove(&path).map_err(LogError::io("remove", &path))?;
        }
        Ok(())
    }
}

const FAILED: &str = "FAILED";
pub(crate) const QUARANTINE: &str = "quarantine";

/// Leaves the mark that the disk failed, as well as a failing disk lets us.
pub(crate) fn mark_failed(disk: &dyn Disk, dir: &Path, message: &str) {
    let path = dir.join(FAILED);
    let marked = disk.create(&path).and_then(|file| {
        crate::disk::write_all(&*file, message.as_bytes(), 0)?;
        file.sync_all()?;
        disk.sync_dir(dir)
    });
    if let Err(error) = marked {
        tracing::warn!(%error, path = %path.display(), "the mark of the failure could not be written");
    }
}

/// Removes a file's name, durably before anything else is removed: so that what comes back after a power
/// cut never leaves a gap.
pub(crate) fn unlink(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(LogError::io("remove", path)(e)),
    }
    disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))
}
