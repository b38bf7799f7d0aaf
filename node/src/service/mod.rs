//! What this node does for its callers, in the domain's words: no HTTP, no bytes of a transport.
//!
//! ```text
//! http ──► Service ── write ──► leader here? stamp, propose ──► reply
//!                        └────► else forward to the leader ───► reply
//!                 ── read  ──► one ReadIndex round for all that wait ──► View
//!                 ── members, leader, snapshot, status
//! ```
//!
//! Always true:
//! - a write is proposed at most once by this node: it is only tried again after a refusal that
//!   certainly came before it was appended;
//! - every call ends by its deadline, and [`ServiceError`] says whether its effect is excluded.

mod admin;
mod admin_call;
mod clock;
mod error;
mod forward;
mod freshness;
mod gate;
mod leadership;
mod members;
mod read;
mod read_index;
pub(crate) mod room;
mod status;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::{Instant as _, WatchReceiver};
use raftmap_log_store::Log;
use raftmap_state_machine::raft::{StateMachine, TypeConfig};
use raftmap_state_machine::{Settings, Store};
use tokio::sync::watch;

pub use error::ServiceError;
pub use freshness::Freshness;
pub use read::{Consistency, ReadOptions, ReadPoint};

use crate::config::Config;
use crate::raft::Peers;
use crate::room::Room;
use clock::Clock;
use forward::Forwarder;
use gate::Gate;
use read_index::ReadIndex;

/// The Raft handle of this node.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// The bytes of all writes under way on one node; above it a write is refused with
/// `too_many_requests` before it is proposed.
const WRITES_IN_FLIGHT_BYTES_MAX: u64 = 256 << 20;

/// What this node does for its callers. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    node_id: u64,
    config: Config,
    raft: Raft,
    store: Store,
    log: Log,
    peers: Arc<Peers>,
    clock: Clock,
    /// The term in which this node leads and may stamp; 0 while it does not.
    leads: watch::Sender<u64>,
    gate: Gate,
    reads: ReadIndex,
    forwarder: Forwarder,
    freshness: Arc<Freshness>,
    room: Arc<Room>,
    /// On the leader: most voters have no room for entries.
    quorum_short: AtomicBool,
    stopping: AtomicBool,
    started: Instant,
}

/// What a [`Service`] is made of.
pub struct Parts {
    /// The effective configuration.
    pub config: Config,
    /// The Raft handle.
    pub raft: Raft,
    /// The state's reading side.
    pub store: Store,
    /// The write-ahead log, for its figures.
    pub log: Log,
    /// The other members.
    pub peers: Arc<Peers>,
    /// Fed by the transport with what leaders report.
    pub freshness: Arc<Freshness>,
    /// The room on this node's disks.
    pub room: Arc<Room>,
}

impl Service {
    /// Starts the service's tasks: leadership, read rounds, forwarding.
    pub fn start(parts: Parts) -> Service {
        let Parts { config, raft, store, log, peers, freshness, room } = parts;
        let purged = log.clone();
        store.follow_log(move || purged.stats().purged.map_or(0, |id| id.index));
        let (reads, rounds) = ReadIndex::new();
        let (forwarder, forwards) = Forwarder::new();
        let service = Service(Arc::new(Inner {
            node_id: config.id,
            config,
            raft,
            store,
            log,
            peers,
            clock: Clock::default(),
            leads: watch::Sender::new(0),
            gate: Gate::new(WRITES_IN_FLIGHT_BYTES_MAX),
            reads,
            forwarder,
            freshness,
            room,
            quorum_short: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
        }));
        tokio::spawn(read_index::run(service.clone(), rounds));
        tokio::spawn(forward::run(service.clone(), forwards));
        tokio::spawn(leadership::run(service.clone()));
        tokio::spawn(room::watch_disks(service.clone()));
        tokio::spawn(room::watch_voters(service.clone()));
        service
    }

    /// This node's id.
    pub fn node_id(&self) -> u64 {
        self.0.node_id
    }

    /// The leader that this node knows of.
    pub fn leader(&self) -> Option<u64> {
        self.0.raft.server_metrics().borrow_watched().current_leader
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.node_id())
    }

    /// The replicated settings as of this node's state.
    pub fn settings(&self) -> Settings {
        self.0.store.view().settings().clone()
    }

    /// The state's reading side.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The Raft handle.
    pub fn raft(&self) -> &Raft {
        &self.0.raft
    }

    /// The other members.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.0.peers
    }

    /// The effective configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// From now on no new work is taken.
    pub fn stop_admitting(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Whether this node is stopping.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// `Err` with the reason when this node cannot do anything any more.
    pub fn live(&self) -> Result<(), String> {
        if let Some(failure) = self.0.log.failed() {
            return Err(format!("the log failed: {failure}"));
        }
        if let Some(failure) = self.0.store.failed() {
            return Err(format!("the store failed: {failure}"));
        }
        match &self.0.raft.metrics().borrow_watched().running_state {
            Ok(()) => Ok(()),
            Err(fatal) => Err(fatal.to_string()),
        }
    }

    /// `Err` with the reason when this node should not be sent requests.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        if self.is_stopping() {
            return Err("shutting down".into());
        }
        if self.0.store.view().cluster_id() == 0 {
            return Err("not part of a cluster yet".into());
        }
        match self.leader() {
            Some(_) => Ok(()),
            None => Err("no leader".into()),
        }
    }

    /// Cluster time for a proposal; `None` while this node may not stamp: it does not lead, its
    /// quorum has been silent for an election time-out, or the disks are too full for any write. In
    /// such times nobody could renew anything, so the clock stands still.
    pub(crate) fn stamp(&self) -> Option<u64> {
        let patience = self.0.config.election_timeout.1;
        let heard = self.quorum_silence().is_some_and(|silence| silence < patience);
        if heard && !self.nothing_fits() {
            self.0.clock.stamp()
        } else {
            self.0.clock.hold();
            None
        }
    }

    /// How long a majority has not been heard, on the leader; zero if this node is all of it.
    pub(crate) fn quorum_silence(&self) -> Option<Duration> {
        let metrics = self.0.raft.metrics();
        let now = metrics.borrow_watched();
        if !now.state.is_leader() {
            return None;
        }
        let mut voters = now.membership_config.voter_ids();
        if voters.next() == Some(self.0.node_id) && voters.next().is_none() {
            return Some(Duration::ZERO);
        }
        now.last_quorum_acked.as_ref().map(|at| at.elapsed())
    }

    fn admit(&self) -> Result<(), ServiceError> {
        if let Some(failure) = self.0.log.failed() {
            return Err(ServiceError::StorageFailed(failure.to_string()));
        }
        if self.is_stopping() { Err(ServiceError::ShuttingDown) } else { Ok(()) }
    }
}
