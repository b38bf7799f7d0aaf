//! Replicating to one peer: a request that lasts as long as openraft's stream, its response beside it.
//!
//! ```text
//!   openraft's requests ─► encode ─► request body ═══► peer
//!           ▲ not polled while in flight is full         │
//!        in flight: (answered number, bytes, time) ◄═══ acks: response body ─► openraft
//! ```
//!
//! No task and no queue of our own: hyper's body task polls openraft's stream, openraft polls the response.
//! What both need, the [`Session`], sits between them.
//!
//! Always true:
//! - at most [`IN_FLIGHT_BYTES_MAX`] and [`IN_FLIGHT_FRAMES_MAX`] are in flight (one larger batch goes alone);
//!   when full, openraft's stream is left alone until an ack makes room;
//! - with something in flight and no answer for `silence_max`, the stream ends with an error and its connection
//!   is dropped: openraft itself never bounds a stream that hangs;
//! - when openraft drops or ends the answers, its request stream is dropped first. It shares state with the
//!   next one, and would steal from it if hyper polled it once more.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use openraft::raft::StreamAppendError;
use tokio::time::{Instant, Sleep, sleep};

use super::body::PeerBody;
use super::error::PeerError;
use super::frame::{Frame, FrameError, Frames};
use super::lock::Mutex;
use super::message::{Ack, decode_ack, encode_append};
use super::metrics::number;
use super::peers::Peer;
use super::types::{AppendRequest, AppendResult, LogId, Vote};
use super::wire::{Malformed, Pieces};

/// Bytes sent to one peer and not acknowledged. Enough to keep a disk and a fast network busy, little enough
/// that a slow follower costs the leader no memory to speak of.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Frames sent to one peer and not acknowledged. The peer's Raft takes 64 at a time; the rest is on its way.
pub(crate) const IN_FLIGHT_FRAMES_MAX: usize = 256;

/// The path of append streams.
pub(crate) const APPEND_PATH: &str = "/raft/v1/append";

/// Opens an append stream to `peer` that carries `requests`; `None` if there are none.
///
/// Waits for the first of them before it connects: that is where openraft backs off from a peer that could not
/// be reached, and where it notices that the peer is not wanted any more.
pub(crate) async fn open<S>(
    peer: Arc<Peer>,
    mut requests: S,
    silence_max: Duration,
) -> Result<Option<Acks<S>>, PeerError>
where
    S: Stream<Item = AppendRequest> + Send + Unpin + 'static,
{
    let Some(first) = requests.next().await else { return Ok(None) };
    peer.must_remember()?;
    peer.metrics.streams.increment(1);
    let session = Arc::new(Session::new(first, requests, peer.clone()));
    // From here on, whatever happens, requests are dropped with the guard.
    let guard = Guard { session: session.clone() };
    let body = PeerBody::stream(Requests { session, pieces: Pieces::default() });
    let opening = peer.append.open(APPEND_PATH, Some(peer.identity()), body);
    let frames = match tokio::time::timeout(silence_max, opening).await {
        Ok(Ok(frames)) => frames,
        Ok(Err(error)) => return Err(error),
        Err(_elapsed) => {
            peer.append.sever();
            return Err(PeerError::timeout(peer.append.addr(), silence_max));
        }
    };
    let watchdog = Box::pin(sleep(silence_max / WATCHDOG_TICKS));
    Ok(Some(Acks { guard, peer, frames, silence_max, watchdog, ended: false, deferred: None }))
}

/// The silence is measured at ticks: it is noticed at most 1/4 late.
const WATCHDOG_TICKS: u32 = 4;

/// What the two halves of a stream share.
struct Session<S> {
    peer: Arc<Peer>,
    /// The leadership that the entries are sent in.
    vote: Vote,
    state: Mutex<State<S>>,
}

struct State<S> {
    first: Option<AppendRequest>,
    /// `None` once openraft's stream has ended or is no longer wanted.
    requests: Option<S>,
    /// openraft's stream came to its end: the request body ends in order.
    finished: bool,
    in_flight: VecDeque<Sent>,
    in_flight_bytes: usize,
    sent: u64,
    answered: u64,
    /// When the peer last answered, or when something was sent to a peer that owed nothing.
    last_news: Instant,
    sender: Option<Waker>,
}

