//! What a node does when a peer asks: the seam between the transport and the rest of the node.
//!
//! The transport has already checked that the message is for this node, of this cluster and from a log that
//! the membership knows. Calls come concurrently, from any peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use raftmap_state_machine::{CommandBuf, Member, Reply};

use super::identity::NodeIdentity;
use super::port::RaftPort;

/// Implemented by the node, called by the peer routes.
pub trait PeerService: Send + Sync + 'static {
    /// Who this node is now. The cluster id changes once, from 0.
    fn identity(&self) -> NodeIdentity;

    /// The log uuid that the membership records for a node: `None` if it is no member as far as this node
    /// knows, `Some(0)` if none was recorded. Called on every message: cheap, no lock that anyone holds for long.
    fn expected_log_uuid(&self, node: u64) -> Option<u128>;

    /// A peer means a log that this node does not have: this directory was emptied under the id of a member, and
    /// the node must not go on.
    fn lost_log(&self, reason: String);

    /// The Raft of this node; `None` before it is built and after it was shut down (peers get "unavailable").
    fn raft(&self) -> Option<Arc<dyn RaftPort>>;

    /// What this node tells anybody who asks, before there is a cluster.
    fn hello(&self) -> Hello;

    /// Proposes commands on behalf of a peer; their time stamp is this node's to write.
    /// Answers in their order, one for each.
    fn forward(&self, commands: Vec<CommandBuf>)
    -> BoxFuture<'_, Vec<Result<Reply, ForwardError>>>;

    /// One ReadIndex round: every write acknowledged before this call is at or below the answered log index.
    fn read_index(&self) -> BoxFuture<'_, Result<u64, ReadIndexError>>;

    /// A node asks to become a member.
    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinReply>;

    /// Any other call of the node to itself on another node; both bodies are the node's own encoding.
    fn call(&self, verb: String, body: Bytes) -> BoxFuture<'_, Bytes>;
}

/// What became of a forwarded command that has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Not applied: that node is not the leader.
    #[error("not the leader (it may be {leader:?})")]
    NotLeader {
        /// The leader as far as that node knows.
        leader: Option<u64>,
    },
    /// May have been applied, may be applied yet, may never be.
    #[error("the outcome is unknown")]
    Unknown,
    /// Certainly not applied, and never will be.
    #[error("refused: {0}")]
    Refused(ForwardRefusal),
}

/// Why a forwarded command was certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardRefusal {
    /// The leader's queue is full.
    #[error("too many requests")]
    TooMany,
    /// The leader stops.
    #[error("shutting down")]
    ShuttingDown,
    /// That node knows of no leader, or its leader has lost its quorum.
    #[error("no leader")]
    NoLeader,
    /// The call did not get through, or was not listened to.
    #[error("unreachable")]
    Unreachable,
    /// The disks of the leader or of most voters are nearly full.
    #[error("no room on the disks")]
    NoRoom,
    /// Larger than a log entry may be, or not a command at all.
    #[error("not a command that can be proposed")]
    Invalid,
}

/// Why there is no read index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// That node is not the leader.
    #[error("not the leader (it may be {leader:?})")]
    NotLeader {
        /// The leader as far as that node knows.
        leader: Option<u64>,
    },
    /// The leader could not confirm with a quorum that it still is the leader.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// The call itself failed.
    #[error("{0}")]
    Peer(String),
}

/// What a node says of itself to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its id.
    pub node_id: u64,
    /// Its cluster; 0 if it belongs to none.
    pub cluster_id: u128,
    /// The uuid of its log.
    pub log_uuid: u128,
    /// Whether it never took part in anything: no vote, no log, no state.
    pub pristine: bool,
    /// Its version, for people.
    pub version: String,
    /// Where clients reach it, and peers unless `peer_addr` is set.
    pub addr: String,
    /// Where peers alone reach it.
    pub peer_addr: Option<String>,
    /// Free words of its operator.
    pub labels: BTreeMap<String, String>,
}

/// A node's wish to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The id it wants.
    pub id: u64,
    /// Its address, labels and log.
    pub member: Member,
}

/// The answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinReply {
    /// It is a member now, or already was with this very log.
    Accepted,
    /// Ask there: the leader.
    Redirect {
        /// The leader's address.
        addr: String,
    },
    /// Not now: no leader, or another change is under way. Asking again makes sense.
    Busy {
        /// Why.
        reason: String,
    },
    /// Never like this: the id is or was somebody else's, for example.
    Refused {
        /// Why.
        reason: String,
    },
}
