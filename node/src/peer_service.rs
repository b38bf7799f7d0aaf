//! What peers get from this node: the other side of [`crate::raft`]'s calls.
//!
//! The transport is built before Raft, because Raft is built with it; so the service is connected
//! once it exists, and until then peers hear "unavailable".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use raftmap_client::api::cluster::MemberRole;
use raftmap_log_store::Log;
use raftmap_state_machine::{CommandBuf, Reply, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::raft::{
    AppendRequest, AppendResult, ForwardError, Hello, JoinReply, JoinRequest, NodeIdentity,
    PeerService, RaftNode, RaftPort, RaftStopped, ReadIndexError, SnapshotIntake, TransferRequest,
    TransferResponse, Vote, VoteRequest, VoteResponse,
};
use crate::room::Level;
use crate::service::{Freshness, Service, room};

/// How long the leader works on a join before the new node has to ask again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(50);

/// How long one ReadIndex round for a peer may take.
const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(1);

/// This node as its peers see it.
pub(crate) struct PeerSide {
    node_id: u64,
    log_uuid: u128,
    config: Config,
    store: Store,
    connected: OnceLock<Connected>,
    fail: watch::Sender<Option<String>>,
}

struct Connected {
    service: Service,
    raft: Arc<dyn RaftPort>,
}

impl PeerSide {
    /// `fail` is told when this node must not go on.
    pub(crate) fn new(
        config: &Config,
        log: &Log,
        store: &Store,
        fail: watch::Sender<Option<String>>,
    ) -> Arc<PeerSide> {
        Arc::new(PeerSide {
            node_id: config.id,
            log_uuid: log.uuid(),
            config: config.clone(),
            store: store.clone(),
            connected: OnceLock::new(),
            fail,
        })
    }

    /// From now on peers are answered.
    pub(crate) fn connect(&self, service: Service) {
        let raft = Arc::new(ObservedRaft {
            raft: RaftNode::new(service.raft().clone(), self.store.clone()),
            service: service.clone(),
        });
        let _ = self.connected.set(Connected { service, raft });
    }

    fn service(&self) -> Option<&Service> {
        self.connected.get().map(|connected| &connected.service)
    }

    async fn join_here(&self, service: &Service, request: JoinRequest) -> JoinReply {
        if !service.is_leader() {
            let members = service.members_by_id();
            let leader = service.leader().and_then(|id| members.get(&id).cloned());
            return match leader {
                Some(leader) => JoinReply::Redirect { addr: leader.addr },
                None => JoinReply::Busy { reason: "no leader is known".into() },
            };
        }
        let JoinRequest { id, member } = request;
        if service.id_is_taken(id, member.log_uuid) {
            let reason = format!(
                "id {id} belongs to a member with another log; a node whose data are gone is \
                 removed and joins again under a new id"
            );
            return JoinReply::Refused { reason };
        }
        let deadline = Instant::now() + JOIN_TIMEOUT;
        match service.add_member_here(id, member, MemberRole::Voter, deadline).await {
            Ok(()) => JoinReply::Accepted,
            Err(error) => JoinReply::Busy { reason: error.to_string() },
        }
    }
}

impl PeerService for PeerSide {
    fn identity(&self) -> NodeIdentity {
        NodeIdentity {
            node_id: self.node_id,
            cluster_id: self.store.view().cluster_id(),
            log_uuid: self.log_uuid,
        }
    }

    fn expected_log_uuid(&self, node: u64) -> Option<u128> {
        let metrics = self.service()?.raft().server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.membership().get_node(&node).map(|member| member.log_uuid)
    }

    fn lost_log(&self, reason: String) {
        self.fail.send_replace(Some(reason));
    }

    fn raft(&self) -> Option<Arc<dyn RaftPort>> {
        self.connected.get().map(|connected| connected.raft.clone())
    }

    fn hello(&self) -> Hello {
        let pristine = self.service().is_some_and(Service::is_pristine);
        Hello {
            node_id: self.node_id,
            cluster_id: self.store.view().cluster_id(),
            log_uuid: self.log_uuid,
            pristine,
            version: env!("CARGO_PKG_VERSION").into(),
            addr: self.config.advertise.clone(),
            peer_addr: self.config.peer_listen.map(|addr| addr.to_string()),
            labels: self.config.labels.clone(),
        }
    }

    fn forward(
        &self,
        commands: Vec<CommandBuf>,
    ) -> BoxFuture<'_, Vec<Result<Reply, ForwardError>>> {
        Box::pin(async move {
            let count = commands.len();
            let Some(service) = self.service().cloned() else {
                return vec![Err(ForwardError::NotLeader { leader: None }); count];
            };
            // In a task of its own: the bytes stay accounted for when the peer goes away.
            let proposed = tokio::spawn(async move { service.propose_forwarded(commands).await });
            proposed.await.unwrap_or_else(|_ended| vec![Err(ForwardError::Unknown); count])
        })
    }

    fn read_index(&self) -> BoxFuture<'_, Result<u64, ReadIndexError>> {
        Box::pin(async move {
            let Some(service) = self.service().filter(|service| service.is_leader()) else {
                let leader = self.service().and_then(Service::leader);
                return Err(ReadIndexError::NotLeader { leader });
            };
            let deadline = Instant::now() + READ_INDEX_TIMEOUT;
            let index = service.read_index(deadline).await;
            index.map_err(|error| ReadIndexError::NoQuorum(error.to_string()))
        })
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinReply> {
        Box::pin(async move {
            match self.service() {
                Some(service) => self.join_here(service, request).await,
                None => JoinReply::Busy { reason: "this node is starting".into() },
            }
        })
    }

    fn call(&self, verb: String, body: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move {
            match self.service() {
                Some(service) if verb == room::VERB => service.room_for_peer(),
                Some(service) => service.admin_for_peer(body).await,
                None => Bytes::new(),
            }
        })
    }
}

