use std::io;
use std::sync::Mutex;

use super::*;

const MIB: u64 = 1 << 20;

/// File systems whose free bytes the test sets: one, or one for each directory.
#[derive(Debug)]
struct Fake {
    free_mib: Mutex<u64>,
    /// The log lies on another, with all its room free.
    apart: bool,
}

impl Fake {
    fn of(free_mib: u64) -> Arc<Fake> {
        Arc::new(Fake { free_mib: Mutex::new(free_mib), apart: false })
    }

    fn set(&self, free_mib: u64) {
        *self.free_mib.lock().unwrap() = free_mib;
    }
}

impl FreeSpace for Fake {
    fn space(&self, dir: &Path) -> io::Result<Space> {
        let is_other = self.apart && dir.ends_with("wal");
        let free_mib = if is_other { 1 << 20 } else { *self.free_mib.lock().unwrap() };
        let filesystem = u64::from(is_other);
        Ok(Space { filesystem, free_bytes: free_mib * MIB, total_bytes: 1 << 40 })
    }
}

fn room(source: &Arc<Fake>, reserve_mib: u64) -> Room {
    let config = Config { disk_reserve_bytes: Some(reserve_mib * MIB), ..Config::alone("d") };
    Room::new(&config, source.clone()).unwrap()
}

fn is_worse(room: &Room) -> bool {
    use futures_util::FutureExt;
    room.became_worse().now_or_never().is_some()
}

#[test]
fn a_level_is_entered_at_its_line_and_left_an_eighth_of_the_reserve_above() {
    let source = Fake::of(1_000);
    let room = room(&source, 800);
    for (free_mib, level) in [
        (800, Level::Enough),
        (799, Level::Low),
        (899, Level::Low),
        (400, Level::Low),
        (399, Level::Short),
        (499, Level::Short),
        (200, Level::Short),
        (199, Level::Full),
        (299, Level::Full),
        (300, Level::Short),
        (500, Level::Low),
        (899, Level::Low),
        (900, Level::Enough),
        (0, Level::Full),
        (900, Level::Enough),
    ] {
        source.set(free_mib);
        room.look(0);
        assert_eq!(room.level(), level, "{free_mib} MiB free");
        assert_eq!(room.status().low, level > Level::Enough);
    }
}

#[test]
fn charges_count_between_two_looks() {
    let source = Fake::of(860);
    let room = room(&source, 800);
    // Log and store share the file system: six bytes on the disk for one.
    for _ in 0..9 {
        room.charge(1 << 20);
        assert_eq!(room.level(), Level::Enough);
    }
    assert!(!is_worse(&room));

    room.charge(1 << 20);

    assert_eq!(room.level(), Level::Low);
    assert!(is_worse(&room), "a look is asked for at once");
    room.charge(1 << 20);
    assert!(!is_worse(&room), "and only once");
}

#[test]
fn a_look_counts_what_is_under_way_and_forgets_what_is_on_the_disk() {
    let source = Fake::of(1_000);
    let room = room(&source, 800);
    room.charge(20 << 20);
    source.set(950);

    room.look(20 << 20);
    assert_eq!(room.level(), Level::Enough);
    room.charge(6 << 20);
    assert_eq!(room.level(), Level::Low, "20 and 6 are under way: 156 of 150");

    source.set(1_000);
    room.look(0);
    assert_eq!(room.level(), Level::Enough);
}

#[test]
fn a_level_by_charges_alone_is_put_right_by_a_look() {
    // Above the reserve, but by less than it takes to leave a level.
    let source = Fake::of(801);
    let room = room(&source, 800);
    room.charge(200 << 20);
    assert_eq!(room.level(), Level::Full);

    room.look(0);

    assert_eq!(room.level(), Level::Enough);
}

#[test]
fn the_tighter_of_two_file_systems_decides() {
    let source = Arc::new(Fake { free_mib: Mutex::new(700), apart: true });
    let room = room(&source, 800);
    assert_eq!(room.level(), Level::Low);
    assert_eq!(room.status().free_bytes, 700 * MIB);
    assert_eq!(room.reserve_bytes(), 800 * MIB);
    assert_eq!(room.store_free_bytes(), 700 * MIB);
}

#[test]
fn a_reserve_of_nothing_asks_for_nothing() {
    let source = Fake::of(0);
    let room = room(&source, 0);
    room.charge(1 << 30);
    assert_eq!(room.level(), Level::Enough);
}

#[test]
fn the_default_reserve_is_a_tenth_between_four_segments_and_a_gibibyte() {
    let segment = 64 * MIB;
    assert_eq!(default_reserve(1 << 40, segment), 1 << 30);
    assert_eq!(default_reserve(5_000 * MIB, segment), 500 * MIB);
    assert_eq!(default_reserve(1_000 * MIB, segment), 256 * MIB);
}

#[test]
fn a_level_survives_its_byte() {
    for level in Level::ALL {
        assert_eq!(Level::from_byte(level.byte()), Some(level));
    }
    assert_eq!(Level::from_byte(4), None);
}
