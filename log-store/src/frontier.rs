//! FRONTIER: a lower bound of how far the log was durable, outside of the log.
//!
//! ```text
//!   two slots of 512 bytes at 0 and 4096, written in turn:
//!   0 magic "RAFTMFRT"   8 version u32   12 zero   16 wal uuid u128
//!  32 counter u64   40 durable lsn u64   48 state at that lsn (96 bytes)   508 crc32c
//! ```
//! A frame says how far the log was durable when it was written, so losing bytes *before* a frame is
//! noticed. Losing the last frames, or the end of the file, is noticed here. Written in the background,
//! always after the sync that it tells of; nobody waits for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Put, close_block, open_block};
use crate::disk::{Disk, DiskFile, read_small, write_all};
use crate::error::LogError;
use crate::header::VERSION;
use crate::state::State;

const MAGIC: &[u8; 8] = b"RAFTMFRT";
const SLOT_LEN: usize = 512;
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FILE_LEN: u64 = 8192;

/// How far the log was durable, and its state there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    pub(crate) durable_lsn: u64,
    pub(crate) state: State,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) uuid: u128,
    pub(crate) counter: u64,
    pub(crate) frontier: Frontier,
}

impl Slot {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_LEN);
        out.put(MAGIC);
        out.put_u32(VERSION);
        out.put_u32(0);
        out.put_u128(self.uuid);
        out.put_u64(self.counter);
        out.put_u64(self.frontier.durable_lsn);
        self.frontier.state.encode(&mut out);
        close_block(out, SLOT_LEN)
    }

    /// The slot, or the version that is not known here.
    fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let (mut from, _) = open_block(bytes, SLOT_LEN)?;
        if from.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let version = from.u32().filter(|&version| version > 0)?;
        if version > VERSION {
            return Some(Err(version));
        }
        from.u32()?;
        let (uuid, counter, durable_lsn) = (from.u128()?, from.u64()?, from.u64()?);
        let state = State::decode(&mut from)?;
        Some(Ok(Self { uuid, counter, frontier: Frontier { durable_lsn, state } }))
    }
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("FRONTIER")
}

/// The newest slot that verifies; none when there is no file or no such slot.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Slot>, LogError> {
    let slots = read_slots(disk, path)?;
    Ok(slots.into_iter().flatten().flatten().max_by_key(|slot| slot.counter))
}

/// Each slot, as far as it verifies; none when there is no file. One that a newer version wrote refuses: the
/// other would tell of an older log.
pub(crate) fn read_slots(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<[Option<Slot>; 2]>, LogError> {
    let bytes = match read_small(disk, path, 8192) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(LogError::io("read", path)(e)),
    };
    let slot = |at: u64| {
        let at = usize::try_from(at).expect("a small offset");
        let found = bytes.get(at..at + SLOT_LEN).and_then(Slot::decode).transpose();
        found.map_err(|found| LogError::TooNew { path: path.to_owned(), found, known: VERSION })
    };
    Ok(Some([slot(SLOT_OFFSETS[0])?, slot(SLOT_OFFSETS[1])?]))
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct FrontierFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    slot: Slot,
}

impl FrontierFile {
    /// A new file with an empty log in it. The caller makes its name durable.
    pub(crate) fn create(disk: &dyn Disk, path: &Path, uuid: u128) -> Result<Self, LogError> {
        let file = disk.create(path).map_err(LogError::io("create", path))?;
        // With its room reserved, not as a hole: the other slot must be writable on a full disk too.
        file.allocate(FILE_LEN).map_err(LogError::io("allocate", path))?;
        let slot = Slot { uuid, counter: 0, frontier: Frontier::default() };
        let mut created = Self { path: path.to_owned(), file, slot };
        created.write(Frontier::default())?;
        created.file.sync_all().map_err(LogError::io("sync", path))?;
        Ok(created)
    }

    /// The file that was read as `slot`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, slot: Slot) -> Result<Self, LogError> {
        let file = disk.open(path).map_err(LogError::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, slot })
    }

    /// What was written last.
    pub(crate) fn frontier(&self) -> Frontier {
        self.slot.frontier
    }

    /// Writes and syncs into the slot that is not the newest.
    pub(crate) fn write(&mut self, frontier: Frontier) -> Result<(), LogError> {
        let slot = Slot { counter: self.slot.counter + 1, frontier, ..self.slot };
        let at = if slot.counter.is_multiple_of(2) { SLOT_OFFSETS[0] } else { SLOT_OFFSETS[1] };
        write_all(&*self.file, &slot.encode(), at).map_err(LogError::io("write", &self.path))?;
        self.file.sync_data().map_err(LogError::io("sync", &self.path))?;
        self.slot = slot;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn at(durable_lsn: u64) -> Frontier {
        Frontier { durable_lsn, ..Frontier::default() }
    }

    #[test]
    fn the_newest_slot_counts_and_one_bad_slot_is_survived() {
        let disk = SimDisk::new();
        let path = Path::new("/wal/FRONTIER");
        let mut file = FrontierFile::create(&disk, path, 7).unwrap();
        file.write(at(100)).unwrap();
        file.write(at(200)).unwrap();
        assert_eq!(read(&disk, path).unwrap().unwrap().frontier, at(200));

        let mut newest_bad = disk.files()[path].clone();
        let newest =
            if read_counter(&newest_bad, 0) > read_counter(&newest_bad, 4096) { 0 } else { 4096 };
        newest_bad[newest + 40] ^= 1;
        disk.put(path, newest_bad);
        assert_eq!(read(&disk, path).unwrap().unwrap().frontier, at(100));

        disk.put(path, vec![0; 8192]);
        assert_eq!(read(&disk, path).unwrap(), None);
    }

    fn read_counter(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap())
    }
}
