//! Bits that flip, files that are cut, zeroed, lost or exchanged. What was acknowledged is there, or the
//! log refuses to open, and then not a byte on the disk has changed.

use std::path::Path;
use std::time::Duration;

use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError, examine};

use crate::common::*;

/// A log of a few segments that its process has left without closing it, FRONTIER up to date.
struct Left {
    disk: SimDisk,
    content: Vec<EntryParts>,
    /// Where the frames of the last segment end.
    end: usize,
}

fn left() -> Left {
    let disk = SimDisk::new();
    let log = open(&disk);
    wait(save_vote(&log, vote(3))).unwrap();
    for index in 1..=3 {
        wait(append(&log, vec![entry(1, index, 4000)])).unwrap();
    }
    wait(append(&log, entries(1, 4..=6))).unwrap();
    wait(truncate_after(&log, Some(5))).unwrap();
    wait(append(&log, vec![entry(2, 6, 20_000)])).unwrap();
    wait(append(&log, entries(2, 7..=8))).unwrap();
    log.save_committed(id(2, 6)).unwrap();
    wait(append(&log, entries(2, 9..=9))).unwrap();
    rest(&disk, &log);
    let content = read_all(&log);
    let disk = disk.after_power_cut(Survival::Everything);
    let last = segments(&disk).pop().unwrap();
    let start_lsn = u64::from_le_bytes(disk.files()[&last][48..56].try_into().unwrap());
    let end = usize::try_from(log.stats().durable_lsn - start_lsn).unwrap();
    assert!(segments(&disk).len() > 2);
    Left { disk, content, end }
}

impl Left {
    fn last(&self) -> std::path::PathBuf {
        segments(&self.disk).pop().unwrap()
    }

