//! A write: encoded once, stamped by the leader, proposed, answered when it is applied.
//!
//! There is no queue and no task of ours between a handler and the Raft core: the core merges the
//! writes that wait for it into one append, the log's writer merges appends into one sync, and
//! each reply goes straight from the apply thread to its handler. A batch forms by itself while
//! the previous one syncs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::TryStreamExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use raftmap_state_machine::raft::TypeConfig;
use raftmap_state_machine::{Command, CommandBuf, Op, Reply};
use tokio::time::{Instant, timeout_at};

use super::gate::Permit;
use super::{Service, ServiceError};
use crate::raft::{ForwardError, ForwardRefusal};

/// How long a write waits for a leader before it gives up; it certainly was not applied then.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long it waits before it asks again after a refusal that a change of leader explains.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What became of one attempt.
pub(crate) enum Attempt {
    Replied(Reply),
    /// Certainly not appended; may be tried again.
    NotAppended,
}

/// A known place to send a write.
enum Route {
    Here,
    Leader(u64),
}

impl Service {
    /// Replicates and applies `op`. A refusal that the state decided is inside the reply.
    ///
    /// # Errors
    /// [`ServiceError::Timeout`] means that the outcome is unknown; every other error that it was
    /// not and will not be applied.
    pub async fn write(&self, op: Op, timeout: Duration) -> Result<Reply, ServiceError> {
        self.admit()?;
        let command = CommandBuf::encode(&op);
        drop(op);
        let permit = Arc::new(self.0.gate.enter(command.len())?);
        self.submit(command, permit, Instant::now() + timeout).await
    }

