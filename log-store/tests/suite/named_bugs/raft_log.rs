//! raft-log (chunked-wal), by the author of openraft: nearest to ours in design.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::{Fault, Op, Survival};

use super::*;

/// 5a71534, and reading 0.3.0 (`flush_worker.rs`): a write that failed dropped the callbacks of those who
/// waited for it. Here everyone is told, once, whatever fails.
#[test]
fn raft_log_5a71534_everyone_is_told_of_an_error() {
    for op in [Op::Write, Op::SyncData] {
        let mut by_hand = ByHand::new();
        by_hand.append(entries(1, 1..=1));
        by_hand.disk.inject(op, 2, 1, Fault::Error(ErrorKind::Other));
        let answers: Vec<_> =
            (2..=100).map(|i| append(&by_hand.log, vec![entry(1, i, 500)]).unwrap()).collect();
        while by_hand.hands.commit() {}
        let told: Vec<bool> = answers.iter().map(|a| a.try_recv().unwrap().is_ok()).collect();
        let first_no = told.iter().position(|ok| !ok).expect("the second batch fails");
        assert!(first_no > 0 && told[first_no..].iter().all(|ok| !ok), "{op:?}: {told:?}");
        assert!(answers.iter().all(|answer| answer.try_recv().is_err()), "once");
    }
}

/// 707a9a2: seek and read were two steps, and another reader's seek came between them.
#[test]
fn raft_log_707a9a2_readers_of_one_file_do_not_disturb_each_other() {
    let disk = SimDisk::new();
    let config = LogConfig { cache_bytes_max: 0, ..still() };
    let mut by_hand = ByHand::try_open(&disk, config).unwrap();
    (1..=60).for_each(|index| by_hand.append(vec![entry(1, index, 200)]));
    let done = AtomicBool::new(false);
    let log = &by_hand.log;
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let done = &done;
            scope.spawn(move || {
                let mut at = reader;
                while !done.load(Ordering::Relaxed) {
                    at = (at * 7 + 3) % 60;
                    let read = log.read(at + 1..at + 2, usize::MAX).unwrap();
                    assert_eq!(read, [entry(1, at + 1, 200)]);
                }
            });
        }
        for index in 61..=200 {
            append(log, vec![entry(1, index, 200)]).unwrap();
            by_hand.hands.commit();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// 293d167: a chunk was removed before the purge was durable.
#[test]
fn raft_log_293d167_nothing_is_removed_while_the_purge_is_not_durable() {
    let mut by_hand = ByHand::new();
    (1..=12).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    by_hand.tidy();
    let before = by_hand.segments();
    by_hand.log.purge_upto(id(1, 11)).unwrap();
    while by_hand.hands.tidy() {}
    assert_eq!(by_hand.segments().len(), before.len(), "nothing is written yet");
    by_hand.disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    assert!(!by_hand.hands.rest(), "the sync of the purge fails");
    while by_hand.hands.tidy() {}
    assert_eq!(by_hand.segments().len(), before.len(), "raft-log unlinks after a failed sync");
}

/// 757542b: after a power cut ext4 left zeros where the size was already durable, and the chunk did not open.
/// Here zeros to the end are a clean end, as long as nothing shows that there was more.
#[test]
fn raft_log_757542b_zeros_where_nothing_was_acknowledged_are_a_clean_end() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    let off = by_hand.cut_off_while_writing(vec![entry(1, 4, 3000)]);
    let by_hand = ByHand::open(&off.after_power_cut(Survival::NamesOnly));
    assert_eq!((by_hand.ids().len(), &by_hand.info.torn), (3, &None));
    assert!(by_hand.info.zero_tail_bytes > 0);
}

/// databend #18988: on a full disk the node could not start, because the start made a chunk. Here the next
/// segment is made when there is something to write.
#[test]
fn databend_18988_a_start_on_a_full_disk_makes_no_file() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    let disk = by_hand.killed();
    let creations = disk.count(Op::Create);
    disk.inject(Op::Allocate, 1, 2, Fault::Error(ErrorKind::StorageFull));
    let mut by_hand = ByHand::open(&disk);
    assert_eq!((by_hand.ids().len(), disk.count(Op::Create)), (3, creations));
    let full = by_hand.commit(|log| append(log, entries(1, 4..=4)));
    assert!(matches!(full, Err(LogError::Failed(_))));
    // There is room again: nothing but what was refused is missing.
    drop(by_hand);
    disk.inject(Op::Allocate, 1, 1, Fault::Error(ErrorKind::StorageFull));
    let by_hand = ByHand::open(&disk);
    assert!(by_hand.info.after_failure);
    assert_eq!(by_hand.ids().len(), 3);
}

