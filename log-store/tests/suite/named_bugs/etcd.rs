//! etcd's WAL.

use raftmap_log_store::disk::Survival;
use raftmap_log_store::{EntryParts, LogConfig};

use super::*;

fn three() -> ByHand {
    let mut by_hand = ByHand::new();
    by_hand.append(entries(1, 1..=3));
    by_hand.tidy();
    by_hand
}

/// #2736, #3065, #3186, PR #2597: a torn last record kept a member from starting, and its repair left a
/// file that failed again at the next start. Here what is cut is zeroed and the end is sealed before the
/// open returns.
#[test]
fn etcd_2736_a_torn_last_record_is_cut_once_and_stays_cut() {
    let mut torn = 0;
    let off = three().cut_off_while_writing(vec![entry(1, 4, 3000)]);
    for coins in 0..64 {
        let first = ByHand::open(&off.after_power_cut(Survival::Coins(coins)));
        let found = first.ids();
        assert!(found.len() == 3 || (found.len() == 4 && first.info.torn.is_none()));
        torn += u32::from(first.info.torn.is_some());
        let mut second = first.restarted();
        assert_eq!((second.ids(), &second.info.torn), (found.clone(), &None));
        let next = u64::try_from(found.len()).unwrap() + 1;
        second.append(entries(2, next..=next));
        let third = second.restarted();
        assert_eq!((third.ids().len(), &third.info.torn), (found.len() + 1, &None));
    }
    assert!(torn > 50, "{torn} of 64 were torn");
}

/// 53792cc: a crash while the next file was made left half of one under its final name. Here it is whole
/// and durable before it gets the name.
#[test]
fn etcd_53792cc_a_half_made_segment_never_has_a_name() {
    let story = |disk: &SimDisk, told: &mut u64| {
        let Ok(mut by_hand) = ByHand::try_open(disk, still()) else { return };
        for index in 1..=9 {
            if by_hand.commit(|log| append(log, vec![entry(1, index, 4000)])).is_ok() {
                *told = index;
            }
        }
    };
    every_cut(
        story,
        || 0,
        |what, left, told| {
            for (path, bytes) in wal_files(left) {
                assert!(
                    bytes.starts_with(b"RAFTMWAL") && bytes.len() >= 16 << 10,
                    "{what}: {path:?}"
                );
            }
            let found = ByHand::open(left).ids().len();
            assert!(found >= usize::try_from(*told).unwrap(), "{what}: {found} of {told}");
        },
    );
}

/// #4903: a tail without its preallocated room made the writer begin at offset 0 and overwrite the file.
/// Here no process ever writes an entry into a file that another one has written.
#[test]
fn etcd_4903_a_new_process_overwrites_nothing() {
    let mut by_hand = three();
    for round in 0..5 {
        let before = by_hand.segments();
        by_hand = by_hand.restarted();
        by_hand.append(entries(1, 4 + round..=4 + round));
        let after = by_hand.segments();
        for (path, old) in &before {
            let content = old.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            assert_eq!(after[path][..content], old[..content], "{path:?}");
        }
        assert_eq!(after.len(), before.len() + 1);
    }
    assert_eq!(by_hand.ids().len(), 8);
}

/// 5be39d2: at a start the *old* tail was preallocated again. Here only a file without a name ever grows.
#[test]
fn etcd_5be39d2_an_old_segment_never_grows() {
    let mut by_hand = three();
    for round in 0..4 {
        let before = by_hand.segments();
        by_hand = by_hand.restarted();
        by_hand.append(vec![entry(1, 4 + round, 9000)]);
        by_hand.tidy();
        let after = by_hand.segments();
        assert!(before.iter().all(|(path, old)| after[path].len() <= old.len()));
    }
}

