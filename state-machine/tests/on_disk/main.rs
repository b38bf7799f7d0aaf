//! The store on a real disk: what is kept, what is told, what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and prints")]

mod apply;
mod checkpoint;
mod clear;
mod coherence;
mod install;
mod log;
mod reopen;
mod snapshot;
mod support;
mod torn;
