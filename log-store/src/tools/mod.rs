//! What an operator asks of a log that no process has open: what is in it, is it whole, what can be saved.
//!
//! ```text
//!   listing ─► walk ─┬─► inspect    every file, what it says of itself
//!                    ├─► dump       every record, in the order in which it was written
//!                    └─► salvage ─► repair     the longest part that verifies, as a new log
//!   examine ─────────┬─► verify     the answer that an open would give
//!                    └─► repair
//! ```
//! - Reading tools write nothing, lock nothing and go on behind damage. They may look at a log that a process
//!   has open; its end is then that of the moment.
//! - Nothing on disk makes them panic, loop, or allocate more than the files hold.
//! - `repair` writes nothing into the log that it was given but LOCK, which it holds meanwhile.

mod dump;
mod evidence;
mod inspect;
mod listing;
mod plan_text;
mod prefix;
mod repair;
mod report;
mod salvage;
mod swap;
mod transcribe;
mod verify;
mod walk;

pub use dump::{Dumped, DumpedRecord, Wanted, What, dump};
pub use evidence::Lost;
pub use inspect::{
    DamageView, FileView, FrontierView, HeaderView, Inspection, LinkView, SegmentView, StateView,
    Stated, inspect,
};
pub use repair::{Repair, RepairError, RepairMode, RepairPlan, RepairRequest, plan_repair, repair};
pub use swap::{keeps_identity, settle_kept_identity};
pub use verify::{Deep, Outcome, Verification, verify};