/// #5230, PR #5250: once files were preallocated a torn write no longer ended the file, and was not
/// recognised. Here the length says only whether the file is whole; the content says where the log ends.
#[test]
fn etcd_5230_a_torn_write_in_preallocated_room_is_recognised() {
    let off = three().cut_off_while_writing(vec![entry(1, 4, 3000)]);
    let left = off.after_power_cut(Survival::Coins(5));
    let path = last_segment(&left);
    let len = left.files()[&path].len();
    let by_hand = ByHand::open(&left);
    let torn = by_hand.info.torn.as_ref().expect("it is recognised");
    assert_eq!((len, left.files()[&path].len()), (16 << 10, 16 << 10));
    let (end, bytes) =
        (usize::try_from(torn.offset).unwrap(), usize::try_from(torn.bytes).unwrap());
    assert!(bytes > 0 && end + bytes < len);
}

/// #5270: a crash while the directory was made left one that neither opened nor could be made again.
#[test]
fn etcd_5270_a_creation_cut_anywhere_is_begun_anew_or_whole() {
    let story = |disk: &SimDisk, told: &mut bool| {
        *told = ByHand::try_open(disk, still()).is_ok();
    };
    every_cut(
        story,
        || false,
        |what, left, told| {
            let mut by_hand = ByHand::open(left);
            assert!(!*told || !by_hand.info.created, "{what}: created twice");
            by_hand.append(entries(1, 1..=1));
            assert_eq!(by_hand.restarted().ids(), [(1, 1)], "{what}");
        },
    );
}

/// #6271, f1ead43: garbage behind the first record of zeros was not erased; new records lined up with it and
/// entries that were cut came back. Here it is zeroed, and the next frame goes into another file, with
/// another salt.
#[test]
fn etcd_6271_what_was_behind_the_end_never_comes_back() {
    let batch = vec![entry(1, 4, 900), entry(1, 5, 900), entry(1, 6, 900)];
    let off = three().cut_off_while_writing(batch);
    for coins in 0..32 {
        let mut by_hand = ByHand::open(&off.after_power_cut(Survival::Coins(coins)));
        if by_hand.ids().len() > 3 {
            continue;
        }
        by_hand.append(vec![entry(2, 4, 20)]);
        let mut by_hand = by_hand.restarted();
        assert_eq!(by_hand.ids(), [(1, 1), (1, 2), (1, 3), (2, 4)]);
        by_hand.append(vec![entry(2, 5, 20)]);
        for (path, bytes) in by_hand.segments() {
            assert!(!bytes.windows(4).any(|w| w == b"1/5;" || w == b"1/6;"), "{path:?}");
        }
    }
}

/// PR #6267, PR #6310: a write that begins inside a sector tore the record before it, which was durable.
/// Here that sector is written again with the same bytes, so either version of it holds the old frame.
#[test]
fn etcd_6267_a_tear_never_reaches_the_record_before() {
    for len in 1..=64 {
        let mut by_hand = ByHand::new();
        by_hand.append(vec![entry(1, 1, 7 * len)]);
        let off = by_hand.cut_off_while_writing(vec![entry(1, 2, 1500)]);
        for coins in 0..8 {
            let by_hand = ByHand::open(&off.after_power_cut(Survival::Coins(coins)));
            assert_eq!(by_hand.ids()[0], (1, 1), "length {len}, coins {coins}");
        }
    }
}

/// #6368, #6379: the directory was not synced after the rename, and appends could survive without the file
/// before them. Here whoever is told survives the worst power cut, at every roll.
#[test]
fn etcd_6368_what_was_told_survives_although_no_unsynced_name_does() {
    let mut by_hand = ByHand::new();
    for index in 1..=20 {
        by_hand.append(vec![entry(1, index, 3000)]);
        let left = by_hand.disk.after_power_cut(Survival::Nothing);
        assert_eq!(ByHand::open(&left).ids().len(), usize::try_from(index).unwrap());
    }
    assert!(by_hand.segments().len() > 3);
}

