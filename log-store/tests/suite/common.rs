//! What the tests of the log share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use raftmap_log_store::disk::{Disk, SimDisk};
use raftmap_log_store::{
    EntryParts, Hands, Log, LogConfig, LogError, LogIdParts, Owner, RecoveryInfo, VoteParts,
};

pub(crate) const DIR: &str = "/wal";
/// No condition in these tests takes this long unless it never comes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn config() -> LogConfig {
    let mut config = LogConfig::new(DIR);
    config.segment_bytes_max = 16 << 10;
    config.batch_bytes_max = 4 << 10;
    config.queue_bytes_max = 1 << 20;
    config.idle_after = Duration::from_millis(5);
    config
}

pub(crate) fn owner(number: u128) -> Owner {
    Owner { node_id: 1, new_uuid: 0x5EED_0000_0000_0000 + number }
}

pub(crate) fn open(disk: &SimDisk) -> Log {
    open_with(disk, config()).expect("the log opens").0
}

pub(crate) fn open_with(
    disk: &SimDisk,
    config: LogConfig,
) -> Result<(Log, RecoveryInfo), LogError> {
    Log::open(config, Arc::new(disk.clone()) as Arc<dyn Disk>, owner(u128::from(disk.steps())))
}

pub(crate) fn id(term: u64, index: u64) -> LogIdParts {
    LogIdParts { term, node: 1, index }
}

pub(crate) fn vote(term: u64) -> VoteParts {
    VoteParts { term, node: 1, committed: false }
}

/// An entry whose payload tells term and index, `len` bytes long.
pub(crate) fn entry(term: u64, index: u64, len: usize) -> EntryParts {
    let mut payload = format!("{term}/{index};").into_bytes();
    payload.resize(len.max(payload.len()), b'.');
    EntryParts { id: id(term, index), kind: 1, payload: Bytes::from(payload) }
}

pub(crate) fn entries(term: u64, range: std::ops::RangeInclusive<u64>) -> Vec<EntryParts> {
    range.map(|index| entry(term, index, 40)).collect()
}

pub(crate) type Answer = Receiver<Result<(), LogError>>;

pub(crate) fn append(log: &Log, entries: Vec<EntryParts>) -> Result<Answer, LogError> {
    let (done, answer) = channel();
    log.append(entries, move |result| drop(done.send(result)))?;
    Ok(answer)
}

pub(crate) fn save_vote(log: &Log, vote: VoteParts) -> Result<Answer, LogError> {
    let (done, answer) = channel();
    log.save_vote(vote, move |result| drop(done.send(result)))?;
    Ok(answer)
}

pub(crate) fn truncate_after(log: &Log, keep: Option<u64>) -> Result<Answer, LogError> {
    let (done, answer) = channel();
    log.truncate_after(keep, move |result| drop(done.send(result)))?;
    Ok(answer)
}

/// The answer, which must come.
pub(crate) fn wait(answer: Result<Answer, LogError>) -> Result<(), LogError> {
    answer?.recv_timeout(DEADLINE).expect("every completion comes")
}

/// Everything in the log, as (term, index).
pub(crate) fn ids(log: &Log) -> Vec<(u64, u64)> {
    read_all(log).iter().map(|entry| (entry.id.term, entry.id.index)).collect()
}

pub(crate) fn read_all(log: &Log) -> Vec<EntryParts> {
    log.read(0..u64::MAX, usize::MAX).expect("the log is readable")
}

/// Waits until the condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "{what} does not come");
        std::thread::yield_now();
    }
}

/// A log that is worked by hand.
pub(crate) fn by_hand(disk: &SimDisk) -> (Log, Hands) {
    let disk = Arc::new(disk.clone()) as Arc<dyn Disk>;
    let (log, hands, _) = Log::open_by_hand(config(), disk, owner(1)).expect("the log opens");
    (log, hands)
}

/// Does what was asked for, and takes its answer.
pub(crate) fn commit(hands: &mut Hands, answer: Result<Answer, LogError>) {
    while hands.commit() {}
    wait(answer).expect("it is durable");
}

/// A log of a few segments with a vote, entries of two terms and a truncation between them; the last is 6.
pub(crate) fn worn(disk: &SimDisk) -> (Log, Hands) {
    let (log, mut hands) = by_hand(disk);
    let mut commit = |answer| commit(&mut hands, answer);
    commit(save_vote(&log, vote(3)));
    for index in 1..=3 {
        commit(append(&log, vec![entry(1, index, 4000)]));
    }
    commit(append(&log, entries(1, 4..=6)));
    commit(truncate_after(&log, Some(5)));
    commit(append(&log, vec![entry(2, 6, 9000)]));
    (log, hands)
}

pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    disk.files().into_keys().filter(is_segment).collect()
}

/// Waits until FRONTIER tells of everything that is durable.
pub(crate) fn rest(disk: &SimDisk, log: &Log) {
    until("FRONTIER", || frontier_lsn(disk) == log.stats().durable_lsn);
}

fn frontier_lsn(disk: &SimDisk) -> u64 {
    let bytes = disk.files()[&path("FRONTIER")].clone();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let newest = if number(32) > number(4096 + 32) { 0 } else { 4096 };
    number(newest + 40)
}

/// The files of the log, without the lock.
pub(crate) fn files(disk: &SimDisk) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = disk.files();
    files.remove(&path("LOCK"));
    files
}

pub(crate) fn path(name: &str) -> PathBuf {
    std::path::Path::new(DIR).join(name)
}
