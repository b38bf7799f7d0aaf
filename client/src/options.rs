//! What a call may carry besides keys and values. Every `Default` is what the API does without it.

use std::time::Duration;

use bytes::Bytes;

use crate::api::{Bounds, Ttl};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Shows every write that was acknowledged before the read began.
    #[default]
    Linearizable,
    /// What the asked node has, at once, though it may be behind.
    Stale {
        /// How far behind at most, else the read is refused and goes to the next node; `None`: any.
        max_staleness: Option<Duration>,
    },
}

/// Options of reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How fresh.
    pub consistency: Consistency,
    /// Wait until the node has this revision: a writer reads its own write on any node.
    pub min_revision: Option<u64>,
    /// The state as of this revision instead of the present one; 1 or more.
    pub revision: Option<u64>,
    /// How long the whole call may take; `None`: the client's default.
    pub timeout: Option<Duration>,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key's `mod_revision` is this.
    Revision(u64),
    /// The key exists.
    Exists,
    /// The key does not exist.
    Absent,
}

/// Options of [`Client::put`](crate::Client::put).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The key's own TTL; excludes `lease`. `None`: the store's default TTL, which normally is none.
    pub ttl: Option<Ttl>,
    /// The lease that the key shall belong to.
    pub lease: Option<u64>,
    /// What must hold.
    pub condition: Condition,
    /// Whether the reply shows the record before.
    pub prev: bool,
    /// How long the whole call may take; `None`: the client's default.
    pub timeout: Option<Duration>,
}

/// Options of [`Client::delete`](crate::Client::delete) and [`Client::delete_range`](crate::Client::delete_range).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// What must hold; a range takes no condition.
    pub condition: Condition,
    /// Whether the reply shows the records before.
    pub prev: bool,
    /// How long the whole call may take; `None`: the client's default.
    pub timeout: Option<Duration>,
}

/// A key's deadline, as [`Client::touch`](crate::Client::touch) sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// A TTL of its own, or none.
    Ttl(Ttl),
    /// That of a lease.
    Lease(u64),
}

/// Options of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOptions {
    /// Which keys; [`Bounds::Key`] is refused.
    pub bounds: Bounds,
    /// How many at most, 1 to 10000: per page, and over all for a stream. `None`: 1000 a page, a stream has all.
    pub limit: Option<u32>,
    /// From the last key to the first.
    pub reverse: bool,
    /// Without values.
    pub keys_only: bool,
    /// Groups what lies below the next separator into prefixes; not for streams.
    pub separator: Option<Bytes>,
    /// Where the page begins, from the page before; the bounds must be the same.
    pub cursor: Option<String>,
    /// How fresh, of when, and how long.
    pub read: ReadOptions,
}

impl ListOptions {
    /// Everything between `bounds`, in order.
    #[must_use]
    pub fn of(bounds: Bounds) -> ListOptions {
        ListOptions {
            bounds,
            limit: None,
            reverse: false,
            keys_only: false,
            separator: None,
            cursor: None,
            read: ReadOptions::default(),
        }
    }

    /// Everything that begins with `prefix`; all keys if it is empty.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> ListOptions {
        let prefix = prefix.into();
        ListOptions::of(if prefix.is_empty() { Bounds::All } else { Bounds::Prefix(prefix) })
    }
}
