//! Power cuts at every operation of the disk, each with several choices of what survives.
//!
//! For each scenario: run it once to count its disk operations, then run it again for each of them with
//! the power going off right there, and open what is left. Always true afterwards:
//! - the log opens, and holds every change that was acknowledged;
//! - it holds nothing that was never asked for: its content is that after some prefix of the changes;
//! - opened once more, after another cut without any write, it is the same.
//!
//! With `recovery_itself`, the power also goes off at every operation of the recovery.

use raftmap_log_store::disk::{Fault, Op, SimDisk, Survival};
use raftmap_log_store::{Log, LogIdParts, VoteParts};

use crate::common::*;

/// One change, as the test asks for it.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Entries first to last of a term, this large each.
    Append(u64, u64, u64, usize),
    Vote(u64),
    Committed(u64, u64),
    Truncate(Option<u64>),
    Purge(u64, u64),
    /// Wait for everything asked for so far.
    Wait,
    Reopen,
}

/// What the log must hold after some of the changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model {
    entries: Vec<(u64, u64)>,
    vote: Option<VoteParts>,
    purged: Option<LogIdParts>,
    last: Option<LogIdParts>,
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Append(term, first, last, _) => {
                self.entries.extend((first..=last).map(|index| (term, index)));
                self.last = Some(id(term, last));
            }
            Step::Vote(term) => self.vote = Some(vote(term)),
            Step::Truncate(keep) => {
                self.entries.retain(|(_, index)| Some(*index) <= keep);
                self.last = self.entries.last().map(|(t, i)| id(*t, *i)).or(self.purged);
            }
            Step::Purge(term, index) => {
                self.entries.retain(|(_, i)| *i > index);
                self.purged = Some(id(term, index));
                if self.entries.is_empty() {
                    self.last = self.purged;
                }
            }
            Step::Committed(..) | Step::Wait | Step::Reopen => {}
        }
    }

    /// Each entry on its own: a part of an append may be durable without the rest.
    fn prefixes(steps: &[Step]) -> Vec<Self> {
        let mut models = vec![Self::default()];
        for step in steps {
            let mut model = models.last().cloned().unwrap_or_default();
            if let Step::Append(term, first, last, len) = *step {
                for index in first..=last {
                    model.step(Step::Append(term, index, index, len));
                    models.push(model.clone());
                }
            } else {
                model.step(*step);
                models.push(model);
            }
        }
        models
    }

    fn of(log: &Log) -> Self {
        let ends = log.ends();
        Self { entries: ids(log), vote: log.vote(), purged: ends.purged, last: ends.last }
    }
}

/// Does the steps until the disk fails; how many models (see `prefixes`) are acknowledged.
fn run(disk: &SimDisk, steps: &[Step]) -> usize {
    let mut acknowledged = 0;
    let mut asked = 0;
    let mut waiting: Vec<(usize, Answer)> = Vec::new();
    let Ok((mut log, _)) = open_with(disk, config()) else { return 0 };
    for step in steps {
        let answer = match *step {
            Step::Append(term, first, last, len) => {
                asked += usize::try_from(last - first + 1).unwrap();
                append(&log, (first..=last).map(|index| entry(term, index, len)).collect())
            }
            Step::Vote(term) => {
                asked += 1;
                save_vote(&log, vote(term))
            }
            Step::Truncate(keep) => {
                asked += 1;
                truncate_after(&log, keep)
            }
            Step::Committed(term, index) => {
                asked += 1;
                drop(log.save_committed(id(term, index)));
                continue;
            }
            Step::Purge(term, index) => {
                asked += 1;
                drop(log.purge_upto(id(term, index)));
                continue;
            }
            Step::Wait | Step::Reopen => {
                asked += 1;
                for (count, answer) in waiting.drain(..) {
                    if answer.recv_timeout(DEADLINE).expect("an answer").is_ok() {
                        acknowledged = acknowledged.max(count);
                    }
                }
                if matches!(step, Step::Reopen) {
                    if log.close().is_ok() {
                        acknowledged = asked;
                    }
                    match open_with(disk, config()) {
                        Ok((opened, _)) => log = opened,
                        Err(_) => return acknowledged,
                    }
                }
                continue;
            }
        };
        match answer {
            Ok(answer) => waiting.push((asked, answer)),
            Err(_) => break,
        }
    }
    drop(log);
    for (count, answer) in waiting {
        if answer.recv_timeout(DEADLINE).expect("an answer").is_ok() {
            acknowledged = acknowledged.max(count);
        }
    }
    acknowledged
}

