//! What every image must stand: the oracle.
//!
//! 1. It opens with one of the states that it may have, or refuses; `examine` and `verify` have said the same
//!    before.
//! 2. A refusal has changed nothing; its file, offset and cause are told.
//! 3. What was cut is in quarantine, byte by byte.
//! 4. What the open reported survives another power cut at once, and is found whole then (I10).
//! 5. The power may fail at each operation of the open: the next one finds the same (I5), twice and three
//!    times over.
//! 6. The log goes on: it takes another entry and keeps it, in no file of an earlier process.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use raftmap_log_store::disk::{Disk, Moment, SimDisk, Survival};
use raftmap_log_store::{Hands, Log, LogConfig, LogError, RecoveryInfo};

use crate::bench::{Bench, fingerprint, owner, segments};
use crate::checks::{Said, found, is_kept, is_tidy};
use crate::cut::{Thoroughness, survivals};
use crate::model::{Entry, Expect, Expected, Model};
use crate::place::Place;
use crate::run::Scene;

/// An image, and what was expected of it.
type Judged = (u128, (usize, usize, Expected));

/// Judges images of one kind of log.
#[derive(Debug)]
pub(crate) struct Oracle<'a> {
    bench: &'a Bench,
    config: LogConfig,
    judged: Mutex<HashSet<Judged>>,
    /// Every so many images the power fails in the recovery as well; 0 never.
    pub(crate) recovery_every: u64,
    /// How many recoveries in a row it may fail in.
    pub(crate) recovery_depth: u32,
    /// How many images opened after so many recoveries that were cut, and how many of these were torn.
    opened: Mutex<BTreeMap<u32, (u64, u64)>>,
}

