//! The loop that nothing can beat: on a preallocated file, a new one each 64 MiB.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

const SEGMENT: u64 = 64 << 20;

/// A file that takes one write and one `fdatasync` a round.
pub(crate) struct Bare {
    dir: tempfile::TempDir,
    file: File,
    files: u32,
    offset: u64,
}

impl Bare {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let file = Self::preallocated(&dir, 0);
        Self { dir, file, files: 0, offset: 0 }
    }

    fn preallocated(dir: &tempfile::TempDir, number: u32) -> File {
        let path = dir.path().join(number.to_string());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let file = file.expect("a file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT)
            .expect("room on the disk");
        file.sync_all().expect("a sync");
        file
    }

    pub(crate) fn round(&mut self, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).expect("a length");
        if self.offset + len > SEGMENT {
            self.files += 1;
            self.file = Self::preallocated(&self.dir, self.files);
            self.offset = 0;
            let before = self.dir.path().join((self.files - 1).to_string());
            std::fs::remove_file(before).expect("the file before");
        }
        self.file.write_all_at(bytes, self.offset).expect("a write");
        self.file.sync_data().expect("a sync");
        self.offset += len;
    }
}
