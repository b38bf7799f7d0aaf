//! What travels over the public HTTP interface: requests, replies, problems. No I/O.
//!
//! ```text
//!   client ── request (written here, read strictly by the node) ──► node
//!   client ◄─ reply   (written by the node, read tolerantly here) ── node
//! ```
//!
//! Always true:
//! - a request that is read has no unknown, doubled or null member, and never both forms of a byte
//!   string; a reply that is read may carry members that this version does not know;
//! - a byte string is written as plain text under its name when it is valid UTF-8, else in standard
//!   base64 under `name_base64`, never both;
//! - durations are text with one unit, revisions and ids are unsigned 64-bit numbers.

pub mod bytes;
pub mod cluster;
pub mod duration;
pub mod error;
pub mod kv;
pub mod txn;

pub use cluster::{
    HotStatus, InitRequest, LeaderReply, LeaderRequest, LogStatus, Member, MemberAdd, MemberRole,
    MemberRoleChange, Members, NewMember, NodeRole, RecoveryPath, RecoveryStatus, SnapshotReply,
    Status, StoreStatus,
};
pub use duration::Ttl;
pub use error::{Code, Problem};
pub use kv::{DeleteRangeReply, DeleteReply, EndLine, ListReply, Prefix, PutReply, Record};
pub use txn::{
    Bounds, Compare, CompareOp, Target, TxnDelete, TxnGet, TxnOp, TxnPut, TxnRange, TxnReply,
    TxnRequest, TxnResult,
};
