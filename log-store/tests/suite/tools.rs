//! The reading tools: what they say of a whole log, of a damaged one, and that they say what an open would.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use raftmap_log_store::disk::{Fault, Op, SimDisk, Survival};
use raftmap_log_store::tools::{Dumped, Outcome, Stated, Wanted, What, dump, inspect, verify};
use raftmap_log_store::{Log, LogError};

use crate::common::*;

/// A log of a few segments with every kind of record, left without being closed, FRONTIER up to date.
fn left() -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut hands) = worn(&disk);
    let mut commit = |answer| commit(&mut hands, answer);
    commit(append(&log, entries(2, 7..=8)));
    log.save_committed(id(2, 6)).unwrap();
    commit(append(&log, entries(2, 9..=9)));
    hands.rest();
    while hands.tidy() {}
    disk.after_power_cut(Survival::Everything)
}

/// What `verify` says, after checking that an open of the same disk says the same, and that looking changed nothing.
fn verified(disk: &SimDisk) -> Outcome {
    let before = disk.files();
    let shallow = verify(&config(), disk, false).outcome;
    let deep = verify(&config(), disk, true).outcome;
    assert_eq!(disk.files(), before, "looking changed something");
    assert_eq!(shallow.exit_code(), deep.exit_code(), "{shallow:?} but deep {deep:?}");
    let opened = open_with(&disk.after_power_cut(Survival::Everything), config());
    match (&deep, opened) {
        (Outcome::Clean, Ok((_, info))) => assert_eq!((info.created, info.torn), (false, None)),
        (Outcome::Torn(torn), Ok((_, info))) => {
            let cut = info.torn.expect("an unfinished write");
            assert_eq!((torn.offset, torn.bytes), (cut.offset, cut.bytes));
        }
        (Outcome::Nothing, Ok((_, info))) => assert!(info.created),
        (Outcome::Corrupt(damage), Err(LogError::Corrupt(refused))) => assert_eq!(*damage, refused),
        (Outcome::Unreadable(error), Err(refused)) => {
            assert_eq!(error.to_string(), refused.to_string());
        }
        (says, opened) => panic!("verify says {says:?}, an open {opened:?}"),
    }
    deep
}