/// How an image ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Judged before.
    Known,
    Opened(Box<RecoveryInfo>),
    Refused(LogError),
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(bench: &'a Bench, config: LogConfig) -> Self {
        let recovery_every = if bench.is_long() { 8 } else { 16 };
        Self {
            bench,
            config,
            judged: Mutex::default(),
            recovery_every,
            recovery_depth: 1,
            opened: Mutex::default(),
        }
    }

    /// Judges one image; every broken promise is reported. The image itself stays as it is.
    pub(crate) fn judge(&self, place: &Place, image: &SimDisk, expect: &Expect) -> Outcome {
        self.judge_to(place, image, expect, self.recovery_depth)
    }

    /// How many images opened after so many recoveries that were cut, and how many of these were torn.
    pub(crate) fn opened_after(&self, recoveries: u32) -> (u64, u64) {
        self.opened.lock().expect("no panic here").get(&recoveries).copied().unwrap_or_default()
    }

    fn judge_to(&self, place: &Place, image: &SimDisk, expect: &Expect, depth: u32) -> Outcome {
        let print = fingerprint(image);
        let is_judged = !self.judged.lock().expect("no panic here").insert((print, expect.key()));
        if is_judged {
            return Outcome::Known;
        }
        self.bench.report.image(place.group(), print);
        match self.judge_new(place, image, print, expect) {
            Ok((outcome, state)) => {
                self.note(&outcome, self.recovery_depth - depth);
                if let Some(state) = state
                    && depth > 0
                    && self.is_sampled(print)
                {
                    self.cut_recovery(place, image, state, depth);
                }
                outcome
            }
            Err(what) => {
                self.bench.report.violation(place, what);
                Outcome::Known
            }
        }
    }

    fn note(&self, outcome: &Outcome, recoveries: u32) {
        if let Outcome::Opened(info) = outcome {
            let mut opened = self.opened.lock().expect("no panic here");
            let (images, torn) = opened.entry(recoveries).or_default();
            *images += 1;
            *torn += u64::from(info.torn.is_some());
        }
    }

    /// The process is killed here, and nothing else: the next one sees what is cached, and must not report
    /// it before it is durable (I10).
    pub(crate) fn judge_killed(&self, place: &Place, scene: &Scene) {
        let place = place.at("killed");
        // With nothing unsure it is what a power cut leaves.
        if scene.disk.unsure() == 0 || !self.bench.admits(&place) {
            return;
        }
        let disk = scene.disk.moment();
        let print = fingerprint(&disk);
        self.bench.report.image(place.group(), print);
        if let Err(what) = self.killed(place.group(), &disk, print, &scene.expect) {
            self.bench.report.violation(&place, what);
        }
    }

    fn killed(
        &self,
        group: &'static str,
        disk: &SimDisk,
        print: u128,
        expect: &Expect,
    ) -> Result<(), String> {
        let before = disk.moment();
        // Unless a failed sync has left in the cache what is not on the disk: an open forgets it, and only an open.
        let is_all_there = print == fingerprint(&forgetful(disk));
        let said = is_all_there.then(|| Said::of(&self.config, disk, print)).transpose()?;
        let (log, hands, info) =
            self.open(disk, 1).map_err(|e| format!("does not open after a kill: {e}"))?;
        self.bench.report.count(group, |group| {
            group.opened += 1;
            group.cut += u64::from(info.torn.is_some());
        });
        let state = found(&log, &info)?;
        if !expect.allows(&state) {
            let (found, expected) = (state.brief(), expect.brief());
            return Err(format!("holds {found} after a kill, expected {expected}; {info}"));
        }
        if let Some(said) = said {
            said.was_opened(&info)?;
            is_kept(&info, &before, disk)?;
        }
        is_tidy(&info, disk)?;
        drop((log, hands));
        self.survives_another_cut(disk, &state)?;
        // The image of which everything survives has the same bytes, and goes on in any case.
        if self.bench.is_long() || print.is_multiple_of(4) {
            self.goes_on(disk, &state)?;
        }
        Ok(())
    }

    fn is_sampled(&self, print: u128) -> bool {
        self.recovery_every > 0 && (print >> 64).is_multiple_of(u128::from(self.recovery_every))
    }

    /// How it ended, with the state in which it opened.
    fn judge_new(
        &self,
        place: &Place,
        image: &SimDisk,
        print: u128,
        expect: &Expect,
    ) -> Result<(Outcome, Option<Model>), String> {
        let disk = image.after_power_cut(Survival::Everything);
        let said = Said::of(&self.config, &disk, print)?;
        match self.open(&disk, 1) {
            Ok((log, hands, info)) => {
                self.bench.report.count(place.group(), |group| {
                    group.opened += 1;
                    group.cut += u64::from(info.torn.is_some());
                });
                if expect.verdict == Expected::Refuses {
                    return Err(format!("opened: {info}"));
                }
                said.was_opened(&info)?;
                let state = found(&log, &info)?;
                if !expect.allows(&state) {
                    let (found, expected) = (state.brief(), expect.brief());
                    return Err(format!("holds {found}, expected {expected}; {info}"));
                }
                is_kept(&info, image, &disk)?;
                is_tidy(&info, &disk)?;
                drop((log, hands));
                self.survives_another_cut(&disk, &state)?;
                self.goes_on(&disk, &state)?;
                Ok((Outcome::Opened(Box::new(info)), Some(state)))
            }
            Err(error) => {
                self.bench.report.count(place.group(), |group| group.refused += 1);
                self.is_well_refused(&error, image, &disk, expect)?;
                said.was_refused(&error)?;
                Ok((Outcome::Refused(error), None))
            }
        }
    }

    fn open(&self, disk: &SimDisk, nth: u64) -> Result<(Log, Hands, RecoveryInfo), LogError> {
        // Unlike any number that the run itself has used.
        let owner = owner(1000 + nth);
        Log::open_by_hand(self.config.clone(), Arc::new(disk.clone()), owner)
    }

    fn is_well_refused(
        &self,
        error: &LogError,
        image: &SimDisk,
        disk: &SimDisk,
        expect: &Expect,
    ) -> Result<(), String> {
        if expect.verdict == Expected::Opens {
            return Err(format!("does not open: {error}; expected {}", expect.brief()));
        }
        let refuses = matches!(
            error,
            LogError::Corrupt(_) | LogError::TooNew { .. } | LogError::WrongOwner { .. }
        );
        if !refuses {
            return Err(format!("ends with an error that is no refusal: {error}"));
        }
        if fingerprint(disk) != fingerprint(image) {
            return Err(format!("a refusal has changed the disk: {error}"));
        }
        Ok(())
    }

    /// I10: what an open has reported needs no further write to survive.
    fn survives_another_cut(&self, disk: &SimDisk, state: &Model) -> Result<(), String> {
        let disk = disk.after_power_cut(Survival::Nothing);
        let (log, _hands, info) =
            self.open(&disk, 2).map_err(|e| format!("does not open again after a cut: {e}"))?;
        if info.torn.is_some() {
            return Err(format!("torn again: {info}"));
        }
        let again = found(&log, &info)?;
        if again != *state {
            let (again, state) = (again.brief(), state.brief());
            return Err(format!("opened with {state}, after another cut {again}"));
        }
        Ok(())
    }

    /// The next entry and a vote are taken and kept.
    fn goes_on(&self, disk: &SimDisk, state: &Model) -> Result<(), String> {
        let (log, mut hands, _) =
            self.open(disk, 3).map_err(|e| format!("does not open a second time: {e}"))?;
        let inherited = segments(disk);
        let mut state = state.clone();
        let term = state.last.map_or(1, |last| last.term) + 1;
        let entry = Entry { term, index: state.next(), len: 40 };
        state.append(entry);
        let told = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&told);
        let done = move |result: Result<(), LogError>| {
            *answer.lock().expect("no panic here") = Some(result.is_ok());
        };
        log.append(vec![entry.parts()], done).map_err(|e| format!("takes no entry: {e}"))?;
        hands.commit();
        if *told.lock().expect("no panic here") != Some(true) {
            return Err(format!("an entry is not committed: {:?}", log.failed()));
        }
        // L5: what an earlier process wrote is never written to again.
        let now = disk.contents();
        if let Some((path, _)) = inherited.iter().find(|(path, was)| now.get(path) != Some(was)) {
            return Err(format!("{} of an earlier process was appended to", path.display()));
        }
        let disk = disk.after_power_cut(Survival::Nothing);
        let (log, _hands, info) =
            self.open(&disk, 4).map_err(|e| format!("does not open after one more entry: {e}"))?;
        let now = found(&log, &info)?;
        if now != state {
            let (now, state) = (now.brief(), state.brief());
            return Err(format!("after one more entry: {now}, expected {state}"));
        }
        Ok(())
    }

    /// The power fails at each operation of the open.
    fn cut_recovery(&self, place: &Place, image: &SimDisk, state: Model, depth: u32) {
        let expect = Expect::exactly(state);
        for (number, moment) in self.moments(image).into_iter().enumerate() {
            for survival in survivals(moment.disk.unsure(), Thoroughness::Few) {
                let place = place.at(format!("recovery-{number}")).after(survival);
                if !self.bench.admits(&place) {
                    continue;
                }
                let left = moment.disk.after_power_cut(survival);
                self.judge_to(&place, &left, &expect, depth - 1);
            }
        }
    }

    /// The disk before each operation of an open.
    fn moments(&self, image: &SimDisk) -> Vec<Moment> {
        let disk = image.after_power_cut(Survival::Everything);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&moments);
        disk.watch(move |moment| sink.lock().expect("no panic here").push(moment));
        drop(self.open(&disk, 1));
        disk.unwatch();
        std::mem::take(&mut *moments.lock().expect("no panic here"))
    }
}

/// The same disk without what is only in its cache and believed to be clean.
fn forgetful(disk: &SimDisk) -> SimDisk {
    let disk = disk.moment();
    for path in disk.contents().keys() {
        let forgotten = disk.open_to_read(path).and_then(|file| file.forget_cached());
        forgotten.expect("it is there");
    }
    disk
}
