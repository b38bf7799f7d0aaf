//! The disk of the machine.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    Advice, CWD, FallocateFlags, RenameFlags, fadvise, fallocate, renameat_with, statvfs,
};
use rustix::io::Errno;

use super::{Disk, DiskFile, DiskLock, Found};

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let made: Vec<_> = dir.ancestors().take_while(is_missing).collect();
        fs::create_dir_all(dir)?;
        // A log is worth nothing under a name that can vanish. A directory that is there may have been made
        // by a process that was killed before this sync: its own name is synced each time.
        let own = made.is_empty().then_some(dir);
        for parent in made.into_iter().chain(own).filter_map(Path::parent) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok(Found { name, is_file: entry.file_type()?.is_file() })
            })
            .collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(options)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let figures = statvfs(dir)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn move_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn exchange_dirs(&self, a: &Path, b: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        // Held for the length of this call: a process that starts at this very moment is refused and says so.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        // Not truncated before the lock is ours: the text belongs to the holder.
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The text only helps people; a full disk must not keep a log from opening.
        let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Box::new(RealLock { _file: file }))
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        // Mode 0 sets the length too: later syncs need not write it.
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.0.set_len(len),
            Err(Errno::INTR) => self.allocate(len),
            Err(e) => Err(e.into()),
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}

#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_small, write_all};

    #[test]
    fn an_allocated_file_has_its_length_and_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("f")).unwrap();
        file.allocate(100_000).unwrap();
        write_all(&*file, b"abc", 10).unwrap();
        file.sync_data().unwrap();
        file.forget_cached().unwrap();

        assert_eq!(file.len().unwrap(), 100_000);
        let bytes = read_small(&RealDisk, &dir.path().join("f"), 200_000).unwrap();
        assert_eq!(&bytes[8..16], b"\0\0abc\0\0\0");
        assert_eq!(bytes.len(), 100_000);
    }

    #[test]
    fn a_directory_is_made_with_its_parents_and_again_without_harm() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        RealDisk.create_dir(&deep).unwrap();
        RealDisk.create_dir(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn directories_change_places_and_never_replace_another() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        for path in [&a, &b] {
            RealDisk.create_dir(path).unwrap();
            let own = path.file_name().unwrap().to_owned();
            RealDisk.create(&path.join(own)).unwrap();
        }
        RealDisk.exchange_dirs(&a, &b).unwrap();
        assert!(a.join("b").exists() && b.join("a").exists());
        assert!(RealDisk.move_dir(&a, &b).is_err());
        RealDisk.move_dir(&a, &c).unwrap();
        assert!(c.join("b").exists() && !a.exists());
    }

    #[test]
    fn a_lock_is_held_until_its_guard_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let guard = RealDisk.lock(&path, "1").unwrap();
        let refused = RealDisk.lock(&path, "2").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        assert!(RealDisk.is_locked(&path).unwrap());

        drop(guard);
        assert!(!RealDisk.is_locked(&path).unwrap());
        assert!(!RealDisk.is_locked(&dir.path().join("none")).unwrap());
        RealDisk.lock(&path, "3").unwrap();
    }
}
