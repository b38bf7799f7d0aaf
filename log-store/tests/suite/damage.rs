//! What is behind the end of the log: an unfinished write is cut and kept, anything else refuses. Everything
//! that can happen to the bytes of a log is in the catalogue.

use std::path::Path;
use std::time::Duration;

use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::{LogConfig, LogError};

use crate::common::*;

/// A log whose last commit is on the disk and not yet in FRONTIER, and where its frame lies.
fn just_committed() -> (SimDisk, std::path::PathBuf, std::ops::Range<usize>) {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, slow_frontier()).unwrap();
    for index in 1..=3 {
        wait(append(&log, vec![entry(1, index, 60)])).unwrap();
    }
    wait(append(&log, vec![entry(1, 4, 1500)])).unwrap();
    let left = disk.after_power_cut(Survival::Everything);
    let path = segments(&left).pop().unwrap();
    let bytes = left.files()[&path].clone();
    let begin = bytes.windows(4).rposition(|window| window == b"RFRM").unwrap();
    (left, path, begin..begin + 40 + 1536)
}

fn slow_frontier() -> LogConfig {
    let never = Duration::from_secs(60);
    LogConfig { frontier_interval: never, idle_after: never, ..config() }
}

fn with(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let image = disk.after_power_cut(Survival::Everything);
    let mut bytes = image.files()[path].clone();
    change(&mut bytes);
    image.put(path, bytes);
    image
}

#[test]
fn an_unfinished_write_is_cut_and_kept() {
    let (disk, path, frame) = just_committed();
    let sectors: Vec<_> = (frame.start / 512..=(frame.end - 1) / 512).collect();
    for kept in 1..(1u32 << sectors.len()) - 1 {
        let mut torn = Vec::new();
        let image = with(&disk, &path, |bytes| {
            let lost = sectors.iter().enumerate().filter(|(i, _)| kept >> i & 1 == 0);
            for (_, sector) in lost {
                bytes[(sector * 512).max(frame.start)..(sector + 1) * 512].fill(0);
            }
            torn = bytes[frame.clone()].to_vec();
        });
        let (log, info) = open_with(&image, config()).unwrap();
        assert_eq!(ids(&log), [(1, 1), (1, 2), (1, 3)]);
        let cut = info.torn.expect("a torn tail");
        assert_eq!(cut.offset, u64::try_from(frame.start).unwrap());
        let copy = image.files()[&cut.quarantine.unwrap()].clone();
        assert!(torn.starts_with(&copy) && torn[copy.len()..].iter().all(|byte| *byte == 0));
        drop(log);
        let (_, again) = open_with(&image, config()).unwrap();
        assert_eq!(again.torn, None, "cut once and for all");
    }
}

#[test]
fn garbage_behind_the_end_is_refused() {
    let (disk, path, frame) = just_committed();
    let own = disk.files()[&path][4096..frame.end].to_vec();
    for garbage in [vec![0xFF; 900], own, b"RFRM".repeat(100), vec![0, 0, 0, 7]] {
        let image = with(&disk, &path, |bytes| {
            bytes[frame.end..][..garbage.len()].copy_from_slice(&garbage);
        });
        let before = files(&image);
        assert!(matches!(open_with(&image, config()), Err(LogError::Corrupt(_))));
        assert_eq!(files(&image), before);
    }
}

#[test]
fn strict_tail_refuses_what_would_be_cut() {
    let (disk, path, frame) = just_committed();
    let torn = with(&disk, &path, |bytes| bytes[frame.start + 700..].fill(0));
    let before = files(&torn);
    let strict = LogConfig { strict_tail: true, ..config() };
    assert!(matches!(open_with(&torn, strict), Err(LogError::Corrupt(_))));
    assert_eq!(files(&torn), before);
    open(&torn);
}

#[test]
fn an_older_copy_of_the_last_segment_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(append(&log, entries(1, 1..=3))).unwrap();
    let older = disk.files();
    wait(append(&log, entries(1, 4..=6))).unwrap();
    rest(&disk, &log);
    let path = segments(&disk).pop().unwrap();
    let image = disk.after_power_cut(Survival::Everything);
    image.put(&path, older[&path].clone());
    let refused = open_with(&image, config());
    let Err(LogError::Corrupt(damage)) = refused else { panic!("{refused:?}") };
    assert_eq!((damage.first_index, damage.last_index), (Some(4), Some(6)), "{damage}");
}
