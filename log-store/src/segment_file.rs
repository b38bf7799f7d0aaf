//! A segment's file with its verified header, open for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::damage::{Cause, Damage};
use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::files::SegmentName;
use crate::header::{BadHeader, HEADER_BYTES, Header, VERSION};
use crate::scan::Window;
use crate::types::Identity;

/// A segment that is about to be read.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_len: u64,
    pub(crate) header: Header,
    /// The chain value that the first frame must carry.
    pub(crate) chain: u32,
}

impl SegmentFile {
    /// Opens the file. A header that is not what its name and its log say refuses: it was durable before
    /// the file got its name, so no crash leaves such a one.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &SegmentName,
        identity: Identity,
    ) -> Result<Self, LogError> {
        let path = &name.path;
        let file = disk.open_to_read(path).map_err(LogError::io("open", path))?;
        let file_len = file.len().map_err(LogError::io("read the length of", path))?;
        let mut window = Window::new(Arc::clone(&file), file_len);
        let block = window.get(0, HEADER_BYTES).map_err(LogError::io("read", path))?;
        let Some(block) = block else {
            return Err(Damage::refuse(
                Cause::Rotten,
                path,
                file_len,
                "the file is shorter than a header",
            ));
        };
        let (header, chain) = Header::decode(block).map_err(|bad| bad.at(path))?;
        if header.uuid != identity.wal_uuid {
            return Err(Damage::refuse(
                Cause::Foreign,
                path,
                16,
                "the segment belongs to another log",
            ));
        }
        if (header.seq, header.base) != (name.seq, name.base) {
            return Err(Damage::refuse(
                Cause::Misplaced,
                path,
                32,
                "the segment has the name of another",
            ));
        }
        Ok(Self { path: path.clone(), file, file_len, header, chain })
    }
}

impl BadHeader {
    /// The error for the file that has this header.
    pub(crate) fn at(self, path: &Path) -> LogError {
        match self {
            Self::Damaged(reason) => Damage::refuse(Cause::Rotten, path, 0, reason),
            Self::TooNew(found) => {
                LogError::TooNew { path: path.to_owned(), found, known: VERSION }
            }
        }
    }
}
