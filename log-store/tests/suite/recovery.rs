//! What an open does beside deciding: how much it holds open, what a crash or a full disk in the middle of
//! it leaves, what it says when it refuses.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use raftmap_log_store::disk::{Disk, Fault, Op, SimDisk, Survival};
use raftmap_log_store::{Cause, Damage, Hands, Log, LogConfig, LogError, examine};

use crate::common::*;

fn by_hand(disk: &SimDisk, config: LogConfig) -> (Log, Hands) {
    let disk = Arc::new(disk.clone()) as Arc<dyn Disk>;
    let (log, hands, _) = Log::open_by_hand(config, disk, owner(7)).unwrap();
    (log, hands)
}

fn commit(log: &Log, hands: &mut Hands, index: u64, len: usize) {
    let answer = append(log, vec![entry(1, index, len)]).unwrap();
    assert!(hands.commit());
    answer.recv_timeout(DEADLINE).unwrap().unwrap();
}

#[test]
fn the_files_that_an_open_holds_do_not_grow_with_the_log() {
    let config = LogConfig { files_max: 8, ..config() };
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config.clone());
    for index in 1..=600 {
        commit(&log, &mut hands, index, 12_000);
    }
    assert_eq!(segments(&disk).len(), 600);
    // As a crash leaves them: none of them shortened.
    let left = disk.after_power_cut(Survival::Everything);
    let (log, mut hands) = by_hand(&left, config.clone());
    // Those of sealed segments, two being read, FRONTIER.
    assert!(left.open_files().1 <= config.files_max + 4, "{:?}", left.open_files());
    while hands.tidy() {}
    for index in 1..=600 {
        assert_eq!(log.read(index..index + 3, 10_000).unwrap()[0].id.index, index);
    }
    assert!(left.open_files().1 <= config.files_max + 4, "{:?}", left.open_files());
    let unused = left.files().into_iter().filter(|(path, bytes)| {
        path.extension().is_some_and(|ext| ext == "wal") && bytes.len() == 16 << 10
    });
    assert_eq!(unused.count(), 1, "all but the last are shortened");
}

/// A write that the system cuts short in the middle of a sector is the one case in which a sector could
/// survive half written, with others behind it.
#[test]
fn a_power_cut_between_short_writes_leaves_nothing_that_is_refused() {
    for (short, payload) in [(1, 60), (511, 1500), (700, 3000), (37, 900)] {
        let disk = SimDisk::new();
        let (log, mut hands) = by_hand(&disk, config());
        commit(&log, &mut hands, 1, 300);
        let images: Arc<Mutex<Vec<SimDisk>>> = Arc::default();
        let seen = Arc::clone(&images);
        disk.watch(move |moment| {
            let coins = (0..4).map(|coin| Survival::Coins(moment.step * 4 + coin));
            let patterns =
                coins.chain([Survival::Everything, Survival::Newest(1), Survival::Newest(2)]);
            let images = patterns.map(|survival| moment.disk.after_power_cut(survival));
            seen.lock().unwrap().extend(images);
        });
        disk.inject(Op::Write, 1, u64::MAX, Fault::Short(short));
        commit(&log, &mut hands, 2, payload);
        disk.unwatch();
        disk.heal();
        let images = std::mem::take(&mut *images.lock().unwrap());
        assert!(!images.is_empty());
        for image in images {
            let opened = open_with(&image, config());
            let (log, _) = opened.unwrap_or_else(|e| panic!("short {short}, {payload} bytes: {e}"));
            assert!(matches!(ids(&log).len(), 1 | 2));
        }
    }
}

