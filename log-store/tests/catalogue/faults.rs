//! Group E: a disk that says no. Every operation of every scenario, of the run and of the recovery, meets
//! every kind of fault, once or from then on. After the first error nobody is told "done", everyone is told
//! exactly once, entries stay readable, and the next process finds what was acknowledged.

use std::io::ErrorKind;

use raftmap_log_store::LogError;
use raftmap_log_store::disk::{Fault, Op, SimDisk, Survival};

use crate::bench::Bench;
use crate::cases::Case;
use crate::cut::{Thoroughness, survivals};
use crate::model::{Expect, Model};
use crate::oracle::Oracle;
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::{self, *};

const OPS: [Op; 11] = [
    Op::CreateDir,
    Op::Create,
    Op::Write,
    Op::SyncData,
    Op::SyncAll,
    Op::SyncDir,
    Op::Rename,
    Op::Remove,
    Op::SetLen,
    Op::Allocate,
    Op::Read,
];

/// Each with the number of operations in a row that meet it.
const FAULTS: [(&str, Fault, u64); 13] = [
    ("eio-once", Fault::Error(ErrorKind::Other), 1),
    ("eio-dropped-once", Fault::Dropped(ErrorKind::Other), 1),
    ("eio", Fault::Error(ErrorKind::Other), u64::MAX),
    ("enospc", Fault::Error(ErrorKind::StorageFull), u64::MAX),
    ("enospc-once", Fault::Error(ErrorKind::StorageFull), 1),
    ("edquot", Fault::Error(ErrorKind::QuotaExceeded), u64::MAX),
    ("erofs", Fault::Error(ErrorKind::ReadOnlyFilesystem), u64::MAX),
    ("eacces", Fault::Error(ErrorKind::PermissionDenied), u64::MAX),
    ("eintr-storm", Fault::Error(ErrorKind::Interrupted), 50),
    ("short-0", Fault::Short(0), u64::MAX),
    ("short-1-once", Fault::Short(1), 1),
    ("short-511", Fault::Short(511), u64::MAX),
    ("short-half", Fault::Short(60), 3),
];

/// Runs with everything in them: rolls, a truncation, purges that remove files, FRONTIER, starts. Each with what it
/// never does to the disk; the first open makes the directory.
const SCENARIOS: [(&str, &[Op], &[Step]); 4] = [
    (
        "appends-and-votes",
        &[Op::CreateDir, Op::Remove, Op::SetLen, Op::Read],
        &[
            Append(1, 1, 3, 100),
            Vote(2),
            Commit,
            Append(2, 4, 4, 3000),
            Append(2, 5, 9, 900),
            Vote(3),
            Commit,
            Commit,
            Settle,
            Append(3, 10, 10, 10),
            Commit,
        ],
    ),
    (
        "rolls",
        &[Op::CreateDir, Op::Remove, Op::Read],
        &[
            Append(1, 1, 4, 2900),
            Settle,
            Append(1, 5, 8, 2900),
            Commit,
            Commit,
            Tidy,
            Append(1, 9, 9, 20_000),
            Settle,
            Append(1, 10, 12, 2900),
            Settle,
        ],
    ),
    (
        "truncations-and-purges",
        &[Op::CreateDir, Op::Read],
        &[
            Append(1, 1, 12, 2900),
            Settle,
            Truncate(Some(9)),
            Commit,
            Append(2, 10, 13, 2900),
            Commit,
            Committed(1, 8),
            Purge(1, 7),
            Settle,
            Append(2, 14, 14, 100),
            Purge(2, 20),
            Vote(4),
            Commit,
            Settle,
        ],
    ),
    (
        "stops-and-starts",
        &[Op::CreateDir],
        &[
            More(3, 2900),
            Commit,
            Close,
            More(3, 2900),
            Commit,
            Kill,
            Vote(2),
            More(1, 400),
            Commit,
            Kill,
            Purge(1, 2),
            More(2, 2900),
            Settle,
        ],
    ),
];

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, never, steps) in SCENARIOS {
        for op in OPS.into_iter().filter(|op| !never.contains(op)) {
            cases.push(Case::new("E", format!("{name}-{op:?}"), move |bench, place| {
                every_operation(bench, place, steps, op);
            }));
        }
    }
    // A recovery neither allocates a file nor shortens one.
    for op in OPS.into_iter().filter(|op| !matches!(op, Op::SetLen | Op::Allocate)) {
        cases.push(Case::new("E", format!("recovery-{op:?}"), move |bench, place| {
            every_operation_of_a_recovery(bench, place, op);
        }));
    }
    cases.push(Case::new("E", "a-thousand-in-flight", a_thousand_in_flight));
    cases.push(Case::new("E", "full-and-room-again", full_and_room_again));
    cases
}

/// Whether a log must not even notice it.
fn is_harmless(op: Op, fault: Fault) -> bool {
    match fault {
        Fault::Short(n) => !matches!(op, Op::Write | Op::Read) || n > 0,
        Fault::Error(ErrorKind::Interrupted) => matches!(op, Op::Write | Op::Read),
        Fault::Error(_) | Fault::Dropped(_) => false,
    }
}

