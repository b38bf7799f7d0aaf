//! CURRENT: the one file that says which generation of the cold tier is the state.
//!
//! ```text
//!   magic 8 | format u16 | has applied u8 | generation u64 | group u64 | term u64 | node u64 | index u64 | crc32c u32
//!                                                            '------ what is certainly durable there -----'
//! ```
//! All numbers little-endian. Replacing the file is the commit point of an install (before the rename
//! the old generation is the state, after it the new one) and the last step of a checkpoint. A
//! generation that CURRENT does not name is never opened, because its creation may have been cut
//! short. Generation 0 is none: it is named before the first one is created, so that a store whose
//! CURRENT was lost cannot be mistaken for one that was never finished.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::StoreError;
use crate::types::LogId;

const NAME: &str = "CURRENT";
const MAGIC: &[u8; 8] = b"RMAPCUR\n";
const FORMAT: u16 = 1;
const BYTES: usize = 8 + 2 + 1 + 5 * 8 + 4;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// The directory `gen-<generation>` is the state; 0 before the first was finished.
    pub(crate) generation: u64,
    /// The last apply group that a checkpoint made durable there.
    pub(crate) group: u64,
    /// The last entry of that group: finding less in the generation proves a loss.
    pub(crate) applied: Option<LogId>,
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
        for number in [self.generation, self.group, applied.term, applied.node, applied.index] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if bytes.len() != BYTES || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?.strip_prefix(&FORMAT.to_le_bytes())?;
        let (&has_applied, rest) = rest.split_first()?;
        let mut numbers =
            rest.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_le_bytes));
        let (generation, group) = (numbers.next()?, numbers.next()?);
        let applied =
            LogId { term: numbers.next()?, node: numbers.next()?, index: numbers.next()? };
        Some(Self { generation, group, applied: (has_applied == 1).then_some(applied) })
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Current =
        Current { generation: 7, group: 50, applied: Some(LogId { term: 3, node: 1, index: 900 }) };

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), None);

        SAMPLE.write(dir.path()).unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), Some(SAMPLE));

        let empty = Current { generation: 8, group: 0, applied: None };
        empty.write(dir.path()).unwrap();
        assert_eq!(Current::read(dir.path()).unwrap(), Some(empty));
    }

    #[test]
    fn the_bytes_are_these() {
        let mut expected = b"RMAPCUR\n\x01\x00\x01".to_vec();
        for number in [7_u64, 50, 3, 1, 900] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&expected);
        expected.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(SAMPLE.encode(), expected);
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
