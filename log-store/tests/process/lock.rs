//! Two processes and one directory.

use raftmap_log_store::LogError;

use crate::model::State;
use crate::report::{Report, Running, check, image, open};
use crate::worker::{Job, REFUSED, Way};

#[test]
fn a_second_process_is_told_who_holds_the_log_and_gets_it_once_the_holder_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut holder = Running::start(Job::new(&wal, Way::Wait, 3, 20).command(&[]));
    assert!(holder.hear_until("idle"));
    let pid = holder.pid();

    let refused = open(&wal).unwrap_err();
    assert!(matches!(refused, LogError::Locked { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(&format!("pid {pid} node 1")), "{text}");
    let second = Report::of(Job::new(&wal, Way::Threads, 4, 5).command(&[]));
    assert_eq!(second.status.code(), Some(REFUSED));
    assert!(second.stderr.contains(&format!("pid {pid}")), "{}", second.stderr);

    let report = holder.kill();
    check(&wal, &report.possible(&[State::default()]), "after the kill");
    let text = std::fs::read_to_string(wal.join("LOCK")).unwrap();
    assert_eq!(text, format!("pid {} node 1\n", std::process::id()), "the lock's last holder");
}

#[test]
fn a_process_that_finds_the_log_locked_changes_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut holder = Running::start(Job::new(&wal, Way::Wait, 3, 20).command(&[]));
    assert!(holder.hear_until("idle"));
    // A paused holder still holds it, and writes nothing meanwhile.
    signal(holder.pid(), "STOP");
    let before = (image(&wal), std::fs::read(wal.join("LOCK")).unwrap());
    for _ in 0..3 {
        assert!(matches!(open(&wal), Err(LogError::Locked { .. })));
    }
    assert_eq!((image(&wal), std::fs::read(wal.join("LOCK")).unwrap()), before);
    signal(holder.pid(), "CONT");
    let report = holder.end();
    assert!(report.status.success() && report.said("closed"), "{report:?}");
}

fn signal(pid: u32, name: &str) {
    let mut kill = std::process::Command::new("kill");
    crate::machine::run(kill.args([&format!("-{name}"), &pid.to_string()]));
}
