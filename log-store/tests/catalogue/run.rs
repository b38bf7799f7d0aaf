//! One log on a simulated disk, worked by hand, step by step. The disk is looked at before each of its
//! operations: that is the film, and every picture of it may be where the power fails.
//!
//! ```text
//!   step, step, step ...        what is asked of the log, and when its hands move
//!     op op op   op op          what the log does to the disk
//!    ^  ^  ^    ^  ^  ^         pictures, each with what was asked and acknowledged by then
//! ```

use std::sync::{Arc, Mutex, MutexGuard};

use raftmap_log_store::disk::{Fault, Moment, Op, SimDisk, Survival};
use raftmap_log_store::{Hands, Log, LogConfig, LogError};

use crate::bench::owner;
use crate::ledger::Ledger;
use crate::model::{Entry, Expect, Model, id, vote};

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Entries of a term, from the first index to the last, this many bytes each.
    Append(u64, u64, u64, usize),
    /// So many entries behind the last one, in its term.
    More(u64, usize),
    Vote(u64),
    Committed(u64, u64),
    Truncate(Option<u64>),
    Purge(u64, u64),
    /// The writer commits one batch of what someone waits for.
    Commit,
    /// The writer has nothing to do for a while.
    Rest,
    /// The janitor does one piece of work.
    Tidy,
    /// All of the writer's work, then all of the janitor's.
    Settle,
    /// A clean stop, and a start.
    Close,
    /// The process is killed, and started again.
    Kill,
    /// The power fails, this much survives, and it is started again.
    Cut(Survival),
    /// The nth operation of this kind from now, and so many after it, meet a fault.
    Fault(Op, u64, u64, Fault),
    /// The disk works again.
    Heal,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct Run {
    config: LogConfig,
    disk: SimDisk,
    open: Option<(Log, Hands)>,
    /// What was asked for in the life under way, the first is what it began with.
    models: Vec<Model>,
    ledger: Arc<Mutex<Ledger>>,
    pictures: Arc<Mutex<Vec<Picture>>>,
    film: Vec<Scene>,
    trouble: Vec<String>,
}

#[derive(Debug)]
struct Picture {
    what: String,
    disk: SimDisk,
    acknowledged: usize,
    asked: usize,
}

/// The disk before one operation, and what a crash there may leave.
#[derive(Debug)]
pub(crate) struct Scene {
    /// What was about to happen.
    pub(crate) what: String,
    pub(crate) disk: SimDisk,
    pub(crate) expect: Expect,
}

/// All of a run.
#[derive(Debug)]
pub(crate) struct Film {
    pub(crate) scenes: Vec<Scene>,
    /// What was wrong already while it ran.
    pub(crate) trouble: Vec<String>,
}

impl Run {
    /// A new log on an empty disk.
    pub(crate) fn new(config: LogConfig) -> Self {
        Self::on(SimDisk::new(), config, Model::default())
    }

    /// The log on this disk, which must hold `model`.
    pub(crate) fn on(disk: SimDisk, config: LogConfig, model: Model) -> Self {
        let mut run = Self {
            config,
            disk,
            open: None,
            models: vec![model],
            ledger: Arc::default(),
            pictures: Arc::default(),
            film: Vec::new(),
            trouble: Vec::new(),
        };
        run.watch();
        run.start();
        run
    }

    /// All that was asked for.
    pub(crate) fn model(&self) -> &Model {
        self.models.last().expect("there is always one")
    }

