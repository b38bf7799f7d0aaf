//! Keeps a copy of every byte that recovery ever cuts.
//!
//! ```text
//!   quarantine/<segment>-<offset>.tmp     a copy in the making; the next one removes it
//!   quarantine/<segment>-<offset>.<n>     a copy: whole and durable before a byte of the segment is zeroed
//! ```

use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile, SECTOR, read_exact, write_all};
use crate::error::LogError;
use crate::files::QUARANTINE;
use crate::segment_file::SegmentFile;

/// Bytes copied or zeroed at once.
const STEP: u64 = 1 << 20;

/// Copies `from..to` of the segment into the quarantine, durably; the path of the copy. One that is there
/// already, of a recovery that crashed behind it, is not made again.
pub(crate) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFile,
    from: u64,
    to: u64,
) -> Result<PathBuf, LogError> {
    let dir = dir.join(QUARANTINE);
    disk.create_dir(&dir).map_err(LogError::io("create directory", &dir))?;
    let names = list(disk, &dir)?;
    let stem = format!("{}-{from}", segment.header.file_name());
    let copies = (1..).map(|n: u64| format!("{stem}.{n}"));
    let taken: Vec<_> = copies.clone().take_while(|name| names.contains(name)).collect();
    for path in taken.iter().map(|name| dir.join(name)) {
        let copy = disk.open(&path).map_err(LogError::io("open", &path))?;
        if covers(&*copy, &path, segment, from, to)? {
            copy.sync_all().map_err(LogError::io("sync", &path))?;
            disk.sync_dir(&dir).map_err(LogError::io("sync directory", &dir))?;
            return Ok(path);
        }
    }
    let path = dir.join(format!("{stem}.{}", taken.len() + 1));
    let tmp = dir.join(format!("{stem}{TMP}"));
    if let Err(error) = copy(disk, &tmp, segment, from, to) {
        // On a full disk the half of it would only be in the way.
        let _ = disk.remove(&tmp);
        return Err(error);
    }
    disk.rename(&tmp, &path).map_err(LogError::io("rename", &path))?;
    disk.sync_dir(&dir).map_err(LogError::io("sync directory", &dir))?;
    Ok(path)
}

const TMP: &str = ".tmp";

/// The copies that are there. What was only begun is removed.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, LogError> {
    let mut names = Vec::new();
    for found in disk.list(dir).map_err(LogError::io("list", dir))? {
        if found.is_file && found.name.ends_with(TMP) {
            let path = dir.join(&found.name);
            disk.remove(&path).map_err(LogError::io("remove", &path))?;
        } else {
            names.push(found.name);
        }
    }
    Ok(names)
}

/// Whether all that is in the range is in the copy: what a recovery that crashed behind the copy has zeroed
/// since need not be kept again.
fn covers(
    copy: &dyn DiskFile,
    path: &Path,
    segment: &SegmentFile,
    from: u64,
    to: u64,
) -> Result<bool, LogError> {
    if copy.len().map_err(LogError::io("read the length of", path))? < to - from {
        return Ok(false);
    }
    for at in steps(from, to) {
        let (mut ours, mut kept) = (buf(&at), buf(&at));
        read_exact(&*segment.file, &mut ours, at.start)
            .map_err(LogError::io("read", &segment.path))?;
        read_exact(copy, &mut kept, at.start - from).map_err(LogError::io("read", path))?;
        if ours.iter().zip(&kept).any(|(ours, kept)| *ours != 0 && ours != kept) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy(
    disk: &dyn Disk,
    path: &Path,
    segment: &SegmentFile,
    from: u64,
    to: u64,
) -> Result<(), LogError> {
    const OP: &str = "keep a copy of the unfinished write in";
    let copy = disk.create(path).map_err(LogError::io(OP, path))?;
    for at in steps(from, to) {
        let mut bytes = buf(&at);
        read_exact(&*segment.file, &mut bytes, at.start)
            .map_err(LogError::io("read", &segment.path))?;
        write_all(&*copy, &bytes, at.start - from).map_err(LogError::io(OP, path))?;
    }
    copy.sync_all().map_err(LogError::io("sync", path))
}

fn buf(at: &std::ops::Range<u64>) -> Vec<u8> {
    vec![0; usize::try_from(at.end - at.start).expect("a step fits memory")]
}

/// Writes zeros over `from..to` of the segment, durably. Its length stays.
///
/// First over the two sectors that a frame's header can lie in, each durably before the next: a crash
/// anywhere in here leaves a frame without its header, which is still recognised as an unfinished write,
/// whatever becomes of the rest (see `tear`).
pub(crate) fn zero(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<(), LogError> {
    let first = (from + 1).next_multiple_of(SECTOR).min(to);
    let second = (first + SECTOR).min(to);
    for (from, to) in [(from, first), (first, second), (second, to)] {
        for at in steps(from, to) {
            write_all(file, &buf(&at), at.start).map_err(LogError::io("write", path))?;
        }
        if from < to {
            file.sync_all().map_err(LogError::io("sync", path))?;
        }
    }
    Ok(())
}

fn steps(from: u64, to: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let step = usize::try_from(STEP).expect("a step fits memory");
    (from..to).step_by(step).map(move |at| at..to.min(at + STEP))
}
