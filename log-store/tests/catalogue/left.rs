//! A log of three small segments that its process has left, and images of it with one thing changed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::{SimDisk, Survival};

use crate::bench::{Bench, path};
use crate::model::{Expect, Expected, Model};
use crate::run::Run;
use crate::run::Step::{self, *};
use crate::surgery::{changed, frames, u32_at};

/// What was left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) disk: SimDisk,
    /// Everything that was acknowledged.
    pub(crate) state: Model,
    /// The same without the last commit.
    pub(crate) before_last: Model,
    /// FRONTIER tells of all of it.
    pub(crate) is_told: bool,
    /// Oldest first.
    pub(crate) segments: Vec<PathBuf>,
    /// What it was after each step before, with what it had been asked for.
    pub(crate) history: Vec<(SimDisk, Model)>,
    /// Of each of these, what was committed.
    pub(crate) committed: Vec<Model>,
    /// What it held when FRONTIER was written last.
    told: Model,
}

/// How the last commit looks on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// No piece of it, in any sector, ends in a zero: it cannot look like an unfinished write.
    Solid,
    /// Zeros in every sector.
    Hollow,
}

/// Every kind of record, a truncated and a purged entry that are still there, three segments.
const STEPS: &[Step] = &[
    Vote(1),
    Append(1, 1, 3, 40),
    Commit,
    Append(1, 4, 4, 150),
    Commit,
    Committed(1, 2),
    Vote(2),
    Commit,
    Kill,
    Append(2, 5, 6, 60),
    Commit,
    Truncate(Some(5)),
    Commit,
    Append(3, 6, 7, 30),
    Commit,
    Purge(1, 2),
    Vote(3),
    Commit,
    Kill,
    Append(3, 8, 9, 80),
    Commit,
    // A janitor of this life has shortened the sealed ones.
    Tidy,
    Tidy,
    Tidy,
    Vote(4),
    Commit,
];

impl Left {
    pub(crate) fn new(bench: &Bench, last: Last, is_told: bool) -> Self {
        // The log itself is a good one; the bug is in who opens it.
        let config = LogConfig { planted: None, ..bench.config() };
        let mut run = Run::new(config);
        let mut history = Vec::new();
        let mut committed: Vec<Model> = Vec::new();
        let mut told = Model::default();
        for step in STEPS {
            run.step(*step);
            history.push((run.disk().after_power_cut(Survival::Everything), run.model().clone()));
            match step {
                Kill | Commit => committed.push(run.model().clone()),
                _ => committed.push(committed.last().cloned().unwrap_or_default()),
            }
            if *step == Kill {
                told = run.model().clone();
            }
        }
        let before_last = run.model().clone();
        let next = before_last.next();
        // (term + index) % 4 decides the filler: letters, or zeros.
        let (term, len) = match last {
            Last::Solid => (5 + (5 - (5 + next) % 4) % 4 + 1, 36),
            Last::Hollow => (4 + (8 - (4 + next) % 4) % 4, 1200),
        };
        run = run.steps(&[Append(term, next, next, len), Commit]);
        if is_told {
            run.step(Settle);
        }
        let state = run.model().clone();
        if is_told {
            told = state.clone();
        }
        let disk = run.disk().after_power_cut(Survival::Everything);
        let film = run.film();
        assert_eq!(film.trouble, Vec::<String>::new());
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
        let segments: Vec<_> = disk.contents().into_keys().filter(is_segment).collect();
        assert_eq!(segments.len(), 3);
        Self { disk, state, before_last, is_told, segments, history, committed, told }
    }

    pub(crate) fn last(&self) -> &Path {
        self.segments.last().expect("three segments")
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.disk.contents()[path].to_vec()
    }

    /// Every file that counts.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let counts = |file: &PathBuf| {
            *file != path("LOCK") && file.extension().is_none_or(|extension| extension != "tmp")
        };
        self.disk.contents().into_keys().filter(counts).collect()
    }

    /// Offsets of the frames of a segment.
    pub(crate) fn frames(&self, path: &Path) -> Vec<Range<usize>> {
        frames(&self.bytes(path)).into_iter().map(|(at, len)| at..at + len).collect()
    }

    pub(crate) fn last_frame(&self) -> Range<usize> {
        self.frames(self.last()).pop().expect("there is a frame")
    }

    pub(crate) fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        changed(&self.disk, path, change)
    }

    /// It opens with everything.
    pub(crate) fn whole(&self) -> Expect {
        Expect::exactly(self.state.clone())
    }

    /// It refuses, or opens with everything.
    pub(crate) fn whole_or_refused(&self) -> Expect {
        self.whole().but(Expected::Either)
    }

    pub(crate) fn refused(&self) -> Expect {
        self.whole().but(Expected::Refuses)
    }

    /// What must become of a log in which a byte of this file was changed.
    pub(crate) fn after_rot(&self, path: &Path, byte: usize) -> Expect {
        let Some(number) = self.segments.iter().position(|segment| segment == path) else {
            let is_frontier = path.ends_with("FRONTIER");
            // One slot is enough.
            return if is_frontier { self.whole() } else { self.refused() };
        };
        let frames = self.frames(path);
        let end = frames.last().map_or(4096, |frame| frame.end);
        let is_last_segment = number + 1 == self.segments.len();
        let last_frame = self.last_frame();
        if byte >= end {
            // Nothing of value is there; but it was not there when it was written.
            self.whole_or_refused()
        } else if is_last_segment && !self.is_told && last_frame.contains(&byte) {
            let bytes = self.bytes(path);
            if is_solid(&bytes, &last_frame) { self.refused() } else { self.without_last() }
        } else {
            self.refused()
        }
    }

    /// What FRONTIER does not tell of is gone together, without a trace, or it refuses.
    pub(crate) fn as_told(&self) -> Expect {
        Expect::exactly(self.told.clone()).but(Expected::Either)
    }

    /// The last commit may be gone, or it refuses.
    pub(crate) fn without_last(&self) -> Expect {
        let states = vec![self.before_last.clone(), self.state.clone()];
        Expect::between(states.into(), 0, 1).but(Expected::Either)
    }
}

/// No piece of the frame within a sector ends in a zero: no part of it can be one that was never written.
fn is_solid(bytes: &[u8], frame: &Range<usize>) -> bool {
    let mut ends =
        (frame.start / 512 + 1..).map(|sector| sector * 512).take_while(|end| *end < frame.end);
    bytes[frame.end - 1] != 0 && ends.all(|end| bytes[end - 1] != 0)
}

/// Where the records of a frame are, padding included.
pub(crate) fn records(bytes: &[u8], frame: &Range<usize>) -> Vec<Range<usize>> {
    let mut records = Vec::new();
    let mut at = frame.start + 40;
    while at < frame.end {
        let len =
            usize::try_from(u32_at(bytes, at + 4)).expect("it fits memory").next_multiple_of(8);
        records.push(at..at + len);
        at += len;
    }
    records
}