const SURVIVALS: [Survival; 7] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::NamesOnly,
    Survival::ContentOnly,
    Survival::Coins(1),
    Survival::Coins(2),
    Survival::Coins(3),
];

/// Opens what a power cut left; it must be the model of one of the allowed prefixes.
fn check(what: &str, disk: &SimDisk, allowed: &[Model]) {
    let (log, info) = match open_with(disk, config()) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: does not open: {error}"),
    };
    let model = Model::of(&log);
    assert!(allowed.contains(&model), "{what}: {model:?} is none of the allowed states; {info}");
    // Opening reported this state, so it must survive a cut without any further write (I10).
    let again = open(&disk.after_power_cut(Survival::Nothing));
    assert_eq!(Model::of(&again), model, "{what}: opened again after another cut");
}

fn every_cut(name: &str, steps: &[Step]) {
    let models = Model::prefixes(steps);
    let whole = SimDisk::new();
    assert!(run(&whole, steps) > 0, "{name} acknowledges something");
    let operations = whole.steps();
    let mut cuts = 0;
    for cut in 0..=operations {
        let disk = SimDisk::new();
        disk.power_off_at(cut);
        let acknowledged = run(&disk, steps);
        for survival in SURVIVALS {
            let left = disk.after_power_cut(survival);
            let what = format!("{name}, cut at operation {cut}, {survival:?}");
            check(&what, &left, &models[acknowledged..]);
            cuts += 1;
        }
    }
    println!("{name}: {operations} operations, {cuts} images");
}

#[test]
fn first_open_and_appends() {
    every_cut(
        "append",
        &[
            Step::Append(1, 1, 1, 40),
            Step::Wait,
            Step::Append(1, 2, 4, 900),
            Step::Append(2, 5, 5, 10),
            Step::Wait,
            Step::Committed(1, 2),
            Step::Append(2, 6, 6, 3000),
            Step::Wait,
        ],
    );
}

#[test]
fn votes_between_appends() {
    every_cut(
        "vote",
        &[
            Step::Vote(1),
            Step::Append(1, 1, 3, 200),
            Step::Vote(2),
            Step::Append(1, 4, 4, 200),
            Step::Wait,
            Step::Vote(3),
            Step::Wait,
        ],
    );
}

#[test]
fn rolls() {
    every_cut(
        "roll",
        &[
            Step::Vote(1),
            Step::Append(1, 1, 3, 3000),
            Step::Wait,
            Step::Append(1, 4, 6, 3000),
            Step::Wait,
            Step::Append(1, 7, 7, 20_000),
            Step::Wait,
            Step::Append(1, 8, 9, 3000),
            Step::Committed(1, 7),
            Step::Wait,
        ],
    );
}

#[test]
fn truncations_within_and_across_segments() {
    every_cut(
        "truncate",
        &[
            Step::Append(1, 1, 5, 2500),
            Step::Wait,
            Step::Append(1, 6, 10, 2500),
            Step::Wait,
            Step::Truncate(Some(8)),
            Step::Append(2, 9, 9, 2500),
            Step::Wait,
            Step::Truncate(Some(2)),
            Step::Wait,
            Step::Append(3, 3, 5, 2500),
            Step::Wait,
            Step::Truncate(None),
            Step::Wait,
            Step::Append(4, 1, 2, 100),
            Step::Wait,
        ],
    );
}

#[test]
fn purges_of_one_segment_of_all_and_beyond_the_end() {
    every_cut(
        "purge",
        &[
            Step::Append(1, 1, 4, 3000),
            Step::Wait,
            Step::Append(1, 5, 8, 3000),
            Step::Wait,
            Step::Append(1, 9, 12, 3000),
            Step::Purge(1, 5),
            Step::Vote(2),
            Step::Wait,
            Step::Purge(1, 12),
            Step::Append(2, 13, 13, 100),
            Step::Wait,
            Step::Purge(3, 30),
            Step::Vote(3),
            Step::Wait,
            Step::Append(3, 31, 31, 100),
            Step::Wait,
        ],
    );
}

#[test]
fn stops_and_starts() {
    every_cut(
        "reopen",
        &[
            Step::Append(1, 1, 3, 100),
            Step::Reopen,
            Step::Append(1, 4, 6, 5000),
            Step::Purge(1, 3),
            Step::Reopen,
            Step::Reopen,
            Step::Truncate(Some(5)),
            Step::Append(2, 6, 6, 100),
            Step::Reopen,
        ],
    );
}