/// A log with an unfinished write at its end, a purged segment and a spare one.
fn torn() -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config());
    for index in 1..=3 {
        commit(&log, &mut hands, index, 9000);
    }
    log.purge_upto(id(1, 1)).unwrap();
    assert!(hands.rest());
    commit(&log, &mut hands, 4, 2000);
    let image = disk.after_power_cut(Survival::Everything);
    let last = segments(&image).pop().unwrap();
    let mut bytes = image.files()[&last].clone();
    let frame = bytes.windows(4).rposition(|window| window == b"RFRM").unwrap();
    bytes[(frame / 512 + 2) * 512..][..512].fill(0);
    image.put(&last, bytes);
    image.put(&path("spare.tmp"), vec![0; 16 << 10]);
    image
}

fn copies(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_keys().filter(|path| path.starts_with(path_of_quarantine())).collect()
}

fn path_of_quarantine() -> PathBuf {
    path("quarantine")
}

#[test]
fn an_open_that_meets_a_full_disk_can_be_done_again_when_there_is_room() {
    let torn = torn();
    let whole = torn.after_power_cut(Survival::Everything);
    let (log, info) = open_with(&whole, config()).unwrap();
    let expected = ids(&log);
    assert!(info.torn.is_some() && info.leftovers > 0, "there is something to do: {info}");
    let mut refusals = 0;
    let ops =
        [Op::CreateDir, Op::Create, Op::Write, Op::SyncAll, Op::SyncData, Op::SyncDir, Op::Rename];
    for op in ops {
        for nth in 1..=whole.count(op) {
            let image = torn.after_power_cut(Survival::Everything);
            image.inject(op, nth, u64::MAX, Fault::Error(ErrorKind::StorageFull));
            let refused = open_with(&image, config());
            refusals += u32::from(refused.is_err());
            assert!(
                matches!(refused, Ok(_) | Err(LogError::Io { .. })),
                "{op:?} {nth}: {:?}",
                refused.err()
            );
            drop(refused);
            image.heal();
            for survival in [Survival::Everything, Survival::Nothing, Survival::Coins(nth)] {
                let later = image.after_power_cut(survival);
                let (log, _) = open_with(&later, config())
                    .unwrap_or_else(|e| panic!("{op:?} {nth} {survival:?}: {e}"));
                assert_eq!(ids(&log), expected, "{op:?} {nth} {survival:?}");
                let copies = copies(&later);
                assert!((1..=2).contains(&copies.len()), "{op:?} {nth} {survival:?}: {copies:?}");
            }
        }
    }
    assert!(refusals > 5, "{refusals}");
}

#[test]
fn a_full_quarantine_says_so_and_leaves_no_half_copy() {
    let image = torn();
    let purged_is_gone = segments(&image).len() - 1;
    image.inject(Op::Write, 1, 1, Fault::Error(ErrorKind::StorageFull));
    let refused = open_with(&image, config()).unwrap_err().to_string();
    assert!(refused.contains("keep a copy of the unfinished write"), "{refused}");
    assert_eq!(copies(&image), Vec::<PathBuf>::new());
    assert_eq!(segments(&image).len(), purged_is_gone, "what gives room back was done first");
    assert!(!image.files().contains_key(&path("spare.tmp")));
}

#[test]
fn a_recovery_that_crashes_again_and_again_keeps_one_copy() {
    let mut disk = torn();
    let what_was_cut = {
        let probe = disk.after_power_cut(Survival::Everything);
        let (_, info) = open_with(&probe, config()).unwrap();
        probe.files()[&info.torn.unwrap().quarantine.unwrap()].clone()
    };
    // Each stops at the first write into the segment: by then there is a copy, made by the first of them.
    for round in 0..5 {
        disk.inject(Op::Write, if round == 0 { 2 } else { 1 }, 1, Fault::Error(ErrorKind::Other));
        assert!(open_with(&disk, config()).is_err());
        disk = disk.after_power_cut(Survival::Nothing);
    }
    open(&disk);
    let copies = copies(&disk);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(disk.files()[&copies[0]], what_was_cut);
}

