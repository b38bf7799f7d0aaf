//! hiqlite-wal, which has the role of ours: the log of an openraft node.

use std::io::ErrorKind;

use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::{Fault, Op, Survival};

use super::*;

/// #361: everything but an append could be told before it was durable: removals did not mark the file as
/// changed, a vote reset the mark of others, the end of a full file was never synced.
#[test]
fn hiqlite_361_every_kind_of_change_is_durable_when_it_is_told() {
    let mut by_hand = ByHand::new();
    let durable = |by_hand: &ByHand| ByHand::open(&by_hand.disk.after_power_cut(Survival::Nothing));
    for round in 0..8 {
        let next = by_hand.log.ends().last.map_or(1, |last| last.index + 1);
        by_hand.append(vec![entry(round, next, 5000), entry(round, next + 1, 5000)]);
        assert_eq!(durable(&by_hand).ids(), by_hand.ids());
        by_hand.vote(round);
        assert_eq!(durable(&by_hand).log.vote(), by_hand.log.vote());
        by_hand.truncate(Some(next));
        assert_eq!(durable(&by_hand).log.ends(), by_hand.log.ends());
        by_hand.log.save_committed(id(round, next)).unwrap();
        by_hand.purge(round, next);
        let after = durable(&by_hand);
        assert_eq!(after.log.ends(), by_hand.log.ends());
        assert_eq!(after.log.committed(), Some(id(round, next)));
        by_hand.tidy();
    }
}

/// #357: files went before the purge that covered them was written. A crash between left a log without a
/// beginning.
#[test]
fn hiqlite_357_a_file_goes_only_after_its_purge_is_durable() {
    let story = |disk: &SimDisk, (): &mut ()| {
        let Ok(mut by_hand) = ByHand::try_open(disk, still()) else { return };
        for index in 1..=9 {
            drop(by_hand.commit(|log| append(log, vec![entry(1, index, 4000)])));
        }
        drop(by_hand.log.purge_upto(id(1, 7)));
        by_hand.hands.rest();
        while by_hand.hands.tidy() {}
    };
    every_cut(
        story,
        || (),
        |what, left, ()| {
            let by_hand = ByHand::open(left);
            let first = by_hand.ids().first().map_or(1, |(_, index)| *index);
            let purged = by_hand.log.ends().purged.map_or(0, |id| id.index);
            assert_eq!(first, purged + 1, "{what}: entries are gone that no purge covers");
        },
    );
}

/// #358: vote and purge were in a file that was removed and made again; a crash between lost both. Here each
/// segment begins with them, and the last one is never removed.
#[test]
fn hiqlite_358_vote_and_purge_outlive_every_file_that_told_of_them() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=2));
    by_hand.vote(7);
    by_hand.purge(1, 1);
    for index in 3..=30 {
        by_hand.append(vec![entry(1, index, 5000)]);
    }
    by_hand.purge(1, 28);
    by_hand.tidy();
    assert!(by_hand.segments().len() <= 2, "the file with the vote is gone");
    let by_hand = by_hand.restarted();
    assert_eq!(by_hand.log.vote(), Some(vote(7)));
    assert_eq!(by_hand.log.ends().purged, Some(id(1, 28)));
}

/// 0.12: a truncation overwrote the last purged id with nothing, and the node could not start.
#[test]
fn hiqlite_0_12_a_truncation_does_not_forget_the_purge() {
    for keep in [Some(5), Some(4), None] {
        let mut by_hand = ByHand::new();
        by_hand.append(entries(1, 1..=9));
        by_hand.purge(1, 4);
        by_hand.truncate(keep);
        assert_eq!(by_hand.log.ends().purged, Some(id(1, 4)));
        let by_hand = by_hand.restarted();
        assert_eq!(by_hand.log.ends().purged, Some(id(1, 4)));
        assert_eq!(by_hand.log.ends().last.map(|id| id.index), keep.or(Some(4)));
    }
}

/// #212: a truncation moved the front of the log. #210: the header was wrong after the first append.
#[test]
fn hiqlite_212_a_truncation_leaves_the_front_where_it_is() {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=1));
    let mut by_hand = by_hand.restarted();
    (2..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    for keep in (1..9).rev() {
        by_hand.truncate(Some(keep));
        let expected: Vec<_> = (1..=keep).map(|index| (1, index)).collect();
        assert_eq!(by_hand.ids(), expected);
        by_hand = by_hand.restarted();
        assert_eq!(by_hand.ids(), expected);
    }
}

/// #251: `<` in the place of `<=`, and a purge up to the end of a file never removed it.
#[test]
fn hiqlite_251_a_purge_up_to_the_last_entry_of_a_segment_removes_it() {
    let mut by_hand = ByHand::new();
    (1..=20).for_each(|index| by_hand.append(vec![entry(1, index, 7000)]));
    by_hand.tidy();
    // One entry in each segment: each purge removes one more.
    for index in 1..20 {
        let before = by_hand.segments().len();
        by_hand.purge(1, index);
        by_hand.tidy();
        assert!(before - by_hand.segments().len() <= 1);
    }
    assert!(by_hand.segments().len() <= 2, "{:?}", by_hand.segments().keys());
}

