//! The bytes of a segment, taken apart and put together again by hand. For tests.
//!
//! Written from `docs/log-format.md`, not from the code: it must agree with both.

use std::path::Path;

use raftmap_log_store::disk::{SimDisk, Survival};

/// Offsets and lengths of the frames of a segment.
pub(crate) fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = 4096;
    while bytes.get(at..at + 4) == Some(b"RFRM") {
        let len = 40 + usize::try_from(u32_at(bytes, at + 24)).expect("it fits memory");
        frames.push((at, len));
        at += len;
    }
    frames
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Changes a field of a frame's header and makes its checksum right again.
pub(crate) fn forge_frame(bytes: &mut [u8], frame_at: usize, field_at: usize, field: &[u8]) {
    let head = &mut bytes[frame_at..frame_at + 40];
    head[field_at..][..field.len()].copy_from_slice(field);
    let crc = crc32c::crc32c(&head[8..]);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Changes a field of a segment's header and makes its checksum right again.
pub(crate) fn forge_header(bytes: &mut [u8], field_at: usize, field: &[u8]) {
    forge_block(&mut bytes[..4096], field_at, field);
}

/// Changes a field of a block that ends with its checksum, and makes it right again.
pub(crate) fn forge_block(block: &mut [u8], field_at: usize, field: &[u8]) {
    block[field_at..][..field.len()].copy_from_slice(field);
    let (covered, stored) = block.split_at_mut(block.len() - 4);
    stored.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
}

/// A copy of the disk, all of it durable, in which one file is changed.
pub(crate) fn changed(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let copy = disk.after_power_cut(Survival::Everything);
    let mut bytes = copy.contents()[path].to_vec();
    change(&mut bytes);
    copy.put(path, bytes);
    copy
}
