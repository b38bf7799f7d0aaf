//! The store on a real disk: what is kept, what is told, what is refused.

mod apply;
mod checkpoint;
mod clear;
mod coherence;
mod install;
mod reopen;
mod snapshot;
mod support;