struct Sent {
    bytes: usize,
    last: Option<LogId>,
    at: Instant,
}

impl<S> Session<S> {
    fn new(first: AppendRequest, requests: S, peer: Arc<Peer>) -> Session<S> {
        let vote = first.vote;
        let state = State {
            first: Some(first),
            requests: Some(requests),
            finished: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            sent: 0,
            answered: 0,
            last_news: Instant::now(),
            sender: None,
        };
        Session { peer, vote, state: Mutex::new(state) }
    }

    /// Drops openraft's stream. It is not polled any more when this returns.
    fn close(&self) {
        let mut state = self.state.lock();
        let requests = state.requests.take();
        let sender = state.sender.take();
        self.peer.metrics.in_flight_bytes.decrement(number(state.in_flight_bytes));
        state.in_flight_bytes = 0;
        state.in_flight.clear();
        drop(state);
        drop(requests);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// Takes note of an answer to everything up to the `answered`th request; the last entry in it.
    fn answered(&self, answered: u64) -> Result<Option<LogId>, Malformed> {
        let mut state = self.state.lock();
        if answered <= state.answered || answered > state.sent {
            return Err(Malformed("an ack for what was not sent, or acknowledged before"));
        }
        let mut freed = 0;
        let mut sent_at = None;
        let mut last = None;
        for _ in state.answered..answered {
            let Some(sent) = state.in_flight.pop_front() else { break };
            freed += sent.bytes;
            sent_at = Some(sent.at);
            last = sent.last.or(last);
        }
        state.in_flight_bytes -= freed;
        state.answered = answered;
        state.last_news = Instant::now();
        let news = state.last_news;
        let sender = state.sender.take();
        drop(state);
        if let Some(sender) = sender {
            sender.wake();
        }
        let metrics = &self.peer.metrics;
        metrics.in_flight_bytes.decrement(number(freed));
        metrics.acks_in.increment(1);
        if let Some(sent_at) = sent_at {
            metrics.append_rtt.record(news.duration_since(sent_at));
        }
        Ok(last)
    }

    /// How long the peer has owed an answer; zero if it owes none.
    fn silence(&self) -> Duration {
        let state = self.state.lock();
        if state.in_flight.is_empty() { Duration::ZERO } else { state.last_news.elapsed() }
    }

    /// Whether the stream may end here: openraft's came to its end and everything is answered.
    fn is_complete(&self) -> bool {
        let state = self.state.lock();
        state.finished && state.in_flight.is_empty()
    }
}

impl<S: Stream<Item = AppendRequest> + Unpin> Session<S> {
    /// The next request as a frame; `Err` when the stream is no longer wanted.
    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Pieces>>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let full = state.in_flight_bytes >= IN_FLIGHT_BYTES_MAX
            || state.in_flight.len() >= IN_FLIGHT_FRAMES_MAX;
        let Some(requests) = &mut state.requests else {
            if state.finished {
                return Poll::Ready(None);
            }
            return Poll::Ready(Some(Err(io::Error::other(
                "the append stream is no longer wanted",
            ))));
        };
        if !state.sender.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.sender = Some(cx.waker().clone());
        }
        if full {
            return Poll::Pending;
        }
        let next = match state.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(requests).poll_next(cx),
        };
        match next {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                state.finished = true;
                state.requests = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(request)) => {
                let frame = encode_append(&request);
                let at = Instant::now();
                if state.in_flight.is_empty() {
                    state.last_news = at;
                }
                state.sent += 1;
                state.in_flight_bytes += frame.len();
                let last = request.entries.last().map(|entry| entry.log_id);
                state.in_flight.push_back(Sent { bytes: frame.len(), last, at });
                let metrics = &self.peer.metrics;
                metrics.in_flight_bytes.increment(number(frame.len()));
                metrics.frames_out.increment(1);
                metrics
                    .entries_out
                    .increment(u64::try_from(request.entries.len()).unwrap_or(u64::MAX));
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

/// The request body.
struct Requests<S> {
    session: Arc<Session<S>>,
    pieces: Pieces,
}

impl<S: Stream<Item = AppendRequest> + Send + Unpin> Stream for Requests<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(piece) = self.pieces.pop() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match std::task::ready!(self.session.poll_request(cx)) {
                Some(Ok(pieces)) => self.pieces = pieces,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Closes the session when openraft lets go of the answers.
struct Guard<S> {
    session: Arc<Session<S>>,
}

impl<S> Drop for Guard<S> {
    fn drop(&mut self) {
        self.session.close();
    }
}

/// The answers, in order; several that came together are given as the last of them.
pub(crate) struct Acks<S> {
    guard: Guard<S>,
    peer: Arc<Peer>,
    frames: Frames<Incoming>,
    silence_max: Duration,
    watchdog: Pin<Box<Sleep>>,
    ended: bool,
    /// Came behind a success that had to be given first.
    deferred: Option<Result<AppendResult, PeerError>>,
}

impl<S: Unpin> Stream for Acks<S> {
    type Item = Result<AppendResult, PeerError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(deferred) = this.deferred.take() {
            return Poll::Ready(Some(deferred));
        }
        let mut newest = None;
        while !this.ended {
            match this.frames.poll_next(cx) {
                Poll::Pending if newest.is_some() => break,
                Poll::Pending => return this.poll_watchdog(cx),
                Poll::Ready(next) => match this.take(next) {
                    Ok(Some(Ok(matching))) => newest = Some(matching),
                    Ok(Some(Err(refusal))) => return this.last(newest, Ok(Err(refusal))),
                    Ok(None) => {}
                    Err(failure) => {
                        this.peer.metrics.stream_errors.increment(1);
                        return this.last(newest, Err(failure));
                    }
                },
            }
        }
        Poll::Ready(newest.map(|matching| Ok(Ok(matching))))
    }
}

impl<S> Acks<S> {
    /// One ack, or the end of the stream.
    fn take(
        &mut self,
        next: Option<Result<Frame, FrameError>>,
    ) -> Result<Option<AppendResult>, PeerError> {
        let addr = self.peer.append.addr();
        let Some(frame) = next else {
            self.ended = true;
            if self.guard.session.is_complete() {
                return Ok(None);
            }
            return Err(PeerError::broken(addr, "the peer ended the stream"));
        };
        let frame = frame.map_err(|error| PeerError::frame(addr, error))?;
        let Ack { answered, result } =
            decode_ack(frame).map_err(|source| PeerError::malformed(addr, source))?;
        let session = &self.guard.session;
        let sent =
            session.answered(answered).map_err(|source| PeerError::malformed(addr, source))?;
        let result = result.map_err(|stopped| PeerError::stopped(addr, &stopped))?;
        match (&result, sent) {
            (Ok(matching), Some(last)) if *matching >= Some(last) => {
                self.peer.promised(session.vote, last);
            }
            (Err(StreamAppendError::Conflict(lacks)), _) => {
                self.peer.lacks(session.vote, *lacks)?;
            }
            _ => {}
        }
        Ok(Some(result))
    }

    /// The stream ends with `result`, which comes after the success that is at hand.
    fn last(
        &mut self,
        newest: Option<Option<LogId>>,
        result: Result<AppendResult, PeerError>,
    ) -> Poll<Option<Result<AppendResult, PeerError>>> {
        self.ended = true;
        let Some(newest) = newest else { return Poll::Ready(Some(result)) };
        self.deferred = Some(result);
        Poll::Ready(Some(Ok(Ok(newest))))
    }

    fn poll_watchdog(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AppendResult, PeerError>>> {
        while self.watchdog.as_mut().poll(cx).is_ready() {
            if self.guard.session.silence() >= self.silence_max {
                self.peer.append.sever();
                self.peer.metrics.stream_errors.increment(1);
                let failure = PeerError::timeout(self.peer.append.addr(), self.silence_max);
                return self.last(None, Err(failure));
            }
            self.watchdog.as_mut().reset(Instant::now() + self.silence_max / WATCHDOG_TICKS);
        }
        Poll::Pending
    }
}
