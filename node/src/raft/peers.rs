//! The other nodes as this one reaches them: the address book, and the calls beside Raft's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use raftmap_state_machine::{Command, Member, Reply};
use tokio::time::Instant;

use super::body::PeerBody;
use super::call;
use super::error::PeerError;
use super::frame::{FRAME_BYTES_MAX, Frames, Kind};
use super::identity::{Envelope, NodeIdentity};
use super::link::{Link, Purpose};
use super::lock::Mutex;
use super::metrics::{LinkMetrics, PeerMetrics};
use super::promise::Promise;
use super::service::{
    ForwardError, ForwardRefusal, Hello, JoinReply, JoinRequest, PeerService, ReadIndexError,
};
use super::snapshot::Sending;
use super::types::{LogId, Vote};
use super::wire::Pieces;

pub(crate) const FORWARD_PATH: &str = "/raft/v1/forward";
pub(crate) const READ_INDEX_PATH: &str = "/raft/v1/read_index";
pub(crate) const CALL_PATH: &str = "/raft/v1/call";
pub(crate) const HELLO_PATH: &str = "/raft/v1/hello";
pub(crate) const JOIN_PATH: &str = "/raft/v1/join";

/// Commands in one forward request, in bytes; more are sent in several, one after the other.
const FORWARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A command that is forwarded is shorter than this; a log entry is bounded far below.
const COMMAND_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;

// What a peer was like when it was last called.
const GOOD: u8 = 0;
const REFUSING: u8 = 1;
const GONE: u8 = 2;

/// One other node: its address and one connection per purpose.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    /// The log that the membership records for it.
    log_uuid: u128,
    pub(crate) append: Link,
    pub(crate) control: Link,
    pub(crate) snapshot: Link,
    pub(crate) forward: Link,
    pub(crate) metrics: PeerMetrics,
    pub(crate) sending: Sending,
    promise: Promise,
    standing: AtomicU8,
    service: Identified,
}

/// Who this node is changes once, when its cluster is formed; so it is asked for each message.
#[derive(Clone)]
struct Identified(Arc<dyn PeerService>);

impl std::fmt::Debug for Identified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.identity().fmt(f)
    }
}

impl Peer {
    fn new(id: u64, member: &Member, service: Identified) -> Peer {
        let addr = peer_addr(member);
        let label = id.to_string();
        let link = |purpose| Link::new(addr, LinkMetrics::new(&label, purpose));
        Peer {
            id,
            log_uuid: member.log_uuid,
            append: link(Purpose::Append),
            control: link(Purpose::Control),
            snapshot: link(Purpose::Snapshot),
            forward: link(Purpose::Forward),
            metrics: PeerMetrics::new(id),
            sending: Sending::default(),
            promise: Promise::default(),
            standing: AtomicU8::new(GOOD),
            service,
        }
    }

    pub(crate) fn addr(&self) -> &str {
        self.control.addr()
    }

    fn is(&self, member: &Member) -> bool {
        self.addr() == peer_addr(member) && self.log_uuid == member.log_uuid
    }

    /// Takes note of what became of a call. What lasts is said once: that a peer refuses this node, which
    /// needs a human, that it is gone, and that it is back.
    pub(crate) fn note<T>(&self, outcome: Result<T, PeerError>) -> Result<T, PeerError> {
        match &outcome {
            Err(error) => self.note_error(error),
            Ok(_) if self.standing.load(Ordering::Relaxed) != GOOD => {
                self.standing.store(GOOD, Ordering::Relaxed);
                tracing::info!(peer = self.id, "the peer answers again");
            }
            Ok(_) => {}
        }
        outcome
    }

    pub(crate) fn note_error(&self, error: &PeerError) {
        match error {
            PeerError::Refused { .. } => {
                if self.standing.swap(REFUSING, Ordering::Relaxed) != REFUSING {
                    tracing::warn!(peer = self.id, %error, "a peer does not listen to this node");
                }
            }
            PeerError::Unreachable { .. } | PeerError::Unavailable { .. } => {
                if self.standing.swap(GONE, Ordering::Relaxed) != GONE {
                    tracing::warn!(peer = self.id, %error, "a peer cannot be reached");
                }
            }
            PeerError::UnknownNode(_)
            | PeerError::Forgotten { .. }
            | PeerError::Timeout { .. }
            | PeerError::Broken { .. }
            | PeerError::Malformed { .. } => {}
        }
    }

    /// The peer acknowledged entries up to `upto` to the leader of this vote.
    pub(crate) fn promised(&self, vote: Vote, upto: LogId) {
        self.promise.given(vote, upto);
    }