    /// The log, while it is open.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.open.as_ref().map(|(log, _)| log)
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(crate) fn steps(mut self, steps: &[Step]) -> Self {
        steps.iter().for_each(|step| self.step(*step));
        self
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Append(term, first, last, len) => self.append(term, first, last, len),
            Step::More(count, len) => {
                let (term, next) = (self.term(), self.model().next());
                self.append(term, next, next + count - 1, len);
            }
            Step::Vote(term) => {
                let mut model = self.model().clone();
                model.vote = Some(vote(term));
                self.ask(vec![model], |log, done| log.save_vote(vote(term), done));
            }
            Step::Truncate(keep) => {
                // Beyond the end it is no change, and answered without the disk.
                if self.model().last.map(|last| last.index) > keep {
                    let mut model = self.model().clone();
                    model.truncate(keep);
                    self.ask(vec![model], |log, done| log.truncate_after(keep, done));
                }
            }
            Step::Purge(term, index) => self.purge(term, index),
            Step::Committed(term, index) => {
                if let Some((log, _)) = &self.open {
                    // Only a failed log refuses, and then there is nothing to expect.
                    let _ = log.save_committed(id(term, index));
                }
            }
            Step::Commit => drop(self.hands().map(Hands::commit)),
            Step::Rest => drop(self.hands().map(Hands::rest)),
            Step::Tidy => drop(self.hands().map(Hands::tidy)),
            Step::Settle => {
                if let Some(hands) = self.hands() {
                    hands.rest();
                    while hands.tidy() {}
                }
            }
            Step::Close => self.close(),
            Step::Kill => self.restart(None),
            Step::Cut(survival) => self.restart(Some(survival)),
            Step::Fault(op, nth, times, fault) => self.disk.inject(op, nth, times, fault),
            Step::Heal => self.disk.heal(),
        }
    }

    /// Ends the run as a killed process would.
    pub(crate) fn film(mut self) -> Film {
        self.picture("the end");
        self.open = None;
        self.disk.unwatch();
        self.end_life();
        Film { scenes: self.film, trouble: self.trouble }
    }

    fn append(&mut self, term: u64, first: u64, last: u64, len: usize) {
        let entries: Vec<_> = (first..=last).map(|index| Entry { term, index, len }).collect();
        let mut models = Vec::with_capacity(entries.len());
        let mut model = self.model().clone();
        for entry in &entries {
            model.append(*entry);
            models.push(model.clone());
        }
        let parts = entries.into_iter().map(Entry::parts).collect();
        self.ask(models, |log, done| log.append(parts, done));
    }

    /// The term of the last entry.
    fn term(&self) -> u64 {
        self.model().last.map_or(1, |last| last.term)
    }

    fn purge(&mut self, term: u64, index: u64) {
        let mut model = self.model().clone();
        if model.purged.is_some_and(|purged| index <= purged.index) {
            return;
        }
        model.purge(id(term, index));
        if let Some((log, _)) = &self.open
            && log.purge_upto(id(term, index)).is_ok()
        {
            self.models.push(model);
            self.ledger().asked += 1;
        }
    }

    /// Asks for a change; who asked is told when all of these models are durable.
    fn ask(
        &mut self,
        models: Vec<Model>,
        change: impl FnOnce(&Log, Box<dyn FnOnce(Result<(), LogError>) + Send>) -> Result<(), LogError>,
    ) {
        let Some((log, _)) = &self.open else { return };
        let (number, asked) = self.ledger().expect_answer(models.len());
        let ledger = Arc::clone(&self.ledger);
        let done = move |result: Result<(), LogError>| {
            ledger.lock().expect("no panic here").answer(number, asked, &result);
        };
        match change(log, Box::new(done)) {
            Ok(()) => {
                self.models.extend(models);
                self.ledger().asked = asked;
            }
            Err(LogError::Failed(_) | LogError::Closed) => self.ledger().refused(number),
            Err(error) => {
                self.ledger().refused(number);
                self.trouble.push(format!("a change was refused: {error}"));
            }
        }
    }

    fn hands(&mut self) -> Option<&mut Hands> {
        self.open.as_mut().map(|(_, hands)| hands)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic here")
    }

    fn close(&mut self) {
        if let Some((log, hands)) = self.open.take() {
            drop(log);
            if hands.close().is_ok() {
                let mut ledger = self.ledger();
                ledger.acknowledged = ledger.asked;
            }
        }
        self.restart(None);
    }

    /// The process is gone, with the power if something is said to survive it.
    fn restart(&mut self, survival: Option<Survival>) {
        self.open = None;
        if let Some(survival) = survival {
            self.picture("a power cut");
            self.disk.unwatch();
            self.disk = self.disk.after_power_cut(survival);
            self.watch();
        }
        self.start();
    }

    /// Opens the log: it must be one of the states that it may be. A new life begins with it.
    fn start(&mut self) {
        let opened = self.opened().or_else(|error| match error {
            // A fault of the disk; the next process finds it healed.
            LogError::Io { .. } => {
                self.disk.heal();
                self.opened()
            }
            other => Err(other),
        });
        let (log, hands) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.trouble.push(format!("does not open again: {error}")),
        };
        let found = Model::of(&log).or_else(|_| {
            // A fault that was meant for the log has met this look at it.
            self.disk.heal();
            Model::of(&log)
        });
        match found {
            Ok(model) => {
                let expect = self.expect();
                if !expect.allows(&model) {
                    let (found, expected) = (model.brief(), expect.brief());
                    self.trouble.push(format!("after a restart: {found}, expected {expected}"));
                }
                self.picture("opened");
                self.end_life();
                self.models = vec![model];
            }
            Err(what) => self.trouble.push(what),
        }
        self.open = Some((log, hands));
    }

    fn opened(&mut self) -> Result<(Log, Hands), LogError> {
        let disk = Arc::new(self.disk.clone());
        // Always the same number, from which uuid and salts follow: equal lives leave equal images.
        let opened = Log::open_by_hand(self.config.clone(), disk, owner(1));
        opened.map(|(log, hands, _)| (log, hands))
    }

    fn expect(&self) -> Expect {
        let (acknowledged, asked) = self.ledger().range();
        Expect::between(Arc::new(self.models.clone()), acknowledged, asked)
    }

    /// Everything that was pictured so far belongs to the life that ends here.
    fn end_life(&mut self) {
        let states = Arc::new(std::mem::take(&mut self.models));
        let pictures = std::mem::take(&mut *self.pictures.lock().expect("no panic here"));
        self.film.extend(pictures.into_iter().map(|p| Scene {
            what: p.what,
            disk: p.disk,
            expect: Expect::between(Arc::clone(&states), p.acknowledged, p.asked),
        }));
        let ledger = std::mem::take(&mut *self.ledger());
        self.trouble.extend(ledger.trouble());
    }

    fn picture(&self, what: &str) {
        let (acknowledged, asked) = self.ledger().range();
        let (what, disk) = (what.to_owned(), self.disk.moment());
        let picture = Picture { what, disk, acknowledged, asked };
        self.pictures.lock().expect("no panic here").push(picture);
    }

    fn watch(&self) {
        let (ledger, pictures) = (Arc::clone(&self.ledger), Arc::clone(&self.pictures));
        self.disk.watch(move |Moment { op, path, disk, .. }| {
            let (acknowledged, asked) = ledger.lock().expect("no panic here").range();
            let what = format!("{op:?} {}", path.display());
            let picture = Picture { what, disk, acknowledged, asked };
            pictures.lock().expect("no panic here").push(picture);
        });
    }
}
