//! What the clients of one thread saw: latencies and errors.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::run::{Failure, Kind};

/// Latencies are kept in microseconds, up to this; longer ones count as this long.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// Counts of one or more clients; tallies add up.
#[derive(Debug, Clone)]
pub struct Tally {
    puts: Histogram<u64>,
    gets: Histogram<u64>,
    errors: BTreeMap<Failure, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let max = u64::try_from(LATENCY_MAX.as_micros()).unwrap_or(u64::MAX);
        let histogram = || {
            Histogram::new_with_max(max, 3)
                .expect("three digits up to two minutes is a valid range")
        };
        Tally { puts: histogram(), gets: histogram(), errors: BTreeMap::new() }
    }
}

impl Tally {
    /// One operation that succeeded.
    pub fn done(&mut self, kind: Kind, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.of_mut(kind).saturating_record(micros);
    }

    /// One operation that did not.
    pub fn failed(&mut self, failure: Failure) {
        *self.errors.entry(failure).or_default() += 1;
    }

    /// Takes over another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.puts += &other.puts;
        self.gets += &other.gets;
        for (&failure, count) in &other.errors {
            *self.errors.entry(failure).or_default() += count;
        }
    }

    /// Latencies of one kind, in microseconds.
    pub fn of(&self, kind: Kind) -> &Histogram<u64> {
        match kind {
            Kind::Put => &self.puts,
            Kind::Get => &self.gets,
        }
    }

    /// Operations that succeeded.
    pub fn operations(&self) -> u64 {
        self.puts.len() + self.gets.len()
    }

    /// Errors by kind.
    pub fn errors(&self) -> &BTreeMap<Failure, u64> {
        &self.errors
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Histogram<u64> {
        match kind {
            Kind::Put => &mut self.puts,
            Kind::Get => &mut self.gets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_by_kind() {
        let mut a = Tally::default();
        a.done(Kind::Put, Duration::from_millis(1));
        a.failed(Failure::Status(503));
        let mut b = Tally::default();
        b.done(Kind::Get, Duration::from_millis(2));
        b.failed(Failure::Status(503));
        b.failed(Failure::Timeout);

        a.add(&b);

        assert_eq!(a.operations(), 2);
        assert_eq!(a.of(Kind::Put).max(), 1000);
        assert_eq!(a.errors()[&Failure::Status(503)], 2);
        assert_eq!(a.errors()[&Failure::Timeout], 1);
    }

    #[test]
    fn a_latency_beyond_the_range_still_counts() {
        let mut tally = Tally::default();
        tally.done(Kind::Put, Duration::from_secs(100_000));
        assert_eq!(tally.operations(), 1);
    }
}
