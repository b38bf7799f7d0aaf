//! The walk over the planted bugs: a log with any one of them must not pass the catalogue. What passes here
//! shows where the catalogue is blind.

use std::time::{Duration, Instant};

use raftmap_log_store::Planted;

use crate::bench::Bench;
use crate::cases::{self, Case};
use crate::place::Place;

/// No bug takes nearly as long to find.
const LONGEST: Duration = Duration::from_secs(60);

/// One case for each bug.
pub(crate) fn cases() -> Vec<Case> {
    let bugs = Planted::ALL.iter();
    bugs.map(|&bug| {
        Case::new("P", format!("{bug:?}"), move |bench, place| is_caught(bench, place, bug))
    })
    .collect()
}

fn is_caught(bench: &Bench, place: &Place, bug: Planted) {
    let began = Instant::now();
    let mut cases = by_turns(cases::of_good_logs(bench));
    let (at, what) = sign(bug);
    // A place inside of a case leads to the case.
    let is_likely = |place: &str| place.starts_with(at) || at.starts_with(&format!("{place}/"));
    cases.sort_by_key(|case| !is_likely(&case.place.to_string()));
    let (caught, images) = cases::run_short(Some(bug), &cases, began + LONGEST);
    let Some(violation) = caught else {
        let what = format!("nobody notices it, after {images} images");
        return bench.report.violation(place, what);
    };
    if !violation.place.starts_with(at) || !violation.what.contains(what) {
        let found = format!("{}: {}", violation.place, violation.what);
        let what = format!("it is to show at {at} as \"{what}\", but shows at {found}");
        return bench.report.violation(place, what);
    }
    println!(
        "{:<24} caught after {images:>6} images and {:>5.1} s at {}",
        format!("{bug:?}"),
        began.elapsed().as_secs_f64(),
        violation.place
    );
}

/// Where a bug shows, and how: these cases come first, all others after them, and the first violation must be
/// this one. One that has another cause would hide that nobody looks for the bug itself.
fn sign(bug: Planted) -> (&'static str, &'static str) {
    match bug {
        Planted::SkipSync => ("A/append-1", "after one more entry: []"),
        Planted::SkipSealSync => ("A/roll", "does not open again after a cut"),
        Planted::SkipHeaderSync => ("A/roll", "the file is shorter than a header"),
        Planted::SkipDirSync => ("A/roll", "after one more entry: []"),
        Planted::TellBeforeSync => ("A/append-1", "holds [] vote"),
        Planted::RetrySync => ("E/appends-and-votes-SyncData", "but FRONTIER says"),
        Planted::GoOnAfterError => ("E/appends-and-votes-SyncData", "is done after 2 failed"),
        Planted::LoseCallback => ("E/appends-and-votes-SyncData", "never answered"),
        Planted::VoteFirst => {
            ("E/appends-and-votes-Write", "vote 3 purged - last 2-1.4 after a kill")
        }
        Planted::TruncateWithoutRecord => ("A/truncate", "entry 3 where 4 is next"),
        Planted::UnlinkBeforeRecord => ("A/purge", "at the beginning of the log are missing"),
        Planted::UnlinkNewestFirst => ("A/purge", "segment 2 is followed by 4"),
        Planted::FrontierBeforeSync => ("E/appends-and-votes-SyncData", "but FRONTIER says"),
        Planted::ShortenLast => ("A/clean-stops", "it was made with 16384"),
        Planted::AppendToInheritedTail => ("A/power-cuts", "of an earlier process was appended to"),
        Planted::LeaveTornTail => ("A/power-cuts", "is not zero behind its end"),
        Planted::TrustUnsyncedTail => ("A/clean-stops", "does not open again after a cut"),
        Planted::TrustCacheAfterFailure => {
            ("E/appends-and-votes-SyncData", "does not open again after a cut")
        }
        Planted::SkipQuarantine => ("A/power-cuts", "what was cut is not in quarantine"),
        Planted::AcceptShortTail => ("B/active-cut", "opened: "),
        Planted::IgnoreFrontier => ("B/every-suffix-zeroed/told", "opened: "),
        Planted::IgnoreSyncedLsn => ("C/zeros-over-frames", "opened: "),
        Planted::CutWithoutHole => ("C/untold-segment-3", "opened: "),
        Planted::IgnorePredecessor => ("C/told-segment-1", "opened: "),
        Planted::SkipReadCheck => {
            ("C/under-a-running-log", "a rotten entry is not an error of that entry")
        }
    }
}

/// The first case of each group, then the second of each: so that no group has to wait for another.
fn by_turns(cases: Vec<Case>) -> Vec<Case> {
    let mut turns: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let mut numbered: Vec<(usize, Case)> = Vec::with_capacity(cases.len());
    for case in cases {
        let turn = turns.entry(case.place.group()).or_default();
        *turn += 1;
        numbered.push((*turn, case));
    }
    numbered.sort_by_key(|(turn, _)| *turn);
    numbered.into_iter().map(|(_, case)| case).collect()
}
