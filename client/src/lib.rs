//! Raftmap: client.
