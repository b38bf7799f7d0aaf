//! What a node does because it leads: it runs the clock, completes the formation, and ends what
//! is due.
//!
//! ```text
//!   elected ─► first entry of the term applied ─► clock runs, writes are taken
//!                  └► no cluster id yet? propose one
//!                  └► while deadlines exist: ExpireDue when one is due, else a stamp a second
//!   deposed ─► clock stops
//! ```
//!
//! An idle cluster without deadlines writes nothing.

use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use raftmap_state_machine::command::Form;
use raftmap_state_machine::{Command, Op, Outcome, Settings};

use super::Service;
use super::write::Attempt;

/// Keys that one expiry command ends; the next one follows at once while more are due.
const EXPIRE_KEYS_MAX: u32 = 512;

/// While deadlines exist the clock is stamped at least this often, so that a change of leader
/// delays them by no more.
const STAMP_INTERVAL: Duration = Duration::from_secs(1);

/// While deadlines exist the nearest one is looked for this often: one that was set meanwhile may
/// be nearer than the one that is waited for, and none may be late by more than half a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How long the leader waits before it looks again after a proposal of its own failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long a proposal of the leader's own may take.
const OWN_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the leadership until the service is gone.
pub(crate) async fn run(service: Service) {
    let mut metrics = service.raft().server_metrics();
    loop {
        let (term, leads) = {
            let now = metrics.borrow_watched();
            (now.vote.leader_id().term, now.state.is_leader())
        };
        if leads {
            let duties = duties(&service, term);
            tokio::pin!(duties);
            loop {
                tokio::select! {
                    () = &mut duties => return,
                    changed = metrics.changed() => if changed.is_err() { return },
                }
                let now = metrics.borrow_watched();
                if !now.state.is_leader() || now.vote.leader_id().term != term {
                    break;
                }
            }
            service.0.leads.send_replace(0);
            service.0.clock.stop();
            tracing::info!(term, "this node no longer leads");
        } else if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn duties(service: &Service, term: u64) {
    // Waits until the first entry of this leadership is committed and applied.
    while let Err(error) = service.raft().ensure_linearizable(ReadPolicy::ReadIndex).await {
        tracing::debug!(%error, term, "not ready to lead yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    service.0.clock.start(term, service.store().view().clock_ms());
    form(service).await;
    service.0.leads.send_replace(term);
    tracing::info!(term, node = service.node_id(), "this node leads");
    expire(service).await;
}

/// Gives the cluster its identity and its settings, once in its life and before any other write.
async fn form(service: &Service) {
    while service.store().view().cluster_id() == 0 {
        let settings =
            Settings { quota_bytes: service.config().quota_bytes, ..Settings::default() };
        let cluster_id = rand::random::<u128>().max(1);
        let now_ms = service.stamp().unwrap_or(0);
        let command = Command::encode(&Op::Form(Form { cluster_id, settings }), now_ms);
        match service.propose(command, None).await {
            Ok(Attempt::Replied(_)) => tracing::info!("the cluster is formed"),
            Ok(Attempt::NotAppended) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(error) => {
                tracing::warn!(%error, "the cluster could not be formed yet");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Ends what is due, for as long as this node leads.
async fn expire(service: &Service) {
    let mut applied = service.store().applied();
    let mut stamped = Instant::now();
    loop {
        applied.borrow_and_update();
        let first_ms = match service.store().view().first_deadline() {
            Ok(Some(first_ms)) => first_ms,
            Ok(None) => {
                if applied.changed().await.is_err() {
                    return;
                }
                continue;
            }
            // Apply meets the same damage sooner or later, and ends the node.
            Err(error) => {
                tracing::error!(%error, "the deadlines cannot be read");
                tokio::time::sleep(STAMP_INTERVAL).await;
                continue;
            }
        };
        let Some(now_ms) = service.stamp() else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let wait = Duration::from_millis(first_ms.saturating_sub(now_ms));
        if wait.is_zero() {
            expire_once(service).await;
        } else if stamped.elapsed() >= STAMP_INTERVAL {
            let _ = service.write(Op::Tick, OWN_WRITE_TIMEOUT).await;
            stamped = Instant::now();
        } else {
            tokio::time::sleep(wait.min(LOOK_INTERVAL)).await;
        }
    }
}

async fn expire_once(service: &Service) {
    match service.write(Op::ExpireDue { max: EXPIRE_KEYS_MAX }, OWN_WRITE_TIMEOUT).await {
        Ok(reply) => {
            if let Outcome::Expired { deleted, .. } = reply.outcome {
                metrics::counter!("raftmap_expired_keys_total").increment(deleted);
            }
        }
        Err(error) => {
            tracing::debug!(%error, "an expiry was not applied");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
