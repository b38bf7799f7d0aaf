//! Small file systems of real memory, and ballast to fill them with.
//!
//! Mounting needs a right that a test may not have. Then the test runs again, alone, in a namespace of its
//! own where it has it; and where that is not allowed either, it is skipped and says so.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Tells a test that it runs in a namespace of its own.
const INSIDE: &str = "RAFTMAP_TEST_INSIDE_NAMESPACE";

/// A small file system. It goes with this value, once nobody uses it.
pub(crate) struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None` without the right to mount.
    fn try_new(mib: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("make a directory");
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(SmallDisk { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let figures = rustix::fs::statvfs(self.path()).expect("ask for the free room");
        figures.f_bavail * figures.f_frsize
    }

    /// Takes so many bytes; fewer if there are not so many.
    pub(crate) fn fill(&self, bytes: u64) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("make the ballast");
        let piece = vec![1; 4096];
        for _ in 0..bytes / 4096 {
            if ballast.write_all(&piece).is_err() {
                break;
            }
        }
    }

    /// Gives back what `fill` took.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that a failing test left behind may still be ending.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[expect(clippy::print_stdout, reason = "who runs the tests is told what was skipped")]
fn skipped(test: &str) {
    println!("skipped: {test} needs the right to mount a small file system");
}

/// Small file systems for the test with this name; `None` when it has run elsewhere, or cannot run.
pub(crate) fn small_disks(test: &str, count: usize, mib: u64) -> Option<Vec<SmallDisk>> {
    if let Some(disks) = (0..count).map(|_| SmallDisk::try_new(mib)).collect() {
        return Some(disks);
    }
    assert!(std::env::var_os(INSIDE).is_none(), "no right to mount in a namespace of its own");
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]);
        command
    };
    let may = unshare().arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        skipped(test);
        return None;
    }
    let this = std::env::current_exe().expect("the path of this test");
    let mut again = unshare();
    let status = again.arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status();
    assert!(status.expect("run in a namespace").success(), "{test} failed in its namespace");
    None
}
