//! Every power cut of a film: before each operation, with many choices of what survives.

use crate::bench::Bench;
use crate::oracle::{Oracle, Thoroughness, survivals};
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
