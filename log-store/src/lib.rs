//! Raftmap: log-store.
