//! The order of things as the kernel saw it, read from a trace.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::{has_strace, skip};
use crate::model::{State, Step};
use crate::report::{PATIENCE, Report, Running};
use crate::worker::{Job, Way};

/// A tracer that writes whole texts of these calls.
fn tracer(out: &Path, calls: &str) -> Vec<String> {
    let out = out.display().to_string();
    let calls = format!("trace={calls}");
    let words = [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-s",
        "100000",
        "-o",
        &out,
        "-e",
        "signal=none",
        "-e",
        &calls,
    ];
    words.map(Into::into).into()
}

/// One call in a trace.
struct Call<'a> {
    name: &'a str,
    /// Its arguments and what it returned, as far as this line has them.
    rest: &'a str,
}

/// A line is `PID name(arguments) = result`, or one half of that.
fn call(line: &str) -> Option<Call<'_>> {
    let line = line.split_once(' ')?.1.trim_start();
    match line.strip_prefix("<... ") {
        Some(resumed) => {
            let (name, rest) = resumed.split_once(" resumed>")?;
            Some(Call { name, rest })
        }
        None => {
            let (name, rest) = line.split_once('(')?;
            Some(Call { name, rest })
        }
    }
}

#[test]
fn nothing_is_acknowledged_before_the_sync_that_covers_it_and_all_before_it_has_returned() {
    if !has_strace() {
        return skip("nothing_is_acknowledged_before_…", "there is no strace");
    }
    let dir = tempfile::tempdir().unwrap();
    let (wal, trace) = (dir.path().join("wal"), dir.path().join("trace"));
    let tracer = tracer(&trace, "pwrite64,fdatasync,fsync,write");
    let report = Report::of(Job::new(&wal, Way::Threads, 21, 150).command(&tracer));
    assert!(report.status.success(), "{report:?}");
    let text = std::fs::read_to_string(&trace).unwrap();
    let questions: Vec<_> = report.lines.iter().filter_map(|line| question(line)).collect();

    // A segment's bytes since the last sync that began after them, and those that are safe.
    let (mut unsynced, mut synced) = (String::new(), String::new());
    let (mut is_syncing, mut votes, mut acknowledged) = (0, 0, 0);
    for call in text.lines().filter_map(call) {
        let is_segment = call.rest.contains(".wal>") || call.rest.contains(".tmp>");
        match call.name {
            // The spare and FRONTIER are nobody's answer.
            "pwrite64" if is_segment => unsynced.push_str(call.rest),
            "fdatasync" | "fsync" if call.rest.contains("unfinished") => {
                is_syncing += usize::from(is_segment);
            }
            "fdatasync" | "fsync" if is_segment || is_syncing > 0 => {
                is_syncing = is_syncing.saturating_sub(usize::from(!is_segment));
                assert!(call.rest.contains("= 0"), "a sync failed: {}", call.rest);
                synced.push_str(&std::mem::take(&mut unsynced));
            }
            "write" => {
                let Some(number) = answer(call.rest) else { continue };
                acknowledged += 1;
                assert_eq!(unsynced, "", "answer {number} came while bytes were not synced");
                for (asked, step) in questions.iter().take_while(|(asked, _)| *asked <= number) {
                    votes += u64::from(*asked == number && matches!(step, Step::Vote(_)));
                    let Step::Append { term, first, count } = step else { continue };
                    for index in *first..first + count {
                        let is_safe = synced.contains(&format!("<{term}/{index}>"));
                        assert!(
                            is_safe,
                            "answer {number} came before entry {term}/{index} was safe"
                        );
                    }
                }
            }
            _ => {}
        }
    }
    println!("{acknowledged} answers, {votes} of them votes");
    assert!(acknowledged > 50 && votes > 2, "{acknowledged} {votes}");
}

fn question(line: &str) -> Option<(u64, Step)> {
    let (number, step) = line.strip_prefix("ask ")?.split_once(' ')?;
    Some((number.parse().ok()?, step.parse().ok()?))
}

/// The number in `1<pipe:[7]>, "ok 12\n", 6) = 6`.
fn answer(rest: &str) -> Option<u64> {
    rest.split_once("\"ok ")?.1.split_once('\\')?.0.parse().ok()
}

#[test]
fn an_idle_log_makes_no_calls_once_frontier_is_written() {
    if !has_strace() {
        return skip("an_idle_log_makes_no_calls_…", "there is no strace");
    }
    /// Far longer than any interval of this log's settings: 5 ms until it rests, 1 s for FRONTIER.
    const QUIET: Duration = Duration::from_millis(1_500);
    let dir = tempfile::tempdir().unwrap();
    let (wal, trace) = (dir.path().join("wal"), dir.path().join("trace"));
    let mut worker =
        Running::start(Job::new(&wal, Way::Wait, 2, 40).command(&tracer(&trace, "all")));
    assert!(worker.hear_until("idle"));
    let lines = || std::fs::read_to_string(&trace).unwrap().lines().count();
    let deadline = Instant::now() + PATIENCE;
    let (mut count, mut since) = (lines(), Instant::now());
    while since.elapsed() < QUIET {
        assert!(Instant::now() < deadline, "the log does not come to rest");
        // Nothing is to come: only time can tell.
        assert_eq!(worker.say_within(QUIET / 10), None);
        if lines() != count {
            (count, since) = (lines(), Instant::now());
        }
    }
    let text = std::fs::read_to_string(&trace).unwrap();
    let writes = text.lines().rev().filter_map(call);
    let last = writes.into_iter().find(|call| call.name == "pwrite64").expect("it wrote");
    assert!(last.rest.contains("FRONTIER"), "the last write of a log at rest: {}", last.rest);
    let report = worker.end();
    assert!(report.status.success() && report.said("closed"), "{report:?}");
    report.possible(&[State::default()]);
}