/// databend #7112: entries were deleted because the one before them was purged.
#[test]
fn databend_7112_the_entry_behind_the_purge_stays() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=9));
    for purged in 1..9 {
        by_hand.purge(1, purged);
        by_hand.tidy();
        by_hand.truncate(Some(9));
        by_hand = by_hand.restarted();
        assert_eq!(by_hand.ids()[0], (1, purged + 1));
        assert_eq!(by_hand.ids().last(), Some(&(1, 9)));
    }
}

/// Reading 0.3.0: a length that points beyond the end of the last chunk is taken for an unfinished write, and
/// everything behind it is cut, up to 1 GB of acknowledged entries.
#[test]
fn raft_log_r1_a_length_beyond_the_end_is_no_unfinished_write() {
    let mut by_hand = ByHand::new();
    (1..=6).for_each(|index| by_hand.append(vec![entry(1, index, 700)]));
    let path = last_segment(&by_hand.disk);
    let frames = frames(&by_hand.segments()[&path]);
    for &(at, _) in &frames[..frames.len() - 1] {
        for bit in 0..32 {
            let disk = changed(&by_hand.disk, &path, |bytes| {
                let len = u32_at(bytes, at + 24) ^ (1 << bit);
                forge_frame(bytes, at, 24, &len.to_le_bytes());
            });
            is_refused(&format!("the frame at {at}, bit {bit} of its length"), &disk);
        }
    }
}

/// Reading 0.3.0: after a sync failed the worker forgot the file and went on; the next flush was acknowledged.
/// Here a sync that would succeed after one that failed is never asked for.
#[test]
fn raft_log_r2_there_is_no_sync_after_a_failed_one() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    by_hand.tidy();
    by_hand.disk.inject(Op::SyncData, 1, 1, Fault::Error(ErrorKind::Other));
    assert!(by_hand.commit(|log| append(log, entries(1, 4..=4))).is_err());
    let syncs = by_hand.disk.count(Op::SyncData);
    for index in 4..8 {
        assert!(by_hand.commit(|log| append(log, entries(1, index..=index))).is_err());
    }
    by_hand.tidy();
    assert_eq!(by_hand.disk.count(Op::SyncData), syncs);
    assert_eq!(by_hand.log.read(1..4, usize::MAX).unwrap().len(), 3, "reads are still served");
}

/// Reading 0.3.0: a directory is never synced. (Others: etcd #6368.) Here a name is durable before a frame
/// is in the file, also after a process was killed between rename and sync.
#[test]
fn raft_log_r4_a_name_that_was_never_synced_is_synced_by_the_next_open() {
    let mut by_hand = ByHand::new();
    by_hand.disk.inject(Op::SyncDir, 1, 2, Fault::Error(ErrorKind::Other));
    assert!(by_hand.commit(|log| append(log, entries(1, 1..=1))).is_err());
    let by_hand = by_hand.restarted();
    assert_eq!(by_hand.segments().len(), 1, "the cache has the name");
    let end = by_hand.info.end_lsn;
    let left = ByHand::open(&by_hand.disk.after_power_cut(Survival::Nothing));
    assert_eq!(left.info.end_lsn, end, "what was reported is still there");
}

/// Reading 0.3.0: the damaged end of an older chunk is cut first, and then the gap is noticed: by then the
/// evidence is gone. Here a refusal changes nothing, also the second time.
#[test]
fn raft_log_r5_a_refusal_leaves_the_evidence() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    by_hand.tidy();
    for (path, bytes) in by_hand.segments() {
        let (at, len) = *frames(&bytes).first().unwrap();
        let disk = changed(&by_hand.disk, &path, |bytes| bytes[at + len / 2] ^= 1);
        is_refused(&format!("{path:?}"), &disk);
        is_refused(&format!("{path:?}, again"), &disk);
    }
}

/// Reading 0.3.0: an open holds all records of a chunk in memory. Here it holds four bytes of each entry.
#[test]
fn raft_log_r7_an_open_keeps_no_payload_in_memory() {
    let mut by_hand = ByHand::new();
    (1..=40).for_each(|index| by_hand.append(vec![entry(1, index, 8000)]));
    let by_hand = by_hand.restarted();
    assert_eq!(by_hand.log.stats().cache_bytes, 0);
    assert_eq!(by_hand.log.read_cached(1..2, usize::MAX), None);
    assert_eq!(by_hand.ids().len(), 40);
}
