//! The `raftmap` command.
fn main() {}
