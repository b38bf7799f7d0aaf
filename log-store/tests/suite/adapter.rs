//! The log as openraft sees it. The conformance suite runs where there is a state machine as well.

use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt;
use openraft::alias::{LeaderIdOf, LogIdOf, VoteOf};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, LogId};
use raftmap_log_store::disk::{Fault, Op, SimDisk};
use raftmap_log_store::raft::{EntryCodec, LogStore};
use raftmap_log_store::{EntryParts, Log, LogIdParts, VoteParts};

use crate::common::{config, open, open_with};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Command(Bytes);

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(Types: D = Command, R = (), NodeId = u64, Node = openraft::EmptyNode);

type Entry = openraft::alias::EntryOf<Types>;
type Store = LogStore<Types, Codec>;

#[derive(Debug)]
struct Codec;

impl EntryCodec<Types> for Codec {
    fn entry_to_parts(entry: &Entry) -> EntryParts {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Normal(Command(bytes)) => (1, bytes.clone()),
            EntryPayload::Blank | EntryPayload::Membership(_) => (0, Bytes::new()),
        };
        EntryParts { id: Self::log_id_to_parts(&entry.log_id), kind, payload }
    }

    fn entry_from_parts(parts: EntryParts) -> io::Result<Entry> {
        let payload = match parts.kind {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(Command(parts.payload)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Entry { log_id: Self::log_id_from_parts(parts.id), payload })
    }

    fn vote_to_parts(vote: &VoteOf<Types>) -> VoteParts {
        let leader = vote.leader_id;
        VoteParts { term: leader.term, node: leader.node_id, committed: vote.committed }
    }

    fn vote_from_parts(parts: VoteParts) -> VoteOf<Types> {
        let leader_id = LeaderIdOf::<Types> { term: parts.term, node_id: parts.node };
        VoteOf::<Types> { leader_id, committed: parts.committed }
    }

    fn log_id_to_parts(id: &LogIdOf<Types>) -> LogIdParts {
        let leader = id.committed_leader_id();
        LogIdParts { term: leader.term, node: leader.node_id, index: id.index() }
    }

    fn log_id_from_parts(parts: LogIdParts) -> LogIdOf<Types> {
        LogId::new(LeaderIdOf::<Types> { term: parts.term, node_id: parts.node }, parts.index)
    }
}

fn id(term: u64, index: u64) -> LogIdOf<Types> {
    Codec::log_id_from_parts(crate::common::id(term, index))
}

fn entries(term: u64, range: std::ops::RangeInclusive<u64>, len: usize) -> Vec<Entry> {
    let payload = EntryPayload::Normal(Command(Bytes::from(vec![7; len])));
    range.map(|index| Entry { log_id: id(term, index), payload: payload.clone() }).collect()
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index()).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    runtime.expect("a runtime").block_on(future)
}

/// A log that keeps nothing in memory once it is written.
fn uncached(disk: &SimDisk) -> Log {
    let mut config = config();
    config.cache_bytes_max = 0;
    open_with(disk, config).expect("the log opens").0
}

#[test]
fn what_openraft_stores_it_gets_back_after_a_restart() {
    let disk = SimDisk::new();
    run(async {
        let log = open(&disk);
        let mut store = Store::new(log.clone());
        let vote = Codec::vote_from_parts(VoteParts { term: 2, node: 1, committed: true });
        store.save_vote(&vote).await.unwrap();
        store.blocking_append(entries(1, 1..=4, 10)).await.unwrap();
        store.truncate_after(Some(id(1, 3))).await.unwrap();
        store.blocking_append(entries(2, 4..=9, 10)).await.unwrap();
        store.save_committed(Some(id(2, 8))).await.unwrap();
        store.save_committed(None).await.unwrap();
        store.purge(id(1, 2)).await.unwrap();
        drop(store);
        log.close().unwrap();

        let mut store = Store::new(open(&disk));
        let mut reader = store.get_log_reader().await;
        assert_eq!(reader.read_vote().await.unwrap(), Some(vote));
        assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 8)));
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(id(1, 2)));
        assert_eq!(state.last_log_id, Some(id(2, 9)));
        let read = reader.try_get_log_entries(..).await.unwrap();
        assert_eq!(read, [entries(1, 3..=3, 10), entries(2, 4..=9, 10)].concat());
        let keys = reader.get_key_log_ids(id(1, 3)..=id(2, 9)).await.unwrap();
        assert_eq!(keys, [id(1, 3), id(2, 9)]);
    });
}

