//! Two ends of a connection without a node behind them: a service and a Raft that do what a test says.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::StreamAppendError;
use openraft::{EntryPayload, RaftNetworkFactory};
use raftmap_node::raft::{
    AppendRequest, AppendResult, Entry, ForwardError, Hello, JoinReply, JoinRequest, LogId,
    Network, NodeIdentity, PeerClient, PeerService, Peers, Prepared, RaftPort, RaftStopped,
    ReadIndexError, SnapshotIntake, TransferRequest, TransferResponse, Vote, VoteRequest,
    VoteResponse, server,
};
use raftmap_state_machine::{Command, CommandBuf, Member, Reply};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const CLUSTER: u128 = 0xC1;

/// The log of node `id`.
pub(crate) fn log_of(id: u64) -> u128 {
    0xA0 + u128::from(id)
}

pub(crate) fn vote(term: u64, node_id: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id }, committed: true }
}

pub(crate) fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 1, node_id: 1 }, index)
}

/// The entries from `first`, with payloads of these lengths.
pub(crate) fn batch(first: u64, lens: &[usize]) -> AppendRequest {
    let entries = lens.iter().zip(first..).map(|(len, index)| {
        let fill = u8::try_from(index % 251).unwrap();
        let command = Command::from_bytes(vec![fill; *len].into());
        Entry { log_id: log_id(index), payload: EntryPayload::Normal(command) }
    });
    AppendRequest {
        vote: vote(1, 1),
        prev_log_id: first.checked_sub(1).map(log_id),
        entries: entries.collect(),
        leader_commit: None,
    }
}

/// Waits until it is so; a test that waits for ten seconds has failed.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What the fake Raft does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Answers each at once.
    Prompt,
    /// Takes them and answers later.
    Holding,
    /// Does not even take them.
    Deaf,
}

pub(crate) struct FakeRaft {
    pub(crate) manners: watch::Sender<Manners>,
    pub(crate) appended: Mutex<Vec<AppendRequest>>,
    /// The index that this Raft has something else at.
    pub(crate) conflict_at: AtomicU64,
    pub(crate) streams: AtomicUsize,
    pub(crate) votes: AtomicUsize,
    pub(crate) current_vote: Mutex<Vote>,
    pub(crate) shelf: Arc<Shelf>,
}

impl FakeRaft {
    pub(crate) fn appended_bytes(&self) -> usize {
        self.appended.lock().unwrap().iter().map(payload_bytes).sum()
    }

    pub(crate) fn appended(&self) -> usize {
        self.appended.lock().unwrap().len()
    }
}

pub(crate) fn payload_bytes(request: &AppendRequest) -> usize {
    let len = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(command) => command.as_bytes().len(),
        _ => 0,
    };
    request.entries.iter().map(len).sum()
}

/// The received parts of snapshots, in memory.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) parts: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) offsets: Mutex<Vec<u64>>,
    pub(crate) installed: Mutex<Vec<Vote>>,
    /// Intakes that exist.
    pub(crate) intakes: AtomicUsize,
    /// An intake had everything.
    pub(crate) finished: AtomicBool,
    /// Installing waits while this is set.
    pub(crate) slow: AtomicBool,
    /// An intake fails once it has so many bytes; 0: it does not.
    pub(crate) fail_at: AtomicU64,
    /// An intake waits once it has so many bytes; 0: it does not.
    pub(crate) hold_at: AtomicU64,
    pub(crate) last_log_id: Mutex<Option<LogId>>,
}

struct FakeIntake {
    id: String,
    shelf: Arc<Shelf>,
}

impl FakeIntake {
    fn new(id: &str, shelf: Arc<Shelf>) -> FakeIntake {
        shelf.intakes.fetch_add(1, Ordering::SeqCst);
        FakeIntake { id: id.to_owned(), shelf }
    }
}

