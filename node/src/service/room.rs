//! What a node does about the room on the disks: its own, and that of the voters while it leads.
//!
//! ```text
//!   every second, or when charges say so: look ─► level ─► admission (write), followers (peer_service)
//!   leader: ask the voters ─► no majority takes entries? take no writes
//!                          └► low here, room there? hand the leadership over
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use metrics::counter;
use raftmap_state_machine::Command;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Service, ServiceError};
use crate::room::{Level, Room};

/// The name under which the transport carries the question for a level.
pub(crate) const VERB: &str = "room";

/// How often a node looks at its disks, and a leader asks the voters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A voter that has not answered by then takes nothing either.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long one attempt to hand the leadership over may take, and how long until the next.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);
const HANDOVER_PAUSE: Duration = Duration::from_secs(10);

/// Looks at this node's disks until the node is stopped.
pub(crate) async fn watch_disks(service: Service) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = service.room().became_worse() => {}
        }
        // What was let in here, or taken as a follower, and may not be on the disk yet.
        let under_way = service.0.gate.in_flight_bytes().max(service.log_stats().queue_bytes);
        let room = service.room().clone();
        let looked = tokio::task::spawn_blocking(move || room.look(under_way)).await;
        if looked.is_err() {
            return;
        }
    }
}

/// Watches the room of the voters while this node leads. They are asked before anything is amiss: the first
/// write that cannot be committed is to be refused, not left open.
pub(crate) async fn watch_voters(service: Service) {
    let mut asks = interval(LOOK_INTERVAL);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_handover = Instant::now();
    loop {
        asks.tick().await;
        if !service.is_leader() {
            service.set_quorum_short(false);
            continue;
        }
        let levels = service.levels_of_others().await;
        service.set_quorum_short(is_quorum_short(&levels));
        if service.room().level() > Level::Enough && Instant::now() >= next_handover {
            let roomy = levels.iter().filter(|(_, level)| *level == Some(Level::Enough));
            if hand_over(&service, roomy.map(|(id, _)| *id)).await {
                next_handover = Instant::now() + HANDOVER_PAUSE;
            }
        }
    }
}

/// Whether those of the other voters that answered with room, and this node, are no majority because of some
/// that have none. With silence alone it is Raft that notices.
fn is_quorum_short(others: &[(u64, Option<Level>)]) -> bool {
    let count = |fits: fn(Level) -> bool| {
        others.iter().filter(|(_, level)| level.is_some_and(fits)).count()
    };
    let takers = 1 + count(|level| level < Level::Short);
    let voters = 1 + others.len();
    count(|level| level >= Level::Short) > 0 && takers <= voters / 2
}

/// Hands the leadership to the first of `candidates` that can take it; whether one was asked.
async fn hand_over(service: &Service, candidates: impl Iterator<Item = u64>) -> bool {
    for to in candidates {
        match service.transfer_leader(Some(to), HANDOVER_TIMEOUT).await {
            Ok(leader) => {
                tracing::info!(leader, "a node with room on its disk leads now");
                return true;
            }
            // Not near enough: nothing was handed over.
            Err(ServiceError::Conflict(_)) => {}
            Err(error) => {
                tracing::warn!(%error, to, "the leadership could not be handed to a node with room");
                return true;
            }
        }
    }
    false
}

impl Service {
    /// The room on this node's disks.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.0.room
    }

    /// On the leader: lets a command in and charges it, or says that there is no room for it.
    pub(crate) fn make_room(&self, command: &[u8]) -> Result<(), ServiceError> {
        let level = self.room().level();
        let refused = self.nothing_fits() || (level == Level::Low && takes_room(command));
        if refused {
            counter!("raftmap_disk_refused_writes_total").increment(1);
            return Err(self.no_room());
        }
        self.room().charge(command.len());
        Ok(())
    }

    /// On a follower: whether it takes entries whose commands have these lengths, which are charged.
    /// Raft's own entries have none.
    pub(crate) fn takes_entries(&self, commands: impl Iterator<Item = usize>) -> bool {
        for bytes in commands {
            if self.room().level() == Level::Full {
                counter!("raftmap_disk_refused_appends_total").increment(1);
                return false;
            }
            self.room().charge(bytes);
        }
        true
    }

    /// Whether no write at all is taken here: nobody can renew anything then.
    pub(crate) fn nothing_fits(&self) -> bool {
        self.room().level() >= Level::Short || self.0.quorum_short.load(Ordering::Relaxed)
    }

    pub(crate) fn no_room(&self) -> ServiceError {
        ServiceError::NoRoom { reserve_bytes: self.room().reserve_bytes() }
    }

    /// The answer to a leader that asks for this node's level.
    pub(crate) fn room_for_peer(&self) -> Bytes {
        Bytes::copy_from_slice(&[self.room().level().byte()])
    }

    async fn levels_of_others(&self) -> Vec<(u64, Option<Level>)> {
        let others = self.voters().into_iter().filter(|id| *id != self.node_id());
        join_all(others.map(|id| async move {
            let answer = self.peers().call(id, VERB, Bytes::new(), ANSWER_TIMEOUT).await;
            (id, answer.ok().and_then(|body| Level::from_byte(*body.first()?)))
        }))
        .await
    }

    fn set_quorum_short(&self, short: bool) {
        if self.0.quorum_short.swap(short, Ordering::Relaxed) == short {
            return;
        }
        if short {
            tracing::error!("no majority of the voters has room on its disks: no writes are taken");
        } else {
            tracing::info!("writes are taken again as far as the voters' disks are concerned");
        }
    }
}

/// Whether applying it may make the store larger. What cannot be read is refused elsewhere.
fn takes_room(command: &[u8]) -> bool {
    let command = Command::from_bytes(Bytes::copy_from_slice(command));
    command.decode().is_ok_and(|(_, op)| op.takes_room())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_must_have_answered_that_it_has_room_once_somebody_has_none() {
        const ROOM: Option<Level> = Some(Level::Low);
        const NONE: Option<Level> = Some(Level::Short);
        const SILENT: Option<Level> = None;
        for (others, short) in [
            (&[][..], false),
            (&[ROOM, ROOM], false),
            (&[ROOM, NONE], false),
            (&[NONE, NONE], true),
            (&[SILENT, NONE], true),
            (&[SILENT, ROOM], false),
            // That is a lost quorum, not a full disk.
            (&[SILENT, SILENT], false),
            (&[NONE, Some(Level::Full), ROOM, ROOM], false),
            (&[NONE, SILENT, SILENT, ROOM], true),
        ] {
            let others: Vec<_> = (2..).zip(others.iter().copied()).collect();
            assert_eq!(is_quorum_short(&others), short, "{others:?}");
        }
    }
}
