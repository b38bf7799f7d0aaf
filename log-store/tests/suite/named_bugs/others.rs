//! Logs with one or two bugs each, and openraft's own.

use std::io::ErrorKind;

use raftmap_log_store::disk::{Fault, Op, Survival};
use raftmap_log_store::{Log, LogConfig};

use super::*;

/// okaywal #14, and its `log_file.rs`: when the one that syncs for all failed, those who waited for it waited
/// for ever.
#[test]
fn okaywal_14_a_failed_sync_wakes_everyone_who_waits() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, config()).unwrap();
    wait(append(&log, entries(1, 1..=1))).unwrap();
    disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    let answers: Vec<_> = (2..50).map(|i| append(&log, vec![entry(1, i, 500)])).collect();
    assert!(answers.into_iter().all(|answer| wait(answer).is_err()));
}

/// pebble #453, #543, #621: a record whose later piece was missing came back shortened.
#[test]
fn pebble_453_a_frame_comes_back_whole_or_not_at_all() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=1));
    let batch: Vec<_> = (2..=6).map(|index| entry(1, index, 700)).collect();
    let off = by_hand.cut_off_while_writing(batch);
    for coins in 0..64 {
        let found = ByHand::open(&off.after_power_cut(Survival::Coins(coins)));
        let read = read_all(&found.log);
        assert!(read.len() == 1 || read.len() == 6, "{}", read.len());
        assert!(read.iter().skip(1).all(|entry| entry.payload.len() == 700));
    }
}

/// pebble #864, cockroach #68319: an older log that did not end cleanly is corrupt; but a start that crashed
/// right after it made its new log left exactly that. Here the end is sealed, durably, before there is a
/// next segment.
#[test]
fn pebble_864_a_start_that_crashes_anywhere_is_followed_by_one_that_succeeds() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    let off = by_hand.cut_off_while_writing(vec![entry(1, 4, 3000)]);
    for coins in 0..6 {
        let torn = off.after_power_cut(Survival::Coins(coins));
        for step in 0.. {
            let disk = torn.after_power_cut(Survival::Everything);
            disk.power_off_at(step);
            let opened = ByHand::try_open(&disk, still());
            let is_whole = opened.is_ok_and(|mut by_hand| {
                let next = by_hand.log.ends().last.unwrap().index + 1;
                by_hand.commit(|log| append(log, entries(2, next..=next))).is_ok()
            });
            for survival in SURVIVALS {
                let found = ByHand::open(&disk.after_power_cut(survival)).ids().len();
                assert!(found >= 3 + usize::from(is_whole), "step {step}, {survival:?}");
            }
            if is_whole {
                assert!(step > 6);
                break;
            }
        }
    }
}

/// pebble #6031: the mark of what was synced was not moved on when a metric was off, so a bad record in the
/// middle looked like a torn end. Here each frame carries it, and it is never behind the frame before.
#[test]
fn pebble_6031_every_frame_says_that_all_before_it_was_durable() {
    let mut by_hand = ByHand::new();
    for index in 1..=12 {
        by_hand.append(vec![entry(1, index, 2000)]);
        if index % 5 == 0 {
            by_hand = by_hand.restarted();
        }
    }
    for bytes in by_hand.segments().values() {
        // Everything before the segment, then everything before the frame.
        let mut durable = u64_at(bytes, 48);
        for (at, len) in frames(bytes) {
            assert_eq!(u64_at(bytes, at + 16), durable);
            durable = u64_at(bytes, at + 8) + u64::try_from(len).unwrap();
        }
    }
}