impl Drop for FakeIntake {
    fn drop(&mut self) {
        self.shelf.intakes.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SnapshotIntake for FakeIntake {
    fn offset(&self) -> u64 {
        let parts = self.shelf.parts.lock().unwrap();
        parts.get(&self.id).map_or(0, |part| u64::try_from(part.len()).unwrap())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let reached = |limit: &AtomicU64| {
            let limit = limit.load(Ordering::SeqCst);
            limit > 0 && self.offset() >= limit
        };
        if reached(&self.shelf.fail_at) {
            return Err(io::Error::other("the disk of the receiver is broken"));
        }
        while reached(&self.shelf.hold_at) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shelf
            .parts
            .lock()
            .unwrap()
            .entry(self.id.clone())
            .or_default()
            .extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Prepared> {
        let last_log_id = *self.shelf.last_log_id.lock().unwrap();
        self.shelf.finished.store(true, Ordering::SeqCst);
        let shelf = self.shelf.clone();
        let install = move |vote: Vote| -> BoxFuture<'static, Result<Vote, RaftStopped>> {
            Box::pin(async move {
                until("the install may end", || !shelf.slow.load(Ordering::SeqCst)).await;
                shelf.installed.lock().unwrap().push(vote);
                Ok(vote)
            })
        };
        Ok(Prepared { last_log_id, install: Box::new(install) })
    }
}

fn result(request: &AppendRequest, conflict_at: u64) -> AppendResult {
    let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
    match last {
        Some(last) if last.index >= conflict_at => {
            Err(StreamAppendError::Conflict(request.prev_log_id.unwrap_or(last)))
        }
        last => Ok(last),
    }
}

impl RaftPort for FakeNode {
    fn stream_append(
        &self,
        mut requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, RaftStopped>> {
        let raft = self.raft.clone();
        raft.streams.fetch_add(1, Ordering::SeqCst);
        let (answer, answers) = mpsc::unbounded_channel();
        let mut manners = raft.manners.subscribe();
        let taking = raft.clone();
        tokio::spawn(async move {
            let _ = manners.wait_for(|manners| *manners != Manners::Deaf).await;
            while let Some(request) = requests.next().await {
                let result = result(&request, taking.conflict_at.load(Ordering::SeqCst));
                taking.appended.lock().unwrap().push(request);
                let _ = answer.send(result);
            }
        });
        let manners = raft.manners.subscribe();
        Box::pin(stream::unfold((answers, manners), |(mut answers, mut manners)| async move {
            let _ = manners.wait_for(|manners| *manners == Manners::Prompt).await;
            let answer = answers.recv().await?;
            Some((Ok(answer), (answers, manners)))
        }))
    }

    fn append(&self, request: AppendRequest) -> BoxFuture<'_, Result<AppendResult, RaftStopped>> {
        Box::pin(async move {
            let result = result(&request, self.raft.conflict_at.load(Ordering::SeqCst));
            self.raft.appended.lock().unwrap().push(request);
            let mut manners = self.raft.manners.subscribe();
            let _ = manners.wait_for(|manners| *manners == Manners::Prompt).await;
            Ok(result)
        })
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        self.raft.votes.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(VoteResponse::new(request.vote, request.last_log_id, true)) })
    }

    fn pre_vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        self.raft.votes.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(VoteResponse::new(request.vote, None, false)) })
    }

    fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> BoxFuture<'_, Result<TransferResponse, RaftStopped>> {
        let good = *request.to_node_id() == self.id && *request.from_leader() == vote(1, 1);
        Box::pin(
            async move { if good { Ok(Ok(())) } else { Err(RaftStopped("not for me".into())) } },
        )
    }

    fn current_vote(&self) -> Vote {
        *self.raft.current_vote.lock().unwrap()
    }

    fn receive_snapshot(&self, id: &str) -> io::Result<Box<dyn SnapshotIntake>> {
        let intake = FakeIntake::new(id, self.raft.shelf.clone());
        self.raft.shelf.offsets.lock().unwrap().push(intake.offset());
        Ok(Box::new(intake))
    }
}

type Forwarding = fn(&CommandBuf) -> Result<Reply, ForwardError>;

pub(crate) struct FakeNode {
    id: u64,
    pub(crate) identity: Mutex<NodeIdentity>,
    pub(crate) recorded: Mutex<HashMap<u64, u128>>,
    pub(crate) raft: Arc<FakeRaft>,
    pub(crate) has_raft: AtomicBool,
    pub(crate) joined: Mutex<Vec<JoinRequest>>,
    pub(crate) lost_log: Mutex<Vec<String>>,
    /// How forwarded commands are answered.
    pub(crate) forwarding: Mutex<Forwarding>,
    /// Forwarded commands are not answered while this is set.
    pub(crate) forwards_hang: AtomicBool,
    pub(crate) forwarded: AtomicUsize,
}

