//! Snapshots: files of a real store, received by a fake one that can break, wait and be slow.

use std::future::pending;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::network::RPCOption;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, RaftNetworkFactory, RaftNetworkV2};
use raftmap_node::raft::{Entry, Network, PeerClient, Snapshot, Vote};
use raftmap_state_machine::command::{Condition, Deadline, Op, Put};
use raftmap_state_machine::{Command, LocalIdentity, StateMachine, Store, StoreConfig};
use tempfile::TempDir;

use crate::fakes::{FakeNode, Listening, caller, log_id, until, vote};

const MIB: u64 = 1 << 20;
const KEYS: u64 = 96;

/// A store whose snapshot is about 6 MiB long, and does not get shorter by compression.
struct Sender {
    machine: StateMachine,
    store: Store,
    _dir: TempDir,
}

impl Sender {
    async fn new() -> Sender {
        let dir = TempDir::new().unwrap();
        let identity = LocalIdentity { node_id: 1, wal_uuid: 1 };
        let config = StoreConfig::new(dir.path().join("store"));
        let (machine, store) = raftmap_state_machine::open(config, identity).unwrap();
        let mut sender = Sender { machine, store, _dir: dir };
        let entries: Vec<_> = (0..KEYS).map(|index| Ok((entry(index), None))).collect();
        sender.machine.apply(stream::iter(entries)).await.unwrap();
        sender
    }

    async fn snapshot(&mut self) -> Snapshot {
        self.machine.get_current_snapshot().await.unwrap().unwrap()
    }

    async fn close(self) {
        drop(self.machine);
        tokio::task::spawn_blocking(move || self.store.close()).await.unwrap().unwrap();
    }
}

fn entry(index: u64) -> Entry {
    let put = Put {
        key: Bytes::from(format!("key-{index:04}")),
        value: noise(index),
        deadline: Deadline::None,
        condition: Condition::none(),
        prev: false,
    };
    Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(Command::encode(&Op::Put(put), 1)),
    }
}

fn noise(seed: u64) -> Bytes {
    let mut state = seed + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    };
    (0..8192).flat_map(|_| next()).collect()
}

async fn receiver() -> Listening {
    let receiver = Listening::start(FakeNode::new(2)).await;
    *receiver.node.raft.shelf.last_log_id.lock().unwrap() = Some(log_id(KEYS - 1));
    receiver
}

async fn client(at: &Listening) -> PeerClient {
    let (_node, peers) = caller();
    Network::new(peers).new_snapshot_client(2, &at.member()).await
}

/// Sends without ever cancelling. The time that openraft allows is over at once: it is no bound.
async fn send(
    client: &mut PeerClient,
    snapshot: Snapshot,
) -> Result<Vote, StreamingError<raftmap_state_machine::TypeConfig>> {
    let option = RPCOption::new(Duration::from_millis(1));
    let sent =
        client.full_snapshot(vote(1, 1), snapshot, pending::<ReplicationClosed>(), option).await;
    sent.map(|response| response.vote)
}

fn received(at: &Listening) -> u64 {
    let parts = at.node.raft.shelf.parts.lock().unwrap();
    parts.values().map(|part| u64::try_from(part.len()).unwrap()).sum()
}

fn installed(at: &Listening) -> usize {
    at.node.raft.shelf.installed.lock().unwrap().len()
}