/// pebble #5142: a plain copy of a growing log looks corrupt or, worse, complete. Here a copy opens with a
/// prefix that has everything up to its own FRONTIER, or refuses.
#[test]
fn pebble_5142_a_copy_of_a_growing_log_is_a_prefix_or_refused() {
    let mut by_hand = ByHand::new();
    (1..=5).for_each(|index| by_hand.append(vec![entry(1, index, 2000)]));
    by_hand.tidy();
    let mut copies = vec![by_hand.disk.files()];
    for index in 6..=14 {
        by_hand.append(vec![entry(1, index, 2000)]);
        if index % 4 == 0 {
            by_hand.tidy();
        }
        copies.push(by_hand.disk.files());
    }
    let names: Vec<_> = copies.last().unwrap().keys().cloned().collect();
    let mut refused = 0;
    // Copied name by name while the log grows: each file is of a later moment than the one before.
    for start in 0..copies.len() {
        for reversed in [false, true] {
            let disk = by_hand.disk.after_power_cut(Survival::Everything);
            disk.files().into_keys().for_each(|path| drop(disk.take(&path)));
            let mut order = names.clone();
            if reversed {
                order.reverse();
            }
            for (moment, name) in (start..).zip(&order) {
                if let Some(bytes) = copies[moment.min(copies.len() - 1)].get(name) {
                    disk.put(name, bytes.clone());
                }
            }
            match ByHand::try_open(&disk, still()) {
                Ok(copy) => {
                    let found = copy.ids();
                    assert!(found.len() >= 5 && found == by_hand.ids()[..found.len()]);
                }
                Err(LogError::Corrupt(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 0, "some of them are refused");
}

/// cockroach #37102, #32605 (PostgreSQL in 2018): a failed sync was tried again and succeeded, because the
/// kernel had marked the pages clean. Here what such a page holds is not believed either: the next process
/// drops it from the cache before it reads.
#[test]
fn cockroach_37102_what_a_failed_sync_left_in_the_cache_is_not_believed() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    by_hand.disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    assert!(by_hand.commit(|log| append(log, entries(1, 4..=4))).is_err());
    let by_hand = by_hand.restarted();
    assert!(by_hand.info.after_failure);
    let reported = by_hand.ids();
    assert_eq!(reported.len(), 3);
    let left = ByHand::open(&by_hand.disk.after_power_cut(Survival::Nothing));
    assert_eq!(left.ids(), reported);
}

/// nats #3911: when a truncation failed, the log went on with entries at the wrong place, without end.
#[test]
fn nats_3911_a_truncation_that_fails_is_the_end() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=5));
    by_hand.disk.inject(Op::Write, 1, 1, Fault::Error(ErrorKind::Other));
    assert!(by_hand.commit(|log| truncate_after(log, Some(2))).is_err());
    assert!(matches!(append(&by_hand.log, entries(2, 3..=3)), Err(LogError::Failed(_))));
    assert_eq!(by_hand.restarted().ids().len(), 5, "it did not happen");
}

/// nats #2549: a repair cut the log at the wrong index, one off the bad entry.
#[test]
fn nats_2549_a_cut_is_at_the_unfinished_frame_to_the_byte() {
    for count in 1..=9 {
        let mut by_hand = ByHand::new();
        by_hand.append(entries(1, 1..=count));
        let path = last_segment(&by_hand.disk);
        let end = frames(&by_hand.segments()[&path]).last().map(|(at, len)| at + len).unwrap();
        let off = by_hand.cut_off_while_writing(vec![entry(1, count + 1, 3000)]);
        let by_hand = ByHand::open(&off.after_power_cut(Survival::Coins(3)));
        let torn = by_hand.info.torn.as_ref().expect("a torn end");
        assert_eq!(torn.offset, u64::try_from(end).unwrap());
        assert_eq!(by_hand.ids().len(), usize::try_from(count).unwrap());
    }
}

/// nats #7549 (Jepsen, 2.12.1): one flipped bit lost 679,153 of 1,367,069 acknowledged writes.
#[test]
fn nats_7549_a_flipped_bit_loses_nothing_silently() {
    let mut by_hand = ByHand::new();
    (1..=8).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    by_hand.tidy();
    for (path, bytes) in by_hand.segments() {
        let end = frames(&bytes).last().map_or(4096, |(at, len)| at + len);
        for byte in (0..end).step_by(41) {
            let disk = changed(&by_hand.disk, &path, |bytes| bytes[byte] ^= 0x10);
            is_refused(&format!("{path:?}, byte {byte}"), &disk);
        }
    }
}

/// cqlite #1390: after a torn end new records were appended behind it, where no replay came any more.
#[test]
fn cqlite_1390_nothing_is_appended_behind_a_torn_end() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    let off = by_hand.cut_off_while_writing(vec![entry(1, 4, 3000)]);
    for coins in 0..16 {
        let mut by_hand = ByHand::open(&off.after_power_cut(Survival::Coins(coins)));
        let found = by_hand.ids().len();
        let torn = last_segment(&by_hand.disk);
        let next = u64::try_from(found).unwrap() + 1;
        by_hand.append(entries(2, next..=next));
        assert_ne!(last_segment(&by_hand.disk), torn);
        assert_eq!(by_hand.restarted().ids().len(), found + 1);
    }
}

/// d-engine #404: an error while persisting was logged, and the caller was told that all was well.
/// HomeStore #917: on an error the callback was never called.
#[test]
fn d_engine_404_homestore_917_an_error_is_told_to_the_one_who_asked() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=1));
    by_hand.disk.inject(Op::Write, 1, u64::MAX / 2, Fault::Error(ErrorKind::StorageFull));
    let told = by_hand.commit(|log| save_vote(log, vote(4)));
    let Err(LogError::Failed(failure)) = told else { panic!("{told:?}") };
    assert_eq!((failure.op, failure.kind), ("write", ErrorKind::StorageFull));
}

