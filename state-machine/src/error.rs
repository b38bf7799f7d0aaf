//! What can go wrong, by consequence.
//!
//! Nothing a client sends ends up here: that is a [`Refusal`](crate::reply::Refusal) in the reply. A [`StoreError`] says
//! that *this machine* cannot go on; its owner stops the node.

use std::path::PathBuf;

/// Bytes that do not decode: of another version, cut, or garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// The part that did not decode.
    pub what: &'static str,
}

/// The store of this node cannot be trusted or used any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row or a file does not hold what it must: the generation is damaged and has to be replaced.
    #[error("corrupt {what}: {detail}")]
    Corrupt {
        /// The kind of row or file.
        what: &'static str,
        /// Where, and what was found.
        detail: String,
    },
    /// Rows that were written are missing: the cold tier has a hole and has to be replaced.
    #[error("damaged store: {detail}")]
    Damaged {
        /// What is missing.
        detail: String,
    },
    /// Written by a newer version, or for another purpose.
    #[error("unknown format {found} of {what}")]
    Format {
        /// What carries the format.
        what: &'static str,
        /// The format found.
        found: u64,
    },
    /// The directory belongs to another node or another log.
    #[error("foreign store: {detail}")]
    Foreign {
        /// Both identities.
        detail: String,
    },
    /// The node's log ends before what this store has seen of it: with its end it may have lost a vote.
    #[error(
        "the log ends at {ends}, this store has seen it durable up to {seen}: it is an older copy or its end is lost"
    )]
    LogBehind {
        /// The end of the log.
        ends: u64,
        /// How far it once was durable.
        seen: u64,
    },
    /// Another process has the directory open.
    #[error("store is in use by another process: {}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was attempted, as a verb phrase.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The database of the cold tier failed.
    #[error("{op}")]
    Engine {
        /// What was attempted, as a verb phrase.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier error or the shutdown closed the store.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// A row under `key` that does not hold what it must.
    #[must_use]
    pub fn corrupt(what: &'static str, key: &[u8], detail: impl std::fmt::Display) -> Self {
        Self::Corrupt { what, detail: format!("{detail} at key {}", key.escape_ascii()) }
    }
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision asked for is no longer kept.
    #[error("revision is compacted, the oldest kept is {oldest_revision}")]
    Compacted {
        /// The oldest revision that can still be read.
        oldest_revision: u64,
    },
    /// The revision asked for is not reached yet.
    #[error("revision is in the future, the store is at {revision}")]
    Future {
        /// The store's revision.
        revision: u64,
    },
    /// The cursor position was not made by a list.
    #[error("not a cursor of a list")]
    BadCursor,
    /// This machine is broken.
    #[error(transparent)]
    Store(#[from] StoreError),
}
