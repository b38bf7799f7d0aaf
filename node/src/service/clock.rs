//! Cluster time: the leader's stamp on what it proposes.
//!
//! A leader continues the clock of its applied state by its own *monotonic* time; no machine's
//! wall clock ever enters. It stamps only after the first entry of its own term is applied, so it
//! starts from everything that earlier leaders stamped, and it advances by at most
//! [`STEP_MAX`] between two stamps: a leader that was stopped for an hour does not end what
//! nobody could renew meanwhile (S4). While its quorum is silent it stands still
//! ([`Clock::hold`]): see [`Service::stamp`](super::Service).

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The furthest that one stamp may be ahead of the one before it.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(1);

/// The leader's clock. Not running on a node that does not lead.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    term: u64,
    now_ms: u64,
    /// The part of a millisecond that `now_ms` does not show yet.
    rest: Duration,
    at: Instant,
}

impl Clock {
    /// Starts the clock of `term` where the applied state stands. Called once the first entry of
    /// the term is applied.
    pub(crate) fn start(&self, term: u64, applied_ms: u64) {
        let mut running = self.lock();
        if running.as_ref().is_none_or(|clock| clock.term < term) {
            let at = Instant::now();
            *running = Some(Running { term, now_ms: applied_ms, rest: Duration::ZERO, at });
        }
    }

    /// Lets the time that has passed go by uncounted: it passed without a quorum, in which nobody
    /// could renew anything.
    pub(crate) fn hold(&self) {
        if let Some(clock) = self.lock().as_mut() {
            clock.at = Instant::now();
            clock.rest = Duration::ZERO;
        }
    }

    /// Stops it: this node no longer leads.
    pub(crate) fn stop(&self) {
        *self.lock() = None;
    }

    /// The time now, in milliseconds; never goes back within a term. `None` while this node may
    /// not stamp.
    pub(crate) fn stamp(&self) -> Option<u64> {
        self.stamp_at(Instant::now())
    }

    fn stamp_at(&self, now: Instant) -> Option<u64> {
        let mut running = self.lock();
        let clock = running.as_mut()?;
        let elapsed = now.saturating_duration_since(clock.at).min(STEP_MAX) + clock.rest;
        let whole_ms = elapsed.as_millis();
        clock.now_ms += u64::try_from(whole_ms).unwrap_or(0);
        clock.rest = elapsed - Duration::from_millis(u64::try_from(whole_ms).unwrap_or(0));
        clock.at = clock.at.max(now);
        Some(clock.now_ms)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_lead_does_not_stamp() {
        let clock = Clock::default();
        assert_eq!(clock.stamp(), None);
        clock.start(1, 50);
        assert!(clock.stamp().is_some());
        clock.stop();
        assert_eq!(clock.stamp(), None);
    }

    #[test]
    fn it_goes_on_from_the_applied_state_and_loses_no_fraction() {
        let clock = Clock::default();
        clock.start(3, 1_000);
        let start = Instant::now();
        let stamps: Vec<_> = (0..=20u32)
            .filter_map(|i| clock.stamp_at(start + Duration::from_micros(500) * i))
            .collect();
        assert!(stamps.is_sorted());
        assert!((1_009..=1_010).contains(stamps.last().unwrap()), "{stamps:?}");
    }

    #[test]
    fn a_leader_that_was_stopped_for_an_hour_advances_by_one_step() {
        let clock = Clock::default();
        clock.start(1, 0);
        let stamp = clock.stamp_at(Instant::now() + Duration::from_secs(3_600)).unwrap();
        assert_eq!(u128::from(stamp), STEP_MAX.as_millis());
    }

    #[test]
    fn time_without_a_quorum_does_not_count() {
        let clock = Clock::default();
        clock.start(1, 100);
        let began = Instant::now();
        clock.hold();
        let held = Instant::now();
        let stamp = clock.stamp_at(held + Duration::from_millis(5)).unwrap();
        assert!(stamp <= 100 + 6 + u64::try_from((held - began).as_millis()).unwrap());
    }

    #[test]
    fn an_older_term_cannot_restart_it() {
        let clock = Clock::default();
        clock.start(2, 500);
        clock.start(1, 9_000);
        assert!(clock.stamp().unwrap() < 9_000);
    }
}
