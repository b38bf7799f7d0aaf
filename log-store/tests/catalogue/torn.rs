//! Group B: torn and lost writes. What a power cut can leave opens with nothing acknowledged missing; what
//! none can leave refuses, unless it is exactly what such a cut leaves of the last commit before FRONTIER
//! has told of it.

use std::ops::Range;
use std::path::PathBuf;

use raftmap_log_store::disk::{Fault, Op, SimDisk, Survival};

use crate::bench::{Bench, path};
use crate::cases::Case;
use crate::model::{Expect, Expected, Model};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::{self, *};

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("B", "active-cut-at-every-byte", cut_at_every_byte),
        Case::new("B", "every-suffix-zeroed", every_suffix_zeroed),
        Case::new("B", "every-sector-zeroed", every_sector_zeroed),
        Case::new("B", "garbage-behind-the-end", garbage_behind_the_end),
        Case::new("B", "write-ends-at-every-byte", write_ends_at_every_byte),
        Case::new("B", "sealed-segment-cut", sealed_segment_cut),
        Case::new("B", "newest-name-lost", newest_name_lost),
        Case::new("B", "unlinked-segment-comes-back", unlinked_comes_back),
        Case::new("B", "name-without-content", name_without_content),
        Case::new("B", "killed-after-write-then-cut", killed_then_cut),
    ];
    // A commit over this many sectors, begun at different places in its first one.
    for (sectors, shift) in [(2, 0), (4, 8), (6, 200), (8, 448)] {
        let run = move |bench: &Bench, place: &Place| sector_subsets(bench, place, sectors, shift);
        cases.push(Case::new("B", format!("every-subset-of-{sectors}-sectors"), run));
    }
    cases
}

/// A log of two segments, the last commit of which is one entry.
const STEPS: &[Step] = &[
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
struct Left {
    disk: SimDisk,
    /// After each commit that FRONTIER has not told of: the state, and where its frames end in the last
    /// segment. The first of them is told.
    states: Vec<(Model, usize)>,
    segments: Vec<PathBuf>,
}

impl Left {
    /// FRONTIER tells of all, or of all but the last two commits.
    fn new(bench: &Bench, is_told: bool) -> Self {
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
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
        let segments: Vec<_> = disk.contents().into_keys().filter(is_segment).collect();
        let last = disk.contents()[segments.last().expect("there are segments")].to_vec();
        let start_lsn = u64::from_le_bytes(last[48..56].try_into().expect("8 bytes"));
        let offset = |lsn: u64| usize::try_from(lsn - start_lsn).expect("a small file");
        let states = states.into_iter().map(|(state, lsn)| (state, offset(lsn))).collect();
        Self { disk, states, segments }
    }

    fn last(&self) -> &PathBuf {
        self.segments.last().expect("there are segments")
    }

    fn end(&self) -> usize {
        self.states.last().expect("at least one").1
    }

    fn bytes(&self, path: &PathBuf) -> Vec<u8> {
        self.disk.contents()[path].to_vec()
    }

    fn with(&self, path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let disk = self.disk.after_power_cut(Survival::Everything);
        let mut bytes = self.bytes(path);
        change(&mut bytes);
        disk.put(path, bytes);
        disk
    }

    fn whole(&self) -> Expect {
        Expect::exactly(self.states.last().expect("at least one").0.clone())
    }

    fn refused(&self) -> Expect {
        self.whole().but(Expected::Refuses)
    }

    /// Whole, or only the last commit is gone, or refused.
    fn last_commit_at_most(&self) -> Expect {
        let states: Vec<_> = self.states.iter().rev().take(2).rev().map(|s| s.0.clone()).collect();
        let last = states.len() - 1;
        Expect::between(std::sync::Arc::new(states), 0, last).but(Expected::Either)
    }

    /// Any part of what FRONTIER has not told of, or refused.
    fn untold_at_most(&self) -> Expect {
        let states: Vec<_> = self.states.iter().map(|s| s.0.clone()).collect();
        let last = states.len() - 1;
        Expect::between(std::sync::Arc::new(states), 0, last).but(Expected::Either)
    }

    /// What must become of zeros over this part of a segment.
    fn after_zeros(&self, before: &[u8], zeroed: Range<usize>, is_last: bool) -> Expect {
        const HEAD: usize = 40;
        let Some(at) = before[zeroed.clone()].iter().position(|byte| *byte != 0) else {
            return self.whole();
        };
        let at = zeroed.start + at;
        // Where the last commit begins that FRONTIER has not told of.
        let last = self.states.iter().rev().nth(1).map(|(_, end)| *end);
        match last.filter(|_| is_last) {
            Some(last) if at >= last => self.last_commit_at_most(),
            // The head of the last frame says that all before it was durable.
            Some(last) if zeroed.end <= last || zeroed.start >= last + HEAD => self.refused(),
            Some(_) if at >= self.states[0].1 => self.untold_at_most(),
            _ => self.refused(),
        }
    }
}

const TOLD: [(&str, bool); 2] = [("told", true), ("untold", false)];

/// A segment has its whole length before it has its name: a shorter one has lost something.
fn cut_at_every_byte(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        let len = left.bytes(left.last()).len();
        let step = if bench.is_long() { 1 } else { 7 };
        for cut in (0..left.end() + 16).step_by(step).chain([len - 512, len - 1]) {
            let place = place.at(name).at(cut);
            if bench.admits(&place) {
                let image = left.with(left.last(), |bytes| bytes.truncate(cut));
                oracle.judge(&place, &image, &left.refused());
            }
        }
    }
}

