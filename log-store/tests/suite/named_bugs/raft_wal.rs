//! HashiCorp's raft-wal.

use std::collections::BTreeMap;

use raftmap_log_store::disk::Survival;
use raftmap_log_store::{Contradiction, LogConfig};

use super::*;

/// Nothing in memory: every read goes through a footer and the file.
fn from_disk(disk: &SimDisk) -> ByHand {
    let config = LogConfig { cache_bytes_max: 0, index_bytes_max: 0, files_max: 1, ..still() };
    ByHand::try_open(disk, config).unwrap()
}

/// #31, #33: a segment that was sealed by a truncation had no index block, and the next read panicked.
#[test]
fn raft_wal_31_a_segment_sealed_after_a_truncation_has_its_index() {
    for keep in 0..=7 {
        let disk = SimDisk::new();
        let mut by_hand = from_disk(&disk);
        by_hand.append(entries(1, 1..=7));
        by_hand.truncate((keep > 0).then_some(keep));
        by_hand.hands.close().unwrap();
        let mut by_hand = from_disk(&disk);
        let expected: Vec<_> = (1..=keep).map(|index| (1, index)).collect();
        assert_eq!(by_hand.ids(), expected);
        by_hand.append(vec![entry(2, keep + 1, 20_000)]);
        by_hand.append(vec![entry(2, keep + 2, 20_000)]);
        assert_eq!(by_hand.ids().len(), usize::try_from(keep).unwrap() + 2);
        drop(by_hand);
        assert_eq!(from_disk(&disk).ids().len(), usize::try_from(keep).unwrap() + 2);
    }
}

/// #32: an append that failed left its offsets behind, and every later one was "non-monotonic".
#[test]
fn raft_wal_32_a_refused_append_leaves_no_trace() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(2, 1..=3));
    let wrong = [entries(2, 5..=6), entries(2, 3..=4), entries(1, 4..=4)];
    for entries in wrong {
        assert!(matches!(
            by_hand.commit(|log| append(log, entries)),
            Err(LogError::OutOfOrder(Contradiction::Index { .. } | Contradiction::Term { .. }))
        ));
    }
    by_hand.append(entries(2, 4..=4));
    let by_hand = by_hand.restarted();
    assert_eq!(by_hand.ids(), [(2, 1), (2, 2), (2, 3), (2, 4)]);
}

/// #24: after a snapshot was restored the first index is not 1, and the log refused it.
#[test]
fn raft_wal_24_the_first_index_may_be_any() {
    for first in [0, 1, 2, 1_000_000_000, u64::MAX - 4] {
        let mut by_hand = ByHand::new();
        by_hand.append(entries(1, first..=first + 1));
        let mut by_hand = by_hand.restarted();
        by_hand.append(entries(1, first + 2..=first + 2));
        let by_hand = by_hand.restarted();
        assert_eq!(by_hand.ids(), [(1, first), (1, first + 1), (1, first + 2)]);

        let mut restored = ByHand::new();
        restored.append(entries(1, 5..=6));
        if first > 6 {
            restored.purge(3, first - 1);
            restored.append(entries(3, first..=first));
            assert_eq!(restored.restarted().ids(), [(3, first)]);
        }
    }
}

/// #17: readers shared a buffer, and one got the bytes of another. Here what was read is nobody else's, also
/// when it is read at once by many.
#[test]
fn raft_wal_17_what_was_read_stays_what_it_was() {
    let disk = SimDisk::new();
    let mut by_hand = from_disk(&disk);
    (1..=30).for_each(|index| by_hand.append(vec![entry(1, index, 900)]));
    let expected: Vec<_> = (1..=30).map(|index| entry(1, index, 900)).collect();
    let log = &by_hand.log;
    std::thread::scope(|scope| {
        let read = |from: usize| {
            let expected = &expected;
            move || {
                for n in 0..200 {
                    let at = (from * 7 + n * 13) % 30;
                    let first = u64::try_from(at).unwrap() + 1;
                    let one = log.read(first..31, 3000).unwrap();
                    let rest = log.read(1..31, usize::MAX).unwrap();
                    assert_eq!(one[..], expected[at..at + one.len()]);
                    assert_eq!(rest, *expected);
                }
            }
        };
        (0..4).for_each(|from| drop(scope.spawn(read(from))));
    });
}

/// f4daf86: two segments got the same id. Here the next number follows from the last segment, which is never
/// removed, and a number that was written to is never given to another.
#[test]
fn raft_wal_f4daf86_no_two_segments_ever_have_one_number() {
    let mut salts: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut disk = SimDisk::new();
    for round in 0..30 {
        let mut by_hand = ByHand::open(&disk);
        let next = by_hand.log.ends().last.map_or(1, |last| last.index + 1);
        by_hand.append(vec![entry(1, next, 9000)]);
        by_hand.append(vec![entry(1, next + 1, 9000)]);
        by_hand.purge(1, next);
        by_hand.tidy();
        for bytes in by_hand.segments().values() {
            let number = u64_at(bytes, 32);
            let salt = bytes[56..64].to_vec();
            assert_eq!(salts.entry(number).or_insert_with(|| salt.clone()), &salt, "{number}");
        }
        disk = by_hand.disk.after_power_cut(Survival::Coins(round));
    }
    assert!(salts.len() >= 30, "{}", salts.len());
}

/// 599b485 (found by ALICE): the last file was lost, and an empty one was made in its place.
#[test]
fn raft_wal_599b485_a_lost_last_segment_is_noticed() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    let without = |disk: &SimDisk| {
        let image = disk.after_power_cut(Survival::Everything);
        image.take(&last_segment(&image)).unwrap();
        image
    };
    by_hand.tidy();
    is_refused("the last segment is lost", &without(&by_hand.disk));
    // Also when FRONTIER does not tell of it: its predecessor was shortened because it had a name.
    let disk = without(&by_hand.disk);
    let frontier = path("FRONTIER");
    disk.put(&frontier, ByHand::new().disk.files()[&frontier].clone());
    is_refused("the last segment is lost, and FRONTIER knows nothing", &disk);
}

/// f7e2f7d (found by ALICE): an empty file in the place of the last one. Here it has no name before it is
/// whole, so one that is empty was damaged.
#[test]
fn raft_wal_f7e2f7d_an_empty_file_with_a_name_is_damage() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    for path in by_hand.segments().into_keys() {
        for len in [0, 1, 511, 4095] {
            let disk = changed(&by_hand.disk, &path, |bytes| bytes.truncate(len));
            is_refused(&format!("{path:?} of {len} bytes"), &disk);
            let disk = changed(&by_hand.disk, &path, |bytes| bytes.fill(0));
            is_refused(&format!("{path:?} is zero"), &disk);
        }
    }
}

/// 54d80f0: a read near the end of the file asked for more than there was, and failed.
#[test]
fn raft_wal_54d80f0_the_last_entry_of_a_full_segment_is_readable() {
    for len in 11_900..12_000 {
        let disk = SimDisk::new();
        let mut by_hand = from_disk(&disk);
        by_hand.append(vec![entry(1, 1, len)]);
        by_hand.append(vec![entry(1, 2, 64)]);
        by_hand.append(vec![entry(1, 3, 20_000)]);
        let read = read_all(&by_hand.log);
        assert_eq!(read, [entry(1, 1, len), entry(1, 2, 64), entry(1, 3, 20_000)]);
        by_hand.tidy();
        drop(by_hand);
        assert_eq!(read_all(&from_disk(&disk).log), read);
    }
}
