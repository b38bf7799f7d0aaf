//! One connection: is it working, waiting, or only costing?
//!
//! ```text
//!   accepted ── first byte ── head complete ── reply written ── first byte …
//!      │  idle      │   head       │   request      │   idle
//!      └ 75 s       └ 10 s         └ the body's     └ 75 s
//!                                    own deadline
//! ```
//!
//! The socket notes what moves in a few atomics; a coarse tick looks at them. Nothing is armed per
//! request. A socket that refuses our bytes for too long is given up in any phase, and so is an
//! HTTP/2 client that asks for replies and grants them no window. HTTP/2 frames arrive between
//! requests too, so there is no time for a head; its own limits bound the rest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{cmp, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::Limits;

/// How an HTTP/2 connection begins, as far as no HTTP/1 request does.
const H2_BEGIN: &[u8; 3] = b"PRI";

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Conn {
    opened: Instant,
    /// Requests whose reply is not written yet.
    busy: AtomicU32,
    /// How many of the first bytes are those of HTTP/2.
    h2_begin: AtomicU8,
    http2: AtomicBool,
    /// Since when no request was under way.
    idle_since: AtomicU64,
    /// When the first byte of the next head came; 0: none came.
    head_since: AtomicU64,
    /// Since when the socket takes no bytes; 0: it does.
    stalled_since: AtomicU64,
    /// HTTP/2 replies that are not taken yet.
    replies: AtomicU32,
    /// When one of them moved last.
    reply_moved: AtomicU64,
    /// A peer has spoken on it.
    peer: AtomicBool,
    /// Accepted beyond the bound for clients.
    pub(crate) surplus: bool,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Nothing is under way: close it the polite way.
    Idle,
    /// The other side does not do its part: drop it.
    GiveUp(&'static str),
}

impl Conn {
    pub(crate) fn new(surplus: bool) -> Arc<Self> {
        Arc::new(Conn {
            opened: Instant::now(),
            busy: AtomicU32::new(0),
            h2_begin: AtomicU8::new(0),
            http2: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            replies: AtomicU32::new(0),
            reply_moved: AtomicU64::new(0),
            peer: AtomicBool::new(false),
            surplus,
        })
    }

    /// A request begins; it ends when the guard is dropped with its reply.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// A peer speaks on it.
    pub(crate) fn note_peer(&self) {
        self.peer.store(true, Ordering::Relaxed);
    }

    /// Whether a peer has spoken on it.
    pub(crate) fn is_peer(&self) -> bool {
        self.peer.load(Ordering::Relaxed)
    }

    /// How often a connection is to be looked at.
    pub(crate) fn tick(limits: &Limits) -> Duration {
        let shortest = cmp::min(limits.head_timeout, limits.idle_timeout).min(limits.write_stall);
        (shortest / 2).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    pub(crate) fn verdict(&self, limits: &Limits) -> Verdict {
        let now = self.now();
        let for_long = |since: u64, most: Duration| {
            since > 0 && Duration::from_millis(now.saturating_sub(since)) >= most
        };
        if for_long(self.stalled_since.load(Ordering::Relaxed), limits.write_stall) {
            return Verdict::GiveUp("it takes no bytes");
        }
        if self.replies.load(Ordering::Relaxed) > 0
            && for_long(self.reply_moved.load(Ordering::Relaxed), limits.write_stall)
        {
            return Verdict::GiveUp("it grants no window to its replies");
        }
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep;
        }
        let http2 = self.http2.load(Ordering::Relaxed);
        if !http2 && for_long(self.head_since.load(Ordering::Relaxed), limits.head_timeout) {
            return Verdict::GiveUp("the head of a request did not come to an end");
        }
        let idle_most = if self.surplus { limits.head_timeout } else { limits.idle_timeout };
        let idle = now.saturating_sub(self.idle_since.load(Ordering::Relaxed));
        if Duration::from_millis(idle) >= idle_most { Verdict::Idle } else { Verdict::Keep }
    }

    /// A reply to a client is on its way until the guard is dropped; only HTTP/2 has to be told.
    pub(crate) fn reply(self: &Arc<Self>) -> Option<Replying> {
        if !self.http2.load(Ordering::Relaxed) {
            return None;
        }
        self.reply_moved.store(self.now(), Ordering::Relaxed);
        self.replies.fetch_add(1, Ordering::Relaxed);
        Some(Replying(self.clone()))
    }

    /// Milliseconds since it was opened, from 1: 0 stands for never.
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn received(&self, bytes: &[u8]) {
        let seen = usize::from(self.h2_begin.load(Ordering::Relaxed));
        if seen < H2_BEGIN.len() {
            self.look_at_begin(seen, bytes);
        }
        let waiting = self.busy.load(Ordering::Relaxed) == 0;
        if waiting && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn look_at_begin(&self, seen: usize, bytes: &[u8]) {
        let alike = H2_BEGIN.iter().skip(seen).zip(bytes).take_while(|(a, b)| a == b).count();
        let compared = cmp::min(H2_BEGIN.len() - seen, bytes.len());
        let http2 = seen + alike == H2_BEGIN.len();
        self.http2.store(http2, Ordering::Relaxed);
        let now_seen = if alike < compared { H2_BEGIN.len() } else { seen + alike };
        self.h2_begin.store(u8::try_from(now_seen).unwrap_or(u8::MAX), Ordering::Relaxed);
    }

    fn wrote(&self, pending: bool) {
        let stalled = self.stalled_since.load(Ordering::Relaxed);
        if pending && stalled == 0 {
            self.stalled_since.store(self.now(), Ordering::Relaxed);
        } else if !pending && stalled > 0 {
            self.stalled_since.store(0, Ordering::Relaxed);
        }
    }
}

/// One request under way on a connection.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Conn>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One reply on its way to an HTTP/2 client.
#[derive(Debug)]
pub(crate) struct Replying(Arc<Conn>);

impl Replying {
    pub(crate) fn moved(&self) {
        self.0.reply_moved.store(self.0.now(), Ordering::Relaxed);
    }
}

impl Drop for Replying {
    fn drop(&mut self) {
        self.moved();
        self.0.replies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that tells its [`Conn`] what moves.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    conn: Arc<Conn>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, conn: Arc<Conn>) -> Self {
        Watched { socket, conn }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !fresh.is_empty() {
            self.conn.received(fresh);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.conn.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.conn.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(head: u64, idle: u64, stall: u64) -> Limits {
        Limits {
            head_timeout: Duration::from_millis(head),
            idle_timeout: Duration::from_millis(idle),
            write_stall: Duration::from_millis(stall),
            ..Limits::default()
        }
    }

    #[test]
    fn a_silent_connection_is_idle_and_a_working_one_is_not() {
        let conn = Conn::new(false);
        assert_eq!(conn.verdict(&limits(0, 60_000, 0)), Verdict::Keep);
        assert_eq!(conn.verdict(&limits(0, 0, 0)), Verdict::Idle);
        let busy = conn.begin();
        assert_eq!(conn.verdict(&limits(0, 0, 0)), Verdict::Keep);
        drop(busy);
        assert_eq!(conn.verdict(&limits(0, 0, 0)), Verdict::Idle);
        assert_eq!(Conn::new(true).verdict(&limits(0, 60_000, 0)), Verdict::Idle);
    }

    #[test]
    fn a_head_that_does_not_end_is_given_up_on_http1_alone() {
        let conn = Conn::new(false);
        conn.received(b"GET /v1");
        assert_eq!(conn.verdict(&limits(60_000, 0, 0)), Verdict::Idle);
        assert!(matches!(conn.verdict(&limits(0, 60_000, 0)), Verdict::GiveUp(_)));

        let conn = Conn::new(false);
        conn.received(b"P");
        conn.received(b"RI * HTTP/2.0");
        assert_eq!(conn.verdict(&limits(0, 60_000, 0)), Verdict::Keep);

        for begin in [&[&b"PR"[..], b"X", b"I"], &[b"PUT", b"PRI", b""]] {
            let conn = Conn::new(false);
            begin.iter().for_each(|bytes| conn.received(bytes));
            assert!(matches!(conn.verdict(&limits(0, 60_000, 0)), Verdict::GiveUp(_)));
        }
    }

    #[test]
    fn a_request_ends_the_wait_for_its_head() {
        let conn = Conn::new(false);
        conn.received(b"GET / HTTP/1.1\r\n\r\n");
        drop(conn.begin());
        assert_eq!(conn.verdict(&limits(0, 60_000, 0)), Verdict::Keep);
    }

    #[test]
    fn an_http2_client_that_grants_no_window_is_given_up() {
        let conn = Conn::new(false);
        assert!(conn.reply().is_none());
        conn.received(b"PRI * HTTP/2.0\r\n");
        let _busy = conn.begin();
        let replying = conn.reply().unwrap();
        assert!(matches!(conn.verdict(&limits(9, 9, 0)), Verdict::GiveUp(_)));
        assert_eq!(conn.verdict(&limits(9, 9, 60_000)), Verdict::Keep);
        drop(replying);
        assert_eq!(conn.verdict(&limits(9, 9, 0)), Verdict::Keep);
    }

    #[test]
    fn a_socket_that_takes_no_bytes_is_given_up_even_when_busy() {
        let conn = Conn::new(false);
        let _busy = conn.begin();
        conn.wrote(true);
        assert!(matches!(conn.verdict(&limits(9, 9, 0)), Verdict::GiveUp(_)));
        conn.wrote(false);
        assert_eq!(conn.verdict(&limits(9, 9, 0)), Verdict::Keep);
    }
}