#[test]
fn a_limited_read_is_bounded_and_a_stream_gives_everything() {
    let disk = SimDisk::new();
    run(async {
        let mut store = Store::new(uncached(&disk));
        store.blocking_append(entries(1, 1..=40, 100_000)).await.unwrap();
        let mut reader = store.get_log_reader().await;
        let limited = reader.limited_get_log_entries(3, 41).await.unwrap();
        assert_eq!(indexes(&limited), (3..13).collect::<Vec<_>>(), "ten fit into 1 MiB");
        let all: Vec<_> = reader.entries_stream(2..=39).await.try_collect().await.unwrap();
        assert_eq!(indexes(&all), (2..40).collect::<Vec<_>>());
        let none: Vec<_> = reader.entries_stream(7..7).await.try_collect().await.unwrap();
        assert_eq!(none, []);
        let all = reader.try_get_log_entries(1..100).await.unwrap();
        assert_eq!(all.len(), 40, "never short, whatever its size");
    });
}

#[test]
fn a_read_from_before_the_purge_never_shows_a_log_with_a_hole() {
    let disk = SimDisk::new();
    run(async {
        let mut store = Store::new(open(&disk));
        store.blocking_append(entries(1, 1..=9, 10)).await.unwrap();
        let mut reader = store.get_log_reader().await;
        let stream = reader.entries_stream(3..8).await;
        store.purge(id(1, 4)).await.unwrap();
        assert!(stream.try_collect::<Vec<_>>().await.is_err());
        assert_eq!(reader.limited_get_log_entries(4, 8).await.unwrap(), [], "a heartbeat");
        let rest: Vec<_> = reader.entries_stream(5..100).await.try_collect().await.unwrap();
        assert_eq!(indexes(&rest), [5, 6, 7, 8, 9]);
        let stream = reader.entries_stream(5..8).await;
        store.purge(id(1, 9)).await.unwrap();
        assert!(stream.try_collect::<Vec<_>>().await.is_err());
    });
}

#[test]
fn an_append_is_readable_at_once_and_answered_when_durable() {
    let disk = SimDisk::new();
    run(async {
        let mut store = Store::new(open(&disk));
        let mut reader = store.get_log_reader().await;
        let (told, answer) = Types::oneshot();
        store.append(entries(1, 1..=3, 10), IOFlushed::signal(told)).await.unwrap();
        assert_eq!(reader.try_get_log_entries(0..10).await.unwrap().len(), 3);
        answer.await.unwrap().unwrap();
    });
}

#[test]
fn a_disk_that_fails_is_told_to_every_call() {
    let disk = SimDisk::new();
    run(async {
        let mut store = Store::new(open(&disk));
        store.blocking_append(entries(1, 1..=3, 10)).await.unwrap();
        disk.inject(Op::SyncData, 1, 1, Fault::Error(io::ErrorKind::Other));
        let (told, answer) = Types::oneshot();
        store.append(entries(1, 4..=4, 10), IOFlushed::signal(told)).await.unwrap();
        assert!(answer.await.unwrap().is_err());
        assert!(store.append(entries(1, 5..=5, 10), IOFlushed::noop()).await.is_err());
        let vote = Codec::vote_from_parts(VoteParts { term: 2, node: 1, committed: false });
        assert!(store.save_vote(&vote).await.is_err());
        assert!(store.truncate_after(Some(id(1, 1))).await.is_err());
        assert!(store.purge(id(1, 1)).await.is_err());
        assert!(store.save_committed(Some(id(1, 1))).await.is_err());
    });
}

#[test]
fn an_append_waits_while_the_queue_is_full() {
    let disk = SimDisk::new();
    run(async {
        let mut config = config();
        config.queue_bytes_max = config.batch_bytes_max;
        let log = open_with(&disk, config.clone()).unwrap().0;
        let mut store = Store::new(log.clone());
        for first in (1..200).step_by(10) {
            store.append(entries(1, first..=first + 9, 1000), IOFlushed::noop()).await.unwrap();
            let one_append = 10 * 1100;
            assert!(log.stats().queue_bytes < config.queue_bytes_max + one_append);
        }
        store.blocking_append(entries(1, 201..=201, 1)).await.unwrap();
    });
}
