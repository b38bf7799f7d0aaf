//! A disk that says no. After the first error nothing is acknowledged any more, everyone who waits is told
//! so exactly once, and what is durable stays readable. A fault at every operation is in the catalogue.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use raftmap_log_store::disk::{Fault, Op, SimDisk};
use raftmap_log_store::{LogError, LogStats};

use crate::common::*;

#[test]
fn every_waiter_and_every_later_caller_gets_the_first_error() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=2))).unwrap();
    // So that it is not FRONTIER whose sync fails.
    rest(&disk, &log);
    disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    let answers: Vec<_> = (3..=1002).map(|i| append(&log, entries(1, i..=i))).collect();
    let mut refused = 0;
    for answer in answers {
        match answer {
            Ok(answer) => {
                let told = answer.recv_timeout(DEADLINE).expect("everyone is told");
                assert!(matches!(told, Err(LogError::Failed(_))), "{told:?}");
                assert!(answer.recv().is_err(), "once");
            }
            Err(LogError::Failed(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    println!("{refused} came after the error");
    let failure = log.failed().expect("the failure stays");
    assert_eq!(failure.op, "sync");
    assert!(matches!(save_vote(&log, vote(5)), Err(LogError::Failed(_))));
    assert!(matches!(log.purge_upto(id(1, 1)), Err(LogError::Failed(_))));
    assert!(matches!(log.save_committed(id(1, 1)), Err(LogError::Failed(_))));
    assert!(log.read(1..3, usize::MAX).unwrap().len() == 2, "reads are still served");
    assert!(matches!(log.stats(), LogStats { failed: Some(_), .. }));
    until("the mark, which nobody waits for", || disk.files().contains_key(&path("FAILED")));
    assert!(matches!(log.close(), Err(LogError::Failed(_))));

    let (log, info) = open_with(&disk, config()).unwrap();
    assert!(info.after_failure);
    assert_eq!(ids(&log), [(1, 1), (1, 2)], "what the failed sync lost is not read from the cache");
    assert!(!disk.files().contains_key(&path("FAILED")));
}

#[test]
fn short_and_interrupted_writes_and_reads_are_continued() {
    for fault in [Fault::Short(1), Fault::Short(511), Fault::Short(4095)] {
        let disk = SimDisk::new();
        disk.inject(Op::Write, 1, u64::MAX / 2, fault);
        disk.inject(Op::Read, 1, u64::MAX / 2, fault);
        let log = open(&disk);
        wait(append(&log, vec![entry(1, 1, 3000), entry(1, 2, 9000)])).unwrap();
        let content = read_all(&log);
        log.close().unwrap();
        assert_eq!(read_all(&open(&disk)), content, "{fault:?}");
    }
    let disk = SimDisk::new();
    let log = open(&disk);
    disk.inject(Op::Write, 1, 50, Fault::Error(ErrorKind::Interrupted));
    wait(append(&log, entries(1, 1..=2))).unwrap();
}

#[test]
fn a_write_of_nothing_is_an_error_not_an_endless_loop() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=1))).unwrap();
    disk.inject(Op::Write, 1, u64::MAX / 2, Fault::Short(0));
    assert!(wait(append(&log, entries(1, 2..=2))).is_err());
    assert_eq!(log.failed().map(|failure| failure.kind), Some(ErrorKind::WriteZero));
}

#[test]
fn without_a_spare_the_writer_makes_the_segment_itself() {
    let disk = SimDisk::new();
    // FRONTIER takes its room, the writer makes the first segment; what the janitor then tries fails.
    disk.inject(Op::Allocate, 3, 1, Fault::Error(ErrorKind::StorageFull));
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=1))).unwrap();
    until("the janitor's try", || disk.count(Op::Allocate) == 3);
    for index in 2..=12 {
        wait(append(&log, vec![entry(1, index, 3000)])).unwrap();
    }
    assert!(segments(&disk).len() >= 3);
    assert_eq!(log.failed(), None);
}

#[test]
fn a_failed_read_is_an_error_of_that_read_alone() {
    let disk = SimDisk::new();
    let mut config = config();
    config.cache_bytes_max = 0;
    let (log, _) = open_with(&disk, config).unwrap();
    wait(append(&log, entries(1, 1..=5))).unwrap();
    rest(&disk, &log);
    disk.inject(Op::Read, 1, 1, Fault::Error(ErrorKind::Other));
    assert!(matches!(log.read(1..6, usize::MAX), Err(LogError::Io { .. })));
    assert_eq!(log.read(1..6, usize::MAX).unwrap().len(), 5);
    wait(append(&log, entries(1, 6..=6))).unwrap();
}

#[test]
fn within_a_commit_the_newest_is_told_first_and_commits_keep_their_order() {
    let disk = SimDisk::new();
    let mut config = config();
    config.batch_bytes_max = 4096;
    let (log, _) = open_with(&disk, config).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |index: u64| {
        let order = Arc::clone(&order);
        move |result: Result<(), LogError>| {
            result.unwrap();
            order.lock().unwrap().push(index);
        }
    };
    let (first, inner) = (note(1), log.clone());
    let notes: Vec<_> = (2..=4).map(note).collect();
    let large = note(5);
    log.append(entries(1, 1..=1), move |result| {
        first(result);
        // On the writer's thread: all of these wait for the next commit, which ends before the large one.
        for (index, note) in (2..).zip(notes) {
            inner.append(entries(1, index..=index), note).unwrap();
        }
        inner.append(vec![entry(1, 5, 8000)], large).unwrap();
    })
    .unwrap();
    until("all five", || order.lock().unwrap().len() == 5);
    assert_eq!(*order.lock().unwrap(), [1, 4, 3, 2, 5]);
}
