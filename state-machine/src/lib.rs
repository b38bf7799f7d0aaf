//! The replicated state: commands in; rows, events and replies out.
//!
//! ```text
//!   Command ──► Group::apply ──► Reply          pure: no clock, no chance, no hash order
//!                  │   ▲
//!         Effects  ▼   │ Rows
//!              one atomic batch ──► View        the tiers: hot cache over fjall
//! ```
//!
//! Two halves. The *pure* half (`command` to `history`) turns a command and a frozen set of rows into the rows to
//! write and the reply to give; it knows no database and no Raft. The *store* half keeps those rows on disk and in
//! memory and adapts the whole to openraft.
//!
//! Always true: the same log gives the same replies and the same digest on every node, whatever the grouping,
//! restarts or memory sizes (S1); bad input is a refusal in the reply, an error means that this machine is broken (S5).
//!
//! Read in this order: [`command`], [`reply`], [`schema`], [`record`], [`apply`], [`read`], [`changes`].

// What is replicated.
pub mod command;
pub mod reply;
pub mod settings;
pub mod types;

// What is stored.
pub mod change;
pub mod digest;
pub mod meta;
pub mod record;
pub mod rows;
pub mod schema;

// What happens.
pub mod apply;
pub mod changes;
pub mod history;
pub mod read;

pub mod error;

// What is on disk and in memory: open, read, apply.
pub mod stats;
pub mod store;
pub mod view;

mod current;
mod durable;
mod generation;
mod hot;
mod local;
mod machine;
mod sweep;

// What leaves the node and comes in: checkpoints, snapshots, openraft.
pub mod install;
pub mod raft;
pub mod snapshot;

mod checkpoint;
mod snapshot_format;

mod codec;
mod overlay;

pub use apply::{Effects, Group};
pub use changes::Event;
pub use command::{Command, CommandBuf, Op};
pub use error::{Malformed, ReadError, StoreError};
pub use meta::Meta;
pub use read::{ListQuery, Page};
pub use reply::{Item, Outcome, Refusal, Reply};
pub use rows::Rows;
pub use settings::Settings;
pub use types::{KeyRange, LogId, Member};

pub use generation::ColdStats;
pub use hot::HotStats;
pub use install::{Incoming, PreparedGeneration};
pub use raft::{SnapshotData, StateMachine, TypeConfig};
pub use snapshot::{FrozenView, SnapshotError, SnapshotFile, SnapshotMetaParts};
pub use stats::{Recovery, StoreStats};
pub use store::{LocalIdentity, Store, StoreConfig, open};
pub use view::{Tier, View};
