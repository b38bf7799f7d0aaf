//! What the log is told and tells: ids, entries and votes as plain numbers and bytes.
//!
//! The log knows nothing of the protocol above it. `raft.rs` turns the protocol's types into these.

use std::fmt;

use bytes::Bytes;

/// The id of an entry: who proposed it, and its place in the log. Ordered by term, node, index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIdParts {
    /// The leader's term.
    pub term: u64,
    /// The leader's node id; 0 where the protocol does not carry it.
    pub node: u64,
    /// The place in the log.
    pub index: u64,
}

impl LogIdParts {
    /// The part that says who proposed the entry.
    pub(crate) fn leader(self) -> Leader {
        Leader { term: self.term, node: self.node }
    }
}

impl fmt::Display for LogIdParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.term, self.node, self.index)
    }
}

/// One leadership: entries of one leader follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leader {
    pub(crate) term: u64,
    pub(crate) node: u64,
}

impl Leader {
    pub(crate) fn at(self, index: u64) -> LogIdParts {
        LogIdParts { term: self.term, node: self.node, index }
    }
}

/// One entry of the log. The payload is shared with whoever made it, never copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryParts {
    /// Its id.
    pub id: LogIdParts,
    /// What the payload is; a number of the caller, kept as it is.
    pub kind: u8,
    /// The payload, at most `LogConfig::entry_bytes_max` bytes.
    pub payload: Bytes,
}

impl EntryParts {
    /// What the entry costs in a queue, a cache or an answer, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.payload.len() + ENTRY_OVERHEAD
    }
}

/// Bytes that an entry is charged beside its payload: its record header and its place in memory.
const ENTRY_OVERHEAD: usize = 64;

/// A vote. Ordered by term, node, committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoteParts {
    /// The term voted in.
    pub term: u64,
    /// The node voted for.
    pub node: u64,
    /// Whether a quorum is known to have granted it.
    pub committed: bool,
}

impl fmt::Display for VoteParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.committed { "committed" } else { "open" };
        write!(f, "{}-{} ({mark})", self.term, self.node)
    }
}

/// Whose log this is. Checked against the IDENTITY file at every open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The node that owns the log.
    pub node_id: u64,
    /// A random number, fresh at every open. It becomes the log's uuid when the log is created, and
    /// goes into the salts of the segments written by this process.
    pub new_uuid: u128,
}

/// What the IDENTITY file says: written once, when the log is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node that owns the log.
    pub node_id: u64,
    /// The log's own id. The store keeps a copy, so that a lost log is noticed.
    pub wal_uuid: u128,
}
