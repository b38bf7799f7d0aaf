//! Killed without a word, again and again, on one growing log.

use std::path::Path;

use crate::model::State;
use crate::plan::Dice;
use crate::report::{Running, check, open, segments};
use crate::worker::{Job, Way};

fn rounds() -> u64 {
    std::env::var("RAFTMAP_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut dice = Dice::new(17);
    let mut possible = vec![State::default()];
    let (mut acknowledged, mut most) = (0, 0);
    for round in 0..rounds() {
        let mut worker = Running::start(Job::new(&wal, Way::Threads, round, 100_000).command(&[]));
        // Every third one is killed while it opens what the one before it left.
        match round % 3 {
            0 => assert!(worker.hear_until("opening")),
            _ => worker.hear(dice.below(600)),
        }
        (0..dice.below(2_000)).for_each(|_| std::hint::spin_loop());
        let report = worker.kill();
        assert_eq!(report.status.code(), None, "it was killed: {}", report.stderr);
        acknowledged += report.acknowledged();
        possible = report.possible(&possible);
        most = most.max(if wal.exists() { segments(&wal) } else { 0 });
        // Half of the logs are opened by the next worker alone, which says what it found.
        if dice.below(2) == 0 {
            possible = vec![check(&wal, &possible, &format!("round {round}"))];
        }
    }
    let state = check(&wal, &possible, "the end");
    println!("{} kills, {acknowledged} answers, at most {most} segments", rounds());
    assert!(acknowledged > 100, "{acknowledged}");
    // Each process begins a segment, and each open removes what is purged: what is left belongs to the
    // entries that are kept and to the few kills since the last purge.
    assert!(most < 60, "{most} segments");
    nothing_is_left_behind(&wal, &state);
}

/// Once everything is purged, the log is as small as a new one.
fn nothing_is_left_behind(wal: &Path, state: &State) {
    let (log, _) = open(wal).unwrap();
    log.purge_upto(crate::model::id(state.term(), state.next() + 10)).unwrap();
    log.close().unwrap();
    let (log, info) = open(wal).unwrap();
    log.close().unwrap();
    assert!(segments(wal) <= 2, "{} segments after {info}", segments(wal));
}
