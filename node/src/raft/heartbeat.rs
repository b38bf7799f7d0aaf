//! Heartbeats to one peer: a stream that stays open, one request at a time.
//!
//! Every read round is a heartbeat too, so one costs a frame each way and nothing else. When one is not
//! answered in time the stream is given up: its late answer must not be taken for the next one's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use openraft::raft::StreamAppendError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::body::PeerBody;
use super::error::PeerError;
use super::frame::Frames;
use super::message::{decode_ack, encode_append};
use super::peers::Peer;
use super::types::{AppendRequest, AppendResult};
use super::wire::Malformed;

/// The path of heartbeat streams.
pub(crate) const HEARTBEAT_PATH: &str = "/raft/v1/heartbeat";

/// So many heartbeats in a row without an answer, and the connection is dropped as well: when a network
/// comes back, a new connection is there at once, while an old one may wait out its last retransmission.
const MISSED_MAX: u32 = 8;

/// The heartbeats of this node to one peer.
pub(crate) struct Heartbeats {
    peer: Arc<Peer>,
    open: Option<Open>,
    missed: u32,
}

struct Open {
    requests: mpsc::Sender<Bytes>,
    answers: Frames<Incoming>,
    sent: u64,
}

impl Heartbeats {
    pub(crate) fn new(peer: Arc<Peer>) -> Heartbeats {
        Heartbeats { peer, open: None, missed: 0 }
    }

    pub(crate) async fn beat(
        &mut self,
        request: &AppendRequest,
        limit: Duration,
    ) -> Result<AppendResult, PeerError> {
        self.peer.must_remember()?;
        let frame = encode_append(request).joined();
        let begun = Instant::now();
        if self.missed >= MISSED_MAX {
            self.peer.control.sever();
            self.missed = 0;
        }
        self.missed += 1;
        // Taken out: if this call fails or is dropped, the stream goes with it.
        let open = self.open.take();
        let peer = self.peer.clone();
        let exchange = async {
            let mut open = match open {
                Some(open) => open,
                None => Open::new(&peer).await?,
            };
            let result = open.exchange(&peer, frame).await?;
            Ok((open, result))
        };
        let outcome = timeout(limit, exchange).await;
        let (open, result) = outcome
            .unwrap_or_else(|_elapsed| Err(PeerError::timeout(peer.control.addr(), limit)))?;
        self.missed = 0;
        self.peer.metrics.heartbeat_rtt.record(begun.elapsed());
        if let Err(StreamAppendError::Conflict(lacks)) = &result {
            self.peer.lacks(request.vote, *lacks)?;
        }
        // After an answer that is no success the peer has ended the stream.
        self.open = result.is_ok().then_some(open);
        Ok(result)
    }
}

impl Open {
    async fn new(peer: &Peer) -> Result<Open, PeerError> {
        let (requests, mut queue) = mpsc::channel::<Bytes>(1);
        let body =
            futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx).map(|frame| frame.map(Ok)));
        let identity = Some(peer.identity());
        let answers = peer.control.open(HEARTBEAT_PATH, identity, PeerBody::stream(body)).await?;
        Ok(Open { requests, answers, sent: 0 })
    }

    async fn exchange(&mut self, peer: &Peer, frame: Bytes) -> Result<AppendResult, PeerError> {
        let addr = peer.control.addr();
        let gone = || PeerError::broken(addr, "the peer ended the heartbeats");
        self.requests.send(frame).await.map_err(|_closed| gone())?;
        self.sent += 1;
        let answer = self.answers.next().await.ok_or_else(gone)?;
        let answer = answer.map_err(|error| PeerError::frame(addr, error))?;
        let ack = decode_ack(answer).map_err(|source| PeerError::malformed(addr, source))?;
        if ack.answered != self.sent {
            return Err(PeerError::malformed(addr, Malformed("an answer to another heartbeat")));
        }
        ack.result.map_err(|stopped| PeerError::stopped(addr, &stopped))
    }
}
