//! Short names of openraft's types for our one type config.

use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, VoteOf};
use raftmap_state_machine::{SnapshotData, TypeConfig};

/// A log id: term, node and index.
pub type LogId = LogIdOf<TypeConfig>;
/// A vote, or a leadership once it is committed.
pub type Vote = VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = EntryOf<TypeConfig>;
/// A batch of entries, or a heartbeat without any.
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// The answer to one or more of them.
pub type AppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
/// A candidate's question.
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
/// The answer to it.
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
/// A leader names its successor.
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
/// The answer to it.
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
/// What a snapshot holds.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
/// A snapshot with its meta.
pub type Snapshot = SnapshotOf<TypeConfig, SnapshotData>;

/// The leader part of a log id or a vote.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
