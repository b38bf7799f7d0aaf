//! Writes that this node sends on to the leader.
//!
//! All that wait for the same leader go in one request; while [`BATCHES_IN_FLIGHT_MAX`] are under
//! way the next one fills. Like everything that batches here it does so without a timer.

use std::sync::Arc;
use std::time::Duration;

use raftmap_state_machine::{Command, Reply};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::Service;
use super::gate::Permit;
use crate::raft::ForwardError;

/// Requests to the leader that are under way at once.
const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// Writes in one request; their bytes are bounded by [`BATCH_BYTES_MAX`] as well.
const BATCH_WRITES_MAX: usize = 1024;

/// Bytes in one request (a single write may be larger).
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Writes that wait for a place in a request; senders wait when it is full, and all of them
/// together are bounded by the admission gate.
const QUEUE_WRITES_MAX: usize = 8192;

/// How long one request may take. What is not answered by then is unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// While all places are taken it looks this often whether somebody else leads.
const LEADER_LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Waiting {
    leader: u64,
    command: Command,
    deadline: Instant,
    reply: oneshot::Sender<Result<Reply, ForwardError>>,
    /// Held as long as the command is, also when nobody waits for its reply any more.
    _permit: Arc<Permit>,
}

/// The queue towards the leader.
pub(crate) struct Forwarder {
    queue: mpsc::Sender<Waiting>,
}

impl Forwarder {
    pub(crate) fn new() -> (Forwarder, mpsc::Receiver<Waiting>) {
        let (queue, waiting) = mpsc::channel(QUEUE_WRITES_MAX);
        (Forwarder { queue }, waiting)
    }

    pub(crate) async fn send(
        &self,
        leader: u64,
        command: Command,
        deadline: Instant,
        permit: Arc<Permit>,
    ) -> Result<Reply, ForwardError> {
        let (reply, replied) = oneshot::channel();
        let waiting = Waiting { leader, command, deadline, reply, _permit: permit };
        if self.queue.send(waiting).await.is_err() {
            return Err(ForwardError::NotLeader { leader: None });
        }
        // A dropped reply means that a request was cut off: it may have arrived.
        replied.await.unwrap_or(Err(ForwardError::Unknown))
    }
}

/// Sends batches until the service is gone.
pub(crate) async fn run(service: Service, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    // The places belong to one leader: requests that hang at the last one do not hold up the next.
    let mut places = (0, Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX)));
    loop {
        if waiting.is_empty() && queue.recv_many(&mut waiting, BATCH_WRITES_MAX).await == 0 {
            return;
        }
        let leader = service.leader();
        drop_unsendable(&mut waiting, leader);
        let Some(leader) = waiting.first().map(|write| write.leader) else { continue };
        if places.0 != leader {
            places = (leader, Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX)));
        }
        let place = match timeout(LEADER_LOOK_INTERVAL, places.1.clone().acquire_owned()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_closed)) => return,
            Err(_elapsed) => continue,
        };
        let batch = take_batch(&mut waiting);
        let service = service.clone();
        tokio::spawn(async move {
            send_batch(&service, batch).await;
            drop(place);
        });
    }
}

/// Lets go of writes that nobody waits for, and tells those for another leader than the present one
/// to find their way anew. None of them was sent.
fn drop_unsendable(waiting: &mut Vec<Waiting>, leader: Option<u64>) {
    for write in std::mem::take(waiting) {
        if write.reply.is_closed() {
            continue;
        }
        if leader.is_some_and(|leader| leader != write.leader) {
            let _ = write.reply.send(Err(ForwardError::NotLeader { leader }));
        } else {
            waiting.push(write);
        }
    }
}

/// The longest prefix for one leader within the bounds.
fn take_batch(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let leader = waiting[0].leader;
    let mut bytes = 0;
    let end = waiting.iter().position(|write| {
        bytes += write.command.as_bytes().len();
        write.leader != leader
            || (bytes > BATCH_BYTES_MAX && bytes > write.command.as_bytes().len())
    });
    let rest = waiting.split_off(end.unwrap_or(waiting.len()));
    std::mem::replace(waiting, rest)
}

async fn send_batch(service: &Service, batch: Vec<Waiting>) {
    let leader = batch[0].leader;
    let latest = batch.iter().map(|write| write.deadline).max().unwrap_or_else(Instant::now);
    let timeout = latest.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
    let commands = batch.iter().map(|write| write.command.clone()).collect();
    metrics::histogram!("raftmap_forward_batch_writes")
        .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
    let mut replies = service.peers().forward(leader, commands, timeout).await.into_iter();
    for write in batch {
        let reply = replies.next().unwrap_or(Err(ForwardError::Unknown));
        let _ = write.reply.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::gate::Gate;

    fn write(leader: u64, bytes: usize) -> Waiting {
        let (reply, _) = oneshot::channel();
        let command = Command::from_bytes(vec![0; bytes].into());
        let _permit = Arc::new(Gate::new(u64::MAX / 2).enter(0).unwrap());
        Waiting { leader, command, deadline: Instant::now(), reply, _permit }
    }

    #[test]
    fn what_nobody_waits_for_or_another_leads_is_not_sent() {
        let (reply, mut told) = oneshot::channel();
        let mut waiting = vec![write(1, 1), Waiting { reply, ..write(1, 1) }];
        drop_unsendable(&mut waiting, Some(2));
        assert!(waiting.is_empty());
        assert_eq!(told.try_recv(), Ok(Err(ForwardError::NotLeader { leader: Some(2) })));
    }

    #[test]
    fn a_batch_is_for_one_leader_and_bounded_in_bytes() {
        let mut waiting = vec![write(1, 10), write(1, 20), write(2, 30)];
        assert_eq!(take_batch(&mut waiting).len(), 2);
        assert_eq!(take_batch(&mut waiting).len(), 1);

        let mut waiting = vec![write(1, BATCH_BYTES_MAX - 1), write(1, 2), write(1, 1)];
        assert_eq!(take_batch(&mut waiting).len(), 1);
        assert_eq!(take_batch(&mut waiting).len(), 2);
    }

    #[test]
    fn a_write_larger_than_the_bound_goes_alone() {
        let mut waiting = vec![write(1, BATCH_BYTES_MAX * 2), write(1, 1)];
        assert_eq!(take_batch(&mut waiting).len(), 1);
        assert_eq!(waiting.len(), 1);
    }
}
