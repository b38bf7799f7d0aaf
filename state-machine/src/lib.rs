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
