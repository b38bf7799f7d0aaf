//! The follower's end of replication: requests in, acks out as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::metrics::Counter;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};

use super::{Answer, Shared};
use crate::raft::frame::{FrameError, Frames};
use crate::raft::message::{Ack, decode_append, encode_ack};
use crate::raft::metrics;
use crate::raft::port::{RaftPort, RaftStopped};
use crate::raft::types::{AppendRequest, AppendResult};

/// Entries: many requests under way, answered together when they are ready together.
pub(super) async fn stream(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    let from = server.admit(&headers)?.node_id;
    let raft = server.raft()?;
    let acks = AckStream {
        answers: raft.stream_append(requests(body, from)),
        answered: 0,
        last: None,
        ended: false,
    };
    Ok(Body::from_stream(acks).into_response())
}

/// Heartbeats: one at a time.
pub(super) async fn heartbeats(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    let from = server.admit(&headers)?.node_id;
    let state = Some(Beats { raft: server.raft()?, requests: requests(body, from), answered: 0 });
    let acks = stream::unfold(state, |state| async move {
        let mut beats = state?;
        let request = beats.requests.next().await?;
        let result = beats.raft.append(request).await;
        beats.answered += 1;
        let goes_on = matches!(result, Ok(Ok(_)));
        let ack = encode(Ack { answered: beats.answered, result });
        Some((ack, goes_on.then_some(beats)))
    });
    Ok(Body::from_stream(acks).into_response())
}

struct Beats {
    raft: Arc<dyn RaftPort>,
    requests: BoxStream<'static, AppendRequest>,
    answered: u64,
}

/// The requests in a body, up to its end or the first that cannot be read.
fn requests(body: Body, from: u64) -> BoxStream<'static, AppendRequest> {
    let frames_in = metrics::frames_in(from);
    let state = (Frames::new(body), frames_in);
    Box::pin(stream::unfold(
        state,
        move |(mut frames, frames_in): (Frames<Body>, Counter)| async move {
            let read = match frames.next().await? {
                Ok(frame) => decode_append(frame).map_err(FrameError::from),
                Err(error) => Err(error),
            };
            match read {
                Ok(request) => {
                    frames_in.increment(1);
                    Some((request, (frames, frames_in)))
                }
                Err(error @ FrameError::Malformed(_)) => {
                    tracing::warn!(from, %error, "an append stream is unreadable");
                    None
                }
                Err(error) => {
                    tracing::debug!(from, %error, "an append stream ended");
                    None
                }
            }
        },
    ))
}

/// The answers as acks. Successes that are ready together become one; what ends the stream comes last.
struct AckStream {
    answers: BoxStream<'static, Result<AppendResult, RaftStopped>>,
    answered: u64,
    /// Ends the stream; waits until the successes before it are sent.
    last: Option<Ack>,
    ended: bool,
}

impl Stream for AckStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(encode(last)));
        }
        let mut newest = None;
        while !self.ended {
            match self.answers.poll_next_unpin(cx) {
                Poll::Pending if newest.is_none() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(result)) => {
                    self.answered += 1;
                    let ack = Ack { answered: self.answered, result };
                    if matches!(ack.result, Ok(Ok(_))) {
                        newest = Some(ack);
                        continue;
                    }
                    self.ended = true;
                    if newest.is_none() {
                        return Poll::Ready(Some(encode(ack)));
                    }
                    self.last = Some(ack);
                }
            }
        }
        Poll::Ready(newest.map(encode))
    }
}

fn encode(ack: Ack) -> Result<Bytes, Infallible> {
    Ok(encode_ack(&ack).joined())
}
