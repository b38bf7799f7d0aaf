//! What the log promises to its callers, without any fault.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use raftmap_log_store::disk::{Op, RealDisk, SimDisk};
use raftmap_log_store::{Contradiction, Log, LogConfig, LogError};

#[test]
fn entries_are_readable_before_they_are_durable_and_after_a_reopen() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let answer = append(&log, entries(1, 1..=3));
    assert_eq!(ids(&log), [(1, 1), (1, 2), (1, 3)]);
    wait(answer).unwrap();
    let written = read_all(&log);
    log.close().unwrap();

    let log = open(&disk);
    assert_eq!(read_all(&log), written);
    assert_eq!(log.ends().last, Some(id(1, 3)));
}

#[test]
fn a_real_disk_keeps_everything_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = || LogConfig { dir: dir.path().join("wal"), ..config() };
    let (log, info) = Log::open(config(), Arc::new(RealDisk), owner(1)).unwrap();
    assert!(info.created);
    for index in 1..=200 {
        wait(append(&log, vec![entry(1, index, 500)])).unwrap();
    }
    wait(save_vote(&log, vote(7))).unwrap();
    log.save_committed(id(1, 150)).unwrap();
    log.purge_upto(id(1, 100)).unwrap();
    let kept = read_all(&log);
    let uuid = log.uuid();
    log.close().unwrap();

    let (log, info) = Log::open(config(), Arc::new(RealDisk), owner(2)).unwrap();
    assert!(info.clean_shutdown && !info.created, "{info}");
    assert_eq!((info.first_index, info.last_index), (Some(101), Some(200)));
    assert_eq!(read_all(&log), kept);
    assert_eq!(log.vote(), Some(vote(7)));
    assert_eq!(log.committed(), Some(id(1, 150)));
    assert_eq!(log.uuid(), uuid);
    // 100 entries of 500 bytes and what is still in the segment of the purge frontier.
    assert!(log.stats().segments <= 6, "{:?}", log.stats());
}

#[test]
fn a_gap_an_overlap_and_a_lower_term_are_refused_and_leave_no_trace() {
    let log = open(&SimDisk::new());
    wait(append(&log, entries(2, 5..=6))).unwrap();
    for wrong in [entries(2, 8..=8), entries(2, 6..=6), entries(1, 7..=7)] {
        assert!(matches!(append(&log, wrong), Err(LogError::OutOfOrder(_))));
    }
    let mixed = [entries(2, 7..=7), entries(2, 9..=9)].concat();
    assert!(append(&log, mixed).is_err());
    assert!(matches!(
        save_vote(&log, vote(3)).and(save_vote(&log, vote(2))),
        Err(LogError::OutOfOrder(Contradiction::Vote { .. }))
    ));
    assert_eq!(ids(&log), [(2, 5), (2, 6)]);
    wait(append(&log, entries(2, 7..=7))).unwrap();
}

#[test]
fn an_entry_over_the_limit_is_refused_before_anything_is_queued() {
    let disk = SimDisk::new();
    let mut config = config();
    config.entry_bytes_max = 1024;
    let (log, _) = open_with(&disk, config).unwrap();
    let too_large = append(&log, vec![entry(1, 1, 10), entry(1, 2, 1025)]);
    assert!(matches!(too_large, Err(LogError::TooLarge { bytes: 1025, limit: 1024 })));
    assert_eq!(log.ends().last, None);
    wait(append(&log, vec![entry(1, 1, 1024)])).unwrap();
}

#[test]
fn entries_of_every_size_come_back_after_a_reopen() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let sizes = [0, 1, 7, 8, 9, 4055, 4056, 4057, 4096, 16_000, 16_384, 100_000, 3];
    for (index, len) in (1..).zip(sizes) {
        let mut entry = entry(1, index, len);
        entry.payload.truncate(len);
        wait(append(&log, vec![entry])).unwrap();
    }
    let written = read_all(&log);
    assert_eq!(written.iter().map(|entry| entry.payload.len()).collect::<Vec<_>>(), sizes);
    log.close().unwrap();
    assert_eq!(read_all(&open(&disk)), written);
}

