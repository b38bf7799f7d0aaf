//! The write-ahead log of a Raft node: segmented, checksummed, written by one thread in group commits.
//!
//! ```text
//!   append, save_vote, truncate_after, purge_upto, save_committed
//!        |  in memory at once, readable at once
//!        v
//!   queue --> writer: one frame, one write, one sync --> done
//!                |
//!   0000000000000001-….wal | 0000000000000002-….wal | 0000000000000003-….wal     FRONTIER
//!   header frame frame seal| header frame frame seal| header frame frame ……
//! ```
//! What it promises (L1 to L7 in ARCHITECTURE.md):
//! - Nobody hears "done" before the sync that covers it has returned; the first error is final.
//! - What was never acknowledged may be cut at open, and is kept in `quarantine/`. Anything else that does
//!   not verify refuses to open, and changes nothing.
//! - Indexes have no gaps; terms, votes and purges never go back.
//! - Memory is bounded, however long the log is.
//!
//! It is not a general log: it has one writer, its entries are numbered by the protocol above it, and what
//! an entry means is not its business. The bytes are described in [`mod@format`].
//!
//! To read it, begin with `record`, `frame` and `header` (the bytes), then `state` (what they mean), `writer`,
//! and `examine`, `tear`, `verdict`, `recovery`.

mod by_hand;
mod codec;
mod config;
mod damage;
pub mod disk;
mod error;
mod examine;
mod files;
mod frame;
mod frontier;
mod header;
mod identity;
mod index;
mod janitor;
mod leaders;
mod located;
mod log;
mod meters;
mod planted;
mod quarantine;
mod queue;
pub mod raft;
mod reader;
mod record;
mod recovery;
mod replay;
mod roll;
mod scan;
mod seal;
mod segment_file;
mod segments;
mod shared;
mod state;
mod stats;
mod tail;
mod tear;
mod threads;
pub mod tools;
mod types;
mod verdict;
mod writer;

#[doc = include_str!("../../docs/log-format.md")]
pub mod format {}

pub use by_hand::Hands;
pub use config::LogConfig;
pub use damage::{Cause, Damage};
pub use error::{Contradiction, Failure, LogError};
pub use examine::examine;
pub use log::{Ends, Log};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use stats::{LogStats, RecordCounts, RecoveryInfo, Torn};
pub use types::{EntryParts, Identity, LogIdParts, Owner, VoteParts};
