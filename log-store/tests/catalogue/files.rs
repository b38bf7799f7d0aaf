//! Group D: files that are missing, doubled, exchanged, of another log, of another time, or in the way. A log
//! opens with everything or refuses; what is not its own it leaves alone.
//!
//! That the *whole* directory is an older copy cannot be seen from inside it: it opens as it was then, and
//! the store's witness refuses it (`node`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::{Log, LogConfig, Owner};

use crate::bench::{Bench, owner, path};
use crate::cases::Case;
use crate::left::{Last, Left};
use crate::model::{Entry, Expect, Expected, Model};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let kinds: [(&str, Examination); 8] = [
        ("missing", missing),
        ("copied", copied),
        ("exchanged", exchanged),
        ("of-another-log", of_another_log),
        ("of-another-time", of_another_time),
        ("an-older-directory", an_older_directory),
        ("beside-it", beside_it),
        ("named-like-a-segment", named_like_a_segment),
    ];
    told_and_untold(&kinds)
}

/// Each with a FRONTIER that tells of everything, and with one that does not.
pub(crate) fn told_and_untold(kinds: &[(&'static str, Examination)]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &(name, run) in kinds {
        for is_told in [true, false] {
            let name = format!("{name}-{}", if is_told { "told" } else { "untold" });
            cases.push(Case::new("D", name, move |bench, place| {
                run(&Ward::new(bench, place, is_told));
            }));
        }
    }
    cases
}

/// What is done to a log.
pub(crate) type Examination = fn(&Ward<'_>);

/// What a case works with.
pub(crate) struct Ward<'a> {
    pub(crate) bench: &'a Bench,
    place: &'a Place,
    oracle: Oracle<'a>,
    pub(crate) left: Left,
}

impl<'a> Ward<'a> {
    fn new(bench: &'a Bench, place: &'a Place, is_told: bool) -> Self {
        let mut oracle = Oracle::new(bench, bench.config());
        oracle.recovery_every = 0;
        Self { bench, place, oracle, left: Left::new(bench, Last::Solid, is_told) }
    }

    pub(crate) fn copy(&self) -> SimDisk {
        self.left.disk.after_power_cut(Survival::Everything)
    }

    pub(crate) fn judge(
        &self,
        name: impl std::fmt::Display,
        disk: &SimDisk,
        expect: &Expect,
    ) -> Option<Outcome> {
        let place = self.place.at(name);
        self.bench.admits(&place).then(|| self.oracle.judge(&place, disk, expect))
    }

    /// The end of the log is gone with this file: FRONTIER knows of some of it.
    pub(crate) fn without(&self, path: &Path) -> Expect {
        if path == self.left.last() { self.left.as_told() } else { self.left.refused() }
    }

    pub(crate) fn violation(&self, name: impl std::fmt::Display, what: impl Into<String>) {
        self.bench.report.violation(&self.place.at(name), what);
    }
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn missing(ward: &Ward<'_>) {
    let files = ward.left.files();
    for (n, file) in files.iter().enumerate() {
        let disk = ward.copy();
        disk.take(file);
        ward.judge(name(file), &disk, &ward.without(file));
        for other in &files[n + 1..] {
            disk.take(other);
            let place = format!("{}+{}", name(file), name(other));
            let expect =
                if other == ward.left.last() { ward.without(file) } else { ward.left.refused() };
            ward.judge(place, &disk, &expect);
            disk.put(other, ward.left.bytes(other));
        }
    }
    let disk = ward.copy();
    ward.left.segments.iter().for_each(|path| drop(disk.take(path)));
    ward.judge("all-segments", &disk, &ward.left.refused());
    disk.take(&path("IDENTITY"));
    ward.judge("all-but-FRONTIER", &disk, &ward.left.refused());
    // Nothing is left that could tell: the store's witness does.
    disk.take(&path("FRONTIER"));
    ward.judge("all", &disk, &Expect::exactly(Model::default()));
}

/// A segment twice, under other numbers or with other indexes.
fn copied(ward: &Ward<'_>) {
    for from in &ward.left.segments {
        for number in 0..=5_u64 {
            for base in [0, 1, 5, 8, 10, 11, 99] {
                let to = path(&format!("{number:016}-{base:020}.wal"));
                if ward.left.segments.contains(&to) {
                    continue;
                }
                let disk = ward.copy();
                disk.put(&to, ward.left.bytes(from));
                ward.judge(format!("{}-as-{}", name(from), name(&to)), &disk, &ward.left.refused());
                // Or moved there.
                disk.take(from);
                ward.judge(format!("{}-to-{}", name(from), name(&to)), &disk, &ward.left.refused());
            }
        }
    }
}

fn exchanged(ward: &Ward<'_>) {
    let files = ward.left.files();
    for a in &files {
        for b in &files {
            if a != b {
                let disk = ward.copy();
                disk.put(a, ward.left.bytes(b));
                ward.judge(format!("{}-is-{}", name(a), name(b)), &disk, &ward.left.refused());
                disk.put(b, ward.left.bytes(a));
                ward.judge(format!("{}-and-{}", name(a), name(b)), &disk, &ward.left.refused());
            }
        }
    }
}

/// Another log of this node and one of another node, as long as ours.
fn of_another_log(ward: &Ward<'_>) {
    for node_id in [1, 2] {
        let disk = SimDisk::new();
        let config = LogConfig { planted: None, ..ward.bench.config() };
        for round in 0..3 {
            let owner = Owner { node_id, new_uuid: 0xF0_0D + round };
            let opened = Log::open_by_hand(config.clone(), Arc::new(disk.clone()), owner);
            let (log, mut hands, _) = opened.expect("it opens");
            let index = log.ends().last.map_or(1, |last| last.index + 1);
            let entry = Entry { term: 1, index, len: 60 }.parts();
            log.append(vec![entry], |_| {}).expect("it is taken");
            hands.rest();
            while hands.tidy() {}
        }
        let others = disk.files();
        let files = ward.left.files();
        for ours in &files {
            for (theirs, bytes) in others.iter().filter(|(theirs, _)| **theirs != path("LOCK")) {
                let is_kind = ours.extension() == theirs.extension()
                    && (ours.extension().is_some() || ours == theirs);
                if is_kind {
                    let disk = ward.copy();
                    disk.put(ours, bytes.clone());
                    let place = format!("{}-of-{node_id}-as-{}", name(theirs), name(ours));
                    ward.judge(place, &disk, &ward.left.refused());
                }
            }
        }
        let disk = ward.copy();
        disk.put(&path("IDENTITY"), others[&path("IDENTITY")].clone());
        disk.put(&path("FRONTIER"), others[&path("FRONTIER")].clone());
        ward.judge(format!("IDENTITY-and-FRONTIER-of-{node_id}"), &disk, &ward.left.refused());
        if node_id == 2 {
            ward.judge("all-of-another-node", &disk_of(&others), &ward.left.refused());
        }
    }
}

fn disk_of(files: &std::collections::BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir(Path::new(crate::bench::DIR));
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes.clone()));
    disk
}

