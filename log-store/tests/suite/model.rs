//! Random operations, reopened and cut off at random: the log is always what a plain list would be.

use std::ops::Range;

use proptest::prelude::*;
use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::{EntryParts, Log, LogConfig, LogIdParts};

use crate::common::*;

#[derive(Debug, Clone)]
enum Step {
    /// Entries with these payload lengths, in the current term.
    Append(Vec<usize>),
    NextTerm,
    Vote,
    /// Keep this part of the live entries, in thousandths.
    Truncate(u64),
    /// Purge this part of the live entries, or so far beyond the end.
    Purge(u64),
    PurgeBeyond(u64),
    Committed(u64),
    Read(Range<u64>, usize),
    Reopen,
    /// Kill: everything written stays.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0..200usize, 3 => 200..4000usize, 1 => 4000..20_000usize];
    prop_oneof![
        10 => prop::collection::vec(len, 1..12).prop_map(Step::Append),
        2 => Just(Step::NextTerm),
        2 => Just(Step::Vote),
        2 => (0..1000u64).prop_map(Step::Truncate),
        2 => (0..1000u64).prop_map(Step::Purge),
        1 => (1..50u64).prop_map(Step::PurgeBeyond),
        3 => (0..1000u64).prop_map(Step::Committed),
        6 => (0..60u64, 0..60u64, 0..20_000usize).prop_map(|(a, n, b)| Step::Read(a..a + n, b)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

#[derive(Debug, Default)]
struct Model {
    entries: Vec<EntryParts>,
    purged: Option<LogIdParts>,
    term: u64,
    voted: u64,
    committed: Option<LogIdParts>,
}

impl Model {
    fn next(&self) -> u64 {
        self.last().map_or(1, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogIdParts> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }

    fn at(&self, thousandths: u64) -> usize {
        let len = u64::try_from(self.entries.len()).unwrap();
        usize::try_from(len * thousandths / 1000).unwrap()
    }

    fn agrees(&self, log: &Log) {
        assert_eq!(read_all(log), self.entries);
        assert_eq!((log.ends().purged, log.ends().last), (self.purged, self.last()));
        assert_eq!(log.vote(), (self.voted > 0).then(|| vote(self.voted)));
        let mut ends: Vec<LogIdParts> = Vec::new();
        for entry in &self.entries {
            match ends.last_mut() {
                Some(end) if end.term == entry.id.term => *end = entry.id,
                _ => ends.push(entry.id),
            }
        }
        assert_eq!(log.leader_ends(0..u64::MAX), ends);
    }
}

fn check_read(log: &Log, model: &Model, range: Range<u64>, bytes_max: usize) {
    let first = model.entries.first().map_or(0, |entry| entry.id.index);
    let range = first + range.start..first + range.end;
    let expected: Vec<_> =
        model.entries.iter().filter(|entry| range.contains(&entry.id.index)).cloned().collect();
    let read = log.read(range.clone(), bytes_max).unwrap();
    assert_eq!(read[..], expected[..read.len()], "{range:?}");
    assert_eq!(read.is_empty(), expected.is_empty());
    let bytes: usize = read.iter().map(|entry| entry.payload.len()).sum();
    assert!(read.len() <= 1 || bytes <= bytes_max, "{bytes} of {bytes_max}");
    if let Some(cached) = log.read_cached(range, bytes_max) {
        assert_eq!(cached[..], expected[..cached.len()]);
        assert_eq!(cached.is_empty(), expected.is_empty());
    }
}

fn run(steps: Vec<Step>, cache_bytes_max: u64, index_bytes_max: u64) {
    let config = || LogConfig { cache_bytes_max, index_bytes_max, files_max: 2, ..config() };
    let mut disk = SimDisk::new();
    let mut log = open_with(&disk, config()).unwrap().0;
    let mut model = Model { term: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Append(lens) => {
                let next = model.next();
                let new: Vec<_> =
                    (next..).zip(lens).map(|(index, len)| entry(model.term, index, len)).collect();
                model.entries.extend(new.clone());
                append(&log, new).unwrap();
            }
            Step::NextTerm => model.term += 1,
            Step::Vote => {
                model.voted = model.term;
                save_vote(&log, vote(model.voted)).unwrap();
            }
            Step::Truncate(part) => {
                model.entries.truncate(model.at(part));
                let keep = model.last();
                if model.committed > keep {
                    model.committed = keep;
                }
                model.term += 1;
                truncate_after(&log, keep.map(|id| id.index)).unwrap();
            }
            Step::Purge(part) => {
                let Some(entry) = model.entries.get(model.at(part)) else { continue };
                model.purged = Some(entry.id);
                model.entries.drain(..=model.at(part));
                log.purge_upto(model.purged.unwrap()).unwrap();
            }
            Step::PurgeBeyond(by) => {
                let beyond = id(model.term, model.next() + by);
                model.entries.clear();
                model.purged = Some(beyond);
                log.purge_upto(beyond).unwrap();
            }
            Step::Committed(part) => {
                let Some(entry) = model.entries.get(model.at(part)) else { continue };
                if model.committed < Some(entry.id) {
                    model.committed = Some(entry.id);
                    log.save_committed(entry.id).unwrap();
                }
            }
            Step::Read(range, bytes_max) => check_read(&log, &model, range, bytes_max),
            Step::Reopen | Step::Kill => {
                // A vote waits for everything before it, also for what nobody waits for.
                model.voted = model.term;
                wait(save_vote(&log, vote(model.voted))).unwrap();
                if matches!(step, Step::Kill) {
                    disk = disk.after_power_cut(Survival::Nothing);
                    drop(log);
                } else {
                    log.close().unwrap();
                }
                log = open_with(&disk, config()).unwrap().0;
                assert_eq!(log.committed(), model.committed);
            }
        }
        model.agrees(&log);
    }
    log.close().unwrap();
    model.agrees(&open_with(&disk, config()).unwrap().0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_list(
        steps in prop::collection::vec(step(), 1..50),
        cache in prop_oneof![Just(0), Just(3_000), Just(1 << 20)],
        index in prop_oneof![Just(0), Just(1 << 20)],
    ) {
        run(steps, cache, index);
    }
}
