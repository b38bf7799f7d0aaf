//! Killed before each call of the system, one after the other: while it creates a log, works, opens what a
//! killed one left. By hand, so that the n-th call is the same one each time.

use std::os::unix::process::ExitStatusExt;

use crate::machine::{has_strace, skip, strace};
use crate::report::{Report, check};
use crate::scene::Scene;
use crate::worker::{CALLS_MAX, Job, Way, first_call};

/// Every call that changes what is on the disk, and those between which a process can tell steps apart.
const CALLS: [&str; 8] =
    ["pwrite64", "fdatasync", "fsync", "/^rename", "/^unlink", "ftruncate", "fallocate", "openat"];
const SIGKILL: i32 = 9;

/// Kills a worker before each of its calls of this kind; the number of kills.
fn kill_before_each_call(calls: &str, scene: &Scene, seed: u64, steps: u64) -> u64 {
    for nth in first_call(calls)..CALLS_MAX {
        let stage = scene.stage();
        let tracer = strace(&stage.trace(), calls, &format!("signal=SIGKILL:when={nth}"));
        let report = Report::of(Job::new(stage.wal(), Way::Hands, seed, steps).command(&tracer));
        let what = format!("{calls} {nth}");
        check(&stage.wal(), &report.possible(&scene.before), &what);
        if report.status.signal() != Some(SIGKILL) {
            assert!(report.status.success() && report.said("closed"), "{what}: {report:?}");
            return nth - first_call(calls);
        }
    }
    panic!("the worker never runs untouched");
}

#[test]
fn a_new_log_survives_a_kill_before_each_of_its_calls() {
    if !has_strace() {
        return skip("a_new_log_survives_…", "there is no strace that can inject");
    }
    let scene = Scene::nothing();
    let kills = CALLS.map(|calls| (calls, kill_before_each_call(calls, &scene, 20, 26)));
    println!("kills: {kills:?}");
    assert!(kills.iter().all(|(_, kills)| *kills > 0), "every kind of call was met: {kills:?}");
}

#[test]
fn a_log_that_was_killed_survives_a_kill_before_each_call_of_its_recovery() {
    if !has_strace() {
        return skip("a_log_that_was_killed_…", "there is no strace that can inject");
    }
    let scene = Scene::left_by_a_kill();
    let kills = CALLS.map(|calls| (calls, kill_before_each_call(calls, &scene, 12, 4)));
    println!("kills: {kills:?}");
    // Writes and syncs of the cut and the seal, unlinks of the leftovers.
    assert!(kills.iter().map(|(_, kills)| kills).sum::<u64>() > 20, "{kills:?}");
}
