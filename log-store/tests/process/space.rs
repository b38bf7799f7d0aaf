//! A file system without room.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::machine::{may_mount, mount_tmpfs, run, skip, succeeds};
use crate::model::State;
use crate::report::{Report, check, image, open};
use crate::scene::tear;
use crate::worker::{FAILED, Job, REFUSED, Way};

/// Takes all room that is left, but for so many bytes.
fn fill(path: &Path, but: u64) {
    let mut file = File::create(path).unwrap();
    for step in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![1; step]).is_ok() {}
    }
    let len = file.metadata().unwrap().len();
    file.set_len(len - but).unwrap();
    file.sync_all().unwrap();
}

/// Works until the disk is full, starts on the full disk, gets room back.
fn the_disk_fills_up_under(mount: &Path) {
    let wal = mount.join("wal");
    let ballast = mount.join("ballast");
    let mut possible = vec![State::default()];
    fill(&ballast, 600 << 10);
    // Nobody purges: all room goes to the log.
    let report = Report::of(Job::new(&wal, Way::Flood, 1, 5_000).command(&[]));
    possible = report.possible(&possible);
    assert_eq!(report.status.code(), Some(FAILED), "{}", report.stderr);
    assert!(report.stderr.contains("No space left"), "{}", report.stderr);
    assert!(report.acknowledged() > 100, "{} fit", report.acknowledged());
    fill(&mount.join("rest"), 0);

    // A start on the full disk has what it needs; the first thing that needs more fails as clearly.
    for round in 0..3 {
        let report = Report::of(Job::new(&wal, Way::Flood, 2 + round, 200).command(&[]));
        possible = report.possible(&possible);
        assert_eq!(report.status.code(), Some(FAILED), "round {round}: {}", report.stderr);
        assert!(report.said("opened"), "it starts on the full disk");
        assert!(report.stderr.contains("No space left"), "{}", report.stderr);
    }
    let state = check(&wal, &possible, "on the full disk");

    // Purging gives room back, but its record needs a segment: for that the operator frees some.
    std::fs::remove_file(&ballast).unwrap();
    let (log, _) = open(&wal).unwrap();
    log.purge_upto(crate::model::id(1, state.next() - 10)).unwrap();
    log.close().unwrap();
    let possible = state.after(crate::model::Step::Purge { term: 1, index: state.next() - 10 });
    let report = Report::of(Job::new(&wal, Way::Threads, 9, 200).command(&[]));
    assert!(report.status.success() && report.said("closed"), "{report:?}");
    check(&wal, &report.possible(&possible), "with room again");
}

#[test]
fn a_log_that_fills_its_disk_fails_starts_there_and_goes_on_once_there_is_room() {
    if !may_mount(
        "space::a_log_that_fills_its_disk_fails_starts_there_and_goes_on_once_there_is_room",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("small");
    mount_tmpfs(&mount, 1 << 20);
    the_disk_fills_up_under(&mount);
}

#[test]
fn a_log_on_a_small_ext4_fails_starts_there_and_goes_on_once_there_is_room() {
    let test = "space::a_log_on_a_small_ext4_fails_starts_there_and_goes_on_once_there_is_room";
    if !may_mount(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("image"), dir.path().join("small"));
    std::fs::create_dir(&mount).unwrap();
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let is_made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
    if !is_made || !succeeds(Command::new("mount").args(["-o", "loop"]).args([&image, &mount])) {
        return skip(test, "no ext4 can be made and mounted here");
    }
    the_disk_fills_up_under(&mount);
    run(Command::new("umount").arg(&mount));
}

#[test]
fn a_torn_tail_that_cannot_be_kept_on_a_full_disk_is_not_cut() {
    let test = "space::a_torn_tail_that_cannot_be_kept_on_a_full_disk_is_not_cut";
    if !may_mount(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("small");
    mount_tmpfs(&mount, 1 << 20);
    let wal = mount.join("wal");
    // Killed when nothing is under way: its last segment is not sealed.
    let mut worker = crate::report::Running::start(Job::new(&wal, Way::Wait, 3, 10).command(&[]));
    assert!(worker.hear_until("idle"));
    let possible = worker.kill().possible(&[State::default()]);
    tear(&wal);
    // A spare would give way to the copy.
    let _ = std::fs::remove_file(wal.join("spare.tmp"));
    fill(&mount.join("ballast"), 0);
    let before = image(&wal);

    let report = Report::of(Job::new(&wal, Way::Threads, 4, 5).command(&[]));

    assert_eq!(report.status.code(), Some(REFUSED), "{report:?}");
    assert!(report.stderr.contains("quarantine"), "{}", report.stderr);
    assert!(report.stderr.contains("No space left"), "{}", report.stderr);
    let after = image(&wal);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "its files");
    assert!(after == before, "and their bytes");
    std::fs::remove_file(mount.join("ballast")).unwrap();
    check(&wal, &possible, "with room for the copy");
    let kept = std::fs::read_dir(wal.join("quarantine")).unwrap().flatten();
    let largest = kept.map(|entry| entry.metadata().unwrap().len()).max();
    assert!(largest > Some(0), "the cut bytes are kept");
}