    /// A copy of the disk with one file changed.
    fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let disk = self.disk.after_power_cut(Survival::Everything);
        let mut bytes = disk.files()[path].clone();
        change(&mut bytes);
        disk.put(path, bytes);
        disk
    }

    /// Opens with everything, or refuses and changes nothing. Whether it opened.
    fn is_whole_or_refused(&self, what: &str, disk: &SimDisk) -> bool {
        let before = files(disk);
        let examined = examine(&config(), disk, None);
        assert_eq!(files(disk), before, "{what}: looking changed something");
        let opened = open_with(disk, config());
        assert_eq!(
            examined.as_ref().map(|info| info.last).map_err(ToString::to_string),
            opened.as_ref().map(|(_, info)| info.last).map_err(ToString::to_string),
            "{what}: a look tells something else"
        );
        match opened {
            Ok((log, _)) => {
                assert_eq!(read_all(&log), self.content, "{what}: lost something silently");
                assert_eq!(log.vote(), Some(vote(3)), "{what}");
                true
            }
            Err(LogError::Corrupt(_) | LogError::TooNew { .. }) => {
                assert_eq!(files(disk), before, "{what}: a refusal changed something");
                false
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }

    fn is_refused(&self, what: &str, disk: &SimDisk) {
        assert!(!self.is_whole_or_refused(what, disk), "{what}: opened");
    }
}

#[test]
fn every_flipped_bit_of_what_was_written_is_noticed() {
    let left = left();
    let mut flips = 0;
    for path in segments(&left.disk) {
        let used = if path == left.last() { left.end } else { left.disk.files()[&path].len() };
        for byte in 0..used {
            // Every bit of what is not payload filler or the empty rest of a header.
            let is_dull = matches!(left.disk.files()[&path][byte], 0 | b'.');
            let bits = if is_dull { byte % 8..byte % 8 + 1 } else { 0..8 };
            if is_dull && byte % 16 != 0 {
                continue;
            }
            for bit in bits {
                let disk = left.with(&path, |bytes| bytes[byte] ^= 1 << bit);
                left.is_refused(&format!("{} byte {byte} bit {bit}", path.display()), &disk);
                flips += 1;
            }
        }
    }
    println!("{flips} flips");
}

#[test]
fn a_last_segment_cut_anywhere_is_refused() {
    let left = left();
    let len = left.disk.files()[&left.last()].len();
    for cut in (0..left.end).chain([left.end + 1, len - 1]) {
        let disk = left.with(&left.last(), |bytes| bytes.truncate(cut));
        left.is_refused(&format!("cut to {cut}"), &disk);
    }
}

#[test]
fn zeros_over_acknowledged_bytes_are_refused() {
    let left = left();
    for from in (0..left.end - 8).step_by(8) {
        let disk = left.with(&left.last(), |bytes| bytes[from..].fill(0));
        left.is_refused(&format!("zeros from {from}"), &disk);
    }
    for path in segments(&left.disk) {
        for sector in 0..left.disk.files()[&path].len() / 512 {
            let disk = left.with(&path, |bytes| bytes[sector * 512..][..512].fill(0));
            left.is_whole_or_refused(&format!("{} sector {sector} zero", path.display()), &disk);
        }
    }
}

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
    let left = left();
    let earlier = left.disk.files()[&segments(&left.disk)[0]][4096..5000].to_vec();
    let own = left.disk.files()[&left.last()][4096..left.end].to_vec();
    for garbage in [vec![0xFF; 900], earlier, own, b"RFRM".repeat(100), vec![0, 0, 0, 7]] {
        let disk =
            left.with(&left.last(), |b| b[left.end..][..garbage.len()].copy_from_slice(&garbage));
        left.is_refused("garbage", &disk);
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

/// Once a commit is told it is safe from rot at once, not only when FRONTIER tells of it. What may go until
/// then is a commit that looks as if it had never arrived.
#[test]
fn before_frontier_is_written_no_flipped_bit_takes_anything() {
    let (disk, path, frame) = just_committed();
    for bit in (4096 * 8..frame.end * 8).filter(|bit| bit % 5 == 0) {
        let image = with(&disk, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let before = files(&image);
        let opened = open_with(&image, slow_frontier());
        assert!(matches!(opened, Err(LogError::Corrupt(_))), "bit {bit}: {opened:?}");
        assert_eq!(files(&image), before);
    }
    let gone = with(&disk, &path, |bytes| bytes[frame.start..].fill(0));
    let (log, info) = open_with(&gone, slow_frontier()).unwrap();
    assert_eq!((ids(&log).len(), info.torn), (3, None), "nothing is left of the last commit");
}

#[test]
fn lost_renamed_and_exchanged_files_are_refused() {
    let left = left();
    let paths = segments(&left.disk);
    let copy = || left.disk.after_power_cut(Survival::Everything);
    for path in paths.iter().cloned().chain([path("IDENTITY"), path("FRONTIER")]) {
        let disk = copy();
        disk.take(&path).unwrap();
        left.is_refused(&format!("{} lost", path.display()), &disk);
    }
    let disk = copy();
    paths.iter().for_each(|path| drop(disk.take(path)));
    left.is_refused("all segments lost", &disk);

    let disk = copy();
    let (a, b) = (disk.take(&paths[0]).unwrap(), disk.take(&paths[1]).unwrap());
    disk.put(&paths[0], b);
    disk.put(&paths[1], a);
    left.is_refused("two segments exchanged", &disk);

    let next = path(&format!("{:016}-{:020}.wal", paths.len() + 1, 10));
    let disk = copy();
    disk.put(&next, disk.files()[&left.last()].clone());
    left.is_refused("a copy under the next number", &disk);
    for content in [vec![], vec![0; 4096], vec![0; 16384]] {
        let disk = copy();
        disk.put(&next, content);
        left.is_refused("an empty next segment", &disk);
    }
    let disk = copy();
    disk.put(&path("0000000000000003.wal"), vec![]);
    left.is_refused("a name like a segment's", &disk);
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let left = left();
    let other = SimDisk::new();
    let (log, _) = Log::open(
        config(),
        std::sync::Arc::new(other.clone()),
        raftmap_log_store::Owner { node_id: 1, new_uuid: 99 },
    )
    .unwrap();
    wait(append(&log, entries(1, 1..=3))).unwrap();
    drop(log);
    for name in [path("FRONTIER"), segments(&other)[0].clone()] {
        let disk = left.disk.after_power_cut(Survival::Everything);
        disk.put(&name, other.files()[&name].clone());
        left.is_refused(&format!("{} of another log", name.display()), &disk);
    }
    let disk = left.disk.after_power_cut(Survival::Everything);
    disk.put(&path("IDENTITY"), other.files()[&path("IDENTITY")].clone());
    left.is_refused("IDENTITY of another log", &disk);
}

#[test]
fn frontier_survives_one_bad_slot_and_refuses_with_two() {
    let left = left();
    let frontier = path("FRONTIER");
    for bit in 0..512 * 8 {
        for slot in [0, 4096] {
            let disk = left.with(&frontier, |bytes| bytes[slot + bit / 8] ^= 1 << (bit % 8));
            assert!(left.is_whole_or_refused("one slot", &disk));
        }
        if bit % 64 == 0 {
            let disk = left.with(&frontier, |bytes| {
                bytes[bit / 8] ^= 1;
                bytes[4096 + bit / 8] ^= 1;
            });
            left.is_refused("both slots", &disk);
        }
    }
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

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let left = left();
    let disk = left.disk.after_power_cut(Survival::Everything);
    let names = ["lost+found", "notes.txt", "0000000000000001-00000000000000000000.wal~"];
    names.iter().for_each(|name| disk.put(&path(name), b"mine".to_vec()));
    disk.put(&path("spare.tmp"), vec![0; 100]);
    assert!(left.is_whole_or_refused("other files", &disk));
    names.iter().for_each(|name| assert!(disk.files().contains_key(&path(name))));
    // Another may be made by now.
    assert_ne!(disk.files().get(&path("spare.tmp")).map(Vec::len), Some(100));
}

/// A record that rots while the log runs is an error when it is read, never a short or old answer.
#[test]
fn a_rotten_entry_is_an_error_when_it_is_read() {
    let disk = SimDisk::new();
    let mut config = config();
    config.cache_bytes_max = 0;
    let (log, mut hands, _) =
        Log::open_by_hand(config, std::sync::Arc::new(disk.clone()), owner(1)).unwrap();
    let answer = append(&log, entries(1, 1..=5));
    assert!(hands.commit());
    wait(answer).unwrap();
    let path = segments(&disk).pop().unwrap();
    let file = raftmap_log_store::disk::Disk::open(&disk, &path).unwrap();
    let at = disk.files()[&path].windows(4).position(|w| w == b"1/3;").unwrap();
    file.write_at(b"9", u64::try_from(at).unwrap()).unwrap();
    let read = log.read(1..6, usize::MAX);
    let Err(LogError::Corrupt(damage)) = read else { panic!("{read:?}") };
    assert_eq!(damage.first_index, Some(3));
    assert_eq!(log.read(1..3, usize::MAX).unwrap().len(), 2);
}