/// #353: an entry larger than a file made the writer panic.
#[test]
fn hiqlite_353_an_entry_may_be_larger_than_a_segment() {
    for len in [16 << 10, (16 << 10) + 1, 200_000] {
        let mut by_hand = ByHand::new();
        by_hand.append(vec![entry(1, 1, 10), entry(1, 2, len), entry(1, 3, 10)]);
        let by_hand = by_hand.restarted();
        assert_eq!(read_all(&by_hand.log)[1], entry(1, 2, len));
        assert_eq!(by_hand.ids().len(), 3);
    }
}

/// `wal.rs` of 0.14: when a header was behind, the recovery took any record with the next index, also one of
/// an old term that a truncation had removed: it came back behind the new entries.
#[test]
fn hiqlite_h1_a_truncated_suffix_never_comes_back_behind_new_entries() {
    let story = |disk: &SimDisk, told: &mut bool| {
        let Ok(mut by_hand) = ByHand::try_open(disk, still()) else { return };
        for index in 1..=6 {
            drop(by_hand.commit(|log| append(log, vec![entry(1, index, 1000)])));
        }
        if by_hand.commit(|log| truncate_after(log, Some(2))).is_ok() {
            *told = true;
        }
        drop(by_hand.commit(|log| append(log, vec![entry(2, 3, 1000)])));
    };
    every_cut(
        story,
        || false,
        |what, left, told| {
            let found = ByHand::open(left).ids();
            let terms: Vec<_> = found.iter().map(|(term, _)| *term).collect();
            assert!(terms.is_sorted(), "{what}: {found:?}");
            assert!(found.iter().zip(1..).all(|((_, index), i)| *index == i), "{what}: {found:?}");
            assert!(!*told || !found.contains(&(1, 3)), "{what}: {found:?} came back");
        },
    );
}

/// `wal.rs` of 0.14: a truncation exactly to the first id of a full file, then an append: unwrap on nothing.
#[test]
fn hiqlite_h2_a_truncation_to_the_first_entry_of_a_sealed_segment_goes_on() {
    let build = || {
        let mut by_hand = ByHand::new();
        (1..=12).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
        by_hand
    };
    let segments = build().segments();
    assert!(segments.len() > 3);
    for bytes in segments.values() {
        let first = u64_at(bytes, 40).max(1);
        for keep in [first - 1, first, first + 1] {
            let mut by_hand = build();
            by_hand.truncate((keep > 0).then_some(keep));
            let keep = keep.min(12);
            by_hand.append(entries(2, keep + 1..=keep + 1));
            let by_hand = by_hand.restarted();
            let last = by_hand.ids();
            assert_eq!(
                (last.len(), last.last()),
                (usize::try_from(keep).unwrap() + 1, Some(&(2, keep + 1)))
            );
        }
    }
}

/// `reader.rs` of 0.14: a wrong checksum in a range was logged, and the read came back short.
#[test]
fn hiqlite_h3_a_rotten_entry_is_an_error_and_no_short_answer() {
    let disk = SimDisk::new();
    let config = LogConfig { cache_bytes_max: 0, ..still() };
    let mut by_hand = ByHand::try_open(&disk, config).unwrap();
    by_hand.append(entries(1, 1..=9));
    let path = last_segment(&disk);
    let at = disk.files()[&path].windows(4).position(|w| w == b"1/5;").unwrap();
    file(&disk, &path).write_at(b"X", u64::try_from(at).unwrap()).unwrap();
    for range in [1..10, 5..6, 4..7, 5..10] {
        let read = by_hand.log.read(range.clone(), usize::MAX);
        let Err(LogError::Corrupt(damage)) = read else { panic!("{range:?}: {read:?}") };
        assert_eq!((damage.first_index, damage.last_index), (Some(5), Some(5)));
    }
    assert_eq!(by_hand.log.read(1..5, usize::MAX).unwrap().len(), 4);
    assert_eq!(by_hand.log.read(6..10, usize::MAX).unwrap().len(), 4);
}

/// `log_store.rs` of 0.14: files that could not be read were skipped at a start.
#[test]
fn hiqlite_h4_a_file_that_cannot_be_read_stops_the_start() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 3000)]));
    let disk = by_hand.killed();
    let opened = ByHand::open(&disk);
    assert_eq!(opened.ids().len(), 9);
    drop(opened);
    for nth in 1.. {
        let before = disk.count(Op::Read);
        disk.inject(Op::Read, nth, 1, Fault::Error(ErrorKind::PermissionDenied));
        let opened = ByHand::try_open(&disk, still());
        if disk.count(Op::Read) < before + nth {
            assert!(nth > 9, "every read of the start was met");
            assert_eq!(opened.unwrap().info.last_index, Some(9));
            break;
        }
        assert!(matches!(opened, Err(LogError::Io { .. })), "read {nth}");
    }
}
