//! Linearizable reads: one round for all that wait.
//!
//! ```text
//!   reads ──► queue ──► round n issued ──► its read index ──► all that were taken into it
//!               └── those that come meanwhile wait for round n + 1
//! ```
//!
//! A round proves that the leader still led after it was issued, so it serves exactly the reads
//! that arrived before. On a follower the round is one call to the leader, which joins a round
//! there.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use raftmap_state_machine::raft::TypeConfig;
use tokio::sync::{mpsc, oneshot};

use super::{Service, ServiceError};

/// Reads that wait for a round; more wait for a place in the queue.
const QUEUE_READS_MAX: usize = 16_384;

/// How long a round may take: a leader that hears no quorum for so long does not lead.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a round gave no index.
#[derive(Debug, Clone)]
pub(crate) enum RoundError {
    /// Nobody is known to lead, or it could not prove it.
    NoLeader,
    /// This node's Raft core is gone.
    Stopped(String),
}

impl From<RoundError> for ServiceError {
    fn from(error: RoundError) -> Self {
        match error {
            RoundError::NoLeader => Self::NoLeader,
            RoundError::Stopped(why) => Self::StorageFailed(why),
        }
    }
}

pub(crate) type Waiter = oneshot::Sender<Result<u64, RoundError>>;

/// The queue of reads that wait for a round.
pub(crate) struct ReadIndex {
    queue: mpsc::Sender<Waiter>,
}

impl ReadIndex {
    pub(crate) fn new() -> (ReadIndex, mpsc::Receiver<Waiter>) {
        let (queue, waiters) = mpsc::channel(QUEUE_READS_MAX);
        (ReadIndex { queue }, waiters)
    }

    /// The log index that a state must have applied to answer a read that begins now.
    pub(crate) async fn join(&self) -> Result<u64, RoundError> {
        let (waiter, index) = oneshot::channel();
        let stopped = || RoundError::Stopped("this node is stopping".into());
        self.queue.send(waiter).await.map_err(|_closed| stopped())?;
        index.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Runs one round after the other until the service is gone.
pub(crate) async fn run(service: Service, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiters = Vec::new();
    while queue.recv_many(&mut waiters, QUEUE_READS_MAX).await > 0 {
        metrics::histogram!("raftmap_read_round_reads")
            .record(u32::try_from(waiters.len()).unwrap_or(u32::MAX));
        let result = tokio::time::timeout(ROUND_TIMEOUT, round(&service)).await;
        let result = result.unwrap_or(Err(RoundError::NoLeader));
        for waiter in waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }
}

async fn round(service: &Service) -> Result<u64, RoundError> {
    match service.leader() {
        Some(leader) if leader == service.node_id() => local_round(service).await,
        Some(leader) => match service.peers().read_index(leader, ROUND_TIMEOUT).await {
            Ok(index) => Ok(index),
            Err(_) => Err(RoundError::NoLeader),
        },
        None => Err(RoundError::NoLeader),
    }
}

async fn local_round(service: &Service) -> Result<u64, RoundError> {
    match service.raft().get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::Fatal(fatal)) => Err(RoundError::Stopped(fatal.to_string())),
        Err(RaftError::APIError(error)) => {
            log_refusal(&error);
            Err(RoundError::NoLeader)
        }
    }
}

fn log_refusal(error: &LinearizableReadError<TypeConfig>) {
    tracing::debug!(%error, "a read round was refused");
}