impl FakeNode {
    pub(crate) fn new(id: u64) -> Arc<FakeNode> {
        let raft = FakeRaft {
            manners: watch::channel(Manners::Prompt).0,
            appended: Mutex::default(),
            conflict_at: AtomicU64::new(u64::MAX),
            streams: AtomicUsize::new(0),
            votes: AtomicUsize::new(0),
            current_vote: Mutex::new(vote(1, 1)),
            shelf: Arc::default(),
        };
        Arc::new(FakeNode {
            id,
            identity: Mutex::new(NodeIdentity {
                node_id: id,
                cluster_id: CLUSTER,
                log_uuid: log_of(id),
            }),
            recorded: Mutex::new([1, 2, 3].map(|id| (id, log_of(id))).into()),
            raft: Arc::new(raft),
            has_raft: AtomicBool::new(true),
            joined: Mutex::default(),
            lost_log: Mutex::default(),
            forwarding: Mutex::new(|_command| Ok(Reply::nothing(0))),
            forwards_hang: AtomicBool::new(false),
            forwarded: AtomicUsize::new(0),
        })
    }
}

/// `Arc<FakeNode>` as the service: it can then give itself away as the Raft.
pub(crate) struct FakeService(pub(crate) Arc<FakeNode>);

impl PeerService for FakeService {
    fn identity(&self) -> NodeIdentity {
        *self.0.identity.lock().unwrap()
    }

    fn expected_log_uuid(&self, node: u64) -> Option<u128> {
        self.0.recorded.lock().unwrap().get(&node).copied()
    }

    fn lost_log(&self, reason: String) {
        self.0.lost_log.lock().unwrap().push(reason);
    }

    fn raft(&self) -> Option<Arc<dyn RaftPort>> {
        self.0.has_raft.load(Ordering::SeqCst).then(|| self.0.clone() as Arc<dyn RaftPort>)
    }

    fn hello(&self) -> Hello {
        Hello {
            node_id: self.0.id,
            cluster_id: 0,
            log_uuid: log_of(self.0.id),
            pristine: true,
            version: "0.0.1".into(),
            addr: "127.0.0.1:1".into(),
            peer_addr: None,
            labels: BTreeMap::from([("zone".into(), "a".into())]),
        }
    }

    fn forward(
        &self,
        commands: Vec<CommandBuf>,
    ) -> BoxFuture<'_, Vec<Result<Reply, ForwardError>>> {
        Box::pin(async move {
            self.0.forwarded.fetch_add(commands.len(), Ordering::SeqCst);
            let hanging = || !self.0.forwards_hang.load(Ordering::SeqCst);
            until("forwarded commands may be answered", hanging).await;
            let forwarding = *self.0.forwarding.lock().unwrap();
            commands.iter().map(forwarding).collect()
        })
    }

    fn read_index(&self) -> BoxFuture<'_, Result<u64, ReadIndexError>> {
        Box::pin(async move { Err(ReadIndexError::NotLeader { leader: Some(3) }) })
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinReply> {
        self.0.joined.lock().unwrap().push(request);
        Box::pin(async { JoinReply::Redirect { addr: "127.0.0.1:9".into() } })
    }

    fn call(&self, verb: String, body: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move { [verb.as_bytes(), b":", &body].concat().into() })
    }
}

/// A fake node that listens.
pub(crate) struct Listening {
    pub(crate) node: Arc<FakeNode>,
    pub(crate) addr: SocketAddr,
    /// Accepted so far.
    pub(crate) connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Listening {
    pub(crate) async fn start(node: Arc<FakeNode>) -> Listening {
        Listening::start_at(node, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(node: Arc<FakeNode>, addr: SocketAddr) -> Listening {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = server::router(Arc::new(FakeService(node.clone())));
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, router, connections.clone()));
        Listening { node, addr, connections, serving }
    }

    pub(crate) fn member(&self) -> Member {
        Member { addr: self.addr.to_string(), ..Member::default() }
    }

    /// Ends with all its connections.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.serving.abort();
        let _ = self.serving.await;
        self.addr
    }
}

async fn serve(listener: TcpListener, router: axum::Router, accepted: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::SeqCst);
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Node 1 as a caller.
pub(crate) fn caller() -> (Arc<FakeNode>, Arc<Peers>) {
    let node = FakeNode::new(1);
    let peers = Peers::new(Arc::new(FakeService(node.clone())));
    (node, Arc::new(peers))
}

/// Node 1's client for replication to node 2, which `at` listens for.
pub(crate) async fn client(at: &Listening, silence_max: Duration) -> PeerClient {
    let (_node, peers) = caller();
    Network::new(peers).with_silence_max(silence_max).new_client(2, &at.member()).await
}
