//! Bugs that other logs had, by the number under which they are known there. Each test says what happened
//! and shows that it cannot happen here.
//!
//! What has no counterpart here (memory maps, rewriting, recycling of files) is in `docs/log-testing.md`.

mod etcd;
mod hiqlite;
mod others;
mod raft_engine;
mod raft_log;
mod raft_wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raftmap_log_store::disk::{Disk, SimDisk, Survival};
use raftmap_log_store::{EntryParts, Hands, Log, LogConfig, LogError, RecoveryInfo};

use crate::common::*;
use crate::surgery::{changed, forge_frame, forge_header, frames, u32_at, u64_at};

/// Survivals that every cut is tried with.
const SURVIVALS: [Survival; 8] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::NamesOnly,
    Survival::ContentOnly,
    Survival::Coins(1),
    Survival::Coins(2),
    Survival::Coins(3),
    Survival::Coins(4),
];

/// A log without threads: nothing happens but what the test asks for.
struct ByHand {
    disk: SimDisk,
    log: Log,
    hands: Hands,
    info: RecoveryInfo,
}

impl ByHand {
    fn new() -> Self {
        Self::open(&SimDisk::new())
    }

    fn open(disk: &SimDisk) -> Self {
        Self::try_open(disk, still()).expect("the log opens")
    }

    fn try_open(disk: &SimDisk, config: LogConfig) -> Result<Self, LogError> {
        let owner = owner(u128::from(disk.steps()));
        let (log, hands, info) = Log::open_by_hand(config, Arc::new(disk.clone()), owner)?;
        Ok(Self { disk: disk.clone(), log, hands, info })
    }

    /// Appends, commits, and is told.
    fn append(&mut self, entries: Vec<EntryParts>) {
        self.commit(|log| append(log, entries)).expect("the entries are durable");
    }

    fn vote(&mut self, term: u64) {
        self.commit(|log| save_vote(log, vote(term))).expect("the vote is durable");
    }

    fn truncate(&mut self, keep: Option<u64>) {
        self.commit(|log| truncate_after(log, keep)).expect("the truncation is durable");
    }

    /// Purges; the files go with `tidy`.
    fn purge(&mut self, term: u64, index: u64) {
        self.log.purge_upto(id(term, index)).expect("the purge is taken");
        self.hands.rest();
    }

    fn commit(
        &mut self,
        change: impl FnOnce(&Log) -> Result<Answer, LogError>,
    ) -> Result<(), LogError> {
        let answer = change(&self.log)?;
        while self.hands.commit() {}
        answer.try_recv().expect("a commit tells everyone")
    }

    /// Does all that nobody waits for, FRONTIER included.
    fn tidy(&mut self) {
        self.hands.rest();
        while self.hands.tidy() {}
    }

    /// The process dies, the machine lives on: the cache of the disk stays.
    fn killed(self) -> SimDisk {
        self.disk
    }

    /// The process dies, and the next one opens the log.
    fn restarted(self) -> Self {
        let disk = self.killed();
        Self::open(&disk)
    }

    /// The power goes during the write of this append: any of its sectors may have arrived.
    fn cut_off_while_writing(mut self, entries: Vec<EntryParts>) -> SimDisk {
        self.disk.power_off_at(self.disk.steps());
        assert!(self.commit(|log| append(log, entries)).is_err());
        self.disk
    }

    fn ids(&self) -> Vec<(u64, u64)> {
        ids(&self.log)
    }

    fn segments(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        wal_files(&self.disk)
    }
}

/// FRONTIER is written when a test says so, and never by itself.
fn still() -> LogConfig {
    LogConfig { frontier_interval: Duration::from_secs(60), ..config() }
}

/// Segments and their bytes, as a running process sees them.
fn wal_files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    disk.files().into_iter().filter(|(path, _)| is_segment(path)).collect()
}

fn last_segment(disk: &SimDisk) -> PathBuf {
    segments(disk).pop().expect("there is a segment")
}

/// Refuses to open as damaged, and changes nothing.
fn is_refused(what: &str, disk: &SimDisk) {
    let before = files(disk);
    match ByHand::try_open(disk, still()) {
        Err(LogError::Corrupt(_)) => {
            assert_eq!(files(disk), before, "{what}: a refusal changes nothing");
        }
        Err(other) => panic!("{what}: {other}"),
        Ok(opened) => panic!("{what}: it opened with {:?}", opened.ids()),
    }
}

/// Runs the story once for every operation of the disk, with the power going off there, and looks at
/// everything that may be left. The story says what it was told is durable.
fn every_cut<T>(
    story: impl Fn(&SimDisk, &mut T),
    start: impl Fn() -> T,
    check: impl Fn(&str, &SimDisk, &T),
) {
    let whole = SimDisk::new();
    story(&whole, &mut start());
    for cut in 0..=whole.steps() {
        let disk = SimDisk::new();
        disk.power_off_at(cut);
        let mut told = start();
        story(&disk, &mut told);
        for survival in SURVIVALS {
            let left = disk.after_power_cut(survival);
            check(&format!("cut at operation {cut}, {survival:?}"), &left, &told);
        }
    }
}

/// Opens a file as the machine's other programs could.
fn file(disk: &SimDisk, path: &Path) -> Arc<dyn raftmap_log_store::disk::DiskFile> {
    disk.open(path).expect("the file is there")
}
