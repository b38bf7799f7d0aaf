//! The log from outside: on a simulated disk that forgets, fails and rots, and on a real one.

mod common;
mod crash;
mod log;