/// The power goes off at every operation of the recovery from a torn tail, and again in the next one.
#[test]
fn recovery_itself() {
    let steps = [
        Step::Append(1, 1, 4, 3000),
        Step::Wait,
        Step::Append(1, 5, 8, 3000),
        Step::Purge(1, 4),
        Step::Vote(2),
        Step::Wait,
        Step::Append(1, 9, 12, 1500),
        Step::Wait,
    ];
    let whole = SimDisk::new();
    let acknowledged = run(&whole, &steps);
    let allowed = &Model::prefixes(&steps)[acknowledged..];
    let left = whole.after_power_cut(Survival::Everything);
    // A write that was not finished when the power went: the last process left its segment sealed, so
    // take the one before it was.
    let torn = torn(&left);
    let probe = torn.after_power_cut(Survival::Everything);
    assert!(open_with(&probe, config()).unwrap().1.torn.is_some());
    let mut images = 0;
    for second in 0..=probe.steps() {
        for survival in [Survival::Everything, Survival::Coins(21), Survival::Coins(22)] {
            let image = torn.after_power_cut(Survival::Everything);
            image.power_off_at(second);
            drop(open_with(&image, config()));
            let image = image.after_power_cut(survival);
            let steps = image.after_power_cut(Survival::Everything);
            drop(open_with(&steps, config()));
            for third in 0..=steps.steps() {
                let image = image.after_power_cut(Survival::Everything);
                image.power_off_at(third);
                drop(open_with(&image, config()));
                for survival in [Survival::Nothing, Survival::Everything, Survival::Coins(13)] {
                    let what = format!("recovery cut at {second} and {third}, {survival:?}");
                    check(&what, &image.after_power_cut(survival), allowed);
                    images += 1;
                }
            }
        }
    }
    println!("recovery: {images} images");
}

#[test]
fn a_name_that_a_killed_process_did_not_sync_is_durable_before_frontier_tells_of_it() {
    for step in 0.. {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, config()).unwrap();
        // That of the name, and that of the mark which the failure leaves.
        disk.inject(Op::SyncDir, 1, 2, Fault::Error(std::io::ErrorKind::Other));
        let answer = append(&log, vec![entry(1, 1, 10)]).unwrap();
        assert!(answer.recv_timeout(DEADLINE).unwrap().is_err(), "the first segment is not made");
        drop(log);
        // The page cache lives on: the next process sees the name.
        assert_eq!(segments(&disk).len(), 1);
        let before = disk.steps();
        disk.power_off_at(before + step);
        let is_whole = open_with(&disk, config()).is_ok();
        let left = disk.after_power_cut(Survival::Nothing);
        let opened = open_with(&left, config());
        assert!(opened.is_ok(), "cut at {step} of the recovery: {:?}", opened.err());
        if is_whole {
            assert!(step > 2, "the recovery had something to do");
            break;
        }
    }
}

/// The same log with an unfinished write behind its end.
fn torn(disk: &SimDisk) -> SimDisk {
    let torn = disk.after_power_cut(Survival::Everything);
    let log = open(&torn);
    let next = log.ends().last.map_or(1, |last| last.index + 1);
    let before = torn.files();
    wait(append(&log, vec![entry(9, next, 2000)])).unwrap();
    // The new segment as it was before its first frame arrived whole, FRONTIER as before.
    let cut = torn.after_power_cut(Survival::Everything);
    let last = segments(&cut).pop().unwrap();
    let mut bytes = cut.files()[&last].clone();
    bytes[4096 + 512..4096 + 1024].fill(0);
    cut.put(&last, bytes);
    cut.put(&path("FRONTIER"), before[&path("FRONTIER")].clone());
    cut
}

/// Restarting without end must not use up the disk.
#[test]
fn a_crash_loop_leaves_a_bounded_number_of_segments() {
    let mut disk = SimDisk::new();
    for round in 0..50u64 {
        let log = open(&disk);
        let next = log.ends().last.map_or(1, |last| last.index + 1);
        wait(append(&log, entries(1, next..=next + 2))).unwrap();
        log.purge_upto(id(1, next)).unwrap();
        wait(save_vote(&log, vote(round))).unwrap();
        let cut = disk.after_power_cut(Survival::Coins(round));
        drop(log);
        disk = cut;
    }
    let log = open(&disk);
    assert!(log.stats().segments <= 4, "{:?}", log.stats());
}