fn refusal(disk: &SimDisk) -> Damage {
    let before = files(disk);
    let refused = open_with(disk, config());
    assert!(files(disk) == before, "a refusal changes nothing: {refused:?}");
    let Err(LogError::Corrupt(damage)) = refused else { panic!("{refused:?}") };
    let looked = examine(&config(), disk, None);
    assert!(matches!(looked, Err(LogError::Corrupt(seen)) if seen == damage));
    *damage
}

#[test]
fn a_refusal_says_where_what_and_what_to_do() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config());
    for index in 1..=3 {
        commit(&log, &mut hands, index, 9000);
    }
    assert!(hands.rest() && hands.tidy());
    while hands.tidy() {}
    let paths = segments(&disk);
    let [_, second, third] = paths.as_slice() else { panic!("{paths:?}") };
    let image = |change: &dyn Fn(&SimDisk)| {
        let image = disk.after_power_cut(Survival::Everything);
        change(&image);
        image
    };
    let flip = |disk: &SimDisk, path: &PathBuf, byte: usize| {
        let mut bytes = disk.files()[path].clone();
        bytes[byte] ^= 1;
        disk.put(path, bytes);
    };

    let rotten = refusal(&image(&|disk| flip(disk, second, 4096 + 500)));
    assert_eq!((rotten.cause, &rotten.file, rotten.offset), (Cause::Rotten, second, 4096));
    assert_eq!((rotten.first_index, rotten.last_index), (Some(2), Some(2)));

    let end = refusal(&image(&|disk| flip(disk, third, 4096 + 500)));
    assert_eq!((end.cause, &end.file), (Cause::EndLost, third));
    assert_eq!((end.first_index, end.last_index), (Some(3), Some(3)));

    let gap = refusal(&image(&|disk| drop(disk.take(second))));
    assert_eq!((gap.cause, &gap.file), (Cause::Missing, third));

    for (name, cause) in [("IDENTITY", Cause::Identity), ("FRONTIER", Cause::Frontier)] {
        let lost = refusal(&image(&|disk| drop(disk.take(&path(name)))));
        assert_eq!((lost.cause, &lost.file), (cause, &path(name)));
    }
    let named = refusal(&image(&|disk| disk.put(&path("copy.wal"), vec![1])));
    assert_eq!((named.cause, &named.file), (Cause::Misplaced, &path("copy.wal")));

    let text = rotten.to_string();
    for part in [second.display().to_string().as_str(), "byte 4096", "entries 2 to 2", "log verify"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let text = refusal(&image(&|disk| drop(disk.take(&path("FRONTIER"))))).to_string();
    assert!(text.contains("repair --rebuild-frontier"), "{text}");
}

#[test]
fn a_frontier_of_a_newer_version_is_not_taken_for_an_old_one() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config());
    commit(&log, &mut hands, 1, 100);
    assert!(hands.rest());
    while hands.tidy() {}
    let image = disk.after_power_cut(Survival::Everything);
    let mut bytes = image.files()[&path("FRONTIER")].clone();
    let counter = |at: usize| u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap());
    let newest = if counter(0) > counter(4096) { 0 } else { 4096 };
    let slot = &mut bytes[newest..newest + 512];
    slot[8] = 2;
    let crc = crc32c::crc32c(&slot[..508]);
    slot[508..].copy_from_slice(&crc.to_le_bytes());
    image.put(&path("FRONTIER"), bytes);
    let refused = open_with(&image, config());
    assert!(matches!(refused, Err(LogError::TooNew { found: 2, .. })), "{refused:?}");
}

/// A device that ends a read early, without an error, has not shown the end of the log.
#[test]
fn a_read_that_ends_early_is_an_error_and_no_end() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config());
    (1..=3).for_each(|index| commit(&log, &mut hands, index, 9000));
    let whole = disk.after_power_cut(Survival::Everything);
    open(&whole);
    let reads = whole.count(Op::Read);
    for (nth, times) in (1..=reads).flat_map(|nth| [(nth, 1), (nth, u64::MAX)]) {
        let image = disk.after_power_cut(Survival::Everything);
        image.inject(Op::Read, nth, times, Fault::Short(0));
        if let Ok((log, _)) = open_with(&image, config()) {
            image.heal();
            assert_eq!(ids(&log).len(), 3, "read {nth}, {times} times");
        }
    }
    assert!(reads > 5);
}