/// The faults that mean anything for an operation.
fn faults_of(op: Op) -> impl Iterator<Item = (&'static str, Fault, u64)> {
    let is_sync = matches!(op, Op::SyncData | Op::SyncAll | Op::SyncDir);
    FAULTS.into_iter().filter(move |(_, fault, _)| match fault {
        Fault::Short(_) => matches!(op, Op::Write | Op::Read),
        Fault::Dropped(_) => is_sync,
        // EINTR: the calls that may return it are tried again, a failed sync never is.
        Fault::Error(_) => true,
    })
}

fn every_operation(bench: &Bench, place: &Place, steps: &[Step], op: Op) {
    let clean = Run::new(bench.config()).steps(steps);
    let (total, seen) = (clean.disk().count(op), count_of_open(bench, op));
    drop(clean);
    if total == seen {
        bench.report.violation(place, format!("no {op:?} happens, so none of them fails"));
    }
    let mut turn = 0_usize;
    for nth in 1..=total - seen {
        for (n, (name, fault, times)) in faults_of(op).enumerate() {
            turn += 1;
            // A read of nothing is the end of a file: what a restart then does is among the recoveries.
            if (op, fault) == (Op::Read, Fault::Short(0)) {
                continue;
            }
            // The short form takes each kind of fault at every few operations.
            let is_due = bench.is_long() || n < 2 || turn.is_multiple_of(2);
            let place = place.at(format!("{nth}-{name}"));
            if is_due && bench.admits(&place) {
                run_with(
                    bench,
                    &place,
                    steps,
                    Fault(op, nth, times, fault),
                    is_harmless(op, fault),
                );
            }
        }
    }
}

/// How often a first open does it.
fn count_of_open(bench: &Bench, op: Op) -> u64 {
    Run::new(bench.config()).disk().count(op)
}

fn run_with(bench: &Bench, place: &Place, steps: &[Step], fault: Step, is_harmless: bool) {
    let mut run = Run::new(bench.config());
    let Fault(op, nth, ..) = fault else { return };
    let nth = run.disk().count(op) + nth;
    run.step(fault);
    let mut run = run.steps(steps);
    if run.disk().count(op) < nth {
        bench.report.violation(place, "the fault was never met");
    }
    run.step(Heal);
    let failed = run.log().and_then(raftmap_log_store::Log::failed);
    if let Some(failure) = failed.as_ref().filter(|_| is_harmless) {
        bench.report.violation(place, format!("a fault that is none ended the log: {failure}"));
    }
    if op != Op::Read {
        still_readable(bench, place, &run);
    }
    // Whatever the janitor had on its desk it still may do.
    run.step(Settle);
    let film = run.film();
    // A read that fails is an error of that read, also of those by which a run looks at its log.
    let is_told = |what: &&String| op != Op::Read || !what.starts_with("not readable");
    let trouble = film.trouble.iter().filter(is_told);
    trouble.for_each(|what| bench.report.violation(place, what.clone()));
    let oracle = Oracle::new(bench, bench.config());
    let Some(scene) = film.scenes.last() else { return };
    oracle.judge_killed(place, scene);
    for survival in survivals(scene.disk.unsure(), Thoroughness::Few) {
        let place = place.after(survival);
        if bench.admits(&place) {
            oracle.judge(&place, &scene.disk.after_power_cut(survival), &scene.expect);
        }
    }
}

/// A log that failed still serves every entry that it took.
fn still_readable(bench: &Bench, place: &Place, run: &Run) {
    let Some(log) = run.log() else { return };
    match Model::of(log) {
        Ok(found) if found.entries == run.model().entries => {}
        Ok(found) => {
            let what = format!("serves {}, took {}", found.brief(), run.model().brief());
            bench.report.violation(place, what);
        }
        Err(what) => bench.report.violation(place, what),
    }
}

/// A log with a torn end, purged segments and a file to be shortened, and what it must hold.
fn torn(bench: &Bench) -> (SimDisk, Expect) {
    let steps = [
        Append(1, 1, 4, 2900),
        Commit,
        Commit,
        Append(1, 5, 8, 2900),
        Commit,
        Commit,
        Append(1, 9, 12, 2900),
        Commit,
        Commit,
        Purge(1, 6),
        Vote(2),
        Commit,
        Append(1, 13, 13, 2000),
    ];
    let config = raftmap_log_store::LogConfig { planted: None, ..bench.config() };
    let mut run = Run::new(config.clone()).steps(&steps);
    run.step(Fault(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other)));
    run.step(Commit);
    let film = run.film();
    let scene = film.scenes.last().expect("there is an end");
    let torn = (0..64).map(|n| scene.disk.after_power_cut(Survival::Coins(n))).find(|image| {
        let examined = raftmap_log_store::examine(&config, image, None);
        examined.is_ok_and(|info| info.torn.is_some())
    });
    (torn.expect("one of the images is torn"), scene.expect.clone())
}