fn every_suffix_zeroed(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        let before = left.bytes(left.last());
        let step = if bench.is_long() { 1 } else { 4 };
        for from in (0..left.end() + 8).step_by(step) {
            let place = place.at(name).at(from);
            if !bench.admits(&place) {
                continue;
            }
            let image = left.with(left.last(), |bytes| bytes[from..].fill(0));
            let first = left.states[0].1;
            let changes = |range: &[u8]| range.iter().any(|byte| *byte != 0);
            let expect = if !changes(&before[from..]) {
                left.whole()
            } else if from < first && changes(&before[from..first]) {
                left.refused()
            } else {
                left.untold_at_most()
            };
            oracle.judge(&place, &image, &expect);
        }
    }
}

fn every_sector_zeroed(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        for size in [512, 4096] {
            for segment in &left.segments {
                let before = left.bytes(segment);
                for from in (0..before.len()).step_by(size) {
                    let number = &segment.to_string_lossy()[DIR_LEN..][12..16];
                    let place = place.at(name).at(format!("{number}-{from}-{size}"));
                    if !bench.admits(&place) {
                        continue;
                    }
                    let to = before.len().min(from + size);
                    let image = left.with(segment, |bytes| bytes[from..to].fill(0));
                    let is_last = *segment == *left.last();
                    let expect = left.after_zeros(&before, from..to, is_last);
                    oracle.judge(&place, &image, &expect);
                }
            }
        }
    }
}

const DIR_LEN: usize = crate::bench::DIR.len() + 1;

/// Whatever it is, it is no reason to lose anything.
fn garbage_behind_the_end(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        let own = left.bytes(left.last())[4096..left.end()].to_vec();
        let older = left.bytes(&left.segments[0])[4096..7000].to_vec();
        let zeros_inside = [vec![1; 10], vec![0; 700], vec![2; 10]].concat();
        let noise: Vec<u8> =
            (0..900u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let kinds = [
            ("ff", vec![0xFF; 900]),
            ("noise", noise),
            ("own-frames", own),
            ("older-frames", older),
            ("magic", b"RFRM".repeat(100)),
            ("one-byte", vec![0, 0, 0, 7]),
            ("zeros-inside", zeros_inside),
        ];
        for (kind, garbage) in kinds {
            for distance in [0, 8, 512, 1000] {
                let place = place.at(name).at(kind).at(distance);
                if bench.admits(&place) {
                    let at = left.end() + distance;
                    let image = left.with(left.last(), |bytes| {
                        bytes[at..at + garbage.len()].copy_from_slice(&garbage);
                    });
                    oracle.judge(&place, &image, &left.whole().but(Expected::Either));
                }
            }
        }
    }
}

/// The last write got as far as any of its bytes.
fn write_ends_at_every_byte(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    let left = Left::new(bench, false);
    let (before, begin) = left.states[left.states.len() - 2].clone();
    for written in begin..=left.end() {
        let place = place.at(written - begin);
        if !bench.admits(&place) {
            continue;
        }
        let image = left.with(left.last(), |bytes| bytes[written..].fill(0));
        // What is missing may have been zeros.
        let states = vec![before.clone(), left.states[left.states.len() - 1].0.clone()];
        let expect = Expect::between(std::sync::Arc::new(states), 0, 1);
        oracle.judge(&place, &image, &expect);
    }
}

/// Every subset of the sectors of one commit.
fn sector_subsets(bench: &Bench, place: &Place, sectors: usize, shift: usize) {
    let mut oracle = Oracle::new(bench, bench.config());
    oracle.recovery_every = 0;
    for filler in 0..4 {
        // The filler of an entry goes with its term; one of four is all zeros.
        let term = 1 + filler;
        let mut run = Run::new(bench.config());
        run.step(Append(term, 1, 1, 512 + shift));
        run.step(Commit);
        run.step(Append(term, 2, 2, sectors * 512 - 300));
        run.step(Commit);
        let film = run.film();
        let at_sync = film.scenes.iter().rev().find(|scene| scene.what.starts_with("SyncData"));
        let scene = at_sync.expect("a commit syncs");
        let unsure = scene.disk.unsure();
        for bits in 0..1u64 << unsure {
            let survival = Survival::Subset(bits);
            let place = place.at(format!("term-{term}")).after(survival);
            if bench.admits(&place) {
                oracle.judge(&place, &scene.disk.after_power_cut(survival), &scene.expect);
            }
        }
    }
}