/// #6515: a record with zeros in it looked like the end of what was written. Here zeros mean nothing by
/// themselves: a frame is valid as a whole or not at all.
#[test]
fn etcd_6515_entries_of_zeros_are_entries() {
    let zeros = |index| {
        let mut zeros = entry(1, index, 8192);
        zeros.payload = vec![0; 8192].into();
        vec![zeros]
    };
    let mut by_hand = ByHand::new();
    (1..=5).for_each(|index| by_hand.append(zeros(index)));
    let by_hand = by_hand.restarted();
    assert_eq!(by_hand.ids().len(), 5);
    let off = by_hand.cut_off_while_writing(zeros(6));
    for coins in 0..16 {
        let found = ByHand::open(&off.after_power_cut(Survival::Coins(coins))).ids().len();
        assert!((5..=6).contains(&found), "{found}");
    }
}

/// #10219, #11924: one of the scans did not check checksums and panicked over what it read. Here there is one
/// scan, and it believes nothing that does not verify.
#[test]
fn etcd_11924_a_record_that_does_not_verify_is_an_error_and_no_panic() {
    let by_hand = three();
    let path = last_segment(&by_hand.disk);
    let (at, len) = frames(&by_hand.segments()[&path])[0];
    for byte in at + 40..at + len {
        for value in [0x00, 0x01, 0x7F, 0xFF] {
            let disk = changed(&by_hand.disk, &path, |bytes| bytes[byte] ^= value);
            if value != 0 {
                is_refused(&format!("byte {byte} with {value}"), &disk);
            }
        }
    }
}

/// #14098, PR #15068: the limit was checked when reading and not when writing, so an entry was accepted
/// that no restart could read. Here the limit is checked before anything is queued, and an entry that large
/// comes back.
#[test]
fn etcd_14098_what_is_accepted_is_readable_after_a_restart() {
    let config = || LogConfig { entry_bytes_max: 1 << 20, ..still() };
    let disk = SimDisk::new();
    let mut by_hand = ByHand::try_open(&disk, config()).unwrap();
    let of = |len: usize| vec![EntryParts { id: id(1, 1), kind: 1, payload: vec![7; len].into() }];
    let refused = by_hand.commit(|log| append(log, of((1 << 20) + 1)));
    assert!(matches!(refused, Err(LogError::TooLarge { bytes: 1_048_577, limit: 1_048_576 })));
    assert_eq!(by_hand.segments().len(), 0, "nothing was written");
    by_hand.append(of(1 << 20));
    drop(by_hand);
    let by_hand = ByHand::try_open(&disk, config()).unwrap();
    assert_eq!(read_all(&by_hand.log), of(1 << 20));
}

/// #14102: a damaged length of 13,563 TB was believed. Here a length is used only after its checksum, and
/// then only as far as the file goes.
#[test]
fn etcd_14102_a_length_beyond_the_file_reserves_no_memory() {
    let mut by_hand = three();
    by_hand.append(entries(1, 4..=4));
    by_hand.tidy();
    let path = last_segment(&by_hand.disk);
    let frames = frames(&by_hand.segments()[&path]);
    let before = virtual_memory_peak();
    for &(at, _) in &frames {
        for len in [0xFFFF_FFF8_u32, 0x8000_0000, 1 << 30] {
            let forged = changed(&by_hand.disk, &path, |bytes| {
                forge_frame(bytes, at, 24, &len.to_le_bytes());
            });
            is_refused(&format!("frame at {at} of {len} bytes"), &forged);
            let forged = changed(&by_hand.disk, &path, |bytes| {
                bytes[at + 44..at + 48].copy_from_slice(&len.to_le_bytes());
            });
            is_refused(&format!("record at {at} of {len} bytes"), &forged);
        }
    }
    let grown = virtual_memory_peak() - before;
    assert!(grown < 900 << 20, "{grown} more bytes of address space");
}

