//! Writes that this node sends on to the leader.
//!
//! All that wait for the same leader go in one request; while [`BATCHES_IN_FLIGHT_MAX`] are under
//! way the next one fills. Like everything that batches here it does so without a timer.

use std::sync::Arc;

use raftmap_state_machine::{Command, Reply};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Service;
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

pub(crate) struct Waiting {
    leader: u64,
    command: Command,
    deadline: Instant,
    reply: oneshot::Sender<Result<Reply, ForwardError>>,
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
    ) -> Result<Reply, ForwardError> {
        let (reply, replied) = oneshot::channel();
        if self.queue.send(Waiting { leader, command, deadline, reply }).await.is_err() {
            return Err(ForwardError::NotLeader { leader: None });
        }
        // A dropped reply means that a request was cut off: it may have arrived.
        replied.await.unwrap_or(Err(ForwardError::Unknown))
    }
}

/// Sends batches until the service is gone.
pub(crate) async fn run(service: Service, mut queue: mpsc::Receiver<Waiting>) {
    let places = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut waiting = Vec::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        if waiting.is_empty() && queue.recv_many(&mut waiting, BATCH_WRITES_MAX).await == 0 {
            return;
        }
        let batch = take_batch(&mut waiting);
        let service = service.clone();
        tokio::spawn(async move {
            send_batch(&service, batch).await;
            drop(place);
        });
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
    let timeout = latest.saturating_duration_since(Instant::now());
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

    fn write(leader: u64, bytes: usize) -> Waiting {
        let (reply, _) = oneshot::channel();
        let command = Command::from_bytes(vec![0; bytes].into());
        Waiting { leader, command, deadline: Instant::now(), reply }
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
