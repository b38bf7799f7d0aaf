//! What is in a log's directory, whatever it is: the same look as an open's, but nothing refuses.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, Found, read_small};
use crate::error::LogError;
use crate::files::SegmentName;
use crate::header::parse_file_name;
use crate::tools::FileView;

/// The names in the directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By number; gaps and doubles are there as they are found.
    pub(crate) segments: Vec<SegmentName>,
    /// Names that an open would refuse, and numbers out of order.
    pub(crate) notes: Vec<String>,
    pub(crate) temporary: Vec<FileView>,
    pub(crate) quarantine: Vec<FileView>,
    /// The text of FAILED.
    pub(crate) failed: Option<String>,
    /// The text of REPAIRED.
    pub(crate) repaired: Option<String>,
    /// A process has the log open; what it wrote into LOCK.
    pub(crate) locked: Option<String>,
}

/// Bytes read of a text that is only shown.
const TEXT_BYTES_MAX: usize = 4096;

impl Listing {
    /// Reads the directory `dir`.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let mut found = disk.list(dir).map_err(LogError::io("list", dir))?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let mut listing = Self { locked: lock_holder(disk, dir), ..Self::default() };
        for one in found {
            listing.take(disk, dir, &one);
        }
        listing.segments.sort_by_key(|segment| (segment.seq, segment.base));
        listing.note_order();
        Ok(listing)
    }

    fn take(&mut self, disk: &dyn Disk, dir: &Path, found: &Found) {
        let path = dir.join(&found.name);
        if found.name.ends_with(".wal") {
            match parse_file_name(&found.name).filter(|_| found.is_file) {
                Some((seq, base)) => self.segments.push(SegmentName { seq, base, path }),
                None => self.notes.push(format!("{} is not a segment of the log", found.name)),
            }
        } else if found.name.ends_with(".tmp") && found.is_file {
            self.temporary.push(FileView::of(disk, path));
        } else if found.name == "FAILED" {
            self.failed = Some(text(disk, &path));
        } else if found.name == "REPAIRED" {
            self.repaired = Some(text(disk, &path));
        } else if found.name == "quarantine" && !found.is_file {
            let mut kept = disk.list(&path).unwrap_or_default();
            kept.sort_by(|a, b| a.name.cmp(&b.name));
            let files = kept.iter().map(|file| FileView::of(disk, path.join(&file.name)));
            self.quarantine = files.collect();
        }
    }

    fn note_order(&mut self) {
        for pair in self.segments.windows(2) {
            if let [a, b] = pair
                && a.seq.checked_add(1) != Some(b.seq)
            {
                self.notes.push(if a.seq == b.seq {
                    format!("two segments have the number {}", a.seq)
                } else {
                    format!("segment {} is followed by {}", a.seq, b.seq)
                });
            }
        }
    }
}

impl FileView {
    fn of(disk: &dyn Disk, path: PathBuf) -> Self {
        let bytes = disk.open_to_read(&path).and_then(|file| file.len()).ok();
        Self { path, bytes }
    }
}

fn lock_holder(disk: &dyn Disk, dir: &Path) -> Option<String> {
    let path = dir.join("LOCK");
    disk.is_locked(&path).unwrap_or(false).then(|| text(disk, &path))
}

fn text(disk: &dyn Disk, path: &Path) -> String {
    let bytes = read_small(disk, path, TEXT_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
