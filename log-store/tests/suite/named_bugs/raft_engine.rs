//! TiKV's raft-engine.

use std::io::ErrorKind;

use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::{Fault, Op, Survival};

use super::*;

/// #250, #251, tikv #13123: segments were replayed in parallel and met entries that an earlier purge and a
/// truncation had already replaced. Here they are replayed in order, and strictly.
#[test]
fn raft_engine_250_entries_that_replaced_purged_and_truncated_ones_come_back() {
    let mut by_hand = ByHand::new();
    let mut term = 1;
    for index in 1..=10 {
        by_hand.append(vec![entry(term, index, 3000)]);
    }
    for _ in 0..5 {
        let last = by_hand.ids().last().unwrap().1;
        by_hand.purge(term, last - 4);
        by_hand.truncate(Some(last - 2));
        term += 1;
        (last - 1..=last + 3).for_each(|index| by_hand.append(vec![entry(term, index, 3000)]));
        by_hand.truncate(Some(last + 1));
        term += 1;
        (last + 2..=last + 5).for_each(|index| by_hand.append(vec![entry(term, index, 3000)]));
        let expected = by_hand.ids();
        by_hand = by_hand.restarted();
        assert_eq!(by_hand.ids(), expected);
    }
}

/// #142, #180: what said that entries were removed was written or replayed in the wrong order, and files that
/// came back brought their entries back. Here the purge is part of the one order, and of every later header.
#[test]
fn raft_engine_142_a_removed_file_that_comes_back_brings_nothing_back() {
    let mut by_hand = ByHand::new();
    (1..=20).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    let all = by_hand.segments();
    by_hand.purge(1, 18);
    by_hand.tidy();
    let kept = by_hand.segments();
    assert!(kept.len() + 3 < all.len());
    // Only the newest ones can come back: each removal is durable before the next.
    let gone: Vec<_> = all.iter().filter(|(path, _)| !kept.contains_key(*path)).collect();
    for back in 0..=gone.len() {
        let disk = by_hand.disk.after_power_cut(Survival::Everything);
        gone[back..].iter().for_each(|(path, bytes)| disk.put(path, (*bytes).clone()));
        let by_hand = ByHand::open(&disk);
        assert_eq!(by_hand.ids(), [(1, 19), (1, 20)], "{back}");
        assert_eq!(by_hand.segments().len(), kept.len(), "and goes again");
    }
}

/// #123 (yugabyte #3490 and raft-log aa6b279 are the same): the old file was not synced when the next one
/// began, so its end could be lost with the power while later entries were acknowledged.
#[test]
fn raft_engine_123_a_segment_is_durable_before_its_successor_has_a_name() {
    let mut by_hand = ByHand::new();
    for index in 1..=12 {
        let answer = append(&by_hand.log, vec![entry(1, index, 3000)]);
        // All the steps of this commit, rolls included: of each only the names survive.
        while by_hand.hands.commit() {}
        wait(answer).unwrap();
        let left = by_hand.disk.after_power_cut(Survival::NamesOnly);
        assert_eq!(ByHand::open(&left).ids().len(), usize::try_from(index).unwrap());
    }
    let story = |disk: &SimDisk, told: &mut u64| {
        let Ok(mut by_hand) = ByHand::try_open(disk, still()) else { return };
        for index in 1..=8 {
            if by_hand.commit(|log| append(log, vec![entry(1, index, 4000)])).is_ok() {
                *told = index;
            }
        }
    };
    every_cut(
        story,
        || 0,
        |what, left, told| {
            let names: Vec<_> = wal_files(left).into_iter().collect();
            for (path, bytes) in names.iter().rev().skip(1) {
                let (at, len) = *frames(bytes).last().expect("a sealed segment has a frame");
                assert_eq!(bytes[at + 48], 6, "{what}: {path:?} has a successor and no seal");
                assert!(at + len <= bytes.len());
            }
            assert!(ByHand::open(left).ids().len() >= usize::try_from(*told).unwrap(), "{what}");
        },
    );
}

/// #126, #131: after a failed sync the state said that the write had happened, and later ones were
/// acknowledged over the hole.
#[test]
fn raft_engine_126_after_a_failed_sync_nothing_is_acknowledged_again() {
    for op in [Op::Write, Op::SyncData, Op::SyncAll, Op::SyncDir, Op::Rename] {
        let mut by_hand = ByHand::new();
        by_hand.append(vec![entry(1, 1, 9000)]);
        by_hand.disk.inject(op, 1, 1, Fault::Error(ErrorKind::Other));
        // The second one needs a new segment, with every kind of operation.
        let failed = by_hand.commit(|log| append(log, vec![entry(1, 2, 9000)]));
        assert!(matches!(failed, Err(LogError::Failed(_))), "{op:?}");
        for index in 3..6 {
            let later = by_hand.commit(|log| append(log, entries(1, index..=index)));
            assert!(matches!(later, Err(LogError::Failed(_))), "{op:?}");
        }
        assert!(matches!(by_hand.hands.close(), Err(LogError::Failed(_))));
        let by_hand = ByHand::open(&by_hand.disk);
        assert_eq!(by_hand.ids()[0], (1, 1), "{op:?}");
    }
}

/// #191: an interrupted read was taken for the end of the file, and the rest was cut.
#[test]
fn raft_engine_191_an_interrupted_read_is_not_the_end() {
    let mut by_hand = ByHand::new();
    (1..=12).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    let disk = by_hand.killed();
    for nth in (1..30).step_by(3) {
        disk.inject(Op::Read, nth, 3, Fault::Error(ErrorKind::Interrupted));
        let by_hand = ByHand::open(&disk);
        assert_eq!((by_hand.ids().len(), &by_hand.info.torn), (12, &None), "read {nth}");
    }
}

