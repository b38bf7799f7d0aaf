//! Group B: torn and lost writes. What a power cut can leave opens with nothing acknowledged missing; what
//! none can leave refuses, unless it is exactly what such a cut leaves of the last commit before FRONTIER
//! has told of it.

use std::sync::Arc;

use raftmap_log_store::disk::{Fault, Op, Survival};

use crate::bench::{Bench, path, segments};
use crate::cases::Case;
use crate::ends::{Ends, STEPS};
use crate::model::{Expect, Expected};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::*;

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

const TOLD: [(&str, bool); 2] = [("told", true), ("untold", false)];

/// A segment has its whole length before it has its name: a shorter one has lost something.
fn cut_at_every_byte(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Ends::new(bench, is_told);
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
        let left = Ends::new(bench, is_told);
        let before = left.bytes(left.last());
        let step = if bench.is_long() { 1 } else { 4 };
        for from in (0..left.end() + 8).step_by(step) {
            let place = place.at(name).at(from);
            if !bench.admits(&place) {
                continue;
            }
            let mut after = before.clone();
            after[from..].fill(0);
            let image = left.with(left.last(), |bytes| bytes.clone_from(&after));
            let first = left.states[0].1;
            if after[..first] != before[..first] {
                oracle.judge(&place, &image, &left.refused());
                continue;
            }
            // Whole commits that are zeros cannot be missed before FRONTIER tells of them; what is left of one is.
            let (state, end) = left.left_in(&after);
            let is_torn = after[*end..].iter().any(|byte| *byte != 0);
            let outcome = oracle.judge(&place, &image, &Expect::exactly(state.clone()));
            if let Outcome::Opened(info) = outcome
                && info.torn.is_some() != is_torn
            {
                bench.report.violation(&place, format!("torn is {is_torn}, reported: {info}"));
            }
        }
    }
}

fn every_sector_zeroed(bench: &Bench, place: &Place) {
    let oracle = Oracle::new(bench, bench.config());
    for (name, is_told) in TOLD {
        let left = Ends::new(bench, is_told);
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
        let left = Ends::new(bench, is_told);
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
    let left = Ends::new(bench, false);
    let (before, begin) = left.states[left.states.len() - 2].clone();
    for written in begin..=left.end() {
        let place = place.at(written - begin);
        if !bench.admits(&place) {
            continue;
        }
        let image = left.with(left.last(), |bytes| bytes[written..].fill(0));
        // What is missing may have been zeros.
        let states = vec![before.clone(), left.states[left.states.len() - 1].0.clone()];
        let expect = Expect::between(Arc::new(states), 0, 1);
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
    let left = Ends::new(bench, true);
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
        let left = Ends::new(bench, is_told);
        let image = left.disk.after_power_cut(Survival::Everything);
        image.take(left.last());
        oracle.judge(&place.at(name), &image, &left.refused());
    }
    // The first frame is in it, and nothing has told of it.
    let steps = [Append(1, 1, 3, 3500), Settle, Append(1, 4, 4, 3500), Commit];
    let mut run = Run::new(bench.config()).steps(&steps[..2]);
    let before = run.model().clone();
    run = run.steps(&steps[2..]);
    let states = Arc::new(vec![before, run.model().clone()]);
    let image = run.disk().after_power_cut(Survival::Everything);
    image.take(&segments(&image).pop().expect("a segment").0);
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
    let before = segments(run.disk());
    run.step(Purge(1, 9));
    run.step(Vote(1));
    run.step(Commit);
    run.step(Settle);
    let state = run.model().clone();
    let disk = run.disk().after_power_cut(Survival::Everything);
    let after = disk.contents();
    let gone: Vec<_> = before.into_iter().filter(|(path, _)| !after.contains_key(path)).collect();
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
        let left = Ends::new(bench, is_told);
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
    let image = Ends::new(bench, false);
    let outcome = oracle.judge(&place.at("as-left"), &image.disk, &image.whole());
    if let Outcome::Opened(info) = outcome
        && (info.after_failure || image.disk.contents().contains_key(&path("FAILED")))
    {
        bench.report.violation(place, "nothing has failed, and yet it is marked so");
    }
}
