//! Directories full of anything: no tool panics, loops or disagrees with an open, and nothing is allocated beyond
//! what the files hold. The same bodies run in the fuzz targets (`log-store/fuzz`), there guided by coverage.

use std::sync::OnceLock;

use proptest::prelude::*;
use raftmap_log_store::disk::{SimDisk, Survival};

use crate::common::*;

#[expect(unreachable_pub, reason = "the fuzz targets use it from another crate")]
#[path = "../../fuzz/src/image.rs"]
mod image;

/// A closed log of a few segments, and one that its process has left.
fn logs() -> &'static [SimDisk] {
    static LOGS: OnceLock<Vec<SimDisk>> = OnceLock::new();
    LOGS.get_or_init(|| [true, false].map(log).to_vec())
}

fn log(closes: bool) -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut hands) = worn(&disk);
    let mut commit = |answer| commit(&mut hands, answer);
    log.purge_upto(id(1, 2)).unwrap();
    commit(append(&log, entries(2, 7..=9)));
    if closes {
        hands.close().unwrap();
    } else {
        hands.rest();
        while hands.tidy() {}
    }
    disk.after_power_cut(Survival::Everything)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_real_log_changed_in_any_way(
        which in 0..2usize,
        script in proptest::collection::vec(any::<u8>(), 0..48),
    ) {
        let disk = logs()[which].after_power_cut(Survival::Everything);
        image::mutate(&disk, &script);
        image::check(&disk);
    }

    #[test]
    fn a_directory_of_nothing_but_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        image::check(&image::from_bytes(&bytes));
        image::check(&image::one_segment(&bytes));
    }
}

/// A script whose changes are then made to verify again, so that what lies behind the checksums is reached too.
#[test]
fn seeds_that_once_were_trouble() {
    for script in [&[][..], &[0; 9], &[255; 40], b"the quick brown fox jumps over the lazy dog"] {
        for log in logs() {
            let disk = log.after_power_cut(Survival::Everything);
            image::mutate(&disk, script);
            image::check(&disk);
        }
        image::check(&image::from_bytes(script));
        image::check(&image::one_segment(script));
    }
    image::check(&image::real_log());
}