/// #200: after the file was cut the writer kept its old position, and wrote behind a hole.
#[test]
fn raft_engine_200_behind_a_cut_there_is_no_hole() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=2));
    let mut disk = by_hand.cut_off_while_writing(vec![entry(1, 3, 3000)]);
    for round in 0..20 {
        let mut by_hand = ByHand::open(&disk.after_power_cut(Survival::Coins(round)));
        let next = by_hand.ids().last().unwrap().1 + 1;
        by_hand.append(entries(1, next..=next));
        disk = by_hand.cut_off_while_writing(vec![entry(1, next + 1, 3000)]);
    }
    let found = ByHand::open(&disk.after_power_cut(Survival::Nothing)).ids();
    assert!(found.len() >= 22 && found.iter().zip(1..).all(|((_, index), i)| *index == i));
}

/// #295, tikv #17325: a header with an impossible offset or length made the next start panic.
#[test]
fn raft_engine_295_a_header_of_any_length_or_offset_is_no_panic() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    by_hand.tidy();
    let path = last_segment(&by_hand.disk);
    for len in (0..4200).step_by(13).chain([4095, 4096, 4097]) {
        let disk = changed(&by_hand.disk, &path, |bytes| bytes.truncate(len));
        is_refused(&format!("{len} bytes"), &disk);
    }
    // start lsn, capacity and the predecessor's end, with a checksum that is right
    for field in [48, 64, 80] {
        let now = u64_at(&by_hand.segments()[&path], field);
        for value in [0, 1, 4096, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            if value == now {
                continue;
            }
            let disk = changed(&by_hand.disk, &path, |bytes| {
                forge_header(bytes, field, &value.to_le_bytes());
            });
            match ByHand::try_open(&disk, still()) {
                Err(LogError::Corrupt(_)) => {}
                Err(other) => panic!("{value} at {field}: {other}"),
                Ok(opened) => assert_eq!(opened.ids().len(), 3, "{value} at {field}"),
            }
        }
    }
}

/// #319: the entries of the last file were not checked at a start, only what pointed to them.
#[test]
fn raft_engine_319_every_payload_is_checked_at_a_start() {
    let mut by_hand = ByHand::new();
    by_hand.append(vec![entry(1, 1, 2000)]);
    by_hand.append(vec![entry(1, 2, 2000)]);
    by_hand.tidy();
    let path = last_segment(&by_hand.disk);
    for (at, len) in frames(&by_hand.segments()[&path]) {
        for byte in (at + 80..at + len).step_by(97) {
            let disk = changed(&by_hand.disk, &path, |bytes| bytes[byte] ^= 0x20);
            is_refused(&format!("byte {byte} of a payload"), &disk);
        }
    }
}

/// #272: files were used again, and records of their earlier life were taken for new ones. Here none is used
/// again, and a frame is bound to its place by position, salt and chain: one of elsewhere is none.
#[test]
fn raft_engine_272_frames_of_elsewhere_are_no_frames() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 2500)]));
    let (segments, expected) = (by_hand.segments(), by_hand.ids());
    let last = last_segment(&by_hand.disk);
    let end = frames(&segments[&last]).last().map(|(at, len)| at + len).unwrap();
    for (path, bytes) in &segments {
        for (at, len) in frames(bytes) {
            let len = len.min(segments[&last].len() - end);
            let disk = changed(&by_hand.disk, &last, |tail| {
                tail[end..end + len].copy_from_slice(&bytes[at..at + len]);
            });
            // Refused or cut; but never believed.
            if let Ok(opened) = ByHand::try_open(&disk, still()) {
                assert_eq!(opened.ids(), expected, "a frame of {path:?} at {at}");
            }
        }
    }
}

/// #344: on a full disk the engine did not start, so nothing could be removed. Here an open writes only into
/// room that it has, and what it needs less than that it removes first.
#[test]
fn raft_engine_344_a_full_disk_does_not_keep_the_log_from_opening() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    by_hand.purge(1, 5);
    let disk = by_hand.killed();
    for op in [Op::Create, Op::Allocate] {
        disk.inject(op, 1, u64::MAX / 2, Fault::Error(ErrorKind::StorageFull));
    }
    let by_hand = ByHand::open(&disk);
    assert_eq!(by_hand.ids(), [(1, 6), (1, 7), (1, 8), (1, 9)]);
    assert!(by_hand.info.leftovers > 0, "room was given back");
}

/// tikv #17383, #17760: after files were rewritten the index still pointed into one that was gone. Here files
/// are never rewritten, and the places of purged entries go with them.
#[test]
fn tikv_17383_the_index_points_into_no_file_that_is_gone() {
    let disk = SimDisk::new();
    let config = LogConfig { cache_bytes_max: 0, index_bytes_max: 0, files_max: 1, ..still() };
    let mut by_hand = ByHand::try_open(&disk, config).unwrap();
    for index in 1..=40 {
        by_hand.append(vec![entry(1, index, 3000)]);
        if index % 7 == 0 {
            by_hand.purge(1, index - 3);
            by_hand.tidy();
        }
        let first = by_hand.ids()[0].1;
        assert_eq!(read_all(&by_hand.log).len(), usize::try_from(index - first + 1).unwrap());
    }
}
