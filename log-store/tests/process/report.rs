//! What a worker said, and what may therefore be in the log that it left.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::tools::verify;
use raftmap_log_store::{Log, LogError, RecoveryInfo, examine};

use crate::model::{State, Step};
use crate::worker::{config, owner};

/// What is waited for comes within this time on a slow, busy machine, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
    threads: Vec<JoinHandle<String>>,
}

/// A worker that has ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lines: Vec<String>,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("start a worker");
        let (said, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let hear = thread::spawn(move || {
            // What was cut off in the middle was not said.
            for line in stdout.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
            String::new()
        });
        let mut stderr = child.stderr.take().expect("it is piped");
        let read = thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap_or_default());
        Self { child, lines, heard: Vec::new(), threads: vec![hear, read] }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hears up to so many lines more; fewer when it ends.
    pub(crate) fn hear(&mut self, count: u64) {
        for _ in 0..count {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the worker hangs: {:?}", self.heard),
            }
        }
    }

    /// Hears until it has said this; false when it ended without.
    pub(crate) fn hear_until(&mut self, said: &str) -> bool {
        loop {
            let before = self.heard.len();
            self.hear(1);
            match self.heard.last() {
                _ if self.heard.len() == before => return false,
                Some(line) if line.starts_with(said) => return true,
                _ => {}
            }
        }
    }

    /// What it says within this time, if anything.
    pub(crate) fn say_within(&mut self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) -> Report {
        self.child.kill().expect("kill the worker");
        self.end()
    }

    /// Waits for its end, which `stdin` closing may ask for.
    pub(crate) fn end(mut self) -> Report {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        // Its stdout ends when it does.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("the worker hangs: {:?}", self.heard);
                }
            }
        }
        let status = self.child.wait().expect("wait for the worker");
        let texts = self.threads.into_iter().map(|thread| thread.join().expect("no panic"));
        Report { lines: self.heard, status, stderr: texts.collect() }
    }
}

impl Report {
    /// Runs the worker to its end.
    pub(crate) fn of(command: Command) -> Self {
        Running::start(command).end()
    }

    pub(crate) fn said(&self, line: &str) -> bool {
        self.lines.iter().any(|said| said.starts_with(line))
    }

    /// The numbers of the questions that were answered like this.
    fn answered(&self, answer: &str) -> Vec<u64> {
        let rest = self.lines.iter().filter_map(|line| line.strip_prefix(answer));
        let word = rest.filter_map(|rest| rest.split(' ').next());
        word.map(|number| number.parse().expect("a number")).collect()
    }

    /// How many questions were answered with yes.
    pub(crate) fn acknowledged(&self) -> usize {
        self.answered("ok ").len()
    }

    /// What every run must keep: each question is answered at most once, and never with yes once one was
    /// answered with no. A run that ends by itself has answered all that wait.
    pub(crate) fn check_answers(&self) {
        let mut answered = self.answered("ok ");
        answered.extend(self.answered("no "));
        let count = answered.len();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), count, "a question is answered once:\n{self:?}");
        let first_no = self.lines.iter().position(|line| line.starts_with("no "));
        let behind = first_no.map_or(&[][..], |at| &self.lines[at..]);
        let is_yes = |line: &&String| line.starts_with("ok ");
        assert_eq!(behind.iter().find(is_yes), None, "acknowledged after an error:\n{self:?}");
        if self.said("closed") {
            let waiting = self.questions().filter(|(_, step)| waits(*step));
            let all = waiting.map(|(number, _)| number);
            for number in all {
                assert!(answered.binary_search(&number).is_ok(), "{number} hangs:\n{self:?}");
            }
        }
    }

    fn questions(&self) -> impl Iterator<Item = (u64, Step)> {
        let asked = self.lines.iter().filter_map(|line| line.strip_prefix("ask "));
        asked.map(|rest| {
            let (number, step) = rest.split_once(' ').expect("a number and a step");
            (number.parse().expect("a number"), step.parse().expect("a step"))
        })
    }

    /// What may be in the log after this run, for one that could have begun with any of `before`.
    pub(crate) fn possible(&self, before: &[State]) -> Vec<State> {
        self.check_answers();
        let opened = self.lines.iter().find_map(|line| line.strip_prefix("opened "));
        let Some(opened) = opened else { return before.to_vec() };
        let found = before.iter().find(|state| state.to_string() == opened);
        let Some(state) = found else {
            let before: Vec<_> = before.iter().map(ToString::to_string).collect();
            panic!("the worker found {opened}, which is none of {before:#?}");
        };
        let acknowledged = self.answered("ok ").into_iter().max().unwrap_or(0);
        let mut possible = vec![state.clone()];
        for (number, step) in self.questions() {
            let after = possible[possible.len() - 1].after(step);
            possible.extend(after);
            if number <= acknowledged {
                possible.drain(..possible.len() - 1);
            }
        }
        possible
    }
}

/// Whether a question is answered once it is durable.
fn waits(step: Step) -> bool {
    matches!(step, Step::Append { .. } | Step::Vote(_) | Step::Truncate(_))
}

/// Opens the log in this process. To look at it first, and to verify it with the tool, gives the same answer
/// and changes nothing.
pub(crate) fn open(dir: &Path) -> Result<(Log, RecoveryInfo), LogError> {
    let before = dir.exists().then(|| image(dir));
    let examined = examine(&config(dir), &RealDisk, Some(owner(0).node_id));
    let verified = verify(&config(dir), &RealDisk, true);
    if let Some(before) = before {
        assert!(image(dir) == before, "looking changes nothing");
    }
    let opened = Log::open(config(dir), Arc::new(RealDisk), owner(0));
    match (&examined, &opened) {
        (Ok(examined), Ok((_, info))) => {
            assert_eq!(verdict(examined), verdict(info));
            let code = if info.created { 3 } else { u8::from(info.torn.is_some()) };
            assert_eq!(verified.outcome.exit_code(), code, "{verified}\n{info}");
        }
        (Err(examined @ LogError::Corrupt(_)), Err(refused)) => {
            assert_eq!(examined.to_string(), refused.to_string());
            assert_eq!(verified.outcome.exit_code(), 2, "{verified}\n{refused}");
        }
        // A lock, a full disk: nothing that a look alone would meet. A directory that is not there.
        (Ok(_), Err(LogError::Locked { .. } | LogError::Io { .. })) => {}
        (Err(LogError::Io { .. }), _) => {}
        _ => panic!("looked at: {examined:?}, opened: {opened:?}"),
    }
    opened
}

/// What an open decided.
fn verdict(info: &RecoveryInfo) -> impl PartialEq + std::fmt::Debug {
    let torn = info.torn.as_ref().map(|torn| (torn.segment.clone(), torn.offset, torn.bytes));
    let content = (info.purged, info.last, info.vote, info.committed, info.records);
    (info.created, info.leftovers, info.after_failure, torn, content)
}

/// Opens the log, which must hold one of these states; closes it again. What it held.
pub(crate) fn check(dir: &Path, possible: &[State], what: &str) -> State {
    let (log, info) = open(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = State::of(&log);
    if !possible.contains(&state) {
        let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
        panic!("{what}: found {state}, which is none of {possible:#?}\n{info}");
    }
    log.close().expect("the log closes");
    state
}

/// The segments in a directory.
pub(crate) fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).expect("list a directory").flatten();
    names.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "wal")).count()
}

/// Every byte in a log's directory, but for the lock.
pub(crate) fn image(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut image = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("list a directory").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && name != "LOCK" {
            image.insert(name, std::fs::read(entry.path()).expect("read a file"));
        }
    }
    image
}
