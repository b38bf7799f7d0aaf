//! How old this node's state may be: the time since it had applied all that a leader then
//! reported committed.
//!
//! Every message of a leader says how far it had committed. The newest one of those that this
//! node has applied dates its state. One older report is kept until it is reached, so a steady
//! stream of new ones cannot hide that none is ever reached.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// When this node's state was last known to be complete.
#[derive(Debug, Default)]
pub struct Freshness {
    reports: Mutex<Reports>,
}

#[derive(Debug, Default)]
struct Reports {
    /// The state was complete at this moment.
    complete_at: Option<Instant>,
    /// What a leader reported and this node had not applied when it was looked at last.
    pending: Option<(u64, Instant)>,
}

impl Freshness {
    /// A leader reported `committed` (a log index) just now, when `applied` was applied here.
    pub fn heard(&self, committed: u64, applied: u64) {
        self.heard_at(committed, applied, Instant::now());
    }

    /// The age of the state, when `applied` is applied; `None` if it never was complete.
    pub fn age(&self, applied: u64) -> Option<Duration> {
        let mut reports = self.lock();
        reports.settle(applied);
        reports.complete_at.map(|at| at.elapsed())
    }

    fn heard_at(&self, committed: u64, applied: u64, now: Instant) {
        let mut reports = self.lock();
        reports.settle(applied);
        // An older report that was read late says nothing while a newer one is not reached.
        if committed <= applied && reports.pending.is_none() {
            reports.complete_at = reports.complete_at.max(Some(now));
        } else if reports.pending.is_none() {
            reports.pending = Some((committed, now));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Reports {
    fn settle(&mut self, applied: u64) {
        if let Some((committed, at)) = self.pending
            && committed <= applied
        {
            self.complete_at = self.complete_at.max(Some(at));
            self.pending = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_heard_nothing_has_no_age() {
        assert_eq!(Freshness::default().age(10), None);
    }

    #[test]
    fn a_report_counts_from_when_it_was_made_not_from_when_it_was_reached() {
        let freshness = Freshness::default();
        let start = Instant::now() - Duration::from_secs(10);
        freshness.heard_at(5, 3, start);
        assert_eq!(freshness.age(4), None);
        assert!(freshness.age(5).unwrap() >= Duration::from_secs(10));
    }

    #[test]
    fn new_reports_do_not_hide_that_none_is_reached() {
        let freshness = Freshness::default();
        let start = Instant::now() - Duration::from_secs(60);
        freshness.heard_at(1, 1, start);
        for second in 1..=50u32 {
            freshness.heard_at(u64::from(second) + 10, 1, start + Duration::from_secs(1) * second);
        }
        assert!(freshness.age(1).unwrap() >= Duration::from_secs(60));
        let reached = freshness.age(11).unwrap();
        assert!(reached >= Duration::from_secs(59) && reached < Duration::from_secs(60));
    }
}
