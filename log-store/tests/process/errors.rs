//! The system fails a call of a running log, each of them once, then works again as if nothing had been.

use std::collections::BTreeSet;

use raftmap_log_store::Planted;

use crate::machine::{has_strace, skip, strace};
use crate::model::State;
use crate::report::{Report, check, image, open, segments};
use crate::scene::Scene;
use crate::worker::{CALLS_MAX, FAILED, Job, REFUSED, Way, first_call};

/// How a worker that met an error ended.
#[derive(Debug, Default)]
struct Ends {
    failed: u64,
    refused: u64,
    unharmed: u64,
    said: BTreeSet<String>,
}

/// What may fail without an end of it all: the spare, which nobody relies on; the text of the lock; room for
/// a segment, which is then a shorter one; what is not the log's.
fn is_minor(line: &str) -> bool {
    let is_room = line.contains("fallocate") && !line.contains("EIO");
    let is_ours = line.contains("/wal/") || line.contains("/wal\"");
    line.contains("spare.tmp") || line.contains("/LOCK") || is_room || !is_ours
}

/// Fails each call of this kind, one per run, until a run meets none.
fn fail_each_call(scene: &Scene, job: &Job, calls: &str, errno: &str, ends: &mut Ends) {
    for nth in first_call(calls)..CALLS_MAX {
        let stage = scene.stage();
        let wal = stage.wal();
        let tracer = strace(&stage.trace(), calls, &format!("error={errno}:when={nth}"));
        let job = Job { dir: wal.clone(), ..job.clone() };
        let report = Report::of(job.command(&tracer));
        let what = format!("{calls} {errno} {nth}");
        let possible = report.possible(&scene.before);
        let traced = stage.traced();
        let injected = traced.lines().find(|line| line.contains("(INJECTED)"));
        match report.status.code() {
            Some(0) => {
                assert!(report.said("closed"), "{what}: {report:?}");
                assert!(injected.is_none_or(is_minor), "{what}: unharmed by {injected:?}");
                ends.unharmed += u64::from(injected.is_some());
            }
            Some(code @ (FAILED | REFUSED)) => {
                assert!(injected.is_some(), "{what}: {report:?}");
                let says_why = report.stderr.contains("os error") && report.stderr.contains("wal");
                assert!(says_why, "{what}: {}", report.stderr);
                ends.failed += u64::from(code == FAILED);
                ends.refused += u64::from(code == REFUSED);
                ends.said.insert(report.stderr.split('/').next().unwrap_or_default().to_owned());
            }
            _ => panic!("{what}: {report:?}"),
        }
        check(&wal, &possible, &what);
        if injected.is_none() {
            return;
        }
    }
    panic!("{calls} {errno}: the worker never runs untouched");
}

#[test]
fn after_an_error_of_any_call_nothing_is_acknowledged_and_the_next_open_finds_all_that_was() {
    if !has_strace() {
        return skip("after_an_error_of_any_call_…", "there is no strace that can inject");
    }
    let (scene, mut ends) = (Scene::nothing(), Ends::default());
    for (calls, errno) in [
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("/^rename", "EIO"),
        ("/^unlink", "EIO"),
        ("ftruncate", "EIO"),
        ("fallocate", "ENOSPC"),
        ("fallocate", "EDQUOT"),
        ("fallocate", "EIO"),
        ("openat", "EMFILE"),
    ] {
        fail_each_call(&scene, &Job::new("", Way::Hands, 20, 26), calls, errno, &mut ends);
    }
    println!("{ends:?}");
    assert!(ends.failed > 60 && ends.refused > 5, "{ends:?}");
}

