//! Killed before each call of the system, one after the other: while it creates a log, works, opens what a
//! killed one left. By hand, so that the n-th call is the same one each time.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::machine::{has_strace, skip, strace};
use crate::model::State;
use crate::report::{Report, check, copy};
use crate::worker::{Job, Way};

/// Every call that changes what is on the disk.
const CALLS: [&str; 7] =
    ["pwrite64", "fdatasync", "fsync", "/^rename", "/^unlink", "ftruncate", "fallocate"];
const SIGKILL: i32 = 9;
/// More calls of one kind than any worker makes.
const CALLS_MAX: u64 = 1_000;

/// Kills a worker before each of its calls, beginning with a copy of `from`; the number of kills.
fn kill_before_each_call(calls: &str, from: Option<(&Path, &[State])>, job: (u64, u64)) -> u64 {
    for nth in 1..CALLS_MAX {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("wal");
        let mut before = vec![State::default()];
        if let Some((template, states)) = from {
            copy(template, &wal);
            before = states.to_vec();
        }
        let tracer =
            strace(&dir.path().join("trace"), calls, &format!("signal=SIGKILL:when={nth}"));
        let report = Report::of(Job::new(&wal, Way::Hands, job.0, job.1).command(&tracer));
        let what = format!("{calls} {nth}");
        check(&wal, &report.possible(&before), &what);
        if report.status.signal() != Some(SIGKILL) {
            assert!(report.status.success() && report.said("closed"), "{what}: {report:?}");
            return nth - 1;
        }
    }
    panic!("the worker never runs untouched");
}

#[test]
fn a_new_log_survives_a_kill_before_each_of_its_calls() {
    if !has_strace() {
        return skip("a_new_log_survives_…", "there is no strace that can inject");
    }
    let kills = CALLS.map(|calls| (calls, kill_before_each_call(calls, None, (20, 26))));
    println!("kills: {kills:?}");
    assert!(kills.iter().all(|(_, kills)| *kills > 0), "every kind of call was met: {kills:?}");
}

#[test]
fn a_log_that_was_killed_survives_a_kill_before_each_call_of_its_recovery() {
    if !has_strace() {
        return skip("a_log_that_was_killed_…", "there is no strace that can inject");
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let tracer = strace(&dir.path().join("trace"), "fdatasync", "signal=SIGKILL:when=16");
    let report = Report::of(Job::new(&wal, Way::Hands, 11, 1_000).command(&tracer));
    let possible = report.possible(&[State::default()]);
    leave_rubbish(&wal);
    let kills = CALLS.map(|calls| {
        (calls, kill_before_each_call(calls, Some((&wal, possible.as_slice())), (12, 4)))
    });
    println!("kills: {kills:?}");
    // Writes and syncs of the cut and the seal, unlinks of the leftovers.
    assert!(kills.iter().map(|(_, kills)| kills).sum::<u64>() > 20, "{kills:?}");
}

/// What other crashes leave: a torn write, unfinished files, the mark of a failed disk.
fn leave_rubbish(wal: &Path) {
    use std::os::unix::fs::FileExt;
    std::fs::write(wal.join("spare.tmp"), [0; 9_000]).unwrap();
    std::fs::write(wal.join("segment.tmp"), "RAFTMWAL").unwrap();
    std::fs::write(wal.join("FAILED"), "sync: EIO").unwrap();
    let names = std::fs::read_dir(wal).unwrap().flatten().map(|entry| entry.path());
    let last = names.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).max();
    let bytes = std::fs::read(last.as_ref().unwrap()).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // The next frame's first bytes would go to the next multiple of 8; one sector of it came through.
    let at = u64::try_from(end).unwrap() / 512 * 512 + 1024;
    let file = std::fs::File::options().write(true).open(last.unwrap()).unwrap();
    file.write_all_at(&[0xA5; 512], at).unwrap();
}
