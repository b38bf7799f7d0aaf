//! Group D: files that are missing, doubled, exchanged, of another log, of another time, or in the way. A log
//! opens with everything or refuses; what is not its own it leaves alone.
//!
//! That the *whole* directory is an older copy cannot be seen from inside it: it opens as it was then, and
//! the store's witness refuses it (`node`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftmap_log_store::disk::{RealDisk, SimDisk, Survival};
use raftmap_log_store::{Log, LogConfig, LogError, Owner, examine};

use crate::bench::{Bench, owner, path};
use crate::cases::Case;
use crate::left::{Last, Left};
use crate::model::{Entry, Expect, Model};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;
use crate::surgery::{forge_block, forge_header, u64_at};

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: [(&str, Examination); 12] = [
        ("missing", missing),
        ("copied", copied),
        ("exchanged", exchanged),
        ("of-another-log", of_another_log),
        ("of-another-time", of_another_time),
        ("an-older-directory", an_older_directory),
        ("beside-it", beside_it),
        ("named-like-a-segment", named_like_a_segment),
        ("too-short", too_short),
        ("unfinished", unfinished),
        ("of-another-version", of_another_version),
        ("in-the-way-of-quarantine", in_the_way_of_quarantine),
    ];
    for (name, run) in kinds {
        for is_told in [true, false] {
            let name = format!("{name}-{}", if is_told { "told" } else { "untold" });
            cases.push(Case::new("D", name, move |bench, place| {
                run(&Ward::new(bench, place, is_told));
            }));
        }
    }
    cases.push(Case::new("D", "links-and-directories", links_and_directories));
    cases.push(Case::new("D", "a-second-process", a_second_process));
    cases
}

/// What is done to a log.
type Examination = fn(&Ward<'_>);

/// What a case works with.
struct Ward<'a> {
    bench: &'a Bench,
    place: &'a Place,
    oracle: Oracle<'a>,
    left: Left,
}

impl<'a> Ward<'a> {
    fn new(bench: &'a Bench, place: &'a Place, is_told: bool) -> Self {
        let mut oracle = Oracle::new(bench, bench.config());
        oracle.recovery_every = 0;
        Self { bench, place, oracle, left: Left::new(bench, Last::Solid, is_told) }
    }

    fn copy(&self) -> SimDisk {
        self.left.disk.after_power_cut(Survival::Everything)
    }

    fn judge(
        &self,
        name: impl std::fmt::Display,
        disk: &SimDisk,
        expect: &Expect,
    ) -> Option<Outcome> {
        let place = self.place.at(name);
        self.bench.admits(&place).then(|| self.oracle.judge(&place, disk, expect))
    }

    /// The end of the log is gone with this file: FRONTIER knows of some of it.
    fn without(&self, path: &Path) -> Expect {
        if path == self.left.last() { self.left.since_told() } else { self.left.refused() }
    }

    fn violation(&self, name: impl std::fmt::Display, what: impl Into<String>) {
        self.bench.report.violation(&self.place.at(name), what);
    }
}

