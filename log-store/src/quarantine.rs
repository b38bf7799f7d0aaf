//! Keeps a copy of every byte that recovery ever cuts.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile, read_exact, write_all};
use crate::error::LogError;
use crate::segment_file::SegmentFile;
use crate::tear::SECTOR;

/// Bytes copied or zeroed at once.
const STEP: u64 = 1 << 20;

/// Copies `from..to` of the segment into a new file of the quarantine, durably; its path.
pub(crate) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFile,
    from: u64,
    to: u64,
) -> Result<PathBuf, LogError> {
    let dir = dir.join("quarantine");
    disk.create_dir(&dir).map_err(LogError::io("create directory", &dir))?;
    let path = free_name(disk, &dir, segment, from)?;
    let copy = disk.create(&path).map_err(LogError::io("create", &path))?;
    let mut buf = Vec::new();
    for at in steps(from, to) {
        buf.resize(usize::try_from(at.end - at.start).expect("a step fits memory"), 0);
        read_exact(&*segment.file, &mut buf, at.start)
            .map_err(LogError::io("read", &segment.path))?;
        write_all(&*copy, &buf, at.start - from).map_err(LogError::io("write", &path))?;
    }
    copy.sync_all().map_err(LogError::io("sync", &path))?;
    disk.sync_dir(&dir).map_err(LogError::io("sync directory", &dir))?;
    Ok(path)
}

/// A name that no earlier copy has: a second crash at the same place must not overwrite the first copy.
fn free_name(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFile,
    from: u64,
) -> Result<PathBuf, LogError> {
    let taken = disk.list(dir).map_err(LogError::io("list", dir))?;
    let stem = format!("{}-{from}", segment.header.file_name());
    let names = (1..).map(|n: u64| format!("{stem}.{n}"));
    let free = |name: &String| !taken.iter().any(|found| found.name == *name);
    let name = names.into_iter().find(free).expect("there is always one more number");
    Ok(dir.join(name))
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
            let zeros = vec![0; usize::try_from(at.end - at.start).expect("a step fits memory")];
            write_all(file, &zeros, at.start).map_err(LogError::io("write", path))?;
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
