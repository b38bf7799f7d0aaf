//! openraft's network traits over the links to the peers.
//!
//! openraft makes one client each for replication, heartbeats and snapshots of a peer, and a fresh one for
//! every vote and transfer. So clients are cheap handles; connections belong to the [`Peers`].
//!
//! What an error makes openraft do: after `Unreachable` it backs off at once; after `Network` and `Timeout` it
//! tries again immediately, until it has had about ten of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, stream_append_sequential};
use openraft::raft::{AppendEntriesResponse, SnapshotResponse, StreamAppendError};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use raftmap_state_machine::{Member, SnapshotData, TypeConfig};

use super::append;
use super::error::PeerError;
use super::frame::Frame;
use super::heartbeat::Heartbeats;
use super::message;
use super::peers::{Peer, Peers};
use super::snapshot;
use super::types::{
    AppendRequest, AppendResult, Snapshot, TransferRequest, TransferResponse, Vote, VoteRequest,
    VoteResponse,
};
use super::wire::{Malformed, Pieces};

pub(crate) const VOTE_PATH: &str = "/raft/v1/vote";
pub(crate) const PRE_VOTE_PATH: &str = "/raft/v1/pre_vote";
pub(crate) const TRANSFER_PATH: &str = "/raft/v1/transfer_leader";

/// A peer that owes an answer on the append stream and says nothing for this long is given up. It is not
/// the sign of a dead connection (the link notices that itself, sooner) but of a node that hangs.
/// Above any stall of a disk that is worth waiting for: starting again sends everything again.
const APPEND_SILENCE_MAX: Duration = Duration::from_secs(5);

type Result<T, E = RPCError<TypeConfig>> = std::result::Result<T, E>;

/// Makes openraft's clients.
#[derive(Debug, Clone)]
pub struct Network {
    peers: Arc<Peers>,
    silence_max: Duration,
}

impl Network {
    /// Over the connections of `peers`, whose address book follows what openraft names.
    #[must_use]
    pub fn new(peers: Arc<Peers>) -> Network {
        Network { peers, silence_max: APPEND_SILENCE_MAX }
    }

    /// With another bound on the silence of a peer that owes an answer to entries (default: 5 s).
    #[must_use]
    pub fn with_silence_max(self, silence_max: Duration) -> Network {
        Network { silence_max, ..self }
    }

    fn client(&self, target: u64, node: &Member, heartbeats: bool) -> PeerClient {
        let peer = self.peers.at(target, node);
        PeerClient {
            here: self.peers.identity().node_id,
            silence_max: self.silence_max,
            heartbeats: Heartbeats::new(peer.clone()),
            is_heartbeat: heartbeats,
            peer,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerClient {
        self.client(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> PeerClient {
        self.client(target, node, true)
    }
}

/// One of openraft's clients of one peer.
pub struct PeerClient {
    here: u64,
    peer: Arc<Peer>,
    silence_max: Duration,
    heartbeats: Heartbeats,
    is_heartbeat: bool,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient").field("peer", &self.peer.id).finish_non_exhaustive()
    }
}

impl PeerClient {
    /// A small question and its answer on the control connection.
    async fn ask<T>(
        &self,
        path: &'static str,
        frame: Pieces,
        decode: fn(Frame) -> std::result::Result<T, Malformed>,
        action: RPCTypes,
        option: &RPCOption,
    ) -> Result<T> {
        let identity = Some(self.peer.identity());
        let answer = self.peer.control.call(path, identity, frame, option.soft_ttl()).await;
        let outcome = answer.and_then(|frame| {
            decode(frame).map_err(|source| PeerError::malformed(self.peer.addr(), source))
        });
        self.peer.note(outcome).map_err(|error| rpc_error(error, action, self.here, self.peer.id))
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    /// A single request, on the heartbeats' stream.
    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>> {
        let outcome = self.heartbeats.beat(&request, option.soft_ttl()).await;
        let result = self
            .peer
            .note(outcome)
            .map_err(|error| rpc_error(error, RPCTypes::AppendEntries, self.here, self.peer.id))?;
        Ok(match result {
            Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(higher)) => AppendEntriesResponse::HigherVote(higher),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult>>>>
    where
        S: Stream<Item = AppendRequest> + Send + Unpin + 'static,
    {
        if self.is_heartbeat {
            return stream_append_sequential(self, requests, option);
        }
        let (here, target) = (self.here, self.peer.id);
        let error = move |error| rpc_error(error, RPCTypes::AppendEntries, here, target);
        Box::pin(async move {
            let opened = append::open(self.peer.clone(), requests, self.silence_max).await;
            let Some(acks) = self.peer.note(opened).map_err(error)? else {
                let none: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(none);
            };
            let results: BoxStream<'s, _> = Box::pin(acks.map(move |result| result.map_err(error)));
            Ok(results)
        })
    }

    async fn vote(&mut self, request: VoteRequest, option: RPCOption) -> Result<VoteResponse> {
        let frame = message::encode_vote_request(&request);
        self.ask(VOTE_PATH, frame, message::decode_vote_response, RPCTypes::Vote, &option).await
    }

    async fn pre_vote(&mut self, request: VoteRequest, option: RPCOption) -> Result<VoteResponse> {
        let frame = message::encode_vote_request(&request);
        self.ask(PRE_VOTE_PATH, frame, message::decode_vote_response, RPCTypes::Vote, &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse> {
        let frame = message::encode_transfer(&request);
        let action = RPCTypes::TransferLeader;
        self.ask(TRANSFER_PATH, frame, message::decode_transfer_response, action, &option).await
    }

    /// Lasts as long as it makes progress; `option`'s time is not its bound.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let peer = self.peer.clone();
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            outcome = snapshot::send(&peer, vote, snapshot) => match outcome {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(snapshot::SendError::Deposed) => {
                    Err(StreamingError::Closed(ReplicationClosed::new("the snapshot is newer than this leadership")))
                }
                Err(snapshot::SendError::Local(why)) => Err(StreamingError::Unreachable(Unreachable::from_string(why))),
                Err(snapshot::SendError::Peer(error)) => {
                    peer.note_error(&error);
                    Err(rpc_error(error, RPCTypes::InstallSnapshot, self.here, peer.id).into())
                }
            }
        }
    }
}

fn rpc_error(error: PeerError, action: RPCTypes, id: u64, target: u64) -> RPCError<TypeConfig> {
    match error {
        PeerError::Timeout { after: timeout, .. } => {
            RPCError::Timeout(Timeout { action, id, target, timeout })
        }
        PeerError::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
        PeerError::UnknownNode(_)
        | PeerError::Unreachable { .. }
        | PeerError::Refused { .. }
        | PeerError::Forgotten { .. }
        | PeerError::Unavailable { .. }
        | PeerError::Malformed { .. } => RPCError::Unreachable(Unreachable::new(&error)),
    }
}
