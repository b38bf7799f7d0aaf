//! A disk with little room: spares are not made of its last bytes, segments are as short as they must be.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftmap_log_store::disk::{Disk, DiskFile, DiskLock, Fault, Found, Op, SimDisk};
use raftmap_log_store::{Hands, Log};

use crate::common::{append, config, entries, entry, ids, open, owner, path, segments, wait};

/// A simulated disk that says how much of it is free.
#[derive(Debug, Clone)]
struct Narrow {
    disk: SimDisk,
    free: Arc<AtomicU64>,
}

impl Narrow {
    fn new(free: u64) -> Narrow {
        Narrow { disk: SimDisk::new(), free: Arc::new(AtomicU64::new(free)) }
    }
}

impl Disk for Narrow {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path, text)
    }
}

fn by_hand(disk: impl Disk + 'static) -> (Log, Hands) {
    let (log, hands, _) = Log::open_by_hand(config(), Arc::new(disk), owner(1)).expect("it opens");
    (log, hands)
}

fn commit(log: &Log, hands: &mut Hands, index: u64) -> Result<(), raftmap_log_store::LogError> {
    let answer = append(log, vec![entry(1, index, 3_000)]);
    hands.commit();
    wait(answer)
}

#[test]
fn a_spare_is_made_right_after_an_open_and_the_first_commit_takes_it() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(disk.clone());
    while hands.tidy() {}
    assert!(disk.files().contains_key(&path("spare.tmp")));

    commit(&log, &mut hands, 1).unwrap();

    assert!(!disk.files().contains_key(&path("spare.tmp")));
    assert_eq!(segments(&disk).len(), 1);
}

#[test]
fn a_spare_is_not_made_of_the_last_bytes() {
    let segment = config().segment_bytes_max;
    for (free, makes) in [(2 * segment - 1, false), (2 * segment, true)] {
        let narrow = Narrow::new(free);
        let (_log, mut hands) = by_hand(narrow.clone());
        while hands.tidy() {}
        assert_eq!(narrow.disk.files().contains_key(&path("spare.tmp")), makes, "{free} free");
    }
}

#[test]
fn on_a_full_disk_a_segment_is_as_short_as_it_must_be_and_the_log_goes_on() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(disk.clone());
    // The usual length does not fit, the shorter one does.
    disk.inject(Op::Allocate, 1, 1, Fault::Error(ErrorKind::StorageFull));
    for index in 1..=9 {
        commit(&log, &mut hands, index).unwrap();
    }
    let lengths: Vec<_> = segments(&disk).iter().map(|path| disk.files()[path].len()).collect();
    let usual = usize::try_from(config().segment_bytes_max).unwrap();
    assert!(lengths[0] < usual, "{lengths:?}");
    assert_eq!(log.failed(), None);

    hands.close().unwrap();

    assert_eq!(ids(&open(&disk)), (1..=9).map(|index| (1, index)).collect::<Vec<_>>());
}

#[test]
fn a_segment_takes_a_quarter_of_a_disk_that_is_nearly_full() {
    let usual = 1 << 20;
    let length = |free: u64| {
        let narrow = Narrow::new(free);
        let mut config = config();
        config.segment_bytes_max = usual;
        let disk = Arc::new(narrow.clone());
        let (log, mut hands, _) = Log::open_by_hand(config, disk, owner(1)).unwrap();
        wait_for(append(&log, entries(1, 1..=1)), &mut hands);
        let files = narrow.disk.files();
        u64::try_from(files[&segments(&narrow.disk)[0]].len()).unwrap()
    };
    assert_eq!(length(2 * usual), usual);
    // A quarter, in whole blocks.
    assert_eq!(length(2 * usual - 1), usual / 2 - 4096);
    assert!(length(0) < 4096 * 3, "as short as it must be");
}

fn wait_for(answer: Result<crate::common::Answer, raftmap_log_store::LogError>, hands: &mut Hands) {
    hands.commit();
    wait(answer).expect("it is written");
}

#[test]
fn without_any_room_the_log_fails_acknowledges_nothing_and_opens_again() {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(disk.clone());
    commit(&log, &mut hands, 1).unwrap();
    disk.inject(Op::Allocate, 1, u64::MAX / 2, Fault::Error(ErrorKind::StorageFull));

    let acknowledged = (2..=9).take_while(|index| commit(&log, &mut hands, *index).is_ok()).count();

    assert_eq!(log.failed().map(|failure| failure.kind), Some(ErrorKind::StorageFull));
    drop((log, hands));
    // Opening takes no room.
    let log = open(&disk);
    let last = 1 + u64::try_from(acknowledged).unwrap();
    assert_eq!(ids(&log), (1..=last).map(|index| (1, index)).collect::<Vec<_>>());
    disk.heal();
    wait(append(&log, entries(1, last + 1..=last + 1))).unwrap();
}
