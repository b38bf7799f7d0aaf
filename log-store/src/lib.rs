//! The write-ahead log of a Raft node: segmented, checksummed, one writer thread.

mod config;
pub mod disk;
mod error;
mod header;
mod log;
pub mod raft;
mod stats;
mod types;

pub use config::LogConfig;
pub use error::{Contradiction, Damage, Failure, LogError};
pub use log::{Ends, Log};
pub use stats::{LogStats, RecordCounts, RecoveryInfo, Torn};
pub use types::{EntryParts, Identity, LogIdParts, Owner, VoteParts};
