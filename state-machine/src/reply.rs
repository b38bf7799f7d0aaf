//! What a command gave: one reply per command, the same on every node.
//!
//! A refusal is a reply like any other: it says that the command changed nothing, and why.

mod decode;
mod encode;

use bytes::Bytes;

use crate::error::Malformed;

/// The format that this version writes and reads.
pub(crate) const FORMAT: u8 = 1;

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The store's revision after this command.
    pub revision: u64,
    /// What happened.
    pub outcome: Outcome,
}

impl Reply {
    /// The reply of an entry that is not a command.
    #[must_use]
    pub fn nothing(revision: u64) -> Self {
        Self { revision, outcome: Outcome::Nothing }
    }

    /// Why the command was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Outcome::Refused(refusal) = &self.outcome { Some(refusal) } else { None }
    }

    /// The reply as bytes, to be sent to the node that forwarded the command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode::reply(self)
    }

    /// Reads what [`Reply::encode`] wrote. Values share the memory of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        decode::reply(bytes)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that needs telling.
    Nothing,
    /// A key was set.
    Put {
        /// It was absent before.
        created: bool,
        /// The record before, if it was asked for.
        prev: Option<Item>,
    },
    /// A deadline was changed.
    Touched {
        /// The record as it is now.
        item: Item,
    },
    /// Keys were removed, or there were none.
    Deleted {
        /// How many.
        deleted: u64,
        /// The records before, if they were asked for, in key order.
        prev: Vec<Item>,
    },
    /// A transaction ran.
    Txn {
        /// Whether every comparison held.
        succeeded: bool,
        /// One result per operation of the list that ran, in order.
        results: Vec<TxnResult>,
    },
    /// Keys whose deadline was reached were removed.
    Expired {
        /// How many.
        deleted: u64,
        /// Whether more are due.
        more: bool,
    },
    /// The store was cleared.
    Cleared {
        /// How many keys there were.
        deleted: u64,
    },
    /// The cluster has its name and settings.
    Formed,
    /// The command changed nothing.
    Refused(Refusal),
}

/// The result of one operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// A key was set.
    Put {
        /// It was absent before.
        created: bool,
        /// The record before, if it was asked for.
        prev: Option<Item>,
    },
    /// Keys were removed, or there were none.
    Deleted {
        /// How many.
        deleted: u64,
        /// The records before, if they were asked for, in key order.
        prev: Vec<Item>,
    },
    /// A key was read.
    Got(Option<Item>),
    /// A range was read.
    Range {
        /// The records, without values if that was asked for.
        items: Vec<Item>,
        /// The number of items, or of all keys in the range with `count_only`.
        count: u64,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The key is absent and must not be.
    NotFound,
    /// A condition did not hold.
    PreconditionFailed {
        /// The record's revision, 0 if there is none.
        mod_revision: u64,
    },
    /// The lease is unknown.
    LeaseNotFound,
    /// More keys, or more bytes of reply, than one command may touch.
    RangeTooLarge {
        /// The bound: keys (`range_delete_max`) or bytes (`reply_bytes_max`).
        limit: u64,
    },
    /// A key is longer than `key_bytes_max`.
    KeyTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// A value is longer than `value_bytes_max`.
    ValueTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// The command is longer than `request_bytes_max`.
    RequestTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// A list of the transaction is longer than `txn_ops_max`.
    TooManyOps {
        /// The bound.
        limit: u64,
    },
    /// The store is full.
    QuotaExceeded {
        /// The bound: keys (`keys_max`) or bytes (`quota_bytes`).
        limit: u64,
    },
    /// An argument makes no sense.
    Invalid {
        /// Which.
        field: String,
        /// Why.
        detail: String,
    },
    /// The bytes are not a command of this version.
    Malformed,
}

/// A record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// The value; empty where only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision that changed it last.
    pub mod_revision: u64,
    /// 1 at creation, one more with each change.
    pub version: u64,
    /// Its lease, 0 without.
    pub lease: u64,
    /// What is left of its own TTL, in milliseconds of cluster time.
    pub ttl_ms: Option<u64>,
}

impl Item {
    /// What an item counts towards bounds in bytes: its key, its value and a flat charge for the rest.
    #[must_use]
    pub fn charge(&self) -> u64 {
        crate::codec::length(self.key.len() + self.value.len()) + ITEM_BYTES_FLAT
    }
}

/// The flat charge per item, so that many empty records are not free.
pub(crate) const ITEM_BYTES_FLAT: u64 = 64;
