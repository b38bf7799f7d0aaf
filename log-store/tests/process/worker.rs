//! The child process: opens a log, works, and says on stdout what it asks for and what it is told.
//!
//! It says a question before it asks, and an answer when it has come, each in one write: so whatever ends
//! the process, the parent knows what may be in the log and what must be.
//!
//! | line | |
//! | --- | --- |
//! | `opening`, `opened STATE` | before and after the open |
//! | `ask N STEP` | before the call |
//! | `ok N`, `no N ERROR` | the call's completion, or its refusal |
//! | `idle`, `closed` | nothing is under way; the log was closed in order |

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{Hands, Log, LogConfig, LogError, Owner, Planted};

use crate::model::{self, State, Step};
use crate::plan::Plan;

const JOB: &str = "RAFTMAP_LOG_JOB";
/// Questions that may be under way at once.
const IN_FLIGHT_MAX: u64 = 24;
/// Questions that a worker still asks after the first error: none of them may be answered with yes.
const TRIES_AFTER_ERROR: u64 = 5;

/// Calls of one kind that a worker makes before its log makes any. The system's loader has made some, and they
/// are counted alike: so the log's begin behind them.
const CALLS_BEFORE: u64 = 64;
/// More calls of one kind than any worker makes.
pub(crate) const CALLS_MAX: u64 = 1_000;

/// The number of the log's own first call of this kind.
pub(crate) fn first_call(calls: &str) -> u64 {
    if ["openat", "pread64"].contains(&calls) { CALLS_BEFORE + 1 } else { 1 }
}

/// The exit code of a worker whose log failed while it worked.
pub(crate) const FAILED: i32 = 1;
/// The exit code of a worker whose log did not open.
pub(crate) const REFUSED: i32 = 3;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) way: Way,
    /// A bug that its log has.
    pub(crate) planted: Option<Planted>,
}

/// How it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// With the log's own threads; then it closes the log.
    Threads,
    /// The same, but before it closes it says `idle` and waits for the end of its stdin.
    Wait,
    /// By hand, on one thread: the same calls of the system in the same order each time.
    Hands,
    /// Appends all at once, however many are under way.
    Flood,
}

const WAYS: [(Way, &str); 4] =
    [(Way::Threads, "threads"), (Way::Wait, "wait"), (Way::Hands, "hands"), (Way::Flood, "flood")];

impl Job {
    pub(crate) fn new(dir: impl Into<PathBuf>, way: Way, seed: u64, steps: u64) -> Self {
        Self { dir: dir.into(), seed, steps, way, planted: None }
    }

    /// The process that does it, behind `wrapper` (a tracer, for example).
    pub(crate) fn command(&self, wrapper: &[String]) -> Command {
        let own = std::env::current_exe().expect("a test knows its own file");
        let own = own.display().to_string();
        let ours = [own.as_str(), "worker::works", "--exact", "--nocapture", "--test-threads=1"];
        let mut words = wrapper.iter().map(String::as_str).chain(ours);
        let mut command = Command::new(words.next().expect("at least the worker itself"));
        let way = WAYS.iter().find(|(way, _)| *way == self.way).expect("every way has a name").1;
        let planted = format!("{:?}", self.planted);
        let job = format!("{way} {} {} {planted} {}", self.seed, self.steps, self.dir.display());
        command.args(words).env(JOB, job);
        command
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        let name = words.next()?;
        let way = WAYS.iter().find(|(_, known)| *known == name)?.0;
        let (seed, steps) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let bug = words.next()?;
        let planted = Planted::ALL.iter().find(|known| format!("{:?}", Some(known)) == bug);
        Some(Self { dir: words.next()?.into(), seed, steps, way, planted: planted.copied() })
    }
}

/// The settings of every log here: small, so that little work meets every case.
pub(crate) fn config(dir: impl Into<PathBuf>) -> LogConfig {
    LogConfig {
        segment_bytes_max: 16 << 10,
        batch_bytes_max: 4 << 10,
        queue_bytes_max: 1 << 20,
        idle_after: Duration::from_millis(5),
        ..LogConfig::new(dir)
    }
}

pub(crate) fn owner(seed: u64) -> Owner {
    Owner { node_id: 1, new_uuid: 0x5EED_0000_0000_0000 + u128::from(seed) }
}

/// Does nothing in a usual run of the tests: it is what a worker process runs.
#[test]
fn works() {
    let Ok(job) = std::env::var(JOB) else { return };
    let job = Job::parse(&job).expect("a parent gives good jobs");
    for _ in 0..CALLS_BEFORE {
        let zero = File::open("/dev/zero").expect("it is always there");
        zero.read_at(&mut [0], 0).expect("it is always readable");
    }
    // What the test harness has printed is not a line of ours.
    say("\nopening");
    let opened = match job.way {
        Way::Hands => by_hand(&job),
        Way::Threads | Way::Wait | Way::Flood => with_threads(&job),
    };
    let code = match opened {
        Ok(()) => 0,
        Err(Ended::Refused(error)) => complain(&format!("the log does not open: {error}"), REFUSED),
        Err(Ended::Failed(error)) => complain(&error.to_string(), FAILED),
    };
    std::process::exit(code);
}

enum Ended {
    Refused(LogError),
    Failed(LogError),
}

