//! IDENTITY: whose log this is. Written once, before the first segment.
//!
//! ```text
//!   0 magic "RAFTMIDT"   8 version u32   12 zero   16 wal uuid u128   32 node id u64   124 crc32c
//! ```

use std::path::{Path, PathBuf};

use crate::codec::{Put, close_block, open_block};
use crate::damage::{Cause, Damage};
use crate::disk::{Disk, read_small, write_all};
use crate::error::LogError;
use crate::header::VERSION;
use crate::types::Identity;

const MAGIC: &[u8; 8] = b"RAFTMIDT";
const LEN: usize = 128;

fn encode(identity: Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(LEN);
    out.put(MAGIC);
    out.put_u32(VERSION);
    out.put_u32(0);
    out.put_u128(identity.wal_uuid);
    out.put_u64(identity.node_id);
    close_block(out, LEN)
}

/// The version and, when that is known here, the identity.
fn decode(bytes: &[u8]) -> Option<(u32, Option<Identity>)> {
    let (mut from, _) = open_block(bytes, LEN)?;
    if from.take(MAGIC.len())? != MAGIC {
        return None;
    }
    let version = from.u32().filter(|&version| version > 0)?;
    from.u32()?;
    let identity = Identity { wal_uuid: from.u128()?, node_id: from.u64()? };
    Some((version, (version <= VERSION).then_some(identity)))
}

/// What the file says; none when there is no file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, LogError> {
    let bytes = match read_small(disk, path, LEN + 1) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(LogError::io("read", path)(e)),
    };
    match decode(&bytes) {
        Some((_, Some(identity))) if bytes.len() == LEN => Ok(Some(identity)),
        Some((found, None)) => {
            Err(LogError::TooNew { path: path.to_owned(), found, known: VERSION })
        }
        _ => {
            let reason = "the identity of the log does not verify";
            Err(Damage::refuse(Cause::Identity, path, 0, reason))
        }
    }
}

/// Writes the file under its name, durably.
pub(crate) fn create(disk: &dyn Disk, dir: &Path, identity: Identity) -> Result<(), LogError> {
    let tmp = dir.join("IDENTITY.tmp");
    let path = path(dir);
    let file = disk.create(&tmp).map_err(LogError::io("create", &tmp))?;
    write_all(&*file, &encode(identity), 0).map_err(LogError::io("write", &tmp))?;
    file.sync_all().map_err(LogError::io("sync", &tmp))?;
    disk.rename(&tmp, &path).map_err(LogError::io("rename", &path))?;
    disk.sync_dir(dir).map_err(LogError::io("sync directory", dir))
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("IDENTITY")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn it_reads_back_as_written_and_no_bit_may_change() {
        let disk = SimDisk::new();
        let dir = Path::new("/wal");
        let identity = Identity { node_id: 3, wal_uuid: 42 };
        create(&disk, dir, identity).unwrap();
        assert_eq!(read(&disk, &path(dir)).unwrap(), Some(identity));

        let good = disk.files()[&path(dir)].clone();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.put(&path(dir), bytes);
            assert!(read(&disk, &path(dir)).is_err(), "bit {bit}");
        }
    }
}
