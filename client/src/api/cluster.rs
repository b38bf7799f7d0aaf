//! The calls on the cluster and on one node: status, formation, members, leader, snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::given;

/// Answer to `GET /v1/status`: what this node knows of itself and the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// 32 hexadecimal digits; `None` until the cluster is formed.
    pub cluster_id: Option<String>,
    /// Version of the node's program.
    pub version: String,
    /// What the node is now.
    pub role: NodeRole,
    /// The highest Raft term that it has seen.
    pub term: u64,
    /// The leader that it knows of.
    pub leader: Option<u64>,
    /// The membership as this node knows it, by id.
    pub members: Vec<Member>,
    /// The write-ahead log.
    pub log: LogStatus,
    /// The state machine.
    pub store: StoreStatus,
    /// The node's disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStatus>,
    /// How the state came back when the node was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    /// Milliseconds since the start of the process.
    pub uptime_ms: u64,
}

/// The room on the file system of one node that is nearest to its reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Below so many the node takes no writes that take room.
    pub reserve_bytes: u64,
    /// Whether such writes, or all, are refused now.
    pub low: bool,
}

/// What a node is in its cluster at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Decides the order of writes.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Stands for election.
    Candidate,
    /// Not formed, or stopping.
    Shutdown,
    /// A role that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never used again after it was removed.
    pub id: u64,
    /// Where clients reach it.
    pub addr: String,
    /// With or without a vote.
    pub role: MemberRole,
    /// Free text for people and placement.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Last log index known to stand in its log; only a leader knows.
    #[serde(default)]
    pub matched_index: Option<u64>,
}

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Counts for the majority.
    #[default]
    Voter,
    /// Receives everything, counts for nothing.
    Learner,
}

/// The log of one node. Indexes are Raft's, 0 where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// The oldest entry that is kept.
    pub first_index: u64,
    /// The newest entry.
    pub last_index: u64,
    /// The newest entry known to be committed.
    pub committed_index: u64,
    /// The newest entry in the state.
    pub applied_index: u64,
    /// The newest entry in a snapshot.
    pub snapshot_index: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
}

/// The state of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The store's present revision.
    pub revision: u64,
    /// The oldest revision that can still be read.
    pub oldest_revision: u64,
    /// Hash of the replicated state at `log.applied_index`; equal on all nodes at one index.
    #[serde(default)]
    pub digest: String,
    /// Keys.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// Bytes of the cold tier on disk.
    pub cold_bytes: u64,
    /// The hot tier.
    pub hot: HotStatus,
}

/// The hot tier of one node: counters since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotStatus {
    /// Records held.
    pub entries: u64,
    /// Bytes held.
    pub bytes: u64,
    /// The bound on `bytes`.
    pub bytes_max: u64,
    /// Reads answered.
    pub hits: u64,
    /// Reads passed on to the cold tier.
    pub misses: u64,
    /// Records taken in from the cold tier.
    pub promotions: u64,
    /// Records given up for room.
    pub evictions: u64,
}

/// How a node's state came back at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryStatus {
    /// From where.
    pub path: RecoveryPath,
    /// How many records.
    pub records: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How many records are known to be missing.
    pub missing: u64,
}

/// From where a node's state came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryPath {
    /// There was nothing before.
    Fresh,
    /// After a clean stop, with the hot keys read back.
    Warm,
    /// After a crash; the hot tier fills again on access.
    Cold,
    /// From the mirror.
    Mirror,
    /// From another member.
    Peer,
    /// From a snapshot.
    Snapshot,
    /// From a backup.
    Backup,
    /// A path that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `POST /v1/cluster/init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// The first voters.
    pub members: Vec<NewMember>,
}

/// One member of a cluster that is to be formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// Its id, at least 1.
    pub id: u64,
    /// Where clients and members reach it.
    pub addr: String,
    /// Free text for people and placement.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Body of `POST /v1/cluster/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberAdd {
    /// Its id, at least 1, never used before.
    pub id: u64,
    /// Where clients and members reach it.
    pub addr: String,
    /// Free text for people and placement.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it becomes; a voter (the default) is first brought up to date as a learner.
    #[serde(default)]
    pub role: MemberRole,
}

/// Body of `PUT /v1/cluster/members/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRoleChange {
    /// What it becomes.
    pub role: MemberRole,
}

/// Answer to every call that lists or changes members: the membership after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// By id.
    pub members: Vec<Member>,
}

/// Body of `POST /v1/cluster/leader`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaderRequest {
    /// Who shall lead; `None`: the best follower.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Answer to `POST /v1/cluster/leader`, sent when the transfer is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderReply {
    /// Who leads now.
    pub leader: u64,
}

/// Answer to `POST /v1/cluster/snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReply {
    /// The log index that the snapshot stands at.
    pub applied_index: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_refuse_what_they_do_not_know() {
        let init: InitRequest =
            serde_json::from_str(r#"{"members":[{"id":1,"addr":"127.0.0.1:7701"}]}"#).unwrap();
        assert_eq!(init.members[0].id, 1);
        for text in [
            r#"{"members":[{"id":1,"addr":"a","x":1}]}"#,
            r#"{"members":[{"id":1,"id":1,"addr":"a"}]}"#,
            r#"{"members":[{"id":-1,"addr":"a"}]}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<InitRequest>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<LeaderRequest>(r#"{"to":null}"#).is_err());
        assert_eq!(serde_json::from_str::<LeaderRequest>("{}").unwrap().to, None);
        assert!(serde_json::from_str::<MemberRoleChange>(r#"{"role":"king"}"#).is_err());
    }

    #[test]
    fn a_new_member_becomes_a_voter_unless_told_otherwise() {
        let add: MemberAdd = serde_json::from_str(r#"{"id":4,"addr":"a:1"}"#).unwrap();
        assert_eq!(add.role, MemberRole::Voter);
        let add: MemberAdd =
            serde_json::from_str(r#"{"id":4,"addr":"a:1","role":"learner"}"#).unwrap();
        assert_eq!(add.role, MemberRole::Learner);
    }
}
