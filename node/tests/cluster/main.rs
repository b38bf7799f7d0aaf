//! Real clusters of real processes: formation, failover, membership, snapshots.

mod formation;
mod full_disk;
mod harness;
mod kill;
mod load;
mod log_tools;
mod loss;
mod members;
mod reads;
mod small_disk;
mod snapshot;
mod soak;
