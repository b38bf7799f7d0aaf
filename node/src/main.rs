//! The `raftmap-node` server.
fn main() {}