fn with_threads(job: &Job) -> Result<(), Ended> {
    let config = LogConfig { planted: job.planted, ..config(&job.dir) };
    let opened = Log::open(config, Arc::new(RealDisk), owner(job.seed));
    let (log, _) = opened.map_err(Ended::Refused)?;
    let (mut asker, mut state) = Asker::new(&log)?;
    match job.way {
        Way::Flood => flood(&log, &mut asker, job.steps),
        Way::Threads | Way::Wait | Way::Hands => {
            let mut plan = Plan::new(job.seed, &state);
            for _ in 0..job.steps {
                asker.wait_for(IN_FLIGHT_MAX - 1);
                if !asker.goes_on() {
                    break;
                }
                asker.ask(&log, &mut state, &mut plan);
            }
        }
    }
    asker.wait_for(0);
    if job.way == Way::Wait {
        say("idle");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    log.close().map_err(Ended::Failed)?;
    say("closed");
    Ok(())
}

fn by_hand(job: &Job) -> Result<(), Ended> {
    // FRONTIER is written when the hands rest, whatever the clock says.
    let config = LogConfig {
        frontier_interval: Duration::from_secs(60),
        planted: job.planted,
        ..config(&job.dir)
    };
    let opened = Log::open_by_hand(config, Arc::new(RealDisk), owner(job.seed));
    let (log, mut hands, _) = opened.map_err(Ended::Refused)?;
    let (mut asker, mut state) = Asker::new(&log)?;
    let mut plan = Plan::new(job.seed, &state);
    for number in 1..=job.steps {
        if !asker.goes_on() {
            break;
        }
        asker.ask(&log, &mut state, &mut plan);
        turn(&mut hands, number);
        asker.wait_for(u64::MAX);
    }
    hands.close().map_err(Ended::Failed)?;
    say("closed");
    Ok(())
}

/// Commits every second question with the one before it, and rests now and then.
fn turn(hands: &mut Hands, number: u64) {
    if number.is_multiple_of(2) {
        while hands.commit() {}
        hands.tidy();
    }
    if number.is_multiple_of(5) {
        hands.rest();
        while hands.tidy() {}
    }
}

fn flood(log: &Log, asker: &mut Asker, count: u64) {
    let (term, first) = (1, log.ends().last.map_or(1, |last| last.index + 1));
    for index in first..first + count {
        asker.tell(log, Step::Append { term, first: index, count: 1 });
    }
}

/// Asks, and counts what is under way and what went wrong.
struct Asker {
    number: u64,
    under_way: u64,
    errors: u64,
    told: Sender<bool>,
    answers: Receiver<bool>,
}

impl Asker {
    /// Says what was found in the log, too.
    fn new(log: &Log) -> Result<(Self, State), Ended> {
        let state = State::read(log).map_err(Ended::Failed)?;
        let committed = log.committed().map(|id| id.index);
        assert!(committed < Some(state.next()), "committed {committed:?} in {state}");
        say(&format!("opened {state}"));
        let (told, answers) = channel();
        Ok((Self { number: 0, under_way: 0, errors: 0, told, answers }, state))
    }

    fn goes_on(&self) -> bool {
        self.errors < TRIES_AFTER_ERROR
    }

    fn ask(&mut self, log: &Log, state: &mut State, plan: &mut Plan) {
        let step = plan.next(state);
        *state = state.after(step).pop().unwrap_or_default();
        self.tell(log, step);
    }

    fn tell(&mut self, log: &Log, step: Step) {
        self.number += 1;
        let number = self.number;
        say(&format!("ask {number} {step}"));
        let told = self.told.clone();
        let done = move |result: Result<(), LogError>| {
            match &result {
                Ok(()) => say(&format!("ok {number}")),
                Err(error) => say(&format!("no {number} {error}")),
            }
            let _ = told.send(result.is_ok());
        };
        let called = match step {
            Step::Append { term, first, count } => {
                let entries = (first..first + count).map(|index| model::entry(term, index));
                log.append(entries.collect(), done).map(|()| true)
            }
            Step::Vote(term) => log.save_vote(model::vote(term), done).map(|()| true),
            Step::Truncate(keep) => {
                let purged = log.ends().purged.map_or(0, |id| id.index);
                let keep = (keep > purged).then_some(keep);
                log.truncate_after(keep, done).map(|()| true)
            }
            Step::Committed { term, index } => {
                log.save_committed(model::id(term, index)).map(|()| false)
            }
            Step::Purge { term, index } => log.purge_upto(model::id(term, index)).map(|()| false),
        };
        match called {
            Ok(waits) => self.under_way += u64::from(waits),
            Err(error) => {
                say(&format!("no {number} {error}"));
                self.errors += 1;
            }
        }
    }

    /// Waits until at most so many questions are under way.
    fn wait_for(&mut self, most: u64) {
        loop {
            let answer = if self.under_way > most {
                self.answers.recv().ok()
            } else {
                self.answers.try_recv().ok()
            };
            let Some(ok) = answer else { return };
            self.under_way -= 1;
            self.errors += u64::from(!ok);
        }
    }
}

fn say(line: &str) {
    // A parent that is gone needs no answers.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

fn complain(line: &str, code: i32) -> i32 {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    code
}
