//! What this node answers its peers: the routes under `/raft/v1/`.
//!
//! Every route but `hello` and `join` first checks the identity on the message; what is refused there was not
//! read. A node whose Raft is not there (yet, or any more) answers 503, which peers take as "unavailable".

mod append;
mod snapshot;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use raftmap_state_machine::CommandBuf;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::append::APPEND_PATH;
use super::call;
use super::frame::{Frame, Frames, Kind};
use super::heartbeat::HEARTBEAT_PATH;
use super::identity::{Envelope, NodeIdentity, PEER_HEADER, Stranger, admit};
use super::lock::Mutex;
use super::message;
use super::metrics;
use super::network::{PRE_VOTE_PATH, TRANSFER_PATH, VOTE_PATH};
use super::peers::{CALL_PATH, FORWARD_PATH, HELLO_PATH, JOIN_PATH, READ_INDEX_PATH};
use super::port::{RaftPort, RaftStopped};
use super::service::{ForwardError, ForwardRefusal, PeerService};
use super::snapshot::SNAPSHOT_PATH;
use super::wire::{Malformed, Pieces};

/// Forwarded requests that are worked on at once; more are answered "too many".
const FORWARDS_MAX: usize = 256;

/// Strangers that are remembered so that each is named once in the log; beyond, they are named again.
const STRANGERS_MAX: usize = 1024;

/// The routes, for the listener that serves peers.
pub fn router(service: Arc<dyn PeerService>) -> Router {
    let server = Arc::new(Server {
        service,
        receiving: Arc::new(AsyncMutex::new(())),
        forwards: Semaphore::new(FORWARDS_MAX),
        strangers: Mutex::default(),
    });
    Router::new()
        .route(APPEND_PATH, post(append::stream))
        .route(HEARTBEAT_PATH, post(append::heartbeats))
        .route(VOTE_PATH, post(vote))
        .route(PRE_VOTE_PATH, post(pre_vote))
        .route(TRANSFER_PATH, post(transfer_leader))
        .route(SNAPSHOT_PATH, post(snapshot::receive))
        .route(FORWARD_PATH, post(forward))
        .route(READ_INDEX_PATH, post(read_index))
        .route(CALL_PATH, post(call_service))
        .route(HELLO_PATH, post(hello))
        .route(JOIN_PATH, post(join))
        .with_state(server)
}

pub(crate) struct Server {
    service: Arc<dyn PeerService>,
    /// Held while a snapshot is received and installed: a second one meanwhile upsets openraft.
    receiving: Arc<AsyncMutex<()>>,
    forwards: Semaphore,
    strangers: Mutex<HashSet<(u64, &'static str)>>,
}

type Shared = State<Arc<Server>>;
type Answer = Result<Response, Refusal>;

/// A message that is not answered with a frame.
#[derive(Debug)]
pub(crate) enum Refusal {
    Stranger(Stranger),
    Malformed(Malformed),
    /// The body broke off; nobody reads the answer.
    Cut(String),
    Unavailable(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Stranger(stranger) => (StatusCode::FORBIDDEN, stranger.to_string()),
            Refusal::Malformed(malformed) => (StatusCode::BAD_REQUEST, malformed.to_string()),
            Refusal::Cut(why) => (StatusCode::BAD_REQUEST, why),
            Refusal::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        }
        .into_response()
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        tracing::warn!(error = %malformed, "a peer sent something unreadable");
        Refusal::Malformed(malformed)
    }
}

impl From<RaftStopped> for Refusal {
    fn from(stopped: RaftStopped) -> Refusal {
        Refusal::Unavailable(stopped.to_string())
    }
}

impl Server {
    /// The sender, if this node listens to it.
    fn admit(&self, headers: &HeaderMap) -> Result<NodeIdentity, Refusal> {
        let envelope = headers.get(PEER_HEADER).and_then(Envelope::parse);
        let verdict = match envelope {
            None => Err(Stranger::Nameless),
            Some(envelope) => {
                let recorded = self.service.expected_log_uuid(envelope.from.node_id);
                admit(self.service.identity(), envelope, recorded).map(|()| envelope.from)
            }
        };
        verdict.map_err(|stranger| {
            if let Stranger::LostLog { .. } = stranger {
                self.service.lost_log(stranger.to_string());
            }
            self.report(envelope.map_or(0, |envelope| envelope.from.node_id), stranger);
            Refusal::Stranger(stranger)
        })
    }

