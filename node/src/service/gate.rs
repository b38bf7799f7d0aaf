//! Admission: how much may be under way at once before new work is refused.
//!
//! A write holds its bytes from the moment it is encoded until it is answered, wherever it waits
//! (this queue, the Raft core, the log, a peer), so one number bounds them all. At the bound a
//! write is refused before anything was proposed: the caller certainly may try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ServiceError;

/// What every write costs besides its bytes: responder, task, queue slots.
const WRITE_OVERHEAD_BYTES: u64 = 512;

/// The bytes of all writes under way, bounded.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    in_flight_bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// A write's share of the bound, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    in_flight_bytes: Arc<AtomicU64>,
    bytes: u64,
}

impl Gate {
    pub(crate) fn new(bytes_max: u64) -> Gate {
        Gate { in_flight_bytes: Arc::default(), bytes_max }
    }

    /// Lets a write of `bytes` in, or refuses it.
    pub(crate) fn enter(&self, bytes: usize) -> Result<Permit, ServiceError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX / 2) + WRITE_OVERHEAD_BYTES;
        let before = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { in_flight_bytes: self.in_flight_bytes.clone(), bytes };
        // A write that is alone may be larger than the bound, or it could never get in.
        if before > 0 && before + bytes > self.bytes_max {
            metrics::counter!("raftmap_writes_refused_total").increment(1);
            return Err(ServiceError::TooManyRequests);
        }
        Ok(permit)
    }

    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_a_write_is_refused_and_leaves_no_trace() {
        let gate = Gate::new(4096);
        let first = gate.enter(3000).unwrap();
        let held = gate.in_flight_bytes();

        assert!(matches!(gate.enter(3000), Err(ServiceError::TooManyRequests)));
        assert_eq!(gate.in_flight_bytes(), held);

        drop(first);
        assert_eq!(gate.in_flight_bytes(), 0);
        assert!(gate.enter(3000).is_ok());
    }

    #[test]
    fn a_write_that_is_alone_gets_in_whatever_its_size() {
        assert!(Gate::new(10).enter(1 << 20).is_ok());
    }
}