/// The most address space that this process ever had.
fn virtual_memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// #14143, #14140, #14370: entries were acknowledged, a single member's before any sync, and lost with the
/// power. Here everyone who is told could lose the power in that very moment.
#[test]
fn etcd_14370_nobody_is_told_before_the_sync() {
    let mut by_hand = ByHand::new();
    let (told, heard) = std::sync::mpsc::channel();
    for index in 1..=30 {
        let (told, disk) = (told.clone(), by_hand.disk.clone());
        let note = move |result: Result<(), LogError>| {
            result.unwrap();
            told.send((index, disk.after_power_cut(Survival::Nothing))).unwrap();
        };
        by_hand.log.append(vec![entry(1, index, 700)], note).unwrap();
        if index % 3 == 0 {
            while by_hand.hands.commit() {}
        }
    }
    let moments: Vec<_> = heard.try_iter().collect();
    assert_eq!(moments.len(), 30);
    for (index, left) in moments {
        let found = ByHand::open(&left).ids().len();
        assert!(u64::try_from(found).unwrap() >= index, "{found} of {index}");
    }
}

/// #19038, #19067: a run of zeros in the middle was taken for the end; the member started without the
/// entries behind it. Here every frame behind the zeros says that they were durable.
#[test]
fn etcd_19038_zeros_in_the_middle_are_no_end() {
    let mut by_hand = ByHand::new();
    (1..=9).for_each(|index| by_hand.append(vec![entry(1, index, 2500)]));
    // FRONTIER tells of nothing: it was never written again.
    let last = last_segment(&by_hand.disk);
    for (path, bytes) in by_hand.segments() {
        let frames = frames(&bytes);
        let known = if path == last { frames.len() - 1 } else { frames.len() };
        for &(at, len) in &frames[..known] {
            let disk = changed(&by_hand.disk, &path, |bytes| bytes[at..at + len].fill(0));
            is_refused(&format!("{path:?}: the frame at {at} is zero"), &disk);
        }
    }
}

/// oss-fuzz 44433: a fuzzed record made the decoder panic. Here any record that verifies but says nonsense
/// refuses, or is one that could have been written.
#[test]
fn oss_fuzz_44433_a_record_of_nonsense_never_panics() {
    let by_hand = three();
    let path = last_segment(&by_hand.disk);
    let bytes = by_hand.segments()[&path].clone();
    let (at, len) = *frames(&bytes).last().unwrap();
    let record = at + 40..at + len;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..3000_usize {
        let disk = changed(&by_hand.disk, &path, |bytes| {
            let record = &mut bytes[record.clone()];
            let fuzzed = if round < 256 { 8..9 } else { 4 + round % 30..40 };
            for byte in &mut record[fuzzed] {
                random =
                    random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                *byte = random.to_le_bytes()[7];
            }
            if round < 256 {
                record[8] = u8::try_from(round).unwrap();
            }
            let claimed = usize::try_from(u32_at(record, 4)).unwrap().next_multiple_of(8);
            let covered = record.get(4..claimed).unwrap_or_default();
            let crc = crc32c::crc32c(covered);
            record[..4].copy_from_slice(&crc.to_le_bytes());
        });
        match ByHand::try_open(&disk, still()) {
            Ok(_) | Err(LogError::Corrupt(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Changelog of 3.2 and 3.3: a purge removed files that were still needed, at a stop.
#[test]
fn etcd_3_3_a_purge_leaves_what_is_still_needed() {
    let story = |disk: &SimDisk, told: &mut u64| {
        let Ok(mut by_hand) = ByHand::try_open(disk, still()) else { return };
        for index in 1..=12 {
            if by_hand.commit(|log| append(log, vec![entry(1, index, 3000)])).is_ok() {
                *told = index;
            }
        }
        drop(by_hand.log.purge_upto(id(1, 7)));
        drop(by_hand.hands.close());
    };
    every_cut(
        story,
        || 0,
        |what, left, told| {
            let found = ByHand::open(left).ids();
            let indexes = || found.iter().map(|(_, index)| *index);
            let last = indexes().next_back().unwrap_or_default();
            assert!(last >= *told, "{what}: up to {last} of {told}");
            assert!((8..=last).all(|needed| indexes().any(|i| i == needed)), "{what}");
        },
    );
}
