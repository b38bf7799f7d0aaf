//! What can become of a call to another node, by consequence: was it certainly not done, or is that unknown?

use std::time::Duration;

use super::frame::FrameError;
use super::port::RaftStopped;
use super::wire::Malformed;

/// A call to a peer that got no answer of the kind it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// The address book has no such node.
    #[error("node {0} is not in the address book")]
    UnknownNode(u64),
    /// No connection: nothing was sent.
    #[error("{addr} cannot be reached: {detail}")]
    Unreachable {
        /// Where the call went.
        addr: String,
        /// What the system said.
        detail: String,
    },
    /// The peer does not listen to this node (wrong node, cluster or log): nothing was done.
    #[error("refused by {addr}: {reason}")]
    Refused {
        /// Where the call went.
        addr: String,
        /// The peer's words.
        reason: String,
    },
    /// The peer cannot serve the call now: nothing was done.
    #[error("{addr} is unavailable: {reason}")]
    Unavailable {
        /// Where the call went.
        addr: String,
        /// The peer's words.
        reason: String,
    },
    /// The peer has lost what it had acknowledged: nothing is sent to it any more.
    #[error("{addr} is not to be trusted: {reason}")]
    Forgotten {
        /// Where the call would have gone.
        addr: String,
        /// What it lost.
        reason: String,
    },
    /// No answer in time: whether the call was done is unknown.
    #[error("no answer from {addr} within {after:?}")]
    Timeout {
        /// Where the call went.
        addr: String,
        /// How long it was waited.
        after: Duration,
    },
    /// The connection ended before the answer: whether the call was done is unknown.
    #[error("the connection to {addr} broke: {detail}")]
    Broken {
        /// Where the call went.
        addr: String,
        /// What the transport said.
        detail: String,
    },
    /// The peer answered something that is not of this protocol.
    #[error("{addr} answered nonsense: {source}")]
    Malformed {
        /// Where the call went.
        addr: String,
        /// What was wrong with the answer.
        source: Malformed,
    },
}

impl PeerError {
    /// Whether the peer certainly did nothing: only then may something that is not idempotent be repeated.
    #[must_use]
    pub fn certainly_not_done(&self) -> bool {
        match self {
            PeerError::UnknownNode(_)
            | PeerError::Unreachable { .. }
            | PeerError::Refused { .. }
            | PeerError::Forgotten { .. }
            | PeerError::Unavailable { .. } => true,
            PeerError::Timeout { .. } | PeerError::Broken { .. } | PeerError::Malformed { .. } => {
                false
            }
        }
    }

    pub(crate) fn unreachable(addr: &str, detail: impl ToString) -> PeerError {
        PeerError::Unreachable { addr: addr.to_owned(), detail: detail.to_string() }
    }

    pub(crate) fn broken(addr: &str, detail: impl ToString) -> PeerError {
        PeerError::Broken { addr: addr.to_owned(), detail: detail.to_string() }
    }

    pub(crate) fn malformed(addr: &str, source: Malformed) -> PeerError {
        PeerError::Malformed { addr: addr.to_owned(), source }
    }

    pub(crate) fn timeout(addr: &str, after: Duration) -> PeerError {
        PeerError::Timeout { addr: addr.to_owned(), after }
    }

    pub(crate) fn stopped(addr: &str, stopped: &RaftStopped) -> PeerError {
        PeerError::Unavailable { addr: addr.to_owned(), reason: stopped.to_string() }
    }

    pub(crate) fn frame(addr: &str, error: FrameError) -> PeerError {
        match error {
            FrameError::Malformed(source) => PeerError::malformed(addr, source),
            FrameError::Cut | FrameError::Broken(_) => PeerError::broken(addr, error),
        }
    }
}
