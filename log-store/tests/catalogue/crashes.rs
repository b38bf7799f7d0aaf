//! Group A: crash points. Every operation of each scenario is one, with the changes that were not durable
//! then surviving in every combination, or in many.

use raftmap_log_store::disk::Survival;

use crate::bench::Bench;
use crate::cases::Case;
use crate::cut;
use crate::oracle::Oracle;
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::{self, *};

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = SCENARIOS
        .iter()
        .map(|&(name, steps)| Case::new("A", name, |bench, place| play(bench, place, steps)))
        .collect();
    // The last batch ends before, at and behind the last byte that the seal leaves of a segment.
    cases.extend((0..12).map(|n| {
        let steps = [Append(1, 1, 3, 3000), Commit, Append(1, 4, 4, 2940 + 8 * n), Commit];
        let more = [Append(1, 5, 5, 100), Commit, Settle];
        let steps = [&steps[..], &more[..]].concat();
        Case::new("A", format!("fill-{n}"), move |bench, place| play(bench, place, &steps))
    }));
    cases.push(Case::new("A", "recovery-three-times", recovery_three_times));
    cases.push(Case::new("A", "crash-loop-200", crash_loop));
    cases
}

fn play(bench: &Bench, place: &Place, steps: &[Step]) {
    let film = Run::new(bench.config()).steps(steps).film();
    cut::everywhere(bench, &Oracle::new(bench, bench.config()), place, &film);
}

