//! A closed-loop load generator: N clients, each with one request in flight.
//!
//! ```text
//!   Plan ──► run ──► thread: clients ──► Driver (HTTP here; anything else in examples/) ──► cluster
//!             │                └─► Tally: histogram per kind, errors by kind
//!             └─ Meter: CPU and bytes of the nodes at both ends of the measured window
//!                                                                        ──► Report: text, JSON
//! ```
//!
//! It shares the machine with the nodes that it measures more often than not, so a request costs it a few
//! microseconds: requests are laid out once and patched, replies are looked at and not parsed.
//!
//! A closed loop measures the service under a constant number of callers. It does not show what happens to
//! arrivals at a fixed rate while the service stands still; the maximum and p99.9 hint at it.

pub mod http;
pub mod meter;
pub mod plan;
pub mod report;
pub mod run;
pub mod tally;

pub use self::{
    http::HttpDriver,
    meter::Meter,
    plan::{KeySpace, Mix, Plan},
    report::Report,
    run::{Driver, Kind, Session, load, run},
    tally::Tally,
};