/// A sealed segment is known by its successor.
fn sealed_segment_cut(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    let left = Left::new(bench, true);
    let first = &left.segments[0];
    let len = left.bytes(first).len();
    for cut in [1, 8, 512, len - 4096, len - 1, len] {
        let place = place.at(cut);
        if bench.admits(&place) {
            let image = left.with(first, |bytes| bytes.truncate(len - cut));
            oracle.judge(&place, &image, &left.refused());
        }
    }
}

fn newest_name_lost(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        let image = left.disk.after_power_cut(Survival::Everything);
        image.take(left.last());
        oracle.judge(&place.at(name), &image, &left.refused());
    }
    // The first frame is in it, and nothing has told of it.
    let steps = [Append(1, 1, 3, 3500), Settle, Append(1, 4, 4, 3500), Commit];
    let mut run = Run::new(bench.config()).steps(&steps[..2]);
    let before = run.model().clone();
    run = run.steps(&steps[2..]);
    let states = std::sync::Arc::new(vec![before, run.model().clone()]);
    let image = run.disk().after_power_cut(Survival::Everything);
    let newest = image.contents().into_keys().filter(|p| p.extension().is_some_and(|e| e == "wal"));
    image.take(&newest.last().expect("a segment"));
    let expect = Expect::between(states, 0, 1).but(Expected::Either);
    oracle.judge(&place.at("first-frame"), &image, &expect);
}

fn unlinked_comes_back(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    let mut run = Run::new(bench.config());
    for n in 0..4 {
        run.step(Append(1, 3 * n + 1, 3 * n + 3, 3500));
        run.step(Settle);
    }
    let before = run.disk().contents();
    run.step(Purge(1, 9));
    run.step(Vote(1));
    run.step(Commit);
    run.step(Settle);
    let state = run.model().clone();
    let disk = run.disk().after_power_cut(Survival::Everything);
    let after = disk.contents();
    let gone: Vec<_> = before
        .into_iter()
        .filter(|(path, _)| {
            path.extension().is_some_and(|e| e == "wal") && !after.contains_key(path)
        })
        .collect();
    if gone.len() < 2 {
        bench.report.violation(place, format!("{} segments were unlinked", gone.len()));
    }
    // Unlinks are synced one by one, oldest first: only the last one can come back.
    for (number, (path, bytes)) in gone.iter().enumerate() {
        let image = disk.after_power_cut(Survival::Everything);
        image.put(path, bytes.to_vec());
        let expect = Expect::exactly(state.clone());
        let is_newest = number + 1 == gone.len();
        let expect = if is_newest { expect } else { expect.but(Expected::Refuses) };
        oracle.judge(&place.at(number), &image, &expect);
    }
}

/// A segment's content is durable before it has its name, so this is no crash.
fn name_without_content(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Left::new(bench, is_told);
        for segment in &left.segments {
            let number = &segment.to_string_lossy()[DIR_LEN..][12..16];
            let place = place.at(name).at(number);
            let zeroed = left.with(segment, |bytes| bytes.fill(0));
            oracle.judge(&place.at("zeros"), &zeroed, &left.refused());
            let empty = left.with(segment, Vec::clear);
            oracle.judge(&place.at("empty"), &empty, &left.refused());
            let old = left.bytes(&left.segments[0]);
            if *segment != left.segments[0] {
                let other = left.with(segment, |bytes| bytes.clone_from(&old));
                oracle.judge(&place.at("older"), &other, &left.refused());
            }
        }
    }
}

/// The write is in the cache when the process is killed; the next one opens; then the power fails.
fn killed_then_cut(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, op) in [("commit", Op::SyncData), ("seal", Op::SyncAll), ("name", Op::SyncDir)] {
        for nth in 1..=3 {
            let mut run = Run::new(bench.config()).steps(&STEPS[..5]);
            run.step(Fault(op, nth, 1, Fault::Error(std::io::ErrorKind::Other)));
            for n in 0..4 {
                run.step(Append(1, 6 + 3 * n, 8 + 3 * n, 3500));
                run.step(Commit);
                run.step(Tidy);
            }
            let place = place.at(name).at(nth);
            for (number, scene) in run.film().scenes.iter().enumerate() {
                oracle.judge_killed(&place.at(format!("op-{number}")), scene);
            }
        }
    }
    // The same without an error: with a mark of failure an open would look closer.
    let image = Left::new(bench, false);
    let outcome = oracle.judge(&place.at("as-left"), &image.disk, &image.whole());
    if let Outcome::Opened(info) = outcome
        && (info.after_failure || image.disk.contents().contains_key(&path("FAILED")))
    {
        bench.report.violation(place, "nothing has failed, and yet it is marked so");
    }
}