/// Each file as it once was.
fn of_another_time(ward: &Ward<'_>) {
    for file in ward.left.files() {
        let mut versions = BTreeSet::from([ward.left.bytes(&file)]);
        for (moment, (disk, _)) in ward.left.history.iter().enumerate() {
            let Some(bytes) = disk.contents().get(&file).map(|bytes| bytes.to_vec()) else {
                continue;
            };
            if !versions.insert(bytes.clone()) {
                continue;
            }
            let disk = ward.copy();
            disk.put(&file, bytes);
            let expect = match name(&file).as_str() {
                // It is a lower bound, and an older one is one as well.
                "FRONTIER" => ward.left.whole(),
                _ if file == ward.left.last() && !ward.left.is_told => {
                    let then = ward.left.committed[moment].clone();
                    Expect::exactly(then).but(Expected::Either)
                }
                _ => ward.left.whole_or_refused(),
            };
            ward.judge(format!("{}-of-{moment}", name(&file)), &disk, &expect);
        }
    }
    // A segment that was removed or never was here now.
    for (moment, (disk, _)) in ward.left.history.iter().enumerate() {
        for (file, bytes) in disk.contents() {
            if !ward.left.files().contains(&file) && file.extension().is_some_and(|e| e == "wal") {
                let image = ward.copy();
                image.put(&file, bytes.to_vec());
                let place = format!("{}-back-from-{moment}", name(&file));
                ward.judge(place, &image, &ward.left.whole_or_refused());
            }
        }
    }
}

