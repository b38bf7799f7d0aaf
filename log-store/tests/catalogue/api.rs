//! Group F: what callers are promised: sizes and indexes at their edges, every read of a small log, changes that
//! do not follow, and rest when nobody asks.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use raftmap_log_store::disk::{Op, SimDisk, Survival};
use raftmap_log_store::{Contradiction, EntryParts, Log, LogConfig, LogError};

use crate::bench::{Bench, open};
use crate::cases::Case;
use crate::model::{Entry, Model, id, vote};
use crate::place::Place;
use crate::run::Run;
use crate::run::Step::*;

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F", "entry-sizes", entry_sizes),
        Case::new("F", "first-indexes", first_indexes),
        Case::new("F", "every-read", every_read),
        Case::new("F", "refused-changes", refused_changes),
        Case::new("F", "idle-log-rests", an_idle_log_rests),
    ]
}

pub(crate) type Answer = Result<(), LogError>;

/// Someone who is told once, and whoever waits for that.
pub(crate) fn told() -> (impl FnOnce(Answer) + Send + 'static, Receiver<Answer>) {
    let (tell, heard): (Sender<Answer>, _) = channel();
    // Nobody may be listening any more.
    (move |answer| drop(tell.send(answer)), heard)
}

pub(crate) fn append(log: &Log, entries: Vec<EntryParts>) -> Result<Receiver<Answer>, LogError> {
    let (done, heard) = told();
    log.append(entries, done).map(|()| heard)
}

/// Around every edge that a size has: of words, pages, batches, segments and the limit.
fn entry_sizes(bench: &Bench, place: &Place) {
    let config = LogConfig { entry_bytes_max: 40_000, ..bench.config() };
    let edges = [8, 64, 512, 4096, 8192, 16_384, 32_768];
    let around = edges.into_iter().flat_map(|edge| edge - 1..=edge + 1);
    // What is left of a batch and of a segment for a payload is some 100 bytes less.
    let inside = (3900..4100).step_by(4).chain((11_900..12_260).step_by(4));
    for len in (0..=9).chain(around).chain(inside).chain([39_999, 40_000]) {
        let place = place.at(len);
        if !bench.admits(&place) {
            continue;
        }
        let disk = SimDisk::new();
        let sizes = [10, len, 10, len];
        let entries: Vec<_> =
            (1..).zip(sizes).map(|(index, len)| Entry { term: 1, index, len }.parts()).collect();
        let (log, mut hands, _) = open(&config, &disk, 1).expect("a new log");
        let answers: Vec<_> =
            entries.iter().map(|entry| append(&log, vec![entry.clone()])).collect();
        while hands.commit() {}
        let told = answers
            .into_iter()
            .all(|answer| matches!(answer.map(|a| a.try_recv()), Ok(Ok(Ok(())))));
        drop((log, hands));
        let found = open(&config, &disk.after_power_cut(Survival::Nothing), 2)
            .and_then(|(log, _hands, _)| log.read(0..9, usize::MAX));
        if !told || found.as_ref().ok() != Some(&entries) {
            bench.report.violation(&place, format!("told {told}, found {}", found.is_ok()));
        }
    }
    for len in [40_001, 1 << 20] {
        let disk = SimDisk::new();
        let (log, hands, _) = open(&config, &disk, 1).expect("a new log");
        let before = disk.steps();
        let mut entries = vec![Entry { term: 1, index: 1, len: 5 }.parts()];
        entries.push(Entry { term: 1, index: 2, len }.parts());
        let refused = append(&log, entries);
        let is_clean = matches!(refused, Err(LogError::TooLarge { limit: 40_000, .. }))
            && log.ends().last.is_none()
            && disk.steps() == before;
        if !is_clean {
            bench.report.violation(&place.at(len), "an entry over the limit left a trace");
        }
        drop(hands);
    }
}

fn first_indexes(bench: &Bench, place: &Place) {
    for first in [0, 1, 2, 1_000_000_000, u64::from(u32::MAX), u64::MAX - 4] {
        let steps = [
            Append(1, first, first + 1, 100),
            Commit,
            Kill,
            Append(1, first + 2, first + 2, 9000),
            Vote(2),
            Commit,
            Truncate(Some(first)),
            Append(2, first + 1, first + 2, 9000),
            Commit,
            Purge(1, first),
            Settle,
            Close,
        ];
        let film = Run::new(bench.config()).steps(&steps).film();
        let place = place.at(first);
        film.trouble.iter().for_each(|what| bench.report.violation(&place, what.clone()));
    }
    let disk = SimDisk::new();
    let (log, _hands, _) = open(&bench.config(), &disk, 1).expect("a new log");
    let last = EntryParts { id: id(1, u64::MAX), kind: 1, payload: Bytes::new() };
    let is_refused = matches!(
        append(&log, vec![last]),
        Err(LogError::OutOfOrder(Contradiction::Exhausted { .. }))
    );
    let purge = log.purge_upto(id(1, u64::MAX));
    if !is_refused || purge.is_ok() || log.ends().last.is_some() {
        bench.report.violation(place, "the last index of all must stay free");
    }
}