    fn report(&self, from: u64, stranger: Stranger) {
        metrics::refused(from, stranger.reason()).increment(1);
        let mut known = self.strangers.lock();
        if known.len() >= STRANGERS_MAX {
            known.clear();
        }
        if known.insert((from, stranger.reason())) {
            tracing::warn!(from, reason = %stranger, "a message of a peer is refused");
        }
    }

    fn raft(&self) -> Result<Arc<dyn RaftPort>, Refusal> {
        self.service
            .raft()
            .ok_or_else(|| Refusal::Unavailable("raft is not running on this node".into()))
    }
}

/// The only frame of a request.
async fn only_frame(body: Body) -> Result<Frame, Refusal> {
    match Frames::new(body).next().await {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(super::frame::FrameError::Malformed(malformed))) => Err(malformed.into()),
        Some(Err(error)) => Err(Refusal::Cut(error.to_string())),
        None => Err(Refusal::Malformed(Malformed("a request without a frame"))),
    }
}

fn answer(pieces: Pieces) -> Response {
    Body::from(pieces.joined()).into_response()
}

async fn vote(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    let request = message::decode_vote_request(only_frame(body).await?)?;
    let response = server.raft()?.vote(request).await?;
    Ok(answer(message::encode_vote_response(&response)))
}

async fn pre_vote(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    let request = message::decode_vote_request(only_frame(body).await?)?;
    let response = server.raft()?.pre_vote(request).await?;
    Ok(answer(message::encode_vote_response(&response)))
}

async fn transfer_leader(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    let request = message::decode_transfer(only_frame(body).await?)?;
    let response = server.raft()?.transfer_leader(request).await?;
    Ok(answer(message::encode_transfer_response(&response)))
}

async fn forward(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    let commands = call::decode_forward(only_frame(body).await?)?;
    let replies = match server.forwards.try_acquire() {
        Err(_full) => vec![Err(ForwardError::Refused(ForwardRefusal::TooMany)); commands.len()],
        Ok(_place) => {
            let commands = commands.iter().map(|bytes| {
                CommandBuf::from_vec(bytes.to_vec())
                    .ok_or(Malformed("a forwarded command without a time stamp"))
            });
            let commands = commands.collect::<Result<Vec<_>, _>>()?;
            let count = commands.len();
            let replies = server.service.forward(commands).await;
            assert!(
                replies.len() == count,
                "{} answers to {count} forwarded commands",
                replies.len()
            );
            replies
        }
    };
    let mut frames = call::encode_forward_replies(&replies);
    if frames.len() == 1 {
        return Ok(answer(frames.swap_remove(0)));
    }
    let pieces =
        stream::iter(frames).map(|frame| Ok::<Bytes, std::convert::Infallible>(frame.joined()));
    Ok(Body::from_stream(pieces).into_response())
}

async fn read_index(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    call::decode_empty(only_frame(body).await?, Kind::ReadIndex)?;
    let reply = server.service.read_index().await;
    Ok(answer(call::encode_read_index_reply(&reply)))
}

async fn call_service(State(server): Shared, headers: HeaderMap, body: Body) -> Answer {
    server.admit(&headers)?;
    let (verb, body) = call::decode_call(only_frame(body).await?)?;
    let reply = server.service.call(verb, body).await;
    Ok(answer(call::encode_call_reply(&reply)))
}

async fn hello(State(server): Shared, body: Body) -> Answer {
    call::decode_empty(only_frame(body).await?, Kind::Hello)?;
    Ok(answer(call::encode_hello(&server.service.hello())))
}

async fn join(State(server): Shared, body: Body) -> Answer {
    let request = call::decode_join(only_frame(body).await?)?;
    let reply = server.service.join(request).await;
    Ok(answer(call::encode_join_reply(&reply)))
}