fn offsets(at: &Listening) -> Vec<u64> {
    at.node.raft.shelf.offsets.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_broke_goes_on_where_it_was() {
    let mut sender = Sender::new().await;
    let first = receiver().await;
    let shelf = first.node.raft.shelf.clone();
    let mut client = client(&first).await;

    // The connection is cut while the receiver holds back.
    shelf.hold_at.store(2 * MIB, Ordering::SeqCst);
    let snapshot = sender.snapshot().await;
    let attempt = tokio::spawn(async move {
        let outcome = send(&mut client, snapshot).await;
        (client, outcome)
    });
    until("2 MiB have arrived", || received(&first) >= 2 * MIB).await;
    let node = first.node.clone();
    let addr = first.stop().await;
    shelf.hold_at.store(0, Ordering::SeqCst);
    let (mut client, cut) = attempt.await.unwrap();
    assert!(matches!(cut, Err(StreamingError::Network(_))), "{cut:?}");
    until("what was under way is written", || shelf.intakes.load(Ordering::SeqCst) == 0).await;

    // Then its disk fails.
    let second = Listening::start_at(node, addr).await;
    let kept = received(&second);
    shelf.fail_at.store(kept + MIB, Ordering::SeqCst);
    let failed = send(&mut client, sender.snapshot().await).await;
    assert!(
        matches!(&failed, Err(StreamingError::Unreachable(error)) if error.to_string().contains("is broken")),
        "{failed:?}"
    );

    // Then all is well.
    shelf.fail_at.store(0, Ordering::SeqCst);
    assert_eq!(send(&mut client, sender.snapshot().await).await.unwrap(), vote(1, 1));
    let offsets = offsets(&second);
    assert_eq!(offsets.len(), 3);
    assert!(
        offsets[0] == 0 && offsets[1] >= 2 * MIB && offsets[2] >= offsets[1] + MIB,
        "{offsets:?}"
    );
    assert_eq!(installed(&second), 1);

    // What came in pieces is the file.
    let view = tokio::task::spawn_blocking({
        let snapshot = sender.snapshot().await;
        move || match snapshot.snapshot {
            raftmap_state_machine::SnapshotData::Frozen(view) => {
                let file = view.write_file().unwrap();
                std::fs::read(file.path()).unwrap()
            }
            raftmap_state_machine::SnapshotData::Prepared(_) => panic!("not frozen"),
        }
    });
    let file = view.await.unwrap();
    assert!(shelf.parts.lock().unwrap().values().any(|part| *part == file));
    sender.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_at_a_time_is_received_and_installed() {
    let mut sender = Sender::new().await;
    let at = receiver().await;
    at.node.raft.shelf.slow.store(true, Ordering::SeqCst);
    let mut first = client(&at).await;
    let mut second = client(&at).await;
    let snapshot = sender.snapshot().await;
    let under_way = tokio::spawn(async move { send(&mut first, snapshot).await });
    until("the first began", || offsets(&at).len() == 1).await;

    let busy = send(&mut second, sender.snapshot().await).await;
    assert!(
        matches!(&busy, Err(StreamingError::Unreachable(error)) if error.to_string().contains("another snapshot")),
        "{busy:?}"
    );

    at.node.raft.shelf.slow.store(false, Ordering::SeqCst);
    under_way.await.unwrap().unwrap();
    assert_eq!((installed(&at), offsets(&at).len()), (1, 1));
    sender.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_goes_on_without_its_sender() {
    let mut sender = Sender::new().await;
    let at = receiver().await;
    at.node.raft.shelf.slow.store(true, Ordering::SeqCst);
    let mut first = client(&at).await;
    let snapshot = sender.snapshot().await;
    let total = {
        let (done, cancelled) = tokio::sync::oneshot::channel::<()>();
        let under_way = tokio::spawn(async move {
            let cancel = async move {
                let _ = cancelled.await;
                ReplicationClosed::new("a test cancels")
            };
            first
                .full_snapshot(vote(1, 1), snapshot, cancel, RPCOption::new(Duration::from_secs(1)))
                .await
        });
        until("everything arrived", || at.node.raft.shelf.finished.load(Ordering::SeqCst)).await;
        done.send(()).unwrap();
        let closed = under_way.await.unwrap();
        assert!(matches!(closed, Err(StreamingError::Closed(_))), "{closed:?}");
        received(&at)
    };
    assert_eq!(installed(&at), 0);
    at.node.raft.shelf.slow.store(false, Ordering::SeqCst);
    until("it is installed", || installed(&at) == 1).await;
    assert_eq!(received(&at), total);
    sender.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_vote_is_heard_before_anything_is_sent() {
    let mut sender = Sender::new().await;
    let at = receiver().await;
    *at.node.raft.current_vote.lock().unwrap() = vote(5, 3);
    let mut client = client(&at).await;
    assert_eq!(send(&mut client, sender.snapshot().await).await.unwrap(), vote(5, 3));
    assert_eq!((received(&at), installed(&at)), (0, 0));
    sender.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_sends_no_snapshot_of_its_successor() {
    let mut sender = Sender::new().await;
    let at = receiver().await;
    let mut client = client(&at).await;
    let option = RPCOption::new(Duration::from_secs(1));
    let older = vote(0, 2);
    let snapshot = sender.snapshot().await;
    let refused =
        client.full_snapshot(older, snapshot, pending::<ReplicationClosed>(), option).await;
    assert!(matches!(refused, Err(StreamingError::Closed(_))), "{refused:?}");
    assert!(offsets(&at).is_empty());
    sender.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_was_announced_is_not_installed() {
    let mut sender = Sender::new().await;
    let at = receiver().await;
    *at.node.raft.shelf.last_log_id.lock().unwrap() = Some(log_id(3));
    let mut client = client(&at).await;
    let refused = send(&mut client, sender.snapshot().await).await;
    assert!(
        matches!(&refused, Err(StreamingError::Unreachable(error)) if error.to_string().contains("as announced")),
        "{refused:?}"
    );
    assert_eq!(installed(&at), 0);
    sender.close().await;
}
