//! What one client may cost this node: every bound of the HTTP side by name, and who enters below it.
//!
//! Peers are not subject to any of this but the number of connections, where they have a reserve
//! of their own: a flood of clients never silences the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

/// The bounds of the HTTP side. `Default` is what a node runs with.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that clients may hold open, default 16,384. One beyond it is answered with
    /// `too_many_requests` and closed.
    pub connections_max: usize,
    /// Connections beyond that which only peers may use, default 1,024. One beyond those is closed
    /// as soon as it is accepted.
    pub peer_connections_reserve: usize,
    /// How long a request's head may take from its first byte, default 10 s; then the connection
    /// is closed.
    pub head_timeout: Duration,
    /// How long a connection may stay open without a request, default 75 s; then it is closed.
    pub idle_timeout: Duration,
    /// How long a socket may refuse our bytes, default 60 s; then the connection is closed.
    pub write_stall: Duration,
    /// How long a body may take beyond what [`body_rate`](Self::body_rate) grants it, default 10 s.
    pub body_grace: Duration,
    /// The least bytes a second at which a body must arrive, default 16 KiB.
    pub body_rate: u64,
    /// Longest request target, default 32 KiB: `start` and `end` of maximal keys, percent-encoded.
    pub target_bytes_max: usize,
    /// Longest sum of header names and values, default 16 KiB.
    pub header_bytes_max: usize,
    /// Streams that one HTTP/2 connection may hold open, default 256.
    pub streams_max: u32,
    /// Streams that one HTTP/2 connection may open and reset before we read them, default 64; then
    /// the connection is closed.
    pub resets_max: usize,
    /// Requests of clients under way, default 8,192. One beyond is `too_many_requests`.
    pub requests_max: usize,
    /// Bytes of large request and reply bodies held for clients, default 256 MiB. A body that does
    /// not fit is `too_many_requests`. Bodies up to [`BODY_SMALL_BYTES`] are not counted:
    /// `requests_max` bounds them.
    pub body_bytes_max: u64,
    /// Lists that are evaluated at one time, default 16. More wait, within their time-out.
    pub lists_max: usize,
    /// Streamed lists under way, default 256. One beyond is `too_many_requests`.
    pub list_streams_max: usize,
    /// How long requests under way may take to end after the order to stop, default 5 s.
    pub drain: Duration,
}

/// Bodies up to this length are not counted one by one.
pub const BODY_SMALL_BYTES: u64 = 16 << 10;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 16_384,
            peer_connections_reserve: 1_024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            body_grace: Duration::from_secs(10),
            body_rate: 16 << 10,
            target_bytes_max: 32 << 10,
            header_bytes_max: 16 << 10,
            streams_max: 256,
            resets_max: 64,
            requests_max: 8_192,
            body_bytes_max: 256 << 20,
            lists_max: 16,
            list_streams_max: 256,
            drain: Duration::from_secs(5),
        }
    }
}

/// A bound was reached: try again later.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Who is inside.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    requests_max: usize,
    body_bytes: AtomicU64,
    body_bytes_max: u64,
    list_streams: AtomicUsize,
    list_streams_max: usize,
    /// One permit per list that is evaluated.
    pub(crate) lists: Semaphore,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Admission {
            requests: AtomicUsize::new(0),
            requests_max: limits.requests_max,
            body_bytes: AtomicU64::new(0),
            body_bytes_max: limits.body_bytes_max,
            list_streams: AtomicUsize::new(0),
            list_streams_max: limits.list_streams_max,
            lists: Semaphore::new(limits.lists_max),
        })
    }

    /// Admits one request until the permit is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> Result<Permit, Full> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.requests_max {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        Ok(Permit { of: self.clone(), body_bytes: 0, list_stream: false })
    }

    /// Requests under way.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One request that is inside, with the bytes held for it.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<Admission>,
    body_bytes: u64,
    list_stream: bool,
}

impl Permit {
    /// Where this request was admitted.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.of
    }

    /// Counts a body of `bytes`, if it is not a small one, until the permit is dropped.
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<(), Full> {
        if bytes <= BODY_SMALL_BYTES { Ok(()) } else { self.hold_more(bytes) }
    }

    /// Counts `bytes` more of a body that was not announced.
    pub(crate) fn hold_more(&mut self, bytes: u64) -> Result<(), Full> {
        let before = self.of.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.of.body_bytes_max {
            self.of.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full);
        }
        self.body_bytes += bytes;
        Ok(())
    }

    /// Counts a streamed list until the permit is dropped.
    pub(crate) fn stream_list(&mut self) -> Result<(), Full> {
        if self.of.list_streams.fetch_add(1, Ordering::Relaxed) >= self.of.list_streams_max {
            self.of.list_streams.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        self.list_stream = true;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.requests.fetch_sub(1, Ordering::Relaxed);
        if self.body_bytes > 0 {
            self.of.body_bytes.fetch_sub(self.body_bytes, Ordering::Relaxed);
        }
        if self.list_stream {
            self.of.list_streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_makes_room_for_what_comes() {
        let limits = Limits {
            requests_max: 2,
            body_bytes_max: 100_000,
            list_streams_max: 1,
            ..Limits::default()
        };
        let admission = Admission::new(&limits);
        let mut first = admission.request().unwrap();
        let mut second = admission.request().unwrap();
        assert!(admission.request().is_err());
        assert_eq!(admission.requests(), 2);

        first.hold(60_000).unwrap();
        assert_eq!(second.hold(60_000), Err(Full));
        second.hold(BODY_SMALL_BYTES).unwrap();
        first.stream_list().unwrap();
        assert_eq!(second.stream_list(), Err(Full));

        drop(first);
        second.hold(60_000).unwrap();
        second.stream_list().unwrap();
        let third = admission.request().unwrap();
        drop((second, third));
        assert_eq!(admission.requests(), 0);
        assert_eq!(admission.body_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(admission.list_streams.load(Ordering::Relaxed), 0);
    }
}
