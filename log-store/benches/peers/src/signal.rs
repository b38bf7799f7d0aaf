//! Wakes one thread, once: the same for all logs that answer from a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

/// A thread that waits for one answer.
pub(crate) struct Signal(Arc<State>);

struct State {
    is_set: AtomicBool,
    thread: Thread,
}

/// Sets the signal.
pub(crate) struct Setter(Arc<State>);

impl Signal {
    pub(crate) fn new() -> (Setter, Self) {
        let state = State { is_set: AtomicBool::new(false), thread: thread::current() };
        let state = Arc::new(state);
        (Setter(Arc::clone(&state)), Self(state))
    }

    pub(crate) fn wait(self) {
        while !self.0.is_set.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Setter {
    pub(crate) fn set(self) {
        self.0.is_set.store(true, Ordering::Release);
        self.0.thread.unpark();
    }
}
