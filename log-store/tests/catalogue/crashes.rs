//! Group A: crash points. Every operation of each scenario is one, with the changes that were not durable
//! then surviving in every combination, or in many.

use raftmap_log_store::disk::Survival;

use crate::bench::{Bench, segments};
use crate::cases::Case;
use crate::cut;
use crate::oracle::Oracle;
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::{self, *};
use crate::scenarios::SCENARIOS;

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = SCENARIOS
        .iter()
        .map(|&(name, steps)| Case::new("A", name, |bench, place| play(bench, place, steps)))
        .collect();
    cases.push(Case::new("A", "roll-when-a-batch-fills-the-segment", fill));
    cases.push(Case::new("A", "recovery-three-times", recovery_three_times));
    cases.push(Case::new("A", "crash-loop-200", crash_loop));
    cases
}

fn play(bench: &Bench, place: &Place, steps: &[Step]) {
    let film = Run::new(bench.config()).steps(steps).film();
    cut::everywhere(bench, &Oracle::new(bench, bench.config()), place, &film);
}

/// The last batch ends before, at and behind the last byte that the seal leaves of a segment.
fn fill(bench: &Bench, place: &Place) {
    let mut is_full = false;
    for n in 0..12 {
        // In the second segment: there, room for the seal is reckoned to the byte.
        let steps = [
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3000),
            Settle,
            Append(1, 7, 7, 2780 + 8 * n),
            Commit,
            Append(1, 8, 8, 100),
            Commit,
            Settle,
        ];
        let run = Run::new(bench.config()).steps(&steps);
        // The janitor has shortened it to what was written.
        let second = segments(run.disk()).into_iter().nth(1);
        is_full |= second.is_some_and(|(_, bytes)| bytes.len() == 16 << 10);
        let place = place.at(n);
        if bench.admits(&place) {
            cut::everywhere(bench, &Oracle::new(bench, bench.config()), &place, &run.film());
        }
    }
    if !is_full {
        bench.report.violation(place, "no batch has filled its segment to the byte");
    }
}

/// The power fails in the recovery from an unfinished write, again in the next, and again.
fn recovery_three_times(bench: &Bench, place: &Place) {
    let steps = [
        Append(1, 1, 4, 3000),
        Settle,
        Append(1, 5, 8, 3000),
        Settle,
        Purge(1, 4),
        Vote(2),
        Commit,
        Append(1, 9, 9, 3500),
        Commit,
    ];
    let film = Run::new(bench.config()).steps(&steps).film();
    let mut oracle = Oracle::new(bench, bench.config());
    oracle.recovery_every = 1;
    oracle.recovery_depth = 3;
    let begin = film.scenes.len().saturating_sub(4);
    for (number, scene) in film.scenes.iter().enumerate().skip(begin) {
        for coins in 1..=if bench.is_long() { 6 } else { 1 } {
            let survival = Survival::Coins(coins);
            let place = place.at(format!("op-{number}")).after(survival);
            if bench.admits(&place) {
                oracle.judge(&place, &scene.disk.after_power_cut(survival), &scene.expect);
            }
        }
    }
    let torn: Vec<_> = (0..=oracle.recovery_depth).map(|n| oracle.opened_after(n)).collect();
    if bench.is_whole() && torn.iter().any(|(_, torn)| *torn == 0) {
        bench.report.violation(place, format!("opened, torn, after each recovery: {torn:?}"));
    }
}

/// Restarting without end does not use up the disk.
fn crash_loop(bench: &Bench, place: &Place) {
    let mut run = Run::new(bench.config());
    for round in 1..=200 {
        let next = run.model().next();
        run.step(Append(round, next, next + 2, 40));
        run.step(Purge(round, next));
        run.step(Vote(round));
        run.step(Commit);
        if round % 3 == 0 {
            run.step(Settle);
        }
        run.step(Cut(Survival::Coins(round)));
    }
    let segments = run.log().map_or(0, |log| log.stats().segments);
    if !(1..=4).contains(&segments) {
        bench.report.violation(place, format!("{segments} segments after 200 crashes"));
    }
    for what in run.film().trouble {
        bench.report.violation(place, what);
    }
}