fn name(path: &Path) -> String {
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
                _ if file == ward.left.last() => ward.left.since_told(),
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

/// Each file cut to lengths that mean something, and a next segment that never was one.
fn too_short(ward: &Ward<'_>) {
    for file in ward.left.segments.iter().cloned().chain([path("IDENTITY")]) {
        let bytes = ward.left.bytes(&file);
        let frames = ward.left.frames(&file);
        let ends = frames.iter().flat_map(|f| [f.start, f.start + 40, f.end - 1, f.end]);
        let lens: BTreeSet<_> = [0, 1, 8, 511, 512, 4095, 4096, 4097, bytes.len() - 1]
            .into_iter()
            .chain(ends)
            .collect();
        let end = frames.last().map_or(bytes.len(), |frame| frame.end);
        for len in lens.into_iter().filter(|len| *len < bytes.len()) {
            // A sealed segment may be as short as what counts of it.
            let is_short = len < end || file == *ward.left.last();
            let disk = ward.left.with(&file, |bytes| bytes.truncate(len));
            let expect = if is_short { ward.left.refused() } else { ward.left.whole() };
            ward.judge(format!("{}-{len}", name(&file)), &disk, &expect);
        }
        let disk = ward.left.with(&file, |bytes| bytes.fill(0));
        ward.judge(format!("{}-zero", name(&file)), &disk, &ward.left.refused());
        if file.extension().is_some() {
            let disk = ward.left.with(&file, |bytes| bytes[4096..].fill(0));
            ward.judge(format!("{}-header-only", name(&file)), &disk, &ward.without(&file));
        }
    }
    let next = ward.left.state.next();
    let next = path(&format!("{:016}-{next:020}.wal", ward.left.segments.len() + 1));
    for (what, content) in [
        ("empty", vec![]),
        ("short", vec![0; 100]),
        ("zero", vec![0; 4096]),
        ("whole", vec![0; 16384]),
    ] {
        let disk = ward.copy();
        disk.put(&next, content);
        ward.judge(format!("next-{what}"), &disk, &ward.left.refused());
    }
}

/// What an earlier process did not finish is removed, whatever is in it.
fn unfinished(ward: &Ward<'_>) {
    for file in ["spare.tmp", "segment.tmp", "IDENTITY.tmp", "anything.tmp"] {
        let contents = [
            vec![],
            vec![0xFF; 5000],
            ward.left.bytes(ward.left.last()),
            ward.left.bytes(&path("IDENTITY")),
        ];
        for (n, content) in contents.into_iter().enumerate() {
            let disk = ward.copy();
            disk.put(&path(file), content);
            ward.judge(format!("{file}-{n}"), &disk, &ward.left.whole());
            let opened = Log::open_by_hand(ward.bench.config(), Arc::new(disk.clone()), owner(5));
            if opened.is_ok() && disk.files().contains_key(&path(file)) {
                ward.violation(format!("{file}-{n}"), "it is still there");
            }
        }
    }
    for content in [vec![], b"sync: Input/output error".to_vec()] {
        let disk = ward.copy();
        disk.put(&path("FAILED"), content);
        ward.judge(format!("FAILED-{}", disk.steps()), &disk, &ward.left.whole());
    }
}

/// Files of a version that nobody knows yet.
fn of_another_version(ward: &Ward<'_>) {
    for version in [0_u32, 2, 3, 1 << 31] {
        let field = version.to_le_bytes();
        for file in &ward.left.segments {
            let disk = ward.left.with(file, |bytes| forge_header(bytes, 8, &field));
            let outcome =
                ward.judge(format!("{}-{version}", name(file)), &disk, &ward.left.refused());
            is_too_new(ward, outcome, version);
        }
        let disk = ward.left.with(&path("IDENTITY"), |bytes| forge_block(bytes, 8, &field));
        let outcome = ward.judge(format!("IDENTITY-{version}"), &disk, &ward.left.refused());
        is_too_new(ward, outcome, version);
        let bytes = ward.left.bytes(&path("FRONTIER"));
        let newest = if u64_at(&bytes, 32) > u64_at(&bytes, 4096 + 32) { 0 } else { 4096 };
        let disk = ward.left.with(&path("FRONTIER"), |bytes| {
            forge_block(&mut bytes[newest..newest + 512], 8, &field);
        });
        // Of version 0 there never was one: it is a slot that does not verify.
        let expect = if version == 0 { ward.left.whole() } else { ward.left.refused() };
        let outcome = ward.judge(format!("FRONTIER-{version}"), &disk, &expect);
        is_too_new(ward, outcome, version);
    }
}

fn is_too_new(ward: &Ward<'_>, outcome: Option<Outcome>, version: u32) {
    if let Some(Outcome::Refused(error)) = outcome
        && version > 1
        && !matches!(error, LogError::TooNew { found, known: 1, .. } if found == version)
    {
        ward.violation(version, format!("a version that is not known is called {error}"));
    }
}

/// Copies of earlier cuts are never overwritten.
fn in_the_way_of_quarantine(ward: &Ward<'_>) {
    let end = ward.left.last_frame().end;
    let torn = ward.left.with(ward.left.last(), |bytes| {
        // The first sector of a write did not arrive, the second did.
        let at = end.next_multiple_of(512);
        bytes[at..at + 24].fill(7);
    });
    let quarantine = path("quarantine");
    torn.put_dir(&quarantine);
    let mut taken = Vec::new();
    for n in 1..=3 {
        let copy = quarantine.join(format!("{}-{end}.{n}", name(ward.left.last())));
        torn.put(&copy, format!("an earlier cut, {n}").into_bytes());
        taken.push(copy);
    }
    ward.judge("taken-names", &torn, &ward.left.whole());
    drop(Log::open_by_hand(ward.bench.config(), Arc::new(torn.clone()), owner(5)));
    for (n, copy) in (1..).zip(&taken) {
        if torn.files().get(copy).map(Vec::as_slice)
            != Some(format!("an earlier cut, {n}").as_bytes())
        {
            ward.violation("taken-names", format!("{} was overwritten", copy.display()));
        }
    }
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

/// Names and lengths, without the lock.
fn listing(dir: &Path) -> BTreeSet<(String, u64)> {
    let found = std::fs::read_dir(dir).expect("a directory").map(|entry| {
        let entry = entry.expect("an entry");
        let len = entry.metadata().map_or(0, |metadata| metadata.len());
        (entry.file_name().to_string_lossy().into_owned(), len)
    });
    found.filter(|(name, _)| name != "LOCK").collect()
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
