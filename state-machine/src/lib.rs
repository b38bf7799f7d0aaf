//! Raftmap: state-machine.
