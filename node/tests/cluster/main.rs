//! Real clusters of real processes: formation, failover, membership, snapshots.

mod formation;
mod harness;
mod kill;
mod members;
mod reads;
mod snapshot;
mod soak;
