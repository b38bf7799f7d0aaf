//! The order of things as the kernel saw it, read from a trace.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use raftmap_log_store::Planted;

use crate::machine::{has_strace, skip};
use crate::model::{State, Step};
use crate::report::{PATIENCE, Report, Running};
use crate::scene::Scene;
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

/// One line of a trace: `PID name(arguments) = result`, or one half of that.
struct Call<'a> {
    thread: &'a str,
    name: &'a str,
    /// Its arguments and what it returned, as far as this line has them.
    rest: &'a str,
    is_begun: bool,
    is_done: bool,
}

fn call(line: &str) -> Option<Call<'_>> {
    let (thread, line) = line.split_once(' ')?;
    let line = line.trim_start();
    let (name, rest, is_begun) = match line.strip_prefix("<... ") {
        Some(resumed) => {
            let (name, rest) = resumed.split_once(" resumed>")?;
            (name, rest, false)
        }
        None => {
            let (name, rest) = line.split_once('(')?;
            (name, rest, true)
        }
    };
    Some(Call { thread, name, rest, is_begun, is_done: !rest.contains("<unfinished ...>") })
}

impl<'a> Call<'a> {
    /// The segment, or what is going to be one, that it is about. The spare and FRONTIER are nobody's answer.
    fn segment(&self) -> Option<&'a str> {
        let path = self.rest.split_once('<')?.1.split_once('>')?.0;
        (path.ends_with(".wal") || path.ends_with("segment.tmp")).then_some(path)
    }
}

/// What was written and what was synced up to a moment.
#[derive(Default)]
struct Written<'a> {
    /// By file, since the last sync of it.
    unsynced: BTreeMap<&'a str, String>,
    synced: String,
    /// By thread: the file that it is syncing.
    syncing: BTreeMap<&'a str, &'a str>,
}

impl<'a> Written<'a> {
    fn see(&mut self, call: &Call<'a>) -> Result<(), String> {
        match (call.name, call.segment()) {
            ("pwrite64", Some(path)) => {
                self.unsynced.entry(path).or_default().push_str(call.rest);
            }
            ("fdatasync" | "fsync", path) => {
                if let Some(path) = path.filter(|_| call.is_begun) {
                    self.syncing.insert(call.thread, path);
                }
                if call.is_done
                    && let Some(path) = self.syncing.remove(call.thread)
                {
                    if !call.rest.contains("= 0") {
                        return Err(format!("a sync failed: {}", call.rest));
                    }
                    self.synced.push_str(&self.unsynced.remove(path).unwrap_or_default());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Checks each acknowledgement of a worker against the trace of it: how many there were, and how many of them
/// of votes.
fn acknowledged_in_order(report: &Report, trace: &str) -> Result<(usize, usize), String> {
    let questions: Vec<_> = report.lines.iter().filter_map(|line| question(line)).collect();
    let (mut written, mut votes, mut acknowledged) = (Written::default(), 0, 0);
    for call in trace.lines().filter_map(call) {
        written.see(&call)?;
        let Some(number) = answer(&call) else { continue };
        acknowledged += 1;
        if let Some((path, _)) = written.unsynced.first_key_value() {
            return Err(format!("answer {number} came while bytes in {path} were not synced"));
        }
        for (asked, step) in questions.iter().take_while(|(asked, _)| *asked <= number) {
            votes += usize::from(*asked == number && matches!(step, Step::Vote(_)));
            let Step::Append { term, first, count } = step else { continue };
            let mut entries = (*first..first + count).map(|index| format!("<{term}/{index}>"));
            if let Some(entry) = entries.find(|entry| !written.synced.contains(entry)) {
                return Err(format!("answer {number} came before entry {entry} was safe"));
            }
        }
    }
    Ok((acknowledged, votes))
}

fn question(line: &str) -> Option<(u64, Step)> {
    let (number, step) = line.strip_prefix("ask ")?.split_once(' ')?;
    Some((number.parse().ok()?, step.parse().ok()?))
}

/// The number in `write(1<pipe:[7]>, "ok 12\n", 6)`.
fn answer(call: &Call<'_>) -> Option<u64> {
    let is_said = call.name == "write" && call.is_begun;
    let said = call.rest.split_once("\"ok ").filter(|_| is_said)?.1;
    said.split_once('\\')?.0.parse().ok()
}

/// Runs a worker with this bug, if any, and checks its acknowledgements.
fn timeline(planted: Option<Planted>) -> Result<(usize, usize), String> {
    let dir = tempfile::tempdir().unwrap();
    let (wal, trace) = (dir.path().join("wal"), dir.path().join("trace"));
    let tracer = tracer(&trace, "pwrite64,fdatasync,fsync,write");
    let job = Job { planted, ..Job::new(&wal, Way::Threads, 21, 150) };
    let report = Report::of(job.command(&tracer));
    assert!(report.status.success(), "{report:?}");
    acknowledged_in_order(&report, &std::fs::read_to_string(&trace).unwrap())
}

#[test]
fn nothing_is_acknowledged_before_the_sync_that_covers_it_and_all_before_it_has_returned() {
    if !has_strace() {
        return skip("nothing_is_acknowledged_before_…", "there is no strace");
    }
    let (acknowledged, votes) = timeline(None).unwrap();
    println!("{acknowledged} answers, {votes} of them votes");
    assert!(acknowledged > 50 && votes > 2, "{acknowledged} {votes}");
}

#[test]
fn the_timeline_shows_a_sync_that_is_missing_or_late() {
    if !has_strace() {
        return skip("the_timeline_shows_…", "there is no strace");
    }
    for bug in [Planted::SkipSync, Planted::TellBeforeSync] {
        println!("{bug:?}: {}", timeline(Some(bug)).expect_err("it is seen"));
    }
}

/// Whether the last segment was synced and its cache dropped before any of it was read.
fn settled_before_read(scene: &Scene, planted: Option<Planted>) -> bool {
    let stage = scene.stage();
    let tracer = tracer(&stage.trace(), "fsync,fadvise64,pread64,write");
    let job = Job { planted, ..Job::new(stage.wal(), Way::Hands, 1, 0) };
    let report = Report::of(job.command(&tracer));
    report.possible(&scene.before);
    let trace = stage.traced();
    let calls: Vec<_> = trace.lines().filter_map(call).collect();
    let is_segment = |call: &&Call<'_>| call.segment().is_some();
    let last = calls.iter().filter_map(Call::segment).max().expect("it has segments");
    let of_last = calls.iter().filter(is_segment).filter(|call| call.segment() == Some(last));
    let names: Vec<_> = of_last.map(|call| call.name).collect();
    println!("{planted:?}: {names:?}");
    let before_read: Vec<_> = names.iter().take_while(|name| **name != "pread64").collect();
    before_read.first() == Some(&&"fsync") && before_read.contains(&&"fadvise64")
}

#[test]
fn what_a_killed_process_left_is_synced_before_it_is_read() {
    if !has_strace() {
        return skip("what_a_killed_process_left_…", "there is no strace");
    }
    let scene = Scene::left_by_a_kill();
    assert!(settled_before_read(&scene, None));
    assert!(!settled_before_read(&scene, Some(Planted::TrustUnsyncedTail)), "the check sees it");
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
    // Only the line that begins a call names its file.
    let last = writes.into_iter().find(|call| call.name == "pwrite64" && call.is_begun);
    let last = last.expect("it wrote");
    assert!(last.rest.contains("FRONTIER"), "the last write of a log at rest: {}", last.rest);
    let report = worker.end();
    assert!(report.status.success() && report.said("closed"), "{report:?}");
    report.possible(&[State::default()]);
}
