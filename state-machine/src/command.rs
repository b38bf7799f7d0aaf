//! What is replicated: one command per log entry, encoded once.
//!
//! ```text
//!   format u8 | at_ms u64 LE | op u8 | the op's fields
//!               ^ cluster time, stamped by the leader when it proposes
//! ```
//!
//! The same bytes lie in the log, go over the wire and come to apply. [`Command::decode`] never panics and allocates no
//! more than the bytes could mean; values are slices of the command. What decodes may still be refused by apply: the
//! limits are replicated settings, and this file knows none.

mod decode;
mod encode;

use std::fmt;

use bytes::Bytes;

use crate::error::Malformed;
use crate::settings::Settings;
pub use crate::types::KeyRange;

/// The format that this version writes and reads.
pub(crate) const FORMAT: u8 = 1;

/// Where the time stamp lies.
pub(crate) const AT_MS: std::ops::Range<usize> = 1..9;

/// An encoded command. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(Bytes);

impl Command {
    /// Encodes `op`, proposed at `at_ms` milliseconds of cluster time.
    #[must_use]
    pub fn encode(op: &Op, at_ms: u64) -> Self {
        CommandBuf::encode(op).stamp(at_ms)
    }

    /// Takes bytes from the log or a peer as they are; [`Command::decode`] checks them.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The same command at another time: for a proposal that is made again, or by another node. Copies only if the
    /// bytes are shared.
    #[must_use]
    pub fn restamp(self, at_ms: u64) -> Self {
        CommandBuf(self.0.into()).stamp(at_ms)
    }

    /// The time stamp and the operation. Byte strings share the command's memory.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Command::encode`] does not write.
    pub fn decode(&self) -> Result<(u64, Op), Malformed> {
        decode::command(&self.0)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.get(AT_MS.end).map_or("malformed", |tag| encode::op_name(*tag));
        write!(f, "{name}, {} bytes", self.0.len())
    }
}

/// An encoded operation that still waits for its time stamp.
#[derive(Debug, Clone)]
pub struct CommandBuf(Vec<u8>);

impl CommandBuf {
    /// Encodes `op` with the place of the time stamp left open.
    #[must_use]
    pub fn encode(op: &Op) -> Self {
        Self(encode::unstamped(op))
    }

    /// Takes over an encoded command, whose time stamp will be replaced; none if it is too short to have one.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() > AT_MS.end).then_some(Self(bytes))
    }

    /// The bytes, with whatever lies in the place of the time stamp.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded length in bytes, time stamp included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: an encoded command has at least its header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The finished command. Nothing is copied.
    #[must_use]
    pub fn stamp(mut self, at_ms: u64) -> Command {
        if let Some(place) = self.0.get_mut(AT_MS) {
            place.copy_from_slice(&at_ms.to_le_bytes());
        }
        Command(Bytes::from(self.0))
    }
}

impl From<CommandBuf> for Command {
    /// Not stamped yet: at the beginning of time.
    fn from(command: CommandBuf) -> Self {
        command.stamp(0)
    }
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Put),
    /// Changes a key's deadline alone: no revision, no event.
    Touch(Touch),
    /// Removes a key.
    Delete(Delete),
    /// Removes a range of keys.
    DeleteRange(DeleteRange),
    /// Removes every key and the history before.
    Clear,
    /// Compares, then runs one of two lists of operations, all or nothing.
    Txn(Txn),
    /// Removes keys whose deadline is reached in cluster time.
    ExpireDue {
        /// At most so many; apply has a bound of its own besides.
        max: u32,
    },
    /// The first command of a cluster.
    Form(Form),
    /// Carries the time and nothing else.
    Tick,
}

impl Op {
    /// Whether applying it may make the store larger. What only removes, renews or tells the time does not.
    #[must_use]
    pub fn takes_room(&self) -> bool {
        let puts = |ops: &[TxnOp]| ops.iter().any(|op| matches!(op, TxnOp::Put { .. }));
        match self {
            Self::Put(_) | Self::Form(_) => true,
            Self::Txn(txn) => puts(&txn.success) || puts(&txn.failure),
            Self::Touch(_)
            | Self::Delete(_)
            | Self::DeleteRange(_)
            | Self::Clear
            | Self::ExpireDue { .. }
            | Self::Tick => false,
        }
    }
}

/// Sets `key` to `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// When it ends. It replaces what the key had.
    pub deadline: Deadline,
    /// What must hold.
    pub condition: Condition,
    /// Whether the reply carries the record before.
    pub prev: bool,
}

/// Changes the deadline of `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The key.
    pub key: Bytes,
    /// When it ends from now on.
    pub deadline: Deadline,
    /// What must hold.
    pub condition: Condition,
}

/// Removes `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The key.
    pub key: Bytes,
    /// What must hold.
    pub condition: Condition,
    /// Whether the reply carries the record before.
    pub prev: bool,
}

/// Removes every key of `range`, or none if they are more than `range_delete_max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys.
    pub range: KeyRange,
    /// Whether the reply carries the records before; they must fit in `reply_bytes_max`.
    pub prev: bool,
}

/// Names the cluster and gives it its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The cluster's identity, not 0.
    pub cluster_id: u128,
    /// Its first settings.
    pub settings: Settings,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// After the settings' `default_ttl`, if there is one.
    Default,
    /// Never.
    None,
    /// So many milliseconds of cluster time from now; more than 0.
    Ttl(u64),
    /// With this lease.
    Lease(u64),
}

/// What must hold of the record for a write to happen, in the words of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// The record must match.
    pub if_match: Option<TagMatch>,
    /// The record must not match.
    pub if_none_match: Option<TagMatch>,
}

impl Condition {
    /// Nothing must hold.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

/// A set of entity tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagMatch {
    /// Any record, as long as there is one.
    Any,
    /// A record whose `mod_revision` is one of these. Weak and foreign tags match nothing, so the list may be empty.
    Revisions(Vec<u64>),
}

/// Compares, then runs `success` if every comparison holds, else `failure`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// What is compared; empty holds.
    pub compare: Vec<Compare>,
    /// What runs if all hold.
    pub success: Vec<TxnOp>,
    /// What runs else.
    pub failure: Vec<TxnOp>,
}

/// `key`'s property on the left, the target's operand on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// Which property, and with what it is compared.
    pub target: Target,
    /// How.
    pub op: CompareOp,
}

/// A property of a key and the operand it is compared with. On an absent key the numbers are 0 and every comparison of
/// the value is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The value, in byte order.
    Value(Bytes),
    /// The number of changes since its creation.
    Version(u64),
    /// The revision of its creation.
    CreateRevision(u64),
    /// The revision of its last change.
    ModRevision(u64),
    /// Its lease, 0 without.
    Lease(u64),
    /// Whether it exists; with `Eq` and `Ne` alone.
    Exists(bool),
}

/// How a property is compared with its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// The property is less.
    Lt,
    /// The property is greater.
    Gt,
}

/// One operation of a transaction. It sees the ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOp {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it ends.
        deadline: Deadline,
        /// Whether the result carries the record before.
        prev: bool,
    },
    /// Removes a range of keys; one key is a range too.
    Delete {
        /// The keys.
        range: KeyRange,
        /// Whether the result carries the records before.
        prev: bool,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Reads a range.
    Range(RangeOp),
}

/// A range read inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeOp {
    /// The keys.
    pub range: KeyRange,
    /// At most so many items; 0 means as many as the reply may hold.
    pub limit: u32,
    /// From the end.
    pub reverse: bool,
    /// Without values.
    pub keys_only: bool,
    /// Only the number of keys in the whole range.
    pub count_only: bool,
}
