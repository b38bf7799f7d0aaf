//! Where a worker begins: in no directory, or on what a killed one left. Each run gets its own copy.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::machine::strace;
use crate::model::State;
use crate::report::Report;
use crate::worker::{Job, Way};

/// The beginning of many runs.
#[derive(Debug)]
pub(crate) struct Scene {
    template: Option<TempDir>,
    /// What the log may hold.
    pub(crate) before: Vec<State>,
}

/// One run's directory.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: TempDir,
}

impl Scene {
    pub(crate) fn nothing() -> Self {
        Self { template: None, before: vec![State::default()] }
    }

    /// A worker was killed at its 16th sync, and every other rubbish that a crash can leave is there too.
    pub(crate) fn left_by_a_kill() -> Self {
        let stage = Self::nothing().stage();
        let tracer = strace(&stage.trace(), "fdatasync", "signal=SIGKILL:when=16");
        let report = Report::of(Job::new(stage.wal(), Way::Hands, 11, 1_000).command(&tracer));
        let before = report.possible(&[State::default()]);
        let wal = stage.wal();
        std::fs::write(wal.join("spare.tmp"), [0; 9_000]).unwrap();
        std::fs::write(wal.join("segment.tmp"), "RAFTMWAL").unwrap();
        std::fs::write(wal.join("FAILED"), "sync: EIO").unwrap();
        tear(&wal);
        Self { template: Some(stage.dir), before }
    }

    pub(crate) fn stage(&self) -> Stage {
        let stage = Stage { dir: tempfile::tempdir().unwrap() };
        if let Some(template) = &self.template {
            std::fs::create_dir(stage.wal()).unwrap();
            for entry in std::fs::read_dir(template.path().join("wal")).unwrap().flatten() {
                std::fs::copy(entry.path(), stage.wal().join(entry.file_name())).unwrap();
            }
        }
        stage
    }
}

impl Stage {
    pub(crate) fn wal(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    /// Where a tracer writes.
    pub(crate) fn trace(&self) -> PathBuf {
        self.dir.path().join("trace")
    }

    pub(crate) fn traced(&self) -> String {
        std::fs::read_to_string(self.trace()).unwrap()
    }
}

/// Writes one sector of a frame that was never finished, behind the end of the log: its beginning and its
/// end did not reach the disk.
pub(crate) fn tear(wal: &Path) {
    let names = std::fs::read_dir(wal).unwrap().flatten().map(|entry| entry.path());
    let last = names.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).max().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at = u64::try_from(end).unwrap() / 512 * 512 + 1024;
    let file = std::fs::File::options().write(true).open(&last).unwrap();
    file.write_all_at(&[0xA5; 512], at).unwrap();
}
