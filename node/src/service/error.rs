//! Why a call was not answered, in the domain's words.
//!
//! The variants say what happened to the *effect*: everything but [`Timeout`](ServiceError::Timeout)
//! and [`Internal`](ServiceError::Internal) means that nothing was and nothing will be applied.
//! A refusal that the state decided (a failed condition, a missing key) is not here: it is a reply.

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request cannot be understood or contradicts itself.
    #[error("{field}: {detail}")]
    Invalid {
        /// What of the request is wrong.
        field: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No leader is known; nothing was proposed.
    #[error("no leader is known at the moment")]
    NoLeader,
    /// This node's state is older than the caller accepts.
    #[error("this node's state is older than max_staleness")]
    TooStale,
    /// This node is stopping; nothing was proposed.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// This node's log or store failed; it stops.
    #[error("this node's storage failed: {0}")]
    StorageFailed(String),
    /// Admission control: a named bound is reached; nothing was proposed.
    #[error("too many requests are in flight")]
    TooManyRequests,
    /// The disks of this node, or of the leader, or of most voters, are nearly full; nothing was proposed.
    #[error(
        "the disks are nearly full: what takes room is refused until {reserve_bytes} bytes are free again"
    )]
    NoRoom {
        /// The free bytes that are kept.
        reserve_bytes: u64,
    },
    /// Not answered in time. A write may still commit: its outcome is unknown.
    #[error("not answered in time")]
    Timeout,
    /// The cluster's present state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The cluster exists already.
    #[error("the cluster is initialized already")]
    AlreadyInitialized,
    /// No member has this id.
    #[error("no member has this id")]
    MemberNotFound,
    /// The request is larger than the cluster allows.
    #[error("the request is larger than {limit} bytes")]
    RequestTooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// The revision is no longer kept.
    #[error("revision {oldest_revision} is the oldest that is kept")]
    Compacted {
        /// The oldest revision that can be read.
        oldest_revision: u64,
    },
    /// The revision is still to come.
    #[error("the revision is in the future: the store is at {revision}")]
    Future {
        /// The store's present revision.
        revision: u64,
    },
    /// This node is broken; the message is for its operator.
    #[error("{0}")]
    Internal(String),
}

impl From<raftmap_state_machine::ReadError> for ServiceError {
    fn from(error: raftmap_state_machine::ReadError) -> Self {
        use raftmap_state_machine::ReadError;
        match error {
            ReadError::Compacted { oldest_revision } => Self::Compacted { oldest_revision },
            ReadError::Future { revision } => Self::Future { revision },
            ReadError::BadCursor => {
                Self::Invalid { field: "cursor".into(), detail: "not a cursor of this list".into() }
            }
            ReadError::Store(source) => Self::StorageFailed(source.to_string()),
        }
    }
}
