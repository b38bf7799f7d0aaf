//! What the peer routes need of Raft: the seam that lets them be tested without one.

use std::io;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use openraft::async_runtime::WatchReceiver;
use raftmap_state_machine::raft::snapshot_meta;
use raftmap_state_machine::{Incoming, SnapshotError, StateMachine, Store, TypeConfig};

use super::types::{
    AppendRequest, AppendResult, LogId, Snapshot, TransferRequest, TransferResponse, Vote,
    VoteRequest, VoteResponse,
};

/// The Raft of this node takes nothing: it has stopped for good, or its disk is nearly full; in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("raft takes nothing: {0}")]
pub struct RaftStopped(pub String);

/// Raft, as its peers see it.
pub trait RaftPort: Send + Sync + 'static {
    /// Answers come in the order of the requests; the first that is not `Ok(Ok(_))` is the last.
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, RaftStopped>>;

    /// One request: a heartbeat.
    fn append(&self, request: AppendRequest) -> BoxFuture<'_, Result<AppendResult, RaftStopped>>;

    /// A candidate asks.
    fn vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>>;

    /// A candidate asks whether it would win; changes nothing.
    fn pre_vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>>;

    /// The leader hands over.
    fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> BoxFuture<'_, Result<TransferResponse, RaftStopped>>;

    /// The vote of this node.
    fn current_vote(&self) -> Vote;

    /// Goes on with, or begins, receiving the snapshot `id`. Blocking.
    ///
    /// # Errors
    /// The disk's.
    fn receive_snapshot(&self, id: &str) -> io::Result<Box<dyn SnapshotIntake>>;
}

/// A snapshot that comes in. All calls block.
pub trait SnapshotIntake: Send {
    /// How many bytes are here already, verified: the sender goes on from there.
    fn offset(&self) -> u64;

    /// Takes the next bytes. Dropping the intake keeps what was taken.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for bytes that do not verify.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The file is whole: verifies and prepares it, so that installing only flips a pointer.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for bytes that do not verify.
    fn finish(self: Box<Self>) -> io::Result<Prepared>;
}

/// A snapshot that is ready to be installed.
pub struct Prepared {
    /// The last log id that it includes.
    pub last_log_id: Option<LogId>,
    /// Installs it for the leader with this vote; answers with this node's vote.
    pub install: Box<dyn FnOnce(Vote) -> BoxFuture<'static, Result<Vote, RaftStopped>> + Send>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("last_log_id", &self.last_log_id).finish_non_exhaustive()
    }
}

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// The real thing: openraft and the store.
#[derive(Clone)]
pub struct RaftNode {
    raft: Raft,
    store: Store,
}

impl RaftNode {
    /// The port of a running Raft.
    #[must_use]
    pub fn new(raft: Raft, store: Store) -> RaftNode {
        RaftNode { raft, store }
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").finish_non_exhaustive()
    }
}

fn stopped(fatal: impl std::fmt::Display) -> RaftStopped {
    RaftStopped(fatal.to_string())
}

impl RaftPort for RaftNode {
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, RaftStopped>> {
        Box::pin(self.raft.stream_append(requests).map(|answer| answer.map_err(stopped)))
    }

    fn append(&self, request: AppendRequest) -> BoxFuture<'_, Result<AppendResult, RaftStopped>> {
        Box::pin(async move {
            let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
            let prev = request.prev_log_id;
            let response = self.raft.append_entries(request).await.map_err(stopped)?;
            Ok(response.into_stream_result(prev, last))
        })
    }

    fn vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        Box::pin(async move { self.raft.vote(request).await.map_err(stopped) })
    }

    fn pre_vote(&self, request: VoteRequest) -> BoxFuture<'_, Result<VoteResponse, RaftStopped>> {
        Box::pin(async move { self.raft.pre_vote(request).await.map_err(stopped) })
    }

    fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> BoxFuture<'_, Result<TransferResponse, RaftStopped>> {
        Box::pin(async move { self.raft.handle_transfer_leader(request).await.map_err(stopped) })
    }

    fn current_vote(&self) -> Vote {
        self.raft.server_metrics().borrow_watched().vote
    }

    fn receive_snapshot(&self, id: &str) -> io::Result<Box<dyn SnapshotIntake>> {
        let incoming = Incoming::begin(&self.store, id).map_err(intake_error)?;
        Ok(Box::new(StoreIntake { incoming, raft: self.raft.clone() }))
    }
}

fn intake_error(error: SnapshotError) -> io::Error {
    let kind = match &error {
        SnapshotError::Refused { .. } => io::ErrorKind::InvalidData,
        SnapshotError::Busy => io::ErrorKind::WouldBlock,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

struct StoreIntake {
    incoming: Incoming,
    raft: Raft,
}

impl SnapshotIntake for StoreIntake {
    fn offset(&self) -> u64 {
        self.incoming.offset()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.incoming.write(bytes).map_err(intake_error)
    }

    fn finish(self: Box<Self>) -> io::Result<Prepared> {
        let (parts, snapshot) = self.incoming.finish().map_err(intake_error)?;
        let raft = self.raft;
        let meta = snapshot_meta(&parts)?;
        let last_log_id = meta.last_log_id;
        let snapshot = Snapshot { meta, snapshot };
        let install = move |vote| -> BoxFuture<'static, Result<Vote, RaftStopped>> {
            Box::pin(async move {
                let response = raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
                Ok(response.vote)
            })
        };
        Ok(Prepared { last_log_id, install: Box::new(install) })
    }
}
