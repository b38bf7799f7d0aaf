//! Raftmap: node.
