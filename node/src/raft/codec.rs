//! Entries and votes as parts: the one translation for the log and for the wire.
//!
//! A command's bytes are the payload, untouched: the same allocation serves the log, its cache, the wire
//! and apply. Only memberships, which are rare, are encoded here.

use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use raftmap_log_store::raft::{EntryCodec, EntryParts, LogIdParts, VoteParts};
use raftmap_state_machine::raft::{decode_membership, encode_membership};
use raftmap_state_machine::{Command, TypeConfig};

use super::types::{Entry, LeaderId, LogId, Vote};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// How this node's entries become bytes. The kinds are part of the log's format: 0 blank, 1 command,
/// 2 membership; all are below [`KIND_LIMIT`].
#[derive(Debug, Clone, Copy)]
pub struct Codec;

/// Kinds stay below this, so that the wire may use the upper bits.
pub(crate) const KIND_LIMIT: u8 = 0x40;

/// What an entry's payload is, in a few words for people.
pub(crate) fn describe_payload(kind: u8, payload: &[u8]) -> String {
    match kind {
        BLANK => "blank".to_owned(),
        NORMAL => Command::from_bytes(Bytes::copy_from_slice(payload)).to_string(),
        MEMBERSHIP => match decode_membership(payload) {
            Ok(membership) => format!("membership {membership}"),
            Err(_) => "malformed membership".to_owned(),
        },
        _ => "unknown".to_owned(),
    }
}

impl EntryCodec<TypeConfig> for Codec {
    fn entry_to_parts(entry: &Entry) -> EntryParts {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Blank => (BLANK, Bytes::new()),
            EntryPayload::Normal(command) => (NORMAL, command.as_bytes().clone()),
            EntryPayload::Membership(membership) => (MEMBERSHIP, encode_membership(membership)),
        };
        EntryParts { id: Self::log_id_to_parts(&entry.log_id), kind, payload }
    }

    fn entry_from_parts(parts: EntryParts) -> io::Result<Entry> {
        let payload = match parts.kind {
            BLANK if parts.payload.is_empty() => EntryPayload::Blank,
            NORMAL => EntryPayload::Normal(Command::from_bytes(parts.payload)),
            MEMBERSHIP => EntryPayload::Membership(decode_membership(&parts.payload)?),
            kind => {
                let what =
                    format!("entry {} has the kind {kind}, which is unknown", parts.id.index);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        };
        Ok(Entry { log_id: Self::log_id_from_parts(parts.id), payload })
    }

    fn vote_to_parts(vote: &Vote) -> VoteParts {
        VoteParts {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            committed: vote.committed,
        }
    }

    fn vote_from_parts(parts: VoteParts) -> Vote {
        let leader_id = LeaderId { term: parts.term, node_id: parts.node };
        Vote { leader_id, committed: parts.committed }
    }

    fn log_id_to_parts(id: &LogId) -> LogIdParts {
        let leader = id.committed_leader_id();
        LogIdParts { term: leader.term, node: leader.node_id, index: id.index() }
    }

    fn log_id_from_parts(parts: LogIdParts) -> LogId {
        LogId::new(LeaderId { term: parts.term, node_id: parts.node }, parts.index)
    }
}
