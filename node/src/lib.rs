//! One node of a Raftmap cluster: the log, the state and Raft wired together, spoken to over HTTP.
//!
//! ```text
//! clients ─► http ─► service ─► Raft ─► log-store       peers ◄─► raft (transport)
//!                       └─────► Views ◄─ state-machine
//! ```
//!
//! Read in this order: [`node`] (the wiring), [`service`] (what it does), [`http`] and [`raft`]
//! (how it is reached), [`config`].

pub mod config;
pub mod formation;
pub mod http;
mod keeper;
pub mod log_tools;
pub mod node;
mod peer_service;
pub mod raft;
pub mod room;
pub mod service;
pub mod telemetry;
mod units;

pub use config::Config;
pub use node::Node;
