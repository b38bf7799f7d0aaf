//! The log in real processes on the real kernel: killed, starved of room, shut out, lied to.
//!
//! ```text
//!   test --- starts itself again as a worker ---> opens a log, works from a seed
//!     |  <-- "ask 7 append 1 5 3", "ok 7" ------- one line per question and per answer
//!     |  --- kill -9, or strace in between ----->
//!     `--- opens the log itself: is it a prefix of what was asked, with all that was acknowledged?
//! ```
//! `RAFTMAP_TEST_ROUNDS` sets the number of kills (30 without it). What the machine cannot do (no strace, no
//! mounts) is skipped, and says so.

#[cfg(test)]
mod crash_points;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod panic;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod report;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod space;
#[cfg(test)]
mod timeline;
#[cfg(test)]
mod worker;
