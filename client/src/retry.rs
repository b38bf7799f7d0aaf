//! When an attempt may be repeated, and how long to wait before.
//!
//! ```text
//!                        │ read          write
//!   nothing was sent     │ again         again          connect refused, no route
//!   certainly refused    │ again         again          429, 503
//!   answered             │ that is it    that is it     2xx, 4xx, 507
//!   no telling           │ again         unknown        reset, time-out, 500, 502, 504
//! ```
//!
//! A write whose outcome is not known is never repeated: it may have been applied, and a second one would be
//! a second change. A read can always be repeated, as long as the deadline of the call allows.

use std::time::{Duration, Instant};

/// The first pause; it doubles from attempt to attempt.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause, and the most of a `Retry-After` that is obeyed.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a repetition would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Changes nothing: repeating it is always right.
    Read,
    /// Changes something: it is repeated only if it was certainly not applied.
    Write,
}

/// What became of one attempt, as far as repeating is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never left this machine, or the node said that it did nothing.
    NotApplied,
    /// A final answer.
    Answered,
    /// It may or may not have been applied.
    Open,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Again,
    Done,
    Unknown,
}

/// The fate that an HTTP status tells.
pub(crate) fn fate_of_status(status: u16) -> Fate {
    match status {
        429 | 503 => Fate::NotApplied,
        500 | 502 | 504 => Fate::Open,
        _ => Fate::Answered,
    }
}

/// The table above.
pub(crate) fn verdict(effect: Effect, fate: Fate) -> Verdict {
    match (fate, effect) {
        (Fate::Answered, _) => Verdict::Done,
        (Fate::NotApplied, _) | (Fate::Open, Effect::Read) => Verdict::Again,
        (Fate::Open, Effect::Write) => Verdict::Unknown,
    }
}

/// The pauses of one call and its deadline.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Instant,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn until(deadline: Instant) -> Self {
        Backoff { deadline, pause: PAUSE_MIN }
    }

    /// What is left of the call's time.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// The pause before the next attempt, or `None` when the deadline would pass meanwhile.
    ///
    /// `asked` is the `Retry-After` of a server that is overloaded, obeyed up to one second; `draw` is a number
    /// from 0 to 1 that spreads clients over the second half of the pause, so that those who were refused
    /// together do not come back together.
    pub(crate) fn pause(
        &mut self,
        now: Instant,
        asked: Option<Duration>,
        draw: f64,
    ) -> Option<Duration> {
        let spread = self.pause.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let pause = spread.max(asked.unwrap_or_default().min(PAUSE_MAX));
        (pause < self.left(now)).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_unknown_outcome_is_never_repeated() {
        for status in [500, 502, 504] {
            let fate = fate_of_status(status);
            assert_eq!(verdict(Effect::Write, fate), Verdict::Unknown, "{status}");
            assert_eq!(verdict(Effect::Read, fate), Verdict::Again, "{status}");
        }
    }

    #[test]
    fn what_was_certainly_not_applied_is_repeated() {
        for effect in [Effect::Read, Effect::Write] {
            for status in [429, 503] {
                assert_eq!(verdict(effect, fate_of_status(status)), Verdict::Again, "{status}");
            }
        }
    }

    #[test]
    fn an_answer_is_final() {
        for status in [200, 201, 304, 400, 401, 404, 409, 410, 412, 413, 422, 507] {
            assert_eq!(verdict(Effect::Read, fate_of_status(status)), Verdict::Done, "{status}");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_end_with_the_deadline() {
        let now = Instant::now();
        let mut backoff = Backoff::until(now + Duration::from_secs(60));
        let pauses: Vec<_> = (0..9).map_while(|_| backoff.pause(now, None, 1.0)).collect();
        assert_eq!(pauses[0], PAUSE_MIN);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(pauses[8], PAUSE_MAX);

        let mut short = Backoff::until(now + Duration::from_millis(5));
        assert_eq!(short.pause(now, None, 1.0), None);
    }
}
