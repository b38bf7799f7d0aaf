//! Raftmap: client.
pub mod api;
