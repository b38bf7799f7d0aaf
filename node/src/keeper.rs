//! Housekeeping on every node: checkpoints when they are due, and a log that stays in its budget.
//!
//! A checkpoint sets the floor below which the log may go; a long tail of log is kept behind it,
//! because a follower that is behind by less than that tail needs no snapshot.

use std::time::Duration;

use crate::room::Level;
use crate::service::Service;
use crate::telemetry;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far the log may outgrow its budget while a snapshot is sent. Beyond it the log is purged all
/// the same: the disk matters more than one slow follower.
const TRANSFER_LOG_BYTES_MAX: u64 = 1 << 30;

/// The log's budget while the disk is nearly full, in segments: followers that are behind by more take a
/// snapshot instead.
const LOW_LOG_SEGMENTS: u64 = 2;

/// Below so many free bytes checkpoints wait.
const CHECKPOINT_ROOM_BYTES: u64 = 1 << 20;

/// Looks after the node until it is stopped.
pub(crate) async fn run(service: Service) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Histograms keep every sample until they are folded; a node that nobody scrapes folds too.
        telemetry::recorder().run_upkeep();
        if holds_log(&service) {
            continue;
        }
        if service.store().checkpoint_due() && has_checkpoint_room(&service) {
            let _ = service.raft().trigger().snapshot().await;
        }
        if let Some(upto) = purge_target(&service) {
            let _ = service.raft().trigger().purge_log(upto).await;
        }
    }
}

/// Whether a checkpoint can write its one small file: on a disk that others have filled to the last byte it
/// would fail, and its node with it.
fn has_checkpoint_room(service: &Service) -> bool {
    service.room().store_free_bytes() >= CHECKPOINT_ROOM_BYTES
}

/// Whether the log must stay as it is: a snapshot is on its way, and the log behind it has not
/// outgrown [`TRANSFER_LOG_BYTES_MAX`]. A checkpoint waits too, because openraft purges with it.
fn holds_log(service: &Service) -> bool {
    let bytes_max = service.config().log_bytes_max.saturating_add(TRANSFER_LOG_BYTES_MAX);
    service.peers().is_sending_snapshot() && service.log_stats().bytes < bytes_max
}

/// The index up to which the log must go to be back in its budget. openraft clamps it to the
/// last checkpoint.
fn purge_target(service: &Service) -> Option<u64> {
    let log = service.log_stats();
    let config = service.config();
    let budget = if service.room().level() > Level::Enough {
        config.log_bytes_max.min(config.log_segment_bytes * LOW_LOG_SEGMENTS)
    } else {
        config.log_bytes_max
    };
    target(log.first_index?, log.last_index?, log.bytes, budget)
}

fn target(first: u64, last: u64, bytes: u64, budget: u64) -> Option<u64> {
    if bytes <= budget || last <= first {
        return None;
    }
    let entries = u128::from(last - first + 1);
    let surplus = entries * u128::from(bytes - budget) / u128::from(bytes);
    Some(first + u64::try_from(surplus).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn a_log_within_its_budget_is_left_alone() {
        assert_eq!(target(1, 1_000, 100, 100), None);
        assert_eq!(target(0, 0, 1_000, 100), None);
    }

    #[test]
    fn a_log_over_its_budget_loses_its_oldest_share() {
        assert_eq!(target(1, 1_000, 200, 100), Some(501));
    }
}