#[test]
fn a_truncation_is_seen_at_once_and_the_new_entries_replace_the_old() {
    let disk = SimDisk::new();
    let mut config = config();
    config.cache_bytes_max = 0;
    let (log, _) = open_with(&disk, config.clone()).unwrap();
    for index in 1..=60 {
        wait(append(&log, vec![entry(1, index, 700)])).unwrap();
    }
    assert!(segments(&disk).len() > 2);
    let done = truncate_after(&log, Some(10));
    assert_eq!(log.ends().last, Some(id(1, 10)));
    let append_done = append(&log, entries(3, 11..=12));
    wait(done).unwrap();
    wait(append_done).unwrap();
    let expected: Vec<_> = (1..=10).map(|i| (1, i)).chain([(3, 11), (3, 12)]).collect();
    assert_eq!(ids(&log), expected);
    assert_eq!(log.leader_ends(0..100), [id(1, 10), id(3, 12)]);
    log.close().unwrap();

    let (log, _) = open_with(&disk, config).unwrap();
    assert_eq!(ids(&log), expected);
    wait(truncate_after(&log, None)).unwrap();
    assert_eq!((ids(&log), log.ends().last), (vec![], None));
    wait(append(&log, entries(4, 1000..=1000))).unwrap();
    assert_eq!(ids(&log), [(4, 1000)]);
}

#[test]
fn truncating_beyond_the_end_changes_nothing_and_below_the_purge_is_refused() {
    let log = open(&SimDisk::new());
    wait(append(&log, entries(1, 1..=9))).unwrap();
    wait(truncate_after(&log, Some(9))).unwrap();
    wait(truncate_after(&log, Some(100))).unwrap();
    assert_eq!(ids(&log).len(), 9);
    log.purge_upto(id(1, 4)).unwrap();
    assert!(truncate_after(&log, Some(3)).is_err());
    wait(truncate_after(&log, Some(4))).unwrap();
    assert_eq!((ids(&log).len(), log.ends().last), (0, Some(id(1, 4))));
    wait(append(&log, entries(2, 5..=5))).unwrap();
}

#[test]
fn a_purge_beyond_the_last_entry_empties_the_log_which_goes_on_behind_it() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=5))).unwrap();
    log.purge_upto(id(3, 20)).unwrap();
    assert_eq!((ids(&log), log.ends().last), (vec![], Some(id(3, 20))));
    assert!(append(&log, entries(3, 6..=6)).is_err());
    wait(append(&log, entries(3, 21..=22))).unwrap();
    log.purge_upto(id(1, 2)).unwrap();
    assert_eq!(log.ends().purged, Some(id(3, 20)), "an older purge is nothing new");
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!((ids(&log), log.ends().purged), (vec![(3, 21), (3, 22)], Some(id(3, 20))));
}

#[test]
fn purged_segments_are_removed_and_the_rest_is_readable() {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 1..=100 {
        wait(append(&log, vec![entry(1, index, 700)])).unwrap();
    }
    let before = segments(&disk).len();
    log.purge_upto(id(1, 90)).unwrap();
    until("the removal", || segments(&disk).len() <= 2);
    assert!(before >= 5, "{before}");
    assert_eq!(ids(&log).first(), Some(&(1, 91)));
    log.close().unwrap();
    assert_eq!(ids(&open(&disk)).len(), 10);
}

#[test]
fn reads_are_bounded_in_bytes_but_never_empty_from_memory_and_from_disk() {
    let disk = SimDisk::new();
    for cache_bytes_max in [0, 5_000, 1 << 20] {
        let mut config = config();
        (config.cache_bytes_max, config.index_bytes_max, config.files_max) =
            (cache_bytes_max, 0, 1);
        let (log, _) = open_with(&disk, config).unwrap();
        if log.ends().last.is_none() {
            for index in 1..=60 {
                wait(append(&log, vec![entry(1, index, 900)])).unwrap();
            }
        }
        assert_eq!(ids(&log).len(), 60);
        for from in 1..=60 {
            let one = log.read(from..61, 0).unwrap();
            assert_eq!(one.iter().map(|e| e.id.index).collect::<Vec<_>>(), [from]);
            let some = log.read(from..61, 3000).unwrap();
            let most = usize::try_from(61 - from).unwrap().min(3);
            assert!((1..=most).contains(&some.len()), "{} from {from}", some.len());
            assert_eq!(some, read_all(&log)[usize::try_from(from).unwrap() - 1..][..some.len()]);
        }
        assert_eq!(log.read(61..70, 100).unwrap(), []);
        assert_eq!(log.read(9..9, 100).unwrap(), []);
        log.close().unwrap();
    }
}

#[test]
fn votes_wait_for_everything_before_them() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let appended = append(&log, entries(1, 1..=50)).unwrap();
    wait(save_vote(&log, vote(2))).unwrap();
    // Newest first within one commit, so the append is told right after; but it is durable by now.
    let after = open(&disk.after_power_cut(raftmap_log_store::disk::Survival::Nothing));
    assert_eq!(ids(&after).len(), 50);
    appended.recv_timeout(DEADLINE).unwrap().unwrap();
}

