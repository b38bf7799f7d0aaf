//! How much room the file systems of this node have: the one place that asks the system.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// One file system at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Which one: directories with the same number share their room.
    pub filesystem: u64,
    /// Bytes that this process may still take.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
}

/// Where free bytes are asked for; tests have one of their own. May block.
pub trait FreeSpace: Debug + Send + Sync + 'static {
    /// The file system that `dir` lies in.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// The file systems of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl FreeSpace for Machine {
    fn space(&self, dir: &Path) -> io::Result<Space> {
        let figures = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
        Ok(Space {
            filesystem: rustix::fs::stat(dir)?.st_dev,
            free_bytes: bytes(figures.f_bavail),
            total_bytes: bytes(figures.f_blocks),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_one_file_system_share_their_room() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();

        let (outer, inner) = (Machine.space(dir.path()).unwrap(), Machine.space(&inner).unwrap());

        assert_eq!(outer.filesystem, inner.filesystem);
        assert!(outer.free_bytes > 0 && outer.free_bytes <= outer.total_bytes, "{outer:?}");
        assert!(Machine.space(&dir.path().join("none")).is_err());
    }
}
