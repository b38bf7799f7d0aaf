//! Nodes speaking with nodes: Raft's messages, forwarded writes, formation; over HTTP/2, in our own frames.
//!
//! ```text
//!   openraft ─► network ─► append, heartbeat, snapshot ┐                    ┌ server ─► port ─► openraft
//!   service  ─► peers ───► calls ──────────────────────┴─► link ═══════════►┘    └────► service (the node)
//!                                                          one connection per peer and purpose
//! ```
//!
//! From the bytes up: [`wire`] and [`frame`], then [`message`] and [`call`] (what is said), [`identity`] (by
//! whom), [`link`] (the connection), [`peers`] and [`network`] (asking), [`server`] (answering).
//!
//! Always true:
//! - every message names its cluster, sender and target, and is refused before it is read if they are wrong;
//! - heartbeats and votes never wait behind entries, snapshots or forwarded writes;
//! - whatever is in flight is bounded in bytes, and whatever is waited for has a deadline;
//! - a call says whether it was certainly not done, or whether that is unknown.

mod append;
mod body;
mod call;
mod codec;
mod error;
mod frame;
mod heartbeat;
mod identity;
mod link;
mod lock;
mod message;
mod metrics;
mod network;
mod peers;
mod port;
mod promise;
pub mod server;
mod service;
mod snapshot;
mod socket;
mod types;
pub(crate) mod wire;

pub use codec::Codec;
pub(crate) use codec::describe_payload;
pub use error::PeerError;
pub use frame::FRAME_BYTES_MAX;
pub use identity::NodeIdentity;
pub use network::{Network, PeerClient};
pub use peers::Peers;
pub use port::{Prepared, RaftNode, RaftPort, RaftStopped, SnapshotIntake};
pub use service::{
    ForwardError, ForwardRefusal, Hello, JoinReply, JoinRequest, PeerService, ReadIndexError,
};
pub use types::{
    AppendRequest, AppendResult, Entry, LogId, Snapshot, SnapshotMeta, TransferRequest,
    TransferResponse, Vote, VoteRequest, VoteResponse,
};
pub use wire::Malformed;
