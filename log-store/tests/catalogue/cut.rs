//! Every power cut of a film: before each operation, with many choices of what survives.

use raftmap_log_store::disk::Survival;

use crate::bench::Bench;
use crate::oracle::Oracle;
use crate::place::Place;
use crate::run::Film;

/// Judges all images of the film.
pub(crate) fn everywhere(bench: &Bench, oracle: &Oracle<'_>, place: &Place, film: &Film) {
    let thoroughness = if bench.is_long() {
        Thoroughness::Subsets { of: 8, coins: 48 }
    } else {
        Thoroughness::Subsets { of: 6, coins: 4 }
    };
    film.trouble.iter().for_each(|what| bench.report.violation(place, what.clone()));
    for (number, scene) in film.scenes.iter().enumerate() {
        let place = place.at(format!("op-{number}")).before(&scene.what);
        if !bench.admits(&place) {
            continue;
        }
        oracle.judge_killed(&place, scene);
        for survival in survivals(scene.disk.unsure(), thoroughness) {
            let place = place.after(survival);
            if bench.admits(&place) {
                let image = scene.disk.after_power_cut(survival);
                oracle.judge(&place, &image, &scene.expect);
            }
        }
    }
}

/// How many of the possible survivors are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    Few,
    /// Every subset of up to so many changes, of more so many tosses of the coins.
    Subsets {
        of: usize,
        coins: u64,
    },
}

/// What may survive of so many changes.
pub(crate) fn survivals(unsure: usize, thoroughness: Thoroughness) -> Vec<Survival> {
    let few = [Survival::Nothing, Survival::Everything, Survival::Coins(1), Survival::Coins(2)];
    match thoroughness {
        _ if unsure == 0 => vec![Survival::Everything],
        _ if unsure == 1 => vec![Survival::Nothing, Survival::Everything],
        Thoroughness::Few => few.to_vec(),
        Thoroughness::Subsets { of, .. } if unsure <= of => {
            (0..1 << unsure).map(Survival::Subset).collect()
        }
        Thoroughness::Subsets { coins, .. } => {
            let mut chosen = vec![
                Survival::Nothing,
                Survival::Everything,
                Survival::NamesOnly,
                Survival::ContentOnly,
            ];
            let ends = [1, 2, unsure / 2, unsure - 2, unsure - 1];
            chosen.extend(ends.map(Survival::Oldest));
            chosen.extend(ends.map(Survival::Newest));
            chosen.extend((1..=coins).map(Survival::Coins));
            chosen
        }
    }
}