    async fn submit(
        &self,
        command: CommandBuf,
        permit: Arc<Permit>,
        deadline: Instant,
    ) -> Result<Reply, ServiceError> {
        let mut command = Command::from(command);
        let give_up = deadline.min(Instant::now() + LEADER_WAIT_MAX);
        loop {
            let route = timeout_at(give_up, self.route()).await;
            let Ok(route) = route else { return Err(ServiceError::NoLeader) };
            let attempt = match route {
                Route::Here => {
                    self.make_room(command.as_bytes())?;
                    match self.stamp() {
                        Some(now_ms) => {
                            command = command.restamp(now_ms);
                            let proposed = self.propose(command.clone(), Some(permit.clone()));
                            timeout_at(deadline, proposed).await
                        }
                        None => Ok(Ok(Attempt::NotAppended)),
                    }
                }
                Route::Leader(leader) => {
                    let forwarded = self.forward(leader, command.clone(), permit.clone(), deadline);
                    timeout_at(deadline, forwarded).await
                }
            };
            match attempt {
                Ok(Ok(Attempt::Replied(reply))) => return Ok(reply),
                Ok(Ok(Attempt::NotAppended)) => {
                    self.admit()?;
                    if Instant::now() + RETRY_PAUSE >= give_up {
                        return Err(ServiceError::NoLeader);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Err(ServiceError::Timeout),
            }
        }
    }

    /// Waits until it is known who leads, and if it is this node, until it may stamp.
    async fn route(&self) -> Route {
        let mut leads = self.0.leads.subscribe();
        let mut metrics = self.0.raft.server_metrics();
        loop {
            if *leads.borrow_and_update() > 0 {
                return Route::Here;
            }
            let leader = metrics.borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| *leader != self.node_id()) {
                return Route::Leader(leader);
            }
            tokio::select! {
                changed = leads.changed() => if changed.is_err() { std::future::pending().await },
                changed = metrics.changed() => if changed.is_err() { std::future::pending().await },
            }
        }
    }

    pub(crate) async fn propose(
        &self,
        command: Command,
        permit: Option<Arc<Permit>>,
    ) -> Result<Attempt, ServiceError> {
        let (responder, reply) = ProgressResponder::complete_only();
        if let Err(fatal) = self.0.raft.client_write_ff(command, Some(responder)).await {
            // The core never took it: nothing was appended.
            return Err(ServiceError::StorageFailed(fatal.to_string()));
        }
        match (Proposed { reply: Some(reply), permit }).await {
            Ok(Ok(response)) => Ok(Attempt::Replied(response.data)),
            Ok(Err(error)) => refused(error),
            // The core ended while it held the write: it may be in the log and may yet commit.
            Err(_closed) => Err(ServiceError::Timeout),
        }
    }

    async fn forward(
        &self,
        leader: u64,
        command: Command,
        permit: Arc<Permit>,
        deadline: Instant,
    ) -> Result<Attempt, ServiceError> {
        match self.0.forwarder.send(leader, command, deadline, permit).await {
            Ok(reply) => Ok(Attempt::Replied(reply)),
            Err(ForwardError::NotLeader { .. }) => Ok(Attempt::NotAppended),
            Err(ForwardError::Refused(refusal)) => match refusal {
                ForwardRefusal::TooMany => Err(ServiceError::TooManyRequests),
                ForwardRefusal::NoRoom => Err(self.no_room()),
                ForwardRefusal::ShuttingDown
                | ForwardRefusal::NoLeader
                | ForwardRefusal::Unreachable => Ok(Attempt::NotAppended),
                ForwardRefusal::Invalid => {
                    Err(ServiceError::Internal("the leader does not know this command".into()))
                }
            },
            Err(ForwardError::Unknown) => Err(ServiceError::Timeout),
        }
    }

    /// Proposes what other nodes forwarded to this one, as one batch; replies in order.
    pub(crate) async fn propose_forwarded(
        &self,
        commands: Vec<CommandBuf>,
    ) -> Vec<Result<Reply, ForwardError>> {
        let count = commands.len();
        let all = |error: ForwardError| vec![Err(error); count];
        if self.admit().is_err() {
            return all(ForwardError::Refused(ForwardRefusal::ShuttingDown));
        }
        // Only a leader may say so: another may have room.
        if self.is_leader() && self.nothing_fits() {
            return all(ForwardError::Refused(ForwardRefusal::NoRoom));
        }
        let Some(now_ms) = self.stamp() else {
            return all(ForwardError::NotLeader { leader: self.leader() });
        };
        let bytes = commands.iter().map(CommandBuf::len).sum();
        let Ok(_permit) = self.0.gate.enter(bytes) else {
            return all(ForwardError::Refused(ForwardRefusal::TooMany));
        };
        let mut fits = Vec::with_capacity(count);
        let mut stamped = Vec::with_capacity(count);
        for command in commands {
            fits.push(self.make_room(command.as_bytes()).is_ok());
            if fits.last() == Some(&true) {
                stamped.push(command.stamp(now_ms));
            }
        }
        if stamped.is_empty() {
            return all(ForwardError::Refused(ForwardRefusal::NoRoom));
        }
        let mut results = match self.0.raft.client_write_many(stamped).await {
            Ok(results) => results,
            Err(_fatal) => return all(ForwardError::Refused(ForwardRefusal::ShuttingDown)),
        };
        let mut replies = Vec::with_capacity(count);
        for fits in fits {
            replies.push(if fits {
                match results.try_next().await {
                    Ok(Some(Ok(response))) => Ok(response.response),
                    Ok(Some(Err(error))) => match refused(error) {
                        Ok(_) => Err(ForwardError::NotLeader { leader: self.leader() }),
                        Err(_) => Err(ForwardError::Unknown),
                    },
                    // A core that ended while it held them may have appended them.
                    Ok(None) | Err(_) => Err(ForwardError::Unknown),
                }
            } else {
                Err(ForwardError::Refused(ForwardRefusal::NoRoom))
            });
        }
        replies
    }
}

/// A write that the core has. When its caller goes away (time-out, disconnect) it is still there,
/// and so is its share of the bound on what is under way.
struct Proposed<T: Send + 'static> {
    reply: Option<tokio::sync::oneshot::Receiver<T>>,
    permit: Option<Arc<Permit>>,
}

impl<T: Send + 'static> Future for Proposed<T> {
    type Output = Result<T, tokio::sync::oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = self.reply.as_mut().expect("polled after its end");
        let result = ready!(Pin::new(reply).poll(cx));
        self.reply = None;
        Poll::Ready(result)
    }
}

impl<T: Send + 'static> Drop for Proposed<T> {
    fn drop(&mut self) {
        if let (Some(reply), Some(permit)) = (self.reply.take(), self.permit.take()) {
            tokio::spawn(async move {
                let _ = reply.await;
                drop(permit);
            });
        }
    }
}

/// What the core's refusal says about the write.
fn refused(error: ClientWriteError<TypeConfig>) -> Result<Attempt, ServiceError> {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader { reason, .. }) => {
            if reason == ForwardReason::LeaseExpired {
                metrics::counter!("raftmap_lease_expired_total").increment(1);
            }
            Ok(Attempt::NotAppended)
        }
        ClientWriteError::LogEntryDiscarded(_) => Err(ServiceError::Timeout),
        other => Err(ServiceError::Internal(other.to_string())),
    }
}
