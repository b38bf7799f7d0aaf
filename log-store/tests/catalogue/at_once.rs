//! Group F, with everyone at it at once: readers while the log is truncated, purged and rolled, a sync that does
//! not return, 64 producers. The only cases with threads.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raftmap_log_store::disk::{Disk, Fault, Op, SimDisk, Survival};
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError};

use crate::api::{append, told};
use crate::bench::{Bench, open, owner};
use crate::cases::Case;
use crate::model::{Entry, Model, id, vote};
use crate::place::Place;

/// No answer takes this long unless it never comes.
const DEADLINE: Duration = Duration::from_secs(30);

/// These of the group.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F", "reads-during-changes", reads_during_changes),
        Case::new("F", "a-sync-that-does-not-return", a_sync_that_does_not_return),
        Case::new("F", "a-sync-that-fails-at-last", a_sync_that_fails_at_last),
        Case::new("F", "64-producers", many_producers),
    ]
}

/// Opens a log with its threads.
fn start(config: LogConfig, disk: &SimDisk) -> Log {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(config, disk, owner(1)).expect("a log opens").0
}

/// Readers see one moment: no gap, terms that only rise, bytes that belong to their ids.
fn reads_during_changes(bench: &Bench, place: &Place) {
    for cache_bytes_max in [0, 4000, 1 << 20] {
        let disk = SimDisk::new();
        let config =
            LogConfig { cache_bytes_max, index_bytes_max: 400, files_max: 2, ..bench.config() };
        let log = start(config, &disk);
        let is_done = AtomicBool::new(false);
        let reads = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for reader in 0..3_u64 {
                let (log, is_done, reads) = (&log, &is_done, &reads);
                scope.spawn(move || {
                    let mut n = reader;
                    while !is_done.load(Relaxed) {
                        n = n.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                        let Some(last) = log.ends().last.map(|last| last.index) else { continue };
                        let from = last.saturating_sub(n >> 60);
                        let range = if n >> 59 & 1 == 0 { 0..u64::MAX } else { from..last + 2 };
                        let read = log.read(range.clone(), usize::MAX);
                        // From the first append on there is always something, though not what it was.
                        if range.start == 0 && read.as_ref().is_ok_and(Vec::is_empty) {
                            bench.report.violation(place, "nothing was read of a log with entries");
                        }
                        if let Err(what) = one_moment(&read) {
                            bench.report.violation(place, format!("{range:?}: {what}"));
                        }
                        reads.fetch_add(1, Relaxed);
                    }
                });
            }
            change_everything(&log, &reads);
            is_done.store(true, Relaxed);
        });
        if log.failed().is_some() || log.close().is_err() {
            bench.report.violation(place, "the log failed");
        }
    }
}

/// Appends, truncates, purges, in ever higher terms, until enough reads have met it.
fn change_everything(log: &Log, reads: &AtomicU64) {
    let mut term = 1;
    for round in 0_u64.. {
        if round > 150 && reads.load(Relaxed) > 300 {
            return;
        }
        let next = log.ends().last.map_or(1, |last| last.index + 1);
        let entries: Vec<_> =
            (next..next + 5).map(|index| Entry { term, index, len: 700 }.parts()).collect();
        let answer = append(log, entries).expect("they follow");
        if round % 3 == 0 {
            let purged = log.ends().purged.map_or(0, |purged| purged.index);
            let keep = (next + 1).max(purged + 1);
            log.truncate_after(Some(keep), |_| {}).expect("it is there");
            term += 1;
        }
        if round % 5 == 0 && next > 12 {
            let upto = next - 10;
            if let Some(end) = log.leader_ends(upto..upto + 1).first() {
                log.purge_upto(*end).expect("it is there");
            }
        }
        answer.recv_timeout(DEADLINE).expect("everyone is told").expect("it is durable");
    }
}

fn one_moment(read: &Result<Vec<EntryParts>, LogError>) -> Result<(), String> {
    let entries = read.as_ref().map_err(ToString::to_string)?;
    for pair in entries.windows(2) {
        if let [a, b] = pair
            && (a.id.index + 1 != b.id.index || a.id.term > b.id.term)
        {
            return Err(format!("{} is followed by {}", a.id, b.id));
        }
    }
    for parts in entries {
        let entry = Entry { term: parts.id.term, index: parts.id.index, len: 700 };
        if *parts != entry.parts() {
            return Err(format!("{} has the bytes of another", parts.id));
        }
    }
    Ok(())
}

