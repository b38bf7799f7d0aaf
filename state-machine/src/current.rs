//! CURRENT: the one file that says which generation of the cold tier is the state.
//!
//! ```text
//!   magic 8 | format u16 | has applied u8 | generation u64 | group u64 | term u64 | node u64 | index u64
//!                                                            '------ what is certainly durable there -----'
//!           | log position u64 | crc32c u32
//! ```
//! All numbers little-endian; format 1 had no log position. Replacing the file is the commit point of an install (before the rename
//! the old generation is the state, after it the new one) and the last step of a checkpoint. A
//! generation that CURRENT does not name is never opened, because its creation may have been cut
//! short. Generation 0 is none: it is named before the first one is created, so that a store whose
//! CURRENT was lost cannot be mistaken for one that was never finished.
//!
//! The log position is this store's testimony about the node's log: how far it certainly was durable. A
//! log that ends before it is an older copy, or has lost its end, and with it perhaps a vote.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::durable;
use crate::error::StoreError;
use crate::types::LogId;

const NAME: &str = "CURRENT";
const MAGIC: &[u8; 8] = b"RMAPCUR\n";
const FORMAT: u16 = 2;
/// The format before the log position.
const FORMAT_1: u16 = 1;
const BYTES: usize = BYTES_1 + 8;
const BYTES_1: usize = 8 + 2 + 1 + 5 * 8 + 4;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// The directory `gen-<generation>` is the state; 0 before the first was finished.
    pub(crate) generation: u64,
    /// The last apply group that a checkpoint made durable there.
    pub(crate) group: u64,
    /// The last entry of that group: finding less in the generation proves a loss.
    pub(crate) applied: Option<LogId>,
    /// How far the node's log was durable, in its own positions; 0 when nothing is known of it.
    pub(crate) log_position: u64,
}

impl Current {
    /// Reads the file; `None` when there is none, which is a store that was never finished.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes).map(Some).ok_or_else(|| StoreError::Corrupt {
                what: "CURRENT file",
                detail: format!("{} does not verify", path.display()),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(durable::at("read file", &path)(error)),
        }
    }

    /// Makes this the state, durably when it returns.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        durable::replace(&path(dir), &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let applied = self.applied.unwrap_or_default();
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.push(u8::from(self.applied.is_some()));
        let numbers = [
            self.generation,
            self.group,
            applied.term,
            applied.node,
            applied.index,
            self.log_position,
        ];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (format, rest) = body.strip_prefix(MAGIC)?.split_first_chunk::<2>()?;
        match (u16::from_le_bytes(*format), bytes.len()) {
            (FORMAT, BYTES) | (FORMAT_1, BYTES_1) => {}
            _ => return None,
        }
        let (&has_applied, rest) = rest.split_first()?;
        let mut numbers =
            rest.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_le_bytes));
        let (generation, group) = (numbers.next()?, numbers.next()?);
        let applied =
            LogId { term: numbers.next()?, node: numbers.next()?, index: numbers.next()? };
        let log_position = numbers.next().unwrap_or(0);
        let applied = (has_applied == 1).then_some(applied);
        Some(Self { generation, group, applied, log_position })
    }
}

/// CURRENT of an open store, and what it says: never waited for while it is being replaced.
#[derive(Debug)]
pub(crate) struct CurrentFile {
    dir: PathBuf,
    says: Mutex<Current>,
    /// Held while the file is replaced.
    replacing: Mutex<()>,
}

impl CurrentFile {
    /// The file in `dir`, which says this.
    pub(crate) fn new(dir: PathBuf, says: Current) -> Self {
        Self { dir, says: Mutex::new(says), replacing: Mutex::new(()) }
    }

    /// What it says.
    pub(crate) fn says(&self) -> Current {
        *lock(&self.says)
    }

    /// Replaces it by what `next` makes of what it says, durably; leaves it if that is nothing new.
    /// Gives what it says then.
    pub(crate) fn replace(
        &self,
        next: impl FnOnce(Current) -> Current,
    ) -> Result<Current, StoreError> {
        let _one_at_a_time = lock(&self.replacing);
        let says = self.says();
        let next = next(says);
        if next != says {
            next.write(&self.dir)?;
            *lock(&self.says) = next;
        }
        Ok(next)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Current = Current {
        generation: 7,
        group: 50,
        applied: Some(LogId { term: 3, node: 1, index: 900 }),
        log_position: 123_456,
    };

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), None);

        SAMPLE.write(dir.path()).unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), Some(SAMPLE));

        let empty = Current { generation: 8, group: 0, applied: None, log_position: 0 };
        empty.write(dir.path()).unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), Some(empty));
    }

    #[test]
    fn the_bytes_are_these() {
        assert_eq!(SAMPLE.encode(), bytes(2, &[7, 50, 3, 1, 900, 123_456]));
    }

    #[test]
    fn the_format_before_the_log_position_is_read() {
        let before = Current { log_position: 0, ..SAMPLE };
        assert_eq!(Current::decode(&bytes(1, &[7, 50, 3, 1, 900])), Some(before));
        for (format, numbers) in [(1, &[7, 50, 3, 1, 900, 123_456][..]), (2, &[7, 50, 3, 1, 900])] {
            assert_eq!(Current::decode(&bytes(format, numbers)), None, "format {format}");
        }
        assert_eq!(Current::decode(&bytes(3, &[7, 50, 3, 1, 900, 123_456])), None);
    }

    fn bytes(format: u16, numbers: &[u64]) -> Vec<u8> {
        let mut bytes = b"RMAPCUR\n".to_vec();
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.push(1);
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = SAMPLE.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Current::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(Current::decode(&bytes[..bytes.len() - 1]), None);
    }
}
