//! A directory that may not be written.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::machine::{may_mount, run, skip, succeeds};
use crate::model::State;
use crate::report::{Report, check, image};
use crate::worker::{Job, REFUSED, Way};

/// A process that is root without the rights of root: permissions hold for it too.
const WITHOUT_RIGHTS: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[test]
fn without_permission_the_log_says_which_file_and_changes_nothing() {
    let mut wrapper = Vec::new();
    if is_root() {
        let mut command = Command::new(WITHOUT_RIGHTS[0]);
        if !succeeds(command.args(&WITHOUT_RIGHTS[1..]).arg("true")) {
            return skip("without_permission_…", "root has every right here");
        }
        wrapper = WITHOUT_RIGHTS.map(str::to_owned).to_vec();
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let report = Report::of(Job::new(&wal, Way::Threads, 1, 30).command(&[]));
    let possible = report.possible(&[State::default()]);
    let before = image(&wal);
    let chmod = |name: &str, mode: u32| {
        std::fs::set_permissions(wal.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    let segment = before.keys().find(|name| name.ends_with(".wal")).unwrap();
    for (name, closed, open) in
        [("", 0o500, 0o700), (segment.as_str(), 0o000, 0o600), ("LOCK", 0o400, 0o600)]
    {
        chmod(name, closed);
        let report = Report::of(Job::new(&wal, Way::Threads, 2, 5).command(&wrapper));
        chmod(name, open);
        // In a directory alone that takes no names the log still opens, until it needs one.
        assert!(!report.status.success(), "{name}: {report:?}");
        assert!(report.stderr.contains("os error 13"), "{name}: {}", report.stderr);
        assert!(report.stderr.contains(&wal.display().to_string()), "{name}: {}", report.stderr);
        if report.status.code() == Some(REFUSED) {
            assert_eq!(image(&wal), before, "{name}: nothing was changed");
        }
        report.check_answers();
        assert_eq!(report.acknowledged(), 0, "{name}");
    }
    check(&wal, &possible, "with the rights back");
}

#[test]
fn on_a_file_system_that_is_read_only_the_log_does_not_open_and_opens_later() {
    if !may_mount(
        "rights::on_a_file_system_that_is_read_only_the_log_does_not_open_and_opens_later",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let report = Report::of(Job::new(&wal, Way::Threads, 1, 30).command(&[]));
    let possible = report.possible(&[State::default()]);
    let before = image(&wal);
    run(Command::new("mount").arg("--bind").args([&wal, &wal]));
    run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&wal));

    let report = Report::of(Job::new(&wal, Way::Threads, 2, 5).command(&[]));

    assert_eq!(report.status.code(), Some(REFUSED), "{report:?}");
    assert!(report.stderr.contains("os error 30"), "{}", report.stderr);
    assert_eq!(image(&wal), before);
    run(Command::new("umount").arg(&wal));
    check(&wal, &possible, "writable again");
}