/// A log whose next sync waits until it is told to go on.
fn held(bench: &Bench) -> (SimDisk, Log, Receiver<()>, Sender<()>) {
    let disk = SimDisk::new();
    let log = start(bench.config(), &disk);
    let before = disk.count(Op::SyncData);
    let first = append(&log, vec![Entry { term: 1, index: 1, len: 9 }.parts()]);
    first.expect("it is taken").recv_timeout(DEADLINE).expect("told").expect("durable");
    // The sync of the commit, then that of FRONTIER, which must not be the one that waits.
    let deadline = Instant::now() + DEADLINE;
    while disk.count(Op::SyncData) < before + 2 {
        assert!(Instant::now() < deadline, "FRONTIER is not written");
        std::thread::yield_now();
    }
    let (reached, is_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    disk.watch(move |moment| {
        // Once; when the other end is gone it waits for nothing.
        if moment.op == Op::SyncData && reached.send(()).is_ok() {
            let _ = may_go_on.lock().expect("no panic here").recv();
        }
    });
    (disk, log, is_reached, go_on)
}

/// While a sync takes its time nobody waits but those who asked for durability: appends, purges and what is
/// committed return, reads are served; votes and truncations are told afterwards.
fn a_sync_that_does_not_return(bench: &Bench, place: &Place) {
    let (_disk, log, is_reached, go_on) = held(bench);
    let entry = |index| Entry { term: 1, index, len: 9 }.parts();
    let appended = append(&log, vec![entry(2), entry(3)]).expect("it is taken");
    is_reached.recv_timeout(DEADLINE).expect("the sync begins");
    // All of these return although the sync does not.
    let later = append(&log, vec![entry(4)]).expect("it is taken");
    log.save_committed(id(1, 2)).expect("it is taken");
    log.purge_upto(id(1, 1)).expect("it is taken");
    let (done, voted) = told();
    log.save_vote(vote(3), done).expect("it is taken");
    let (done, truncated) = told();
    log.truncate_after(Some(3), done).expect("it is taken");
    let read = log.read(0..9, usize::MAX).expect("reads are served");
    let stats = log.stats();
    let silent = [&appended, &later, &voted, &truncated].iter().all(|a| a.try_recv().is_err());
    if !silent || read.len() != 2 || log.committed() != Some(id(1, 2)) || stats.queue_bytes == 0 {
        bench.report.violation(place, format!("silent {silent}, read {}, {stats:?}", read.len()));
    }
    drop((go_on, is_reached));
    for answer in [appended, later, voted, truncated] {
        match answer.recv_timeout(DEADLINE) {
            Ok(Ok(())) if answer.recv_timeout(DEADLINE).is_err() => {}
            other => bench.report.violation(place, format!("told {other:?}")),
        }
    }
}

/// The same, and then it fails: everyone is told the error, and nobody anything else.
fn a_sync_that_fails_at_last(bench: &Bench, place: &Place) {
    let (disk, log, is_reached, go_on) = held(bench);
    let entry = |index| Entry { term: 1, index, len: 9 }.parts();
    let first = append(&log, vec![entry(2)]).expect("it is taken");
    is_reached.recv_timeout(DEADLINE).expect("the sync begins");
    let mut answers = vec![first];
    answers.extend((3..1003).map(|index| append(&log, vec![entry(index)]).expect("it is taken")));
    disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    drop((go_on, is_reached));
    for (n, answer) in answers.iter().enumerate() {
        match answer.recv_timeout(DEADLINE) {
            Ok(Err(LogError::Failed(_))) if answer.recv_timeout(DEADLINE).is_err() => {}
            other => bench.report.violation(&place.at(n), format!("told {other:?}")),
        }
    }
    let served = log.read(0..2000, usize::MAX).map(|read| read.len());
    if served.ok() != Some(1002) || log.close().is_ok() {
        bench.report.violation(place, "a failed log serves its entries and does not close well");
    }
}

/// 64 threads append at once, each one entry at a time: each is told, all are there.
fn many_producers(bench: &Bench, place: &Place) {
    const PRODUCERS: u64 = 64;
    const EACH: u64 = 12;
    let disk = SimDisk::new();
    let log = start(bench.config(), &disk);
    let next = Mutex::new(1);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (log, next) = (&log, &next);
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut index = next.lock().expect("no panic here");
                    let entry = Entry { term: 1, index: *index, len: 100 }.parts();
                    let answer = append(log, vec![entry]).expect("it follows");
                    *index += 1;
                    drop(index);
                    if producer == 0 {
                        log.save_committed(id(1, n + 1)).expect("it is taken");
                    }
                    answer
                        .recv_timeout(DEADLINE)
                        .expect("everyone is told")
                        .expect("it is durable");
                }
            });
        }
    });
    let left = disk.after_power_cut(Survival::Nothing);
    let all = PRODUCERS * EACH;
    match open(&bench.config(), &left, 2).map(|(log, _hands, _)| Model::of(&log)) {
        Ok(Ok(model)) if model.last == Some(id(1, all)) => {}
        other => bench.report.violation(place, format!("{all} were told, found {other:?}")),
    }
    let commits = log.stats().commits;
    if commits > all || log.close().is_err() {
        bench.report.violation(place, format!("{commits} commits for {all} entries"));
    }
}