#[test]
fn after_an_error_of_any_call_of_a_recovery_the_next_one_finds_the_same() {
    if !has_strace() {
        return skip(
            "after_an_error_of_any_call_of_a_recovery_…",
            "there is no strace that can inject",
        );
    }
    let (scene, mut ends) = (Scene::left_by_a_kill(), Ends::default());
    for (calls, errno) in [
        ("openat", "EMFILE"),
        ("getdents64", "EIO"),
        ("pread64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("/^unlink", "EIO"),
    ] {
        fail_each_call(&scene, &Job::new("", Way::Hands, 12, 0), calls, errno, &mut ends);
    }
    println!("{ends:?}");
    assert!(ends.refused > 30, "{ends:?}");
}

#[test]
fn a_log_with_its_threads_ends_at_the_first_error_of_a_sync_though_the_next_would_succeed() {
    if !has_strace() {
        return skip("a_log_with_its_threads_…", "there is no strace that can inject");
    }
    let (scene, mut ends) = (Scene::nothing(), Ends::default());
    fail_each_call(&scene, &Job::new("", Way::Threads, 20, 60), "fdatasync", "EIO", &mut ends);
    fail_each_call(&scene, &Job::new("", Way::Threads, 20, 60), "pwrite64", "EDQUOT", &mut ends);
    println!("{ends:?}");
    assert!(ends.failed > 10, "{ends:?}");
    assert!(ends.said.iter().any(|said| said.contains("sync")), "{ends:?}");
}

#[test]
fn a_failed_sync_that_is_tried_again_and_a_log_that_goes_on_are_seen() {
    if !has_strace() {
        return skip("a_failed_sync_that_is_tried_again_…", "there is no strace that can inject");
    }
    for bug in [Planted::RetrySync, Planted::GoOnAfterError] {
        let job = Job { planted: Some(bug), ..Job::new("", Way::Hands, 20, 26) };
        let run = || {
            fail_each_call(&Scene::nothing(), &job, "fdatasync", "EIO", &mut Ends::default());
        };
        assert!(std::panic::catch_unwind(run).is_err(), "{bug:?} is seen");
    }
}

#[test]
fn a_storm_of_interrupted_calls_changes_nothing() {
    if !has_strace() {
        return skip("a_storm_of_interrupted_calls_…", "there is no strace that can inject");
    }
    for calls in ["pwrite64", "pread64", "fdatasync", "fsync", "ftruncate", "fallocate"] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, trace) = (dir.path().join("wal"), dir.path().join("trace"));
        for (seed, step) in [(1, 4), (2, 3), (3, 2)] {
            let when = format!("{}+{step}", first_call(calls));
            let tracer = strace(&trace, calls, &format!("error=EINTR:when={when}"));
            let before = if wal.exists() { read(&wal) } else { State::default() };
            let report = Report::of(Job::new(&wal, Way::Hands, seed, 30).command(&tracer));
            assert!(report.status.success() && !report.said("no "), "{calls}: {report:?}");
            let traced = std::fs::read_to_string(&trace).unwrap();
            // A new log has little to read.
            let is_met = traced.contains("EINTR") || (calls, seed) == ("pread64", 1);
            assert!(is_met, "{calls} {seed} was interrupted");
            check(&wal, &report.possible(&[before]), calls);
        }
    }
}

fn read(wal: &std::path::Path) -> State {
    let (log, _) = open(wal).unwrap();
    let state = State::of(&log);
    log.close().unwrap();
    state
}

#[test]
fn a_thousand_that_wait_when_the_sync_fails_are_all_told_and_none_with_yes() {
    if !has_strace() {
        return skip("a_thousand_that_wait_…", "there is no strace that can inject");
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    // The first sync of the writer takes long enough for all of them to gather, then it fails.
    let inject = "delay_enter=300000:error=EIO:when=1";
    let tracer = strace(&dir.path().join("trace"), "fdatasync", inject);
    // The log exists, so that opening it syncs nothing by this call but FRONTIER.
    read(&wal);
    let report = Report::of(Job::new(&wal, Way::Flood, 1, 1_000).command(&tracer));
    report.check_answers();
    assert_eq!(report.status.code(), Some(FAILED), "{}", report.stderr);
    assert_eq!(report.acknowledged(), 0);
    let refused = report.lines.iter().filter(|line| line.starts_with("no ")).count();
    assert_eq!(refused, 1_000, "each of them is told");
    assert!(report.stderr.contains("sync") && report.stderr.contains("os error 5"));
    assert!(wal.join("FAILED").exists(), "the mark for the next open");
    check(&wal, &report.possible(&[State::default()]), "the next open");
}

#[test]
fn a_disk_that_takes_long_over_each_sync_delays_and_nothing_more() {
    if !has_strace() {
        return skip("a_disk_that_takes_long_…", "there is no strace that can inject");
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let slow = strace(&dir.path().join("trace"), "fdatasync,fsync", "delay_enter=20000");
    let report = Report::of(Job::new(&wal, Way::Threads, 8, 120).command(&slow));
    assert!(report.status.success() && report.said("closed"), "{report:?}");
    assert!(report.acknowledged() > 60);
    check(&wal, &report.possible(&[State::default()]), "after slow syncs");
}

#[test]
fn a_write_that_the_disk_only_pretended_is_refused_by_the_next_open() {
    if !has_strace() {
        return skip(
            "a_write_that_the_disk_only_pretended_…",
            "there is no strace that can inject",
        );
    }
    let mut refused = 0;
    for nth in 4..=12 {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("wal");
        // It says that it wrote 40 bytes, and wrote none: the rest follows behind a hole.
        let tracer =
            strace(&dir.path().join("trace"), "pwrite64", &format!("retval=40:when={nth}"));
        let report = Report::of(Job::new(&wal, Way::Hands, 5, 26).command(&tracer));
        assert!(report.status.success() && report.said("closed"), "{report:?}");
        let traced = std::fs::read_to_string(dir.path().join("trace")).unwrap();
        let line = traced.lines().find(|line| line.contains("(INJECTED)")).expect("it was met");
        let possible = report.possible(&[State::default()]);
        let before = image(&wal);
        match open(&wal) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("damaged") && text.contains("at byte"), "{line}: {text}");
                assert_eq!(image(&wal), before, "{line}: a refusal changes nothing");
                refused += 1;
            }
            // A slot of FRONTIER that was overwritten since, or a segment that was purged.
            Ok((log, _)) => {
                assert!(possible.contains(&State::of(&log)), "{line}");
                drop(log);
                assert!(segments(&wal) > 0);
            }
        }
    }
    println!("{refused} of 9 refused");
    assert!(refused > 0);
}
