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
    let likely = likely(bug);
    cases.sort_by_key(|case| !case.place.to_string().starts_with(likely));
    let (caught, images) = cases::run_short(Some(bug), &cases, began + LONGEST);
    let Some(violation) = caught else {
        let what = format!("nobody notices it, after {images} images");
        return bench.report.violation(place, what);
    };
    println!(
        "{:<24} caught after {images:>6} images and {:>5.1} s at {}",
        format!("{bug:?}"),
        began.elapsed().as_secs_f64(),
        violation.place
    );
}

/// Where a bug shows: these cases come first, all others after them.
fn likely(bug: Planted) -> &'static str {
    match bug {
        Planted::SkipSync | Planted::TellBeforeSync => "A/append-1",
        Planted::SkipSealSync | Planted::SkipHeaderSync | Planted::SkipDirSync => "A/roll",
        Planted::RetrySync
        | Planted::GoOnAfterError
        | Planted::LoseCallback
        | Planted::FrontierBeforeSync
        | Planted::TrustCacheAfterFailure => "E/appends-and-votes-SyncData",
        Planted::VoteFirst => "E/appends-and-votes-Write",
        Planted::TruncateWithoutRecord => "A/truncate",
        Planted::UnlinkBeforeRecord | Planted::UnlinkNewestFirst => "A/purge",
        Planted::ShortenLast => "A/clean-stops",
        Planted::AppendToInheritedTail | Planted::LeaveTornTail | Planted::SkipQuarantine => {
            "A/power-cuts"
        }
        Planted::TrustUnsyncedTail => "A/clean-stops",
        Planted::AcceptShortTail => "B/active-cut",
        Planted::IgnoreFrontier => "B/every-suffix-zeroed",
        Planted::IgnoreSyncedLsn => "C/zeros-over-frames",
        Planted::IgnorePredecessor => "C/told-segment-1",
        Planted::CutWithoutHole => "C/untold-segment-3",
        Planted::SkipReadCheck => "C/under-a-running-log",
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
