//! The HTTP contract over real sockets, row by row, against real nodes; and what hostile clients do.
//!
//! `wire` speaks HTTP/1.1 by hand, because libraries tidy up exactly what is tested here: paths,
//! headers, framing. The stories of one file run each against a node of its own; `everywhere` runs
//! them again on each node of a cluster of three.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod cluster;
mod deletes;
mod everywhere;
mod hostile;
mod keys;
mod lists;
mod nodes;
mod reads;
mod refusals;
mod room;
mod txns;
mod wire;
