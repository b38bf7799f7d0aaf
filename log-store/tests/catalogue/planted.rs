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
    let cases = by_turns(cases::of_good_logs(bench));
    let (caught, images) = cases::run_short(Some(bug), &cases, began + LONGEST);
    bench.report.count(place.group(), |group| group.images += images);
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