/// Raft with an ear for what leaders report, which dates this node's state, and an eye on the disk: entries
/// are refused before they are taken.
struct ObservedRaft {
    raft: RaftNode,
    service: Service,
}

const NO_ROOM: &str = "the disk is nearly full";

fn no_room() -> RaftStopped {
    RaftStopped(NO_ROOM.into())
}

impl ObservedRaft {
    fn hear(service: &Service, freshness: &Freshness, request: &AppendRequest) {
        // A leader that was deposed reports an older truth.
        let current = request.vote >= service.raft().server_metrics().borrow_watched().vote;
        if let (true, Some(committed)) = (current, request.leader_commit) {
            freshness.heard(committed.index, service.applied_index());
        }
    }

    /// Whether there is room for the request's entries. What Raft itself writes is always taken.
    fn takes(service: &Service, request: &AppendRequest) -> bool {
        let commands = request.entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(command) => Some(command.as_bytes().len()),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        service.takes_entries(commands)
    }
}

impl RaftPort for ObservedRaft {
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, RaftStopped>> {
        let (service, freshness) = (self.service.clone(), self.service.freshness().clone());
        let heard = requests.inspect(move |request| Self::hear(&service, &freshness, request));
        let (service, full) = (self.service.clone(), Arc::new(AtomicBool::new(false)));
        let is_full = full.clone();
        let taken = heard.take_while(move |request| {
            let takes = Self::takes(&service, request);
            full.fetch_or(!takes, Ordering::Relaxed);
            std::future::ready(takes)
        });
        // Behind the answers to everything before it: the leader backs off and comes again.
        let refusal = stream::once(async move { is_full.load(Ordering::Relaxed).then(no_room) });
        let answers = self.raft.stream_append(taken.boxed());
        answers.chain(refusal.filter_map(std::future::ready).map(Err)).boxed()
    }

    fn append(&self, request: AppendRequest) -> BoxFuture<'_, Result<AppendResult, RaftStopped>> {
        Self::hear(&self.service, self.service.freshness(), &request);
        if !Self::takes(&self.service, &request) {
            return Box::pin(async { Err(no_room()) });
        }
        self.raft.append(request)
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        self.raft.vote(request)
    }

    fn pre_vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        self.raft.pre_vote(request)
    }

    fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> BoxFuture<'_, Result<TransferResponse, RaftStopped>> {
        self.raft.transfer_leader(request)
    }

    fn current_vote(&self) -> Vote {
        self.raft.current_vote()
    }

    fn receive_snapshot(&self, id: &str) -> std::io::Result<Box<dyn SnapshotIntake>> {
        if self.service.room().level() > Level::Enough {
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, NO_ROOM));
        }
        self.raft.receive_snapshot(id)
    }
}
