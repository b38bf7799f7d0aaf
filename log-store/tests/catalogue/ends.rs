//! A log whose last commits FRONTIER has told of, or not, and images of it with one thing changed.

use std::ops::Range;
use std::path::PathBuf;

use raftmap_log_store::disk::{SimDisk, Survival};

use crate::bench::{Bench, segments};
use crate::model::{Expect, Expected, Model};
use crate::run::Run;
use crate::run::Step::{self, *};

/// A log of two segments, the last commit of which is one entry.
pub(crate) const STEPS: &[Step] = &[
    Vote(1),
    Append(1, 1, 3, 3500),
    Settle,
    Append(1, 4, 5, 300),
    Commit,
    Truncate(Some(4)),
    Append(2, 5, 5, 700),
    Vote(3),
    Commit,
    Settle,
    Append(3, 6, 6, 90),
    Commit,
    Append(3, 7, 7, 900),
    Commit,
];

/// What its process has left.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) disk: SimDisk,
    /// After each commit that FRONTIER has not told of: the state, and where its frames end in the last
    /// segment. The first of them is told.
    pub(crate) states: Vec<(Model, usize)>,
    pub(crate) segments: Vec<PathBuf>,
}

impl Ends {
    /// FRONTIER tells of all, or of all but the last two commits.
    pub(crate) fn new(bench: &Bench, is_told: bool) -> Self {
        let mut run = Run::new(bench.config());
        let mut states = Vec::new();
        for step in STEPS {
            run.step(*step);
            if matches!(step, Commit | Settle) {
                states.push((run.model().clone(), run.log().map_or(0, |l| l.stats().durable_lsn)));
            }
            if matches!(step, Settle) {
                states.drain(..states.len() - 1);
            }
        }
        if is_told {
            run.step(Settle);
            states.drain(..states.len() - 1);
        }
        let disk = run.disk().after_power_cut(Survival::Everything);
        drop(run);
        let segments: Vec<_> = segments(&disk).into_iter().map(|(path, _)| path).collect();
        let last = disk.contents()[segments.last().expect("there are segments")].to_vec();
        let start_lsn = u64::from_le_bytes(last[48..56].try_into().expect("8 bytes"));
        let offset = |lsn: u64| usize::try_from(lsn - start_lsn).expect("a small file");
        let states = states.into_iter().map(|(state, lsn)| (state, offset(lsn))).collect();
        Self { disk, states, segments }
    }

    pub(crate) fn last(&self) -> &PathBuf {
        self.segments.last().expect("there are segments")
    }

    pub(crate) fn end(&self) -> usize {
        self.states.last().expect("at least one").1
    }

    pub(crate) fn bytes(&self, path: &PathBuf) -> Vec<u8> {
        self.disk.contents()[path].to_vec()
    }

    pub(crate) fn with(&self, path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let disk = self.disk.after_power_cut(Survival::Everything);
        let mut bytes = self.bytes(path);
        change(&mut bytes);
        disk.put(path, bytes);
        disk
    }

    pub(crate) fn whole(&self) -> Expect {
        Expect::exactly(self.states.last().expect("at least one").0.clone())
    }

    pub(crate) fn refused(&self) -> Expect {
        self.whole().but(Expected::Refuses)
    }

    /// What is left of the log when the last segment is as this: everything up to the first commit of which a
    /// byte is another.
    pub(crate) fn left_in(&self, bytes: &[u8]) -> &(Model, usize) {
        let before = self.bytes(self.last());
        let is_left = |end: usize| before[..end] == bytes[..end];
        self.states.iter().rev().find(|(_, end)| is_left(*end)).unwrap_or(&self.states[0])
    }

    /// What FRONTIER has not told of is gone from the first commit on of which a byte is zero; or it refuses.
    fn left_or_refused(&self, before: &[u8], zeroed: Range<usize>) -> Expect {
        let mut after = before.to_vec();
        after[zeroed].fill(0);
        Expect::exactly(self.left_in(&after).0.clone()).but(Expected::Either)
    }

    /// What must become of zeros over this part of a segment.
    pub(crate) fn after_zeros(&self, before: &[u8], zeroed: Range<usize>, is_last: bool) -> Expect {
        const HEAD: usize = 40;
        let Some(at) = before[zeroed.clone()].iter().position(|byte| *byte != 0) else {
            return self.whole();
        };
        let at = zeroed.start + at;
        // Where the last commit begins that FRONTIER has not told of.
        let last = self.states.iter().rev().nth(1).map(|(_, end)| *end);
        match last.filter(|_| is_last) {
            Some(last) if at >= last => self.left_or_refused(before, zeroed),
            // The head of the last frame says that all before it was durable.
            Some(last) if zeroed.end <= last || zeroed.start >= last + HEAD => self.refused(),
            Some(_) if at >= self.states[0].1 => self.left_or_refused(before, zeroed),
            _ => self.refused(),
        }
    }
}