/// A restored copy: it opens as it was, with nothing of what came later.
fn an_older_directory(ward: &Ward<'_>) {
    for (moment, (disk, model)) in ward.left.history.iter().enumerate() {
        // What was asked for and not yet committed is not there.
        let earlier = ward.left.history[..=moment].iter().map(|(_, model)| model.clone());
        let states: Vec<_> = std::iter::once(Model::default()).chain(earlier).collect();
        let expect = Expect::between(states.into(), moment.saturating_sub(2), moment + 1);
        let place = format!("of-{moment}-{}", model.next());
        ward.judge(place, disk, &expect);
    }
}

/// Files that are not the log's are left alone.
fn beside_it(ward: &Ward<'_>) {
    let segment = name(ward.left.last());
    let files = [
        format!("{segment}~"),
        format!(".{segment}.swp"),
        format!("#{segment}#"),
        format!("{segment}.bak"),
        format!("{segment}.tmp2"),
        segment.replace(".wal", ""),
        segment.replace(".wal", ".WAL"),
        "notes.txt".to_owned(),
        "IDENTITY~".to_owned(),
        "FRONTIER.old".to_owned(),
        "\u{1F5C4}".to_owned(),
    ];
    let disk = ward.copy();
    files.iter().for_each(|file| disk.put(&path(file), b"not ours".to_vec()));
    let dirs = ["lost+found", ".snapshot", "old.tmp", "IDENTITY.d"];
    dirs.iter().for_each(|dir| disk.put_dir(&path(dir)));
    ward.judge("left-alone", &disk, &ward.left.whole());
    let opened =
        Log::open_by_hand(ward.bench.config(), Arc::new(disk.clone()), owner(5)).map(|_| ());
    let kept = disk.files();
    let gone: Vec<_> = files.iter().filter(|file| !kept.contains_key(&path(file))).collect();
    if opened.is_err() || !gone.is_empty() {
        ward.violation("left-alone", format!("{opened:?}, and gone are {gone:?}"));
    }
}

/// What ends like a segment and is none may be one that someone renamed.
fn named_like_a_segment(ward: &Ward<'_>) {
    let names = [
        "0000000000000003.wal",
        "3-8.wal",
        ".wal",
        "segment.wal",
        "0000000000000000-00000000000000000000.wal",
        "0000000000000004-00000000000000000011.wal.wal",
        "+000000000000004-00000000000000000011.wal",
        "0000000000000004-99999999999999999999.wal",
        "9999999999999999-00000000000000000011.wal",
        "18446744073709551615-00000000000000000011.wal",
    ];
    for file in names {
        let disk = ward.copy();
        disk.put(&path(file), ward.left.bytes(ward.left.last()));
        ward.judge(format!("file-{file}"), &disk, &ward.left.refused());
    }
    for dir in ["0000000000000004-00000000000000000011.wal", "x.wal"] {
        let disk = ward.copy();
        disk.put_dir(&path(dir));
        ward.judge(format!("directory-{dir}"), &disk, &ward.left.refused());
    }
}