/// Every range of a log of a dozen entries with several bounds: a prefix of what is there, never empty, within
/// its bytes; from memory and from the disk, across segments, after a truncation and a purge.
fn every_read(bench: &Bench, place: &Place) {
    for cache_bytes_max in [0, 3000, 1 << 20] {
        let config =
            LogConfig { cache_bytes_max, index_bytes_max: 0, files_max: 1, ..bench.config() };
        let steps = [
            Append(1, 1, 9, 2500),
            Settle,
            Truncate(Some(7)),
            Append(2, 8, 12, 2500),
            Settle,
            Purge(1, 3),
            Append(2, 13, 13, 50),
            Settle,
        ];
        let run = Run::new(config).steps(&steps);
        let Some(log) = run.log() else { return };
        let entries: Vec<_> = run.model().entries.iter().map(|entry| entry.parts()).collect();
        for start in 0..16_u64 {
            for end in 0..16_u64 {
                for bytes_max in [0, 1, 2600, 5200, usize::MAX] {
                    let read = log.read(start..end, bytes_max);
                    let cached = log.read_cached(start..end, bytes_max);
                    let is_right =
                        |read: &[EntryParts]| is_answer(read, &entries, start..end, bytes_max);
                    if !read.as_ref().is_ok_and(|read| is_right(read))
                        || !cached.as_ref().is_none_or(|read| is_right(read))
                    {
                        let place =
                            place.at(format!("{cache_bytes_max}-{start}-{end}-{bytes_max}"));
                        let lens = (read.map(|read| read.len()), cached.map(|read| read.len()));
                        bench.report.violation(&place, format!("read {lens:?} entries"));
                    }
                }
            }
        }
    }
}

fn is_answer(read: &[EntryParts], all: &[EntryParts], range: Range<u64>, bytes_max: usize) -> bool {
    let due: Vec<_> = all.iter().filter(|entry| range.contains(&entry.id.index)).cloned().collect();
    let bytes: usize = read.iter().map(|entry| entry.payload.len()).sum();
    due.starts_with(read)
        && read.is_empty() == due.is_empty()
        && (read.len() <= 1 || bytes <= bytes_max)
        && (read.len() == due.len() || bytes_max < usize::MAX)
}

/// What does not follow is refused before anything is queued: not a byte goes to the disk.
fn refused_changes(bench: &Bench, place: &Place) {
    let steps = [Append(2, 5, 9, 100), Vote(3), Commit, Purge(2, 6), Settle];
    let run = Run::new(bench.config()).steps(&steps);
    let Some(log) = run.log() else { return };
    let (before, state) = (run.disk().steps(), Model::of(log));
    let entry = |term, index| Entry { term, index, len: 9 }.parts();
    let refused = [
        append(log, vec![entry(2, 9)]).err(),
        append(log, vec![entry(2, 11)]).err(),
        append(log, vec![entry(1, 10)]).err(),
        append(log, vec![entry(2, 10), entry(2, 12)]).err(),
        append(log, vec![entry(3, 10), entry(2, 11)]).err(),
        log.save_vote(vote(2), |_| {}).err(),
        log.truncate_after(Some(5), |_| {}).err(),
    ];
    for (n, error) in refused.into_iter().enumerate() {
        if !matches!(error, Some(LogError::OutOfOrder(_))) {
            bench.report.violation(&place.at(n), format!("{error:?}"));
        }
    }
    if run.disk().steps() != before || Model::of(log) != state {
        bench.report.violation(place, "a refused change left a trace");
    }
}

/// When nobody asks, and FRONTIER is written, nothing is done: a hundred rests are no operation.
fn an_idle_log_rests(bench: &Bench, place: &Place) {
    let mut run = Run::new(bench.config()).steps(&[Append(1, 1, 9, 2500), Vote(2), Settle, Settle]);
    let count = |run: &Run| (run.disk().steps(), run.disk().count(Op::Read));
    let before = count(&run);
    for _ in 0..100 {
        run.step(Rest);
        run.step(Tidy);
    }
    if count(&run) != before {
        bench.report.violation(place, format!("{before:?} became {:?}", count(&run)));
    }
}
