//! The transport between nodes over real sockets, with a fake node at each end.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod appends;
mod calls;
mod fakes;
mod identity;
mod snapshots;