    /// The peer lacks an entry. An error if it had acknowledged that one: it is then not listened to any more.
    pub(crate) fn lacks(&self, vote: Vote, entry: LogId) -> Result<(), PeerError> {
        self.promise.check(vote, entry).map_err(|broken| {
            tracing::error!(peer = self.id, %broken, "a member has lost acknowledged entries");
            self.metrics.forgotten.set(1.0);
            self.forgotten(&broken)
        })
    }

    /// Refuses to send entries to a peer that forgot what it had.
    pub(crate) fn must_remember(&self) -> Result<(), PeerError> {
        if self.promise.is_broken() {
            return Err(self.forgotten(&"it has lost acknowledged entries"));
        }
        Ok(())
    }

    fn forgotten(&self, reason: &dyn std::fmt::Display) -> PeerError {
        PeerError::Forgotten { addr: self.addr().to_owned(), reason: reason.to_string() }
    }

    /// The identity header of a message to this peer.
    pub(crate) fn identity(&self) -> HeaderValue {
        let Peer { id, log_uuid, .. } = *self;
        Envelope { from: self.service.0.identity(), to: id, to_log: log_uuid }.header()
    }
}

/// The address book and the calls to other nodes.
#[derive(Debug)]
pub struct Peers {
    service: Identified,
    book: Mutex<HashMap<u64, Arc<Peer>>>,
}

impl Peers {
    /// An empty book. `service` is asked who this node is, for every message.
    ///
    /// Metrics handles are made with each peer: install the recorder first.
    #[must_use]
    pub fn new(service: Arc<dyn PeerService>) -> Peers {
        Peers { service: Identified(service), book: Mutex::new(HashMap::new()) }
    }

    /// Makes the book equal to the membership. Connections to nodes that left or moved are dropped once
    /// nothing uses them any more.
    pub fn update(&self, members: BTreeMap<u64, Member>) {
        let here = self.identity().node_id;
        let mut book = self.book.lock();
        book.retain(|id, peer| members.get(id).is_some_and(|member| peer.is(member)));
        for (id, member) in members {
            if id != here && !book.contains_key(&id) {
                let peer = Peer::new(id, &member, self.service.clone());
                book.insert(id, Arc::new(peer));
            }
        }
    }

    /// The peer at the address that Raft itself names; the book follows if it says otherwise.
    pub(crate) fn at(&self, id: u64, member: &Member) -> Arc<Peer> {
        let here = self.identity().node_id;
        assert!(id != here, "node {id} was asked to send Raft messages to itself");
        let mut book = self.book.lock();
        match book.get(&id) {
            Some(peer) if peer.is(member) => peer.clone(),
            _ => {
                let peer = Arc::new(Peer::new(id, member, self.service.clone()));
                book.insert(id, peer.clone());
                peer
            }
        }
    }

    /// Whether a snapshot is on its way to some node, or was until a moment ago: the log behind it must stay, or
    /// that node needs the next snapshot as soon as it has this one.
    #[must_use]
    pub fn is_sending_snapshot(&self) -> bool {
        self.book.lock().values().any(|peer| peer.sending.is_recent())
    }

    pub(crate) fn identity(&self) -> NodeIdentity {
        self.service.0.identity()
    }