fn dumped(disk: &SimDisk, wanted: &Wanted) -> Vec<String> {
    let mut lines = Vec::new();
    dump(disk, Path::new(DIR), wanted, &mut |found| {
        lines.push(match found {
            Dumped::Damage { from, to, .. } => format!("damage {from}..{to}"),
            Dumped::Record(record) => match record.what {
                What::Entry { id, payload, .. } => format!("entry {id} {}", payload.len()),
                What::Vote(vote) => format!("vote {vote}"),
                What::Committed(id) => format!("committed {id}"),
                What::TruncateAfter(keep) => format!("truncate {}", keep.unwrap()),
                What::PurgeUpto(id) => format!("purge {id}"),
                What::Seal { first, entries } => format!("seal {first}+{entries}"),
                What::Unreadable { claims_index, .. } => format!("unreadable {claims_index:?}"),
            },
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    lines
}

fn looked(disk: &SimDisk) -> raftmap_log_store::tools::Inspection {
    inspect(disk, Path::new(DIR)).unwrap()
}

#[test]
fn a_whole_log_is_clean_and_inspected_without_damage() {
    let disk = left();
    assert!(matches!(verified(&disk), Outcome::Clean));
    let found = looked(&disk);
    assert!(matches!(&found.identity, Stated::Says(identity) if identity.node_id == 1));
    assert!(found.frontier.iter().all(|slot| matches!(slot, Stated::Says(_))), "{found}");
    assert!(found.notes.is_empty() && found.locked.is_none());
    assert!(found.segments.len() > 1);
    for segment in &found.segments {
        assert!(segment.damage.is_empty(), "{found}");
    }
    let entries: u64 = found.segments.iter().map(|segment| segment.records.entries).sum();
    assert_eq!(entries, 10, "six, one dropped, four more");
    let (last, earlier) = found.segments.split_last().unwrap();
    assert!(last.footer.is_none() && earlier.iter().all(|segment| segment.footer.is_some()));
    let text = found.to_string();
    assert!(text.contains("IDENTITY  node 1") && text.contains("was durable"), "{text}");
}

#[test]
fn a_dump_tells_the_records_in_the_order_in_which_they_were_written() {
    let disk = left();
    let all = dumped(&disk, &Wanted { all_kinds: true, ..Wanted::default() });
    assert_eq!(all[..3], ["vote 3-1 (open)", "entry 1-1.1 4000", "entry 1-1.2 4000"]);
    assert!(
        all.contains(&"truncate 1-1.5".to_owned()) && all.contains(&"committed 2-1.6".to_owned())
    );
    assert_eq!(all[all.len() - 2..], ["entry 2-1.9 40", "committed 2-1.6"]);

    let few = dumped(&disk, &Wanted { indexes: 6..=7, all_kinds: false });
    let expected = ["entry 1-1.6 40", "truncate 1-1.5", "entry 2-1.6 9000", "entry 2-1.7 40"];
    assert_eq!(few, expected);
}

#[test]
fn damage_in_the_middle_is_told_and_passed_over() {
    let disk = left();
    let first = segments(&disk)[0].clone();
    let mut bytes = disk.files()[&first].clone();
    let at = bytes.windows(4).position(|w| w == b"1/2;").unwrap();
    bytes[at + 100] ^= 1;
    disk.put(&first, bytes);
    let Outcome::Corrupt(damage) = verified(&disk) else { panic!("damage is not noticed") };
    assert_eq!(damage.file, first);
    assert_eq!(damage.first_index, Some(2));

    let all = dumped(&disk, &Wanted::default());
    assert_eq!(all[0], "entry 1-1.1 4000");
    assert!(all[1].starts_with("damage "), "{all:?}");
    assert_eq!(all[2..4], ["unreadable Some(2)", "entry 1-1.3 4000"]);
    let found = looked(&disk);
    assert_eq!(found.segments[0].damage.len(), 1);
    assert!(found.to_string().contains("DAMAGED"));
}

#[test]
fn behind_a_lost_header_the_frames_are_still_found() {
    let disk = left();
    let first = segments(&disk)[0].clone();
    let whole = dumped(&disk, &Wanted::default());
    let mut bytes = disk.files()[&first].clone();
    bytes[..4096].fill(0xA5);
    disk.put(&first, bytes);
    assert!(matches!(verified(&disk), Outcome::Corrupt(_)));
    let found = dumped(&disk, &Wanted::default());
    assert_eq!(found[0], "damage 0..4096");
    assert_eq!(found[1..], whole);
}

#[test]
fn every_sector_of_every_file_zeroed_or_cut_off_gets_the_answer_of_an_open() {
    let disk = left();
    for (path, bytes) in files(&disk) {
        for sector in 0..bytes.len().div_ceil(512) {
            let from = sector * 512;
            let image = disk.after_power_cut(Survival::Everything);
            let mut zeroed = bytes.clone();
            let to = (from + 512).min(bytes.len());
            zeroed[from..to].fill(0);
            image.put(&path, zeroed);
            verified(&image);
            looked(&image);
            dumped(&image, &Wanted::default());
            image.put(&path, bytes[..from].to_vec());
            verified(&image);
            looked(&image);
            dumped(&image, &Wanted::default());
        }
        let image = disk.after_power_cut(Survival::Everything);
        image.take(&path);
        verified(&image);
    }
}

#[test]
fn an_unfinished_write_is_a_torn_tail_and_looking_leaves_it() {
    let disk = left();
    let (log, mut hands, _) =
        Log::open_by_hand(config(), Arc::new(disk.clone()), owner(2)).unwrap();
    drop(append(&log, vec![entry(2, 10, 3000)]));
    disk.inject(Op::SyncData, 1, 1, Fault::Error(std::io::ErrorKind::Other));
    hands.commit();
    drop((log, hands));
    let torn = (0..200).map(|coins| disk.after_power_cut(Survival::Coins(coins)));
    let mut outcomes: Vec<_> = torn.map(|image| verified(&image).exit_code()).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    assert_eq!(outcomes, [0, 1]);
}

#[test]
fn a_write_whose_sync_failed_is_seen_as_an_open_sees_it() {
    let disk = left();
    let (log, mut hands, _) =
        Log::open_by_hand(config(), Arc::new(disk.clone()), owner(2)).unwrap();
    drop(append(&log, vec![entry(2, 10, 3000)]));
    disk.inject(Op::SyncData, 1, 1, Fault::Error(std::io::ErrorKind::Other));
    hands.commit();
    drop((log, hands));
    // The process is gone, the machine is not: what the disk does not have is still in the cache.
    let found = verify(&config(), &disk, false);
    let (log, info) = open_with(&disk, config()).unwrap();
    let last = found.info.expect("it opens").last_index;
    assert_eq!((last, ids(&log).len()), (info.last_index, 9));
}

#[test]
fn an_empty_directory_and_none_are_nothing_to_verify() {
    let disk = SimDisk::new();
    assert_eq!(verify(&config(), &disk, true).outcome.exit_code(), 3);
    disk.put_dir(Path::new(DIR));
    assert!(matches!(verified(&disk), Outcome::Nothing));
}

#[test]
fn a_log_that_is_open_is_said_to_be() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=3))).unwrap();
    let found = verify(&config(), &disk, true);
    assert_eq!(found.outcome.exit_code(), 0, "{found}");
    assert!(found.locked.is_some() && found.to_string().contains("may be moving"));
    assert!(looked(&disk).locked.is_some());
}