/// camunda #6098: a corrupted entry was read as the end of the log.
#[test]
fn camunda_6098_a_corrupted_entry_is_not_the_end() {
    let mut by_hand = ByHand::new();
    (1..=6).for_each(|index| by_hand.append(vec![entry(1, index, 60)]));
    let path = last_segment(&by_hand.disk);
    let (at, len) = frames(&by_hand.segments()[&path])[2];
    for byte in at..at + len {
        let disk = changed(&by_hand.disk, &path, |bytes| bytes[byte] ^= 0x80);
        is_refused(&format!("byte {byte} of the third entry"), &disk);
    }
}

/// openraft #2118: a saved vote counts as the durability of all appends before it. A log that syncs votes by
/// themselves loses what a new leader then takes for flushed.
#[test]
fn openraft_2118_a_vote_is_not_durable_before_the_appends_before_it() {
    let mut by_hand = ByHand::new();
    let answers: Vec<_> =
        (1..=30).map(|i| append(&by_hand.log, vec![entry(1, i, 1000)]).unwrap()).collect();
    let voted = save_vote(&by_hand.log, vote(2)).unwrap();
    let mut commits = 0;
    while voted.try_recv().is_err() {
        assert!(by_hand.hands.commit());
        commits += 1;
        let left = ByHand::open(&by_hand.disk.after_power_cut(Survival::Nothing));
        let is_whole = left.ids().len() == 30;
        assert!(is_whole || left.log.vote().is_none(), "the vote overtook an append");
    }
    assert!(commits > 5, "they did not fit one commit");
    assert!(answers.iter().all(|answer| answer.try_recv().unwrap().is_ok()));
}

/// openraft #1252: a vote that was granted and then forgotten. Here it is the same sync.
#[test]
fn openraft_1252_a_vote_that_was_told_survives() {
    for cut in 0..12 {
        let disk = SimDisk::new();
        let mut by_hand = ByHand::open(&disk);
        by_hand.append(entries(1, 1..=1));
        disk.power_off_at(disk.steps() + cut);
        let mut told = None;
        for term in 1..=9 {
            if by_hand.commit(|log| save_vote(log, vote(term))).is_ok() {
                told = Some(vote(term));
            }
        }
        for survival in SURVIVALS {
            let left = ByHand::open(&disk.after_power_cut(survival));
            assert!(left.log.vote() >= told, "{:?} after {told:?}", left.log.vote());
        }
    }
}

/// openraft #1795, #1798: a read that came back short or failed was sent on as if it were the whole range.
#[test]
fn openraft_1798_a_read_is_whole_or_an_error() {
    let disk = SimDisk::new();
    let config = LogConfig { cache_bytes_max: 0, index_bytes_max: 0, files_max: 1, ..still() };
    let mut by_hand = ByHand::try_open(&disk, config).unwrap();
    (1..=12).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    let reads = |log: &Log| log.read(1..13, usize::MAX);
    for nth in 1.. {
        let before = disk.count(Op::Read);
        disk.inject(Op::Read, nth, 1, Fault::Error(ErrorKind::Other));
        let read = reads(&by_hand.log);
        if disk.count(Op::Read) < before + nth {
            assert_eq!(read.unwrap().len(), 12);
            assert!(nth > 6);
            break;
        }
        assert!(read.is_err(), "read {nth} failed, and nobody was told");
    }
}

/// openraft #1960, #1964: completions out of order were applied as they came, and a single voter never
/// committed. Here commits are told in order, and within one the newest first.
#[test]
fn openraft_1960_commits_are_told_in_order() {
    let mut by_hand = ByHand::new();
    let (told, heard) = std::sync::mpsc::channel();
    for index in 1..=60 {
        let told = told.clone();
        let note = move |result: Result<(), LogError>| {
            result.unwrap();
            told.send(index).unwrap();
        };
        by_hand.log.append(vec![entry(1, index, 600)], note).unwrap();
    }
    let mut last_of_all = 0;
    while by_hand.hands.commit() {
        let group: Vec<u64> = heard.try_iter().collect();
        assert!(group.iter().rev().is_sorted(), "newest first: {group:?}");
        assert_eq!(group.last(), Some(&(last_of_all + 1)));
        last_of_all = group[0];
    }
    assert_eq!(last_of_all, 60);
}
