//! What can go wrong, told apart by what follows from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::damage::Damage;

/// An error of the log. Each variant is a different consequence for whoever gets it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused while opening or reading; nothing was decided about the log's content.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were durable are gone or changed. Nothing on disk was touched. The node must not serve
    /// with this log: it may have forgotten what it promised. The message says where the damage is, what it
    /// affects and what to do.
    #[error("the log is damaged: {0}")]
    Corrupt(Box<Damage>),
    /// Another process has the log open.
    #[error("{} is locked by another process{holder}: end it, or use another directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it, ready to print.
        holder: String,
    },
    /// The directory holds the log of another node.
    #[error(
        "{} is the log of node {found}, not of node {expected}: start node {found} on it, or give node \
         {expected} a directory of its own",
        path.display()
    )]
    WrongOwner {
        /// The IDENTITY file.
        path: PathBuf,
        /// The node that the file names.
        found: u64,
        /// The node that asked.
        expected: u64,
    },
    /// Written by a newer version of this program.
    #[error(
        "{} has format version {found}, this program reads 1 to {known}: use the version that wrote it, \
         nothing was changed",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is understood.
        known: u32,
    },
    /// The settings contradict themselves; every problem is named.
    #[error("log settings: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// An earlier write or sync failed. The log takes nothing any more, the process must end.
    #[error("the log has failed: {0}")]
    Failed(Arc<Failure>),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// An entry is too large. Nothing was queued.
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its payload.
        bytes: u64,
        /// `LogConfig::entry_bytes_max`.
        limit: u64,
    },
    /// The caller's order contradicts the log: a gap, an overlap, a term or vote that goes back. Nothing
    /// was queued.
    #[error("out of order: {0}")]
    OutOfOrder(#[from] Contradiction),
}

impl LogError {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }

    pub(crate) fn corrupt(damage: Damage) -> Self {
        Self::Corrupt(Box::new(damage))
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Io { source, .. } => source.kind(),
            LogError::Failed(failure) => failure.kind,
            LogError::Corrupt(_) | LogError::TooNew { .. } => io::ErrorKind::InvalidData,
            LogError::Locked { .. } => io::ErrorKind::WouldBlock,
            LogError::Closed => io::ErrorKind::BrokenPipe,
            LogError::WrongOwner { .. }
            | LogError::Settings(_)
            | LogError::TooLarge { .. }
            | LogError::OutOfOrder(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// The first write or sync that failed. Final: kept for every waiter and later caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was tried.
    pub op: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Everything below this position of the log is durable, nothing else is known to be.
    pub durable_lsn: u64,
    /// The kind of the system's error.
    pub kind: io::ErrorKind,
    /// What the system said.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {} (durable up to lsn {})",
            self.op,
            self.path.display(),
            self.message,
            self.durable_lsn
        )
    }
}

/// A step that does not follow from the log so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// An entry's index is not the next one.
    #[error("entry {found} where {expected} is next")]
    Index {
        /// The index of the entry.
        found: u64,
        /// The next index.
        expected: u64,
    },
    /// An entry's term is below that of its predecessor.
    #[error("entry {index} of term {found}-{found_node} after term {last}-{last_node}")]
    Term {
        /// The index of the entry.
        index: u64,
        /// Its term.
        found: u64,
        /// Its leader.
        found_node: u64,
        /// The term before it.
        last: u64,
        /// The leader before it.
        last_node: u64,
    },
    /// A vote below the one already given.
    #[error("vote for term {found} after one for term {last}")]
    Vote {
        /// The term of the vote.
        found: u64,
        /// The term of the last one.
        last: u64,
    },
    /// Entries named as committed are not in the log.
    #[error("committed {found} is beyond the end of the log")]
    Committed {
        /// The index said to be committed.
        found: u64,
    },
    /// A truncation to something that is not in the log, or is purged.
    #[error("truncation after {keep:?} does not fit the log")]
    Truncate {
        /// The last index to keep.
        keep: Option<u64>,
    },
    /// A purge below an earlier one.
    #[error("purge up to {found} after one up to {last}")]
    Purge {
        /// The index of the purge.
        found: u64,
        /// The index of the last one.
        last: u64,
    },
    /// The footer of a segment does not list the entries that are in it.
    #[error("the seal does not match the entries of its segment")]
    Seal,
    /// An index so large that nothing can follow it.
    #[error("index {found} is the last one there is")]
    Exhausted {
        /// The index.
        found: u64,
    },
}
