//! The transport between nodes over real sockets, with a fake node at each end.

mod appends;
mod calls;
mod fakes;
mod identity;
mod snapshots;