    /// Forwards commands to the leader; one answer for each, in order. Their time stamps are replaced there.
    ///
    /// Gives up after `timeout`: what was sent and not answered is then [`ForwardError::Unknown`].
    pub async fn forward(
        &self,
        node: u64,
        commands: Vec<Command>,
        timeout: Duration,
    ) -> Vec<Result<Reply, ForwardError>> {
        let deadline = Instant::now() + timeout;
        let mut answers = Vec::with_capacity(commands.len());
        let Ok(peer) = self.peer(node) else {
            answers.resize(commands.len(), Err(ForwardError::Refused(ForwardRefusal::Unreachable)));
            return answers;
        };
        let commands: Vec<Bytes> =
            commands.iter().map(|command| command.as_bytes().clone()).collect();
        let mut rest = &commands[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest));
            rest = later;
            if now[0].len() > COMMAND_BYTES_MAX {
                answers.resize(
                    answers.len() + now.len(),
                    Err(ForwardError::Refused(ForwardRefusal::Invalid)),
                );
                continue;
            }
            let wanted = answers.len() + now.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let sent = forward_some(&peer, now, wanted, &mut answers);
            let error = match tokio::time::timeout(left, sent).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) if error.certainly_not_done() => {
                    ForwardError::Refused(ForwardRefusal::Unreachable)
                }
                Ok(Err(error)) => {
                    tracing::debug!(node, %error, "the answers to forwarded writes are lost");
                    ForwardError::Unknown
                }
                Err(_elapsed) => ForwardError::Unknown,
            };
            answers.resize(wanted, Err(error));
        }
        answers
    }

    /// One ReadIndex round on the leader.
    ///
    /// # Errors
    /// That node is not the leader, has no quorum, or did not answer within `timeout`.
    pub async fn read_index(&self, node: u64, timeout: Duration) -> Result<u64, ReadIndexError> {
        let failed = |error: PeerError| ReadIndexError::Peer(error.to_string());
        let peer = self.peer(node).map_err(failed)?;
        let frame = call::encode_empty(Kind::ReadIndex);
        let answer = peer
            .control
            .call(READ_INDEX_PATH, Some(peer.identity()), frame, timeout)
            .await
            .map_err(failed)?;
        call::decode_read_index_reply(answer)
            .map_err(|source| failed(PeerError::malformed(peer.addr(), source)))?
    }

    /// Any other call of the node to itself on another node. The body is at most a few MiB.
    ///
    /// # Errors
    /// See [`PeerError`]; only [`PeerError::certainly_not_done`] allows to repeat what is not idempotent.
    pub async fn call(
        &self,
        node: u64,
        verb: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let peer = self.peer(node)?;
        let frame = call::encode_call(verb, &body);
        let answer = peer.forward.call(CALL_PATH, Some(peer.identity()), frame, timeout).await?;
        call::decode_call_reply(answer).map_err(|source| PeerError::malformed(peer.addr(), source))
    }

    /// Asks whoever answers at `addr` who it is.
    ///
    /// # Errors
    /// Nobody answers there within `timeout`, or nobody that speaks this protocol.
    pub async fn hello(&self, addr: &str, timeout: Duration) -> Result<Hello, PeerError> {
        let answer = stranger(addr, HELLO_PATH, call::encode_empty(Kind::Hello), timeout).await?;
        call::decode_hello(answer).map_err(|source| PeerError::malformed(addr, source))
    }

    /// Asks the node at `addr` to make this one a member.
    ///
    /// # Errors
    /// No answer. The request may be repeated: a node that is a member already is accepted again.
    pub async fn join(
        &self,
        addr: &str,
        request: JoinRequest,
        timeout: Duration,
    ) -> Result<JoinReply, PeerError> {
        let answer = stranger(addr, JOIN_PATH, call::encode_join(&request), timeout).await?;
        call::decode_join_reply(answer).map_err(|source| PeerError::malformed(addr, source))
    }

    fn peer(&self, node: u64) -> Result<Arc<Peer>, PeerError> {
        self.book.lock().get(&node).cloned().ok_or(PeerError::UnknownNode(node))
    }
}

/// A call to an address of which no more is known: on a connection of its own, without an identity.
async fn stranger(
    addr: &str,
    path: &'static str,
    frame: Pieces,
    timeout: Duration,
) -> Result<super::frame::Frame, PeerError> {
    let link = Link::new(addr, LinkMetrics::new("unknown", Purpose::Forward));
    link.call(path, None, frame, timeout).await
}

/// How many commands from the front go into one request; at least one.
fn fitting(commands: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fits = |command: &&Bytes| {
        bytes += command.len();
        bytes <= FORWARD_BYTES_MAX
    };
    commands.iter().take_while(fits).count().max(1)
}

/// Sends one request and collects its answers until there are `wanted`.
async fn forward_some(
    peer: &Peer,
    commands: &[Bytes],
    wanted: usize,
    answers: &mut Vec<Result<Reply, ForwardError>>,
) -> Result<(), PeerError> {
    let body = PeerBody::Frame(call::encode_forward(commands));
    let mut frames: Frames<_> =
        peer.forward.open(FORWARD_PATH, Some(peer.identity()), body).await?;
    while answers.len() < wanted {
        let frame = frames
            .next()
            .await
            .ok_or_else(|| PeerError::broken(peer.addr(), "fewer answers than commands"))?;
        let frame = frame.map_err(|error| PeerError::frame(peer.addr(), error))?;
        let some = call::decode_forward_replies(frame)
            .map_err(|source| PeerError::malformed(peer.addr(), source))?;
        answers.extend(some);
    }
    answers.truncate(wanted);
    Ok(())
}

/// Where peers reach a member.
fn peer_addr(member: &Member) -> &str {
    member.peer_addr.as_deref().unwrap_or(&member.addr)
}
