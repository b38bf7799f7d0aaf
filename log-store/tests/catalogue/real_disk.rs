//! Group D, on a real file system: links, directories and locks, which a simulated disk does not have.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{Log, LogConfig, LogError, examine};

use crate::bench::{Bench, owner};
use crate::cases::Case;
use crate::files::name;
use crate::left::{Last, Left};
use crate::model::Model;
use crate::place::Place;

/// These of the group.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("D", "links-and-directories", links_and_directories),
        Case::new("D", "a-second-process", a_second_process),
    ]
}

/// The log as files of a real file system.
fn on_a_real_disk(bench: &Bench, dir: &Path) -> (Left, LogConfig) {
    let left = Left::new(bench, Last::Solid, true);
    let config = LogConfig { dir: dir.join("wal"), ..bench.config() };
    std::fs::create_dir(&config.dir).expect("a directory");
    for file in left.files() {
        std::fs::write(config.dir.join(name(&file)), left.bytes(&file)).expect("a file");
    }
    (left, config)
}

/// Links and directories with the names of our files, which a simulated disk does not have.
fn links_and_directories(bench: &Bench, place: &Place) {
    let kinds = ["link-to-a-copy", "link-to-nothing", "directory"];
    for kind in kinds {
        for file in ["segment", "IDENTITY", "FRONTIER", "next"] {
            let dir = tempfile::tempdir().expect("a directory");
            let (left, config) = on_a_real_disk(bench, dir.path());
            let place = place.at(kind).at(file);
            let victim = match file {
                "segment" => config.dir.join(name(&left.segments[1])),
                "next" => config.dir.join("0000000000000004-00000000000000000011.wal"),
                other => config.dir.join(other),
            };
            let elsewhere = dir.path().join("elsewhere");
            if file != "next" {
                std::fs::rename(&victim, &elsewhere).expect("it is moved");
            } else {
                std::fs::write(&elsewhere, left.bytes(left.last())).expect("a file");
            }
            let made = match kind {
                "link-to-a-copy" => std::os::unix::fs::symlink(&elsewhere, &victim),
                "link-to-nothing" => std::os::unix::fs::symlink(dir.path().join("none"), &victim),
                _ => std::fs::create_dir(&victim),
            };
            made.expect("it is made");
            let before = listing(&config.dir);
            let examined = examine(&config, &RealDisk, Some(1)).map(|_| ());
            let opened =
                Log::open_by_hand(config.clone(), Arc::new(RealDisk), owner(9)).map(|_| ());
            // A link to the very file is as good as the file, but for segments, which are never links.
            let may_open = kind == "link-to-a-copy" && matches!(file, "IDENTITY" | "FRONTIER");
            let is_known = matches!(&opened, Err(LogError::Corrupt(_) | LogError::Io { .. }));
            if !(is_known || may_open && opened.is_ok()) || examined.is_ok() != opened.is_ok() {
                bench.report.violation(&place, format!("{opened:?}, examine {examined:?}"));
            }
            if opened.is_err() && listing(&config.dir) != before {
                bench.report.violation(&place, "a refusal has changed the directory");
            }
        }
    }
}

/// Names, what is a link, and bytes; without the lock.
fn listing(dir: &Path) -> BTreeSet<(String, bool, Option<Vec<u8>>)> {
    let found = std::fs::read_dir(dir).expect("a directory").map(|entry| {
        let entry = entry.expect("an entry");
        let is_link = entry.file_type().expect("a type").is_symlink();
        // A directory and a link to nothing have none.
        let bytes = std::fs::read(entry.path()).ok();
        (entry.file_name().to_string_lossy().into_owned(), is_link, bytes)
    });
    found.filter(|(name, ..)| name != "LOCK").collect()
}

/// One process at a time has the log; a lock file without a process is nothing.
fn a_second_process(bench: &Bench, place: &Place) {
    let dir = tempfile::tempdir().expect("a directory");
    let (left, config) = on_a_real_disk(bench, dir.path());
    let open = |n| Log::open_by_hand(config.clone(), Arc::new(RealDisk), owner(n));
    std::fs::write(config.dir.join("LOCK"), "pid 1 node 7\n").expect("a stale lock");
    let first = open(1);
    let Ok((log, hands, _)) = first else {
        return bench.report.violation(&place.at("stale-lock"), format!("{:?}", first.err()));
    };
    if Model::of(&log).as_ref() != Ok(&left.state) {
        bench.report.violation(&place.at("stale-lock"), "it is not the same log");
    }
    let before = listing(&config.dir);
    match open(2) {
        Err(LogError::Locked { holder, .. }) => {
            let pid = std::process::id().to_string();
            if !holder.contains(&pid) || listing(&config.dir) != before {
                bench.report.violation(&place.at("held"), format!("by {pid}, it says {holder:?}"));
            }
        }
        other => bench.report.violation(&place.at("held"), format!("{:?}", other.map(|_| ()))),
    }
    // Looking at it needs no lock.
    if let Err(error) = examine(&config, &RealDisk, Some(1)) {
        bench.report.violation(&place.at("examined"), error.to_string());
    }
    drop((log, hands));
    if let Err(error) = open(3) {
        bench.report.violation(&place.at("released"), error.to_string());
    }
}
