//! The client of Raftmap: a typed library over its HTTP interface, and the wire types that it shares with the node.
//!
//! ```text
//!   Client ── request ──► transport ──► endpoint a │ b │ c     (the leader first, when it is known)
//!                            │  ▲
//!                            └──┘ again, where that is safe
//! ```
//!
//! Keys and values are bytes. Calls go to the leader when its address is known and to the given endpoints in turn
//! otherwise; connections are kept. Reads, and writes that were certainly not applied, are repeated with growing
//! pauses until the call's deadline. **A write whose outcome is not known is never repeated**: it comes back as
//! [`Error::Unknown`], and the caller decides.
//!
//! [`api`] is the contract in types and does no I/O. The `raftmap` command and the load generator need the feature
//! `cli`, which is on by default.

pub mod api;
#[cfg(feature = "cli")]
pub mod bench;

mod client;
mod cluster;
mod endpoints;
mod error;
mod kv;
mod list;
mod options;
mod request;
mod retry;
mod transport;

pub use client::{Builder, Client};
pub use error::{Error, Result};
pub use kv::Got;
pub use list::Records;
pub use options::{
    Condition, Consistency, Deadline, DeleteOptions, ListOptions, PutOptions, ReadOptions,
};