fn every_operation_of_a_recovery(bench: &Bench, place: &Place, op: Op) {
    let (image, expect) = torn(bench);
    let oracle = Oracle::new(bench, bench.config());
    let clean = image.after_power_cut(Survival::Everything);
    drop(crate::bench::open(&bench.config(), &clean, 2));
    if clean.count(op) == 0 {
        bench.report.violation(place, format!("no {op:?} happens, so none of them fails"));
    }
    for (name, fault, times) in faults_of(op) {
        for nth in 1..200 {
            let place = place.at(format!("{nth}-{name}"));
            if !bench.admits(&place) {
                continue;
            }
            let disk = image.after_power_cut(Survival::Everything);
            disk.inject(op, nth, times, fault);
            let opened = crate::bench::open(&bench.config(), &disk, 2);
            let was_met = disk.count(op) >= nth;
            match &opened {
                Err(LogError::Io { .. }) if !is_harmless(op, fault) => {}
                // A file that ends early has lost its end, as far as anyone can see.
                Err(LogError::Corrupt(_)) if (op, fault) == (Op::Read, Fault::Short(0)) => {}
                Err(error) => {
                    bench.report.violation(&place, format!("the open ends with {error}"));
                }
                Ok(_) => {}
            }
            let is_open = opened.is_ok();
            drop(opened);
            disk.heal();
            // The next process on the same machine, and one after a power cut.
            let killed = disk.moment();
            match crate::bench::open(&bench.config(), &killed, 3) {
                Ok((log, _hands, info)) => match Model::of(&log) {
                    Ok(model) if expect.allows(&model) => {}
                    Ok(model) => bench.report.violation(
                        &place.at("killed"),
                        format!("holds {}, expected {}; {info}", model.brief(), expect.brief()),
                    ),
                    Err(what) => bench.report.violation(&place.at("killed"), what),
                },
                Err(error) => {
                    bench.report.violation(&place.at("killed"), format!("does not open: {error}"));
                }
            }
            for survival in survivals(disk.unsure(), Thoroughness::Few) {
                oracle.judge(&place.after(survival), &disk.after_power_cut(survival), &expect);
            }
            if is_open && !was_met {
                break;
            }
        }
    }
}

/// A thousand wait when the sync fails: of those before it everyone is told "done", of the others everyone
/// is told the error, once and in order. The ledger of the run sees to it; here they are counted.
fn a_thousand_in_flight(bench: &Bench, place: &Place) {
    for (op, nth) in
        [(Op::SyncData, 1), (Op::SyncData, 7), (Op::Write, 5), (Op::SyncAll, 2), (Op::Rename, 1)]
    {
        let place = place.at(format!("{op:?}-{nth}"));
        if !bench.admits(&place) {
            continue;
        }
        let mut run = Run::new(bench.config());
        run.step(Fault(op, nth, 1, Fault::Error(ErrorKind::Other)));
        for index in 1..=1000 {
            run.step(Append(1, index, index, 40));
        }
        for _ in 0..200 {
            run.step(Commit);
        }
        let failed = run.log().is_some_and(|log| log.failed().is_some());
        if !failed {
            bench.report.violation(&place, "the log does not fail");
        }
        run.step(Append(1, 1001, 1001, 40));
        let film = run.film();
        film.trouble.iter().for_each(|what| bench.report.violation(&place, what.clone()));
        let scene = film.scenes.last().expect("there is an end");
        let oracle = Oracle::new(bench, bench.config());
        oracle.judge_killed(&place, scene);
        oracle.judge(&place, &scene.disk.after_power_cut(Survival::Nothing), &scene.expect);
    }
}

/// A disk that is full for a while: at worst the log ends, and the next one goes on where it ended.
fn full_and_room_again(bench: &Bench, place: &Place) {
    for op in [Op::Allocate, Op::Create, Op::Write, Op::SetLen, Op::SyncData, Op::SyncAll] {
        let mut was_met = false;
        for nth in 1..12 {
            let place = place.at(format!("{op:?}-{nth}"));
            if !bench.admits(&place) {
                continue;
            }
            let full = Fault(op, nth, u64::MAX, Fault::Error(ErrorKind::StorageFull));
            let steps = [
                Append(1, 1, 3, 2900),
                Settle,
                full,
                Append(1, 4, 5, 2900),
                Commit,
                Commit,
                Settle,
                Kill,
                Heal,
                Kill,
                More(3, 2900),
                Settle,
                Purge(1, 2),
                Settle,
                Close,
            ];
            let run = Run::new(bench.config()).steps(&steps[..2]);
            let due = run.disk().count(op) + nth;
            let run = run.steps(&steps[2..]);
            was_met |= run.disk().count(op) >= due;
            let film = run.film();
            film.trouble.iter().for_each(|what| bench.report.violation(&place, what.clone()));
            let oracle = Oracle::new(bench, bench.config());
            if let Some(scene) = film.scenes.last() {
                oracle.judge(&place, &scene.disk.after_power_cut(Survival::Nothing), &scene.expect);
            }
        }
        if !was_met {
            bench.report.violation(place, format!("the disk is never full for {op:?}"));
        }
    }
}
