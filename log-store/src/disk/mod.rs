//! The only door to the disk. Everything the log does to files goes through [`Disk`] and [`DiskFile`].
//!
//! What the log relies on (and `SimDisk` takes away where it is not promised):
//! - bytes are durable after `sync_data` or `sync_all` returned `Ok`, and only then;
//! - a file's name is durable after `sync_dir` of its directory returned `Ok`, and only then;
//! - a rename is atomic;
//! - a write changes no byte outside of it, even when the power fails.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod real;
mod sim;

pub use real::RealDisk;
pub use sim::{Fault, Moment, Op, SimDisk, Survival};

/// A file system, as far as the log needs one. Errors are those of the system, unchanged.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates the directory and its parents, and makes their names durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Everything in the directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Found>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading only, also on a disk that cannot be written.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }
    /// Creates an empty file for reading and writing; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file within its directory, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; open handles keep working.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that are free where the directory lies; everything, where nobody knows.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let _ = dir;
        Ok(u64::MAX)
    }

    /// Renames a directory with all that is in it, durably once its parent is synced. Nothing may have the
    /// new name.
    fn move_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Gives two directories of one parent each other's name, at once: at no moment is there none.
    fn exchange_dirs(&self, a: &Path, b: &Path) -> io::Result<()> {
        let _ = (a, b);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether a process holds the lock of a file, as far as that is known. Changes nothing; a file that is not
    /// there is not locked.
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(false)
    }
    /// Takes the exclusive lock of a file, creating it, and writes `text` into it. Held until the guard
    /// is dropped or the process ends. `WouldBlock` when another holds it.
    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `bytes`, at least one; the file grows when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the bytes durable, and the length as far as reading them needs it.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the bytes and the length durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Shortens or lengthens the file; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room and sets the length, new bytes are zero. Where the system cannot reserve, only the
    /// length is set.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Asks the system to forget what it caches of the file, so that reads see what is on the disk.
    /// Bytes not yet synced are kept.
    fn forget_cached(&self) -> io::Result<()>;
}

/// Holds a lock until it is dropped.
pub trait DiskLock: fmt::Debug + Send + Sync {}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name; unreadable characters are replaced, so that such a name matches none of ours.
    pub name: String,
    /// Whether it is a plain file, not a directory or a link.
    pub is_file: bool,
}

/// Reads exactly `buf.len()` bytes. `UnexpectedEof` when the file is shorter.
pub(crate) fn read_exact(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let read = read_full(file, buf, offset)?;
    if read < buf.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Fills `buf` as far as the file goes and says how far that was.
pub(crate) fn read_full(
    file: &dyn DiskFile,
    mut buf: &mut [u8],
    mut offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                offset += u64_len(n);
                buf = buf.get_mut(n..).unwrap_or_default();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`. A write of nothing is an error: it would never end.
pub(crate) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = write_once(file, bytes, offset)?;
        offset += u64_len(written);
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Writes some of `bytes`, at least one.
fn write_once(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

/// What survives a power cut as a whole. Disks with larger sectors lose several of these together.
pub(crate) const SECTOR: u64 = 512;

/// The same as `write_all`, and whatever the power leaves of it, each sector is as it was before or as it
/// is written, but for the last one that is not as before. Recovery knows a torn write by that (`tear`).
///
/// Only a write that the system cuts short inside a sector could leave more: then that sector is completed
/// and durable before anything behind it is written.
pub(crate) fn write_sectors(
    file: &dyn DiskFile,
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = write_once(file, bytes, offset)?;
        offset += u64_len(written);
        bytes = bytes.get(written..).unwrap_or_default();
        let rest = usize::try_from(offset.next_multiple_of(SECTOR) - offset).unwrap_or(0);
        if rest > 0 && !bytes.is_empty() {
            let (sector, behind) = bytes.split_at(rest.min(bytes.len()));
            write_all(file, sector, offset)?;
            file.sync_data()?;
            offset += u64_len(sector.len());
            bytes = behind;
        }
    }
    Ok(())
}

/// Reads a whole small file, at most `limit` bytes of it.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = disk.open_to_read(path)?;
    let mut bytes = vec![0; limit];
    let read = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A length in memory as a length on disk.
pub(crate) fn u64_len(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}