#[test]
fn traces_of_a_log_without_its_identity_are_no_new_log() {
    let empty = || {
        let disk = SimDisk::new();
        disk.create_dir(std::path::Path::new(DIR)).unwrap();
        disk
    };
    let failed = empty();
    failed.put(&path("FAILED"), b"a sync".to_vec());
    assert_eq!(refusal(&failed).cause, Cause::Identity);

    let cut = empty();
    cut.create_dir(&path("quarantine")).unwrap();
    assert_eq!(refusal(&cut).cause, Cause::Identity);
}

#[test]
fn the_loss_of_a_new_segment_is_noticed_as_soon_as_the_janitor_was_there() {
    let never = std::time::Duration::from_secs(60);
    let config = LogConfig { frontier_interval: never, idle_after: never, ..config() };
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config);
    for index in 1..=3 {
        commit(&log, &mut hands, index, 9000);
        while hands.tidy() {}
        let image = disk.after_power_cut(Survival::Everything);
        image.take(&segments(&image).pop().unwrap()).unwrap();
        let lost = refusal(&image);
        assert!(matches!(lost.cause, Cause::EndLost | Cause::Missing), "{index}: {lost}");
        // What FRONTIER tells by then is true of the log as well.
        open(&disk.after_power_cut(Survival::Nothing));
    }
}

/// The copy that a first open made is the copy: what it has zeroed since is in there too.
#[test]
fn a_crash_while_zeroing_needs_no_room_for_another_copy() {
    let torn = torn();
    for nth in 2..=4 {
        let image = torn.after_power_cut(Survival::Everything);
        image.inject(Op::Write, nth, 1, Fault::Error(ErrorKind::Other));
        assert!(open_with(&image, config()).is_err(), "write {nth}");
        let image = image.after_power_cut(Survival::Everything);
        let first = copies(&image);
        image.inject(Op::Create, 1, u64::MAX, Fault::Error(ErrorKind::StorageFull));
        let (_, info) = open_with(&image, config()).unwrap_or_else(|e| panic!("write {nth}: {e}"));
        assert_eq!(
            info.torn.and_then(|torn| torn.quarantine),
            first.first().cloned(),
            "write {nth}"
        );
        assert_eq!(copies(&image), first);
    }
}

/// What a killed process did to the names may be in the cache alone. Until it is durable nothing may be
/// removed on top of it: the power could bring back the older segment and not the newer one.
#[test]
fn names_that_a_killed_process_left_are_durable_before_others_go() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk, config());
    for index in 1..=4 {
        commit(&log, &mut hands, index, 9000);
    }
    log.purge_upto(id(1, 3)).unwrap();
    assert!(hands.rest());
    disk.inject(Op::SyncDir, 1, u64::MAX, Fault::Error(ErrorKind::Other));
    while hands.tidy() {}
    drop((log, hands));
    disk.heal();
    assert_eq!(segments(&disk).len(), 3, "the first is removed, not durably");

    let images: Arc<Mutex<Vec<SimDisk>>> = Arc::default();
    let seen = Arc::clone(&images);
    disk.watch(move |moment| {
        let newest = (1..=4).map(Survival::Newest);
        let patterns = newest.chain((0..4).map(|coin| Survival::Coins(moment.step * 4 + coin)));
        let images = patterns.map(|survival| moment.disk.after_power_cut(survival));
        seen.lock().unwrap().extend(images);
    });
    drop(open_with(&disk, config()).unwrap());
    disk.unwatch();
    for image in std::mem::take(&mut *images.lock().unwrap()) {
        let (log, _) = open_with(&image, config()).unwrap();
        assert_eq!(ids(&log), [(1, 4)]);
    }
}
