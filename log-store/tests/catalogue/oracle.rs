//! What every image must stand: the oracle.
//!
//! 1. It opens with one of the states that it may have, or refuses; `examine` has said the same before.
//! 2. A refusal has changed nothing; its file, offset and cause are told.
//! 3. What was cut is in quarantine, byte by byte.
//! 4. What the open reported survives another power cut at once, and is found whole then (I10).
//! 5. The power may fail at each operation of the open: the next one finds the same (I5), twice and three
//!    times over.
//! 6. The log goes on: it takes another entry and keeps it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use raftmap_log_store::disk::{Moment, SimDisk, Survival};
use raftmap_log_store::{Hands, Log, LogConfig, LogError, LogIdParts, RecoveryInfo, examine};

use crate::bench::{Bench, DIR, fingerprint, owner};
use crate::model::{Entry, Expect, Expected, Model};
use crate::place::Place;
use crate::run::Scene;

/// Judges images of one kind of log.
#[derive(Debug)]
pub(crate) struct Oracle<'a> {
    bench: &'a Bench,
    config: LogConfig,
    /// Images that were judged with the same or a stricter expectation.
    judged: Mutex<HashSet<(u128, u64)>>,
    /// Every so many images the power fails in the recovery as well; 0 never.
    pub(crate) recovery_every: u64,
    /// How many recoveries in a row it may fail in.
    pub(crate) recovery_depth: u32,
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
        let judged = Mutex::default();
        Self { bench, config, judged, recovery_every, recovery_depth: 1 }
    }

    /// Judges one image; every broken promise is reported. The image itself stays as it is.
    pub(crate) fn judge(&self, place: &Place, image: &SimDisk, expect: &Expect) -> Outcome {
        self.judge_to(place, image, expect, self.recovery_depth)
    }

    fn judge_to(&self, place: &Place, image: &SimDisk, expect: &Expect, depth: u32) -> Outcome {
        let print = fingerprint(image);
        let is_judged = !self.judged.lock().expect("no panic here").insert((print, expect.key()));
        if is_judged {
            return Outcome::Known;
        }
        self.bench.report.image(place.group(), print);
        match self.judge_new(place, image, expect) {
            Ok((outcome, state)) => {
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

    /// The process is killed here, and nothing else: the next one sees what is cached, and must not report
    /// it before it is durable (I10).
    pub(crate) fn judge_killed(&self, place: &Place, scene: &Scene) {
        let place = place.at("killed");
        // With nothing unsure it is what a power cut leaves.
        if scene.disk.unsure() == 0 || !self.bench.admits(&place) {
            return;
        }
        let disk = scene.disk.moment();
        self.bench.report.image(place.group(), fingerprint(&disk));
        if let Err(what) = self.killed(place.group(), &disk, &scene.expect) {
            self.bench.report.violation(&place, what);
        }
    }

    fn killed(&self, group: &'static str, disk: &SimDisk, expect: &Expect) -> Result<(), String> {
        let (log, _hands, info) =
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
        self.survives_another_cut(disk, &state)
    }

    fn is_sampled(&self, print: u128) -> bool {
        self.recovery_every > 0 && (print >> 64) % u128::from(self.recovery_every) == 0
    }

    /// How it ended, with the state in which it opened.
    fn judge_new(
        &self,
        place: &Place,
        image: &SimDisk,
        expect: &Expect,
    ) -> Result<(Outcome, Option<Model>), String> {
        let disk = image.after_power_cut(Survival::Everything);
        let examined = examine(&self.config, &disk, Some(1));
        if fingerprint(&disk) != fingerprint(image) {
            return Err("examine changed the disk".to_owned());
        }
        match self.open(&disk, 1) {
            Ok((log, hands, info)) => {
                self.bench.report.count(place.group(), |group| {
                    group.opened += 1;
                    group.cut += u64::from(info.torn.is_some());
                });
                if expect.verdict == Expected::Refuses {
                    return Err(format!("opened: {info}"));
                }
                agrees(&info, examined)?;
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
                match examined {
                    Err(said) if said.to_string() == error.to_string() => {}
                    other => return Err(format!("refused: {error}; but examine says {other:?}")),
                }
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

/// How many of the possible survivors are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    Few,
    /// Every subset of up to so many changes, of more so many tosses of the coins.
    Subsets {
        of: usize,
        coins: u64,
    },
}

/// What may survive of so many changes.
pub(crate) fn survivals(unsure: usize, thoroughness: Thoroughness) -> Vec<Survival> {
    let few = [Survival::Nothing, Survival::Everything, Survival::Coins(1), Survival::Coins(2)];
    match thoroughness {
        _ if unsure == 0 => vec![Survival::Everything],
        _ if unsure == 1 => vec![Survival::Nothing, Survival::Everything],
        Thoroughness::Few => few.to_vec(),
        Thoroughness::Subsets { of, .. } if unsure <= of => {
            (0..1 << unsure).map(Survival::Subset).collect()
        }
        Thoroughness::Subsets { coins, .. } => {
            let mut chosen = vec![
                Survival::Nothing,
                Survival::Everything,
                Survival::NamesOnly,
                Survival::ContentOnly,
            ];
            let ends = [1, 2, unsure / 2, unsure - 2, unsure - 1];
            chosen.extend(ends.map(Survival::Oldest));
            chosen.extend(ends.map(Survival::Newest));
            chosen.extend((1..=coins).map(Survival::Coins));
            chosen
        }
    }
}

/// The state of an open log; or what in it contradicts itself.
fn found(log: &Log, info: &RecoveryInfo) -> Result<Model, String> {
    let model = Model::of(log)?;
    let first = model.entries.first().map(|entry| entry.index);
    if (info.last, info.purged, info.vote, info.first_index)
        != (model.last, model.purged, model.vote, first)
    {
        return Err(format!("reports {info}, but holds {}", model.brief()));
    }
    let committed = log.committed();
    let is_there = |id: LogIdParts| {
        model.purged.is_some_and(|purged| id.index <= purged.index)
            || model.entries.iter().any(|e| (e.term, e.index) == (id.term, id.index))
    };
    if committed.is_some_and(|id| !is_there(id)) {
        return Err(format!("committed {committed:?} is not in {}", model.brief()));
    }
    let mut ends: Vec<(u64, u64)> = Vec::new();
    for entry in &model.entries {
        match ends.last_mut() {
            Some((term, index)) if *term == entry.term => *index = entry.index,
            _ => ends.push((entry.term, entry.index)),
        }
    }
    let told: Vec<_> = log.leader_ends(0..u64::MAX).iter().map(|id| (id.term, id.index)).collect();
    if told != ends {
        return Err(format!("the leaders end at {told:?}, not at {ends:?}"));
    }
    Ok(model)
}

/// `examine` has said before what the open then did.
fn agrees(opened: &RecoveryInfo, examined: Result<RecoveryInfo, LogError>) -> Result<(), String> {
    let said = match examined {
        Ok(said) => said,
        Err(LogError::Io { .. }) if opened.created => return Ok(()),
        Err(error) => return Err(format!("opened, but examine refuses: {error}")),
    };
    let facts = |info: &RecoveryInfo| {
        let torn = info.torn.as_ref().map(|t| (t.segment.clone(), t.offset, t.bytes));
        let ends = (info.first_index, info.last, info.purged, info.committed, info.vote);
        (info.created, info.segments, info.records, ends, torn, info.leftovers)
    };
    if facts(opened) != facts(&said) {
        return Err(format!("opened: {opened}, but examine says: {said}"));
    }
    Ok(())
}

/// What was cut is in quarantine.
fn is_kept(info: &RecoveryInfo, before: &SimDisk, after: &SimDisk) -> Result<(), String> {
    let Some(torn) = &info.torn else { return Ok(()) };
    let usize = |n: u64| usize::try_from(n).expect("it fits memory");
    let (from, len) = (usize(torn.offset), usize(torn.bytes));
    let (before, after) = (before.contents(), after.contents());
    let was = before.get(&torn.segment).and_then(|bytes| bytes.get(from..from + len));
    let kept = torn.quarantine.as_ref().and_then(|path| after.get(path));
    if was.is_none() || was != kept.map(|bytes| &bytes[..]) {
        return Err(format!("what was cut is not in quarantine: {info}"));
    }
    Ok(())
}

/// An open leaves nothing behind the end of the log, and nothing unfinished.
fn is_tidy(info: &RecoveryInfo, disk: &SimDisk) -> Result<(), String> {
    let contents = disk.contents();
    let is_ours = |path: &Path| path.parent() == Some(Path::new(DIR));
    let ends_in = |path: &Path, end: &str| path.extension().is_some_and(|ext| ext == end);
    // What lies beside a log that was just created is no concern of it.
    for path in contents.keys().filter(|path| is_ours(path) && !info.created) {
        if ends_in(path, "tmp") || path.ends_with("FAILED") {
            return Err(format!("{} is still there after an open", path.display()));
        }
    }
    let segments = contents.iter().filter(|(path, _)| is_ours(path) && ends_in(path, "wal"));
    let Some((path, bytes)) = segments.last() else { return Ok(()) };
    let start_lsn = u64::from_le_bytes(bytes[48..56].try_into().expect("8 bytes"));
    let end = usize::try_from(info.end_lsn - start_lsn).expect("it fits memory");
    if bytes[end..].iter().any(|byte| *byte != 0) {
        return Err(format!("{} is not zero behind its end {end}", path.display()));
    }
    Ok(())
}