const SCENARIOS: &[(&str, &[Step])] = &[
    ("first-open", &[]),
    ("first-open-twice", &[Kill, Kill, Append(1, 1, 1, 40), Commit]),
    ("append-1", &[Append(1, 1, 1, 40), Commit, Append(1, 2, 2, 600), Commit, Settle]),
    ("batch-100-of-1-KiB", &[Append(1, 1, 100, 1024), Settle]),
    (
        "batches-in-flight",
        &[
            Append(1, 1, 2, 500),
            Append(1, 3, 3, 40),
            Append(2, 4, 6, 900),
            Commit,
            Append(2, 7, 9, 1300),
            Append(2, 10, 10, 10),
            Commit,
            Commit,
            Tidy,
            Settle,
        ],
    ),
    (
        "roll-inside-a-batch",
        &[
            Append(1, 1, 3, 3500),
            Commit,
            Append(1, 4, 7, 3500),
            Settle,
            Append(1, 8, 8, 40),
            Commit,
        ],
    ),
    (
        "roll-to-an-entry-larger-than-a-segment",
        &[
            Append(1, 1, 1, 100),
            Commit,
            Append(1, 2, 2, 20_000),
            Commit,
            Append(1, 3, 3, 100),
            Settle,
        ],
    ),
    (
        "roll-with-and-without-a-spare",
        &[
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3500),
            Commit,
            Commit,
            Append(1, 7, 9, 3500),
            Commit,
            Tidy,
            Settle,
        ],
    ),
    ("vote", &[Vote(1), Commit, Vote(2), Commit, Settle]),
    (
        "vote-between-appends-in-flight",
        &[
            Vote(1),
            Append(1, 1, 3, 200),
            Vote(2),
            Append(1, 4, 4, 200),
            Commit,
            Vote(3),
            Append(3, 5, 8, 1500),
            Vote(4),
            Commit,
            Commit,
        ],
    ),
    (
        "committed",
        &[
            Append(1, 1, 3, 200),
            Committed(1, 2),
            Commit,
            Committed(1, 3),
            Rest,
            Tidy,
            Committed(1, 4),
            Append(1, 4, 4, 100),
            Commit,
            Settle,
            Kill,
        ],
    ),
    (
        "truncate-then-append-the-same-index",
        &[
            Append(1, 1, 3, 700),
            Commit,
            Truncate(Some(2)),
            Append(2, 3, 3, 700),
            Commit,
            Truncate(Some(1)),
            Commit,
            Append(3, 2, 3, 700),
            Commit,
            Settle,
        ],
    ),
    (
        "truncate-to-the-first-of-a-sealed-segment",
        &[
            Append(1, 1, 3, 3500),
            Commit,
            Append(1, 4, 6, 3500),
            Commit,
            Commit,
            Append(1, 7, 8, 3500),
            Settle,
            Truncate(Some(3)),
            Commit,
            Append(2, 4, 5, 3500),
            Commit,
            Settle,
        ],
    ),
    (
        "truncate-everything",
        &[
            Append(1, 1, 4, 3500),
            Commit,
            Commit,
            Truncate(None),
            Commit,
            Append(4, 1, 2, 100),
            Commit,
            Truncate(None),
            Vote(5),
            Commit,
            Settle,
            Kill,
            Append(5, 1, 1, 10),
            Commit,
        ],
    ),
    (
        "truncate-across-three-segments",
        &[
            Append(1, 1, 5, 2500),
            Settle,
            Append(1, 6, 10, 2500),
            Settle,
            Append(1, 11, 14, 2500),
            Settle,
            Truncate(Some(2)),
            Commit,
            Append(3, 3, 5, 2500),
            Settle,
            Kill,
        ],
    ),
    (
        "purge-one-segment",
        &[
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3500),
            Settle,
            Purge(1, 3),
            Vote(1),
            Commit,
            Tidy,
            Tidy,
            Settle,
        ],
    ),
    (
        "purge-three-segments",
        &[
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3500),
            Settle,
            Append(1, 7, 9, 3500),
            Settle,
            Append(1, 10, 12, 3500),
            Settle,
            Purge(1, 10),
            Rest,
            Tidy,
            Tidy,
            Tidy,
            Settle,
        ],
    ),
    (
        "purge-everything",
        &[
            Append(1, 1, 4, 3500),
            Settle,
            Purge(1, 4),
            Settle,
            Append(2, 5, 5, 100),
            Commit,
            Purge(2, 5),
            Close,
            Append(2, 6, 6, 100),
            Commit,
        ],
    ),
    (
        "purge-beyond-the-end-then-append",
        &[
            Append(1, 1, 4, 3000),
            Settle,
            Purge(3, 30),
            Vote(3),
            Commit,
            Append(3, 31, 31, 100),
            Commit,
            Settle,
            Kill,
        ],
    ),
    (
        "killed-between-purge-record-and-unlink",
        &[
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3500),
            Settle,
            Append(1, 7, 9, 3500),
            Settle,
            Purge(1, 8),
            Vote(1),
            Commit,
            Kill,
            Append(1, 10, 10, 100),
            Commit,
        ],
    ),
    (
        "killed-between-two-unlinks",
        &[
            Append(1, 1, 3, 3500),
            Settle,
            Append(1, 4, 6, 3500),
            Settle,
            Append(1, 7, 9, 3500),
            Settle,
            Purge(1, 8),
            Vote(1),
            Commit,
            Tidy,
            Kill,
            Kill,
        ],
    ),
    (
        "clean-stops",
        &[
            Append(1, 1, 3, 100),
            Close,
            Append(1, 4, 6, 5000),
            Purge(1, 3),
            Close,
            Close,
            Truncate(Some(5)),
            Append(2, 6, 6, 100),
            Committed(2, 6),
            Close,
        ],
    ),
    (
        "kills",
        &[
            Append(1, 1, 3, 100),
            Kill,
            Append(1, 1, 2, 700),
            Commit,
            Append(1, 3, 4, 700),
            Kill,
            Append(2, 3, 3, 5000),
            Commit,
            Kill,
            Kill,
        ],
    ),
    (
        "power-cuts",
        &[
            More(2, 700),
            Commit,
            Cut(Survival::Coins(3)),
            More(2, 3500),
            Commit,
            Commit,
            Cut(Survival::Nothing),
            More(2, 3500),
            Commit,
            Tidy,
            Cut(Survival::NamesOnly),
            More(1, 100),
            Commit,
        ],
    ),
];

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
    oracle.recovery_every = if bench.is_long() { 1 } else { 3 };
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