#[test]
fn what_is_committed_is_written_with_the_next_commit_or_when_idle_but_never_beyond_the_end() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=3))).unwrap();
    let commits = log.stats().commits;
    log.save_committed(id(1, 2)).unwrap();
    log.save_committed(id(1, 3)).unwrap();
    assert_eq!(log.committed(), Some(id(1, 3)));
    until("the idle write", || log.stats().commits == commits + 1);
    log.save_committed(id(1, 9)).unwrap();
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(log.committed(), Some(id(1, 3)), "entry 9 never came");
}

#[test]
fn an_idle_log_does_nothing_after_its_one_frontier_write() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=3))).unwrap();
    log.save_committed(id(1, 3)).unwrap();
    let operations = || (disk.steps(), disk.count(Op::Read));
    let mut seen = operations();
    let mut quiet_since = std::time::Instant::now();
    // 40 times the idle interval without a single operation.
    until("quiet", || {
        if operations() != seen {
            (seen, quiet_since) = (operations(), std::time::Instant::now());
        }
        quiet_since.elapsed() > std::time::Duration::from_millis(200)
    });
    drop(log);
}

#[test]
fn one_commit_takes_all_that_waited_during_the_last() {
    let disk = SimDisk::new();
    let mut config = config();
    (config.batch_bytes_max, config.segment_bytes_max) = (256 << 10, 1 << 20);
    let (log, _) = open_with(&disk, config).unwrap();
    wait(append(&log, entries(1, 1..=1))).unwrap();
    let before = log.stats().commits;
    let answers: Vec<_> = (2..=1000).map(|i| append(&log, entries(1, i..=i))).collect();
    for answer in answers {
        wait(answer).unwrap();
    }
    let commits = log.stats().commits - before;
    assert!(commits < 500, "{commits} commits for 999 appends");
}

#[test]
fn the_queue_tells_when_it_is_full_and_when_there_is_room_again() {
    let disk = SimDisk::new();
    let mut config = config();
    (config.queue_bytes_max, config.batch_bytes_max) = (8 << 10, 4 << 10);
    let (log, _) = open_with(&disk, config).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(log.poll_room(&mut cx), Poll::Ready(Ok(()))));
    let big = append(&log, (1..=400).map(|i| entry(1, i, 1000)).collect());
    // Taken whole, in parts of one batch each; readable all the same.
    assert_eq!(ids(&log).len(), 400);
    wait(big).unwrap();
    until("room", || matches!(log.poll_room(&mut cx), Poll::Ready(Ok(()))));
    assert!(log.stats().commits >= 100);
}

#[test]
fn only_one_process_has_the_log_and_only_its_own_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = || LogConfig { dir: dir.path().to_owned(), ..config() };
    let (log, _) = Log::open(config(), Arc::new(RealDisk), owner(1)).unwrap();
    let second = Log::open(config(), Arc::new(RealDisk), owner(2));
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
    drop(log);
    let mut other = owner(3);
    other.node_id = 2;
    let stranger = Log::open(config(), Arc::new(RealDisk), other);
    assert!(matches!(stranger, Err(LogError::WrongOwner { found: 1, expected: 2, .. })));
}

#[test]
fn a_closed_log_refuses_and_answers_everyone() {
    let log = open(&SimDisk::new());
    let answer = append(&log, entries(1, 1..=3));
    log.clone().close().unwrap();
    wait(answer).unwrap();
    assert!(matches!(append(&log, entries(1, 4..=4)), Err(LogError::Closed)));
    assert_eq!(ids(&log).len(), 3);
}

#[test]
fn the_last_handle_may_go_in_a_completion() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let inside = log.clone();
    let (told, heard) = std::sync::mpsc::channel();
    log.append(entries(1, 1..=1), move |result| {
        drop(inside);
        told.send(result.is_ok()).unwrap();
    })
    .unwrap();
    drop(log);
    assert_eq!(heard.recv_timeout(DEADLINE), Ok(true));
    until("the lock", || open_with(&disk, config()).is_ok());
}

#[test]
fn sealed_segments_are_shortened_once_the_next_one_exists() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, vec![entry(1, 1, 100)])).unwrap();
    wait(append(&log, vec![entry(1, 2, 20_000)])).unwrap();
    until("the shortening", || disk.files()[&segments(&disk)[0]].len() < 6000);
    log.close().unwrap();
    assert_eq!(ids(&open(&disk)), [(1, 1), (1, 2)]);
}
