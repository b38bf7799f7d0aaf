//! What this node tells about itself: `/v1/status`, and the figures of `/metrics`.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use raftmap_client::api::cluster::{
    HotStatus, LogStatus, NodeRole, RecoveryPath, RecoveryStatus, Status, StoreStatus,
};
use raftmap_log_store::LogStats;
use raftmap_state_machine::stats::{Found, Recovery};

use super::{Freshness, Service};
use crate::telemetry::{self, ProcessFigures};

impl Service {
    /// This node, the cluster as it knows it, its log and its store.
    pub fn status(&self) -> Status {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let view = self.store().view();
        let cluster_id = view.cluster_id();
        let recovery = recovery(self.store().stats().recovery);
        Status {
            node_id: self.node_id(),
            cluster_id: (cluster_id != 0).then(|| format!("{cluster_id:032x}")),
            version: env!("CARGO_PKG_VERSION").into(),
            role: role(metrics.state),
            term: metrics.current_term,
            leader: metrics.current_leader,
            members: self.local_members(),
            log: self.log_status(&metrics),
            store: self.store_status(),
            disk: Some(self.room().status()),
            recovery: Some(recovery),
            uptime_ms: u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The log's figures.
    pub fn log_stats(&self) -> LogStats {
        self.0.log.stats()
    }

    /// The uuid of this node's log.
    pub fn log_uuid(&self) -> u128 {
        self.0.log.uuid()
    }

    /// Whether this node never took part in anything: no vote, no log, no state.
    pub fn is_pristine(&self) -> bool {
        let stats = self.0.log.stats();
        let empty = stats.last_index.is_none() && stats.purged.is_none();
        empty && self.0.log.vote().is_none() && self.applied_index() == 0
    }

    pub(crate) fn freshness(&self) -> &Arc<Freshness> {
        &self.0.freshness
    }

    /// The Prometheus text of this process, with this node's figures as of now.
    pub fn metrics_text(&self) -> String {
        let recorder = telemetry::recorder();
        self.set_gauges();
        recorder.render()
    }

    fn log_status(&self, metrics: &openraft::RaftMetrics<super::TypeConfig>) -> LogStatus {
        let stats = self.log_stats();
        let index = |id: Option<u64>| id.unwrap_or(0);
        LogStatus {
            first_index: index(stats.first_index),
            last_index: index(stats.last_index),
            committed_index: index(metrics.local_committed.map(|id| id.index)),
            applied_index: self.applied_index(),
            snapshot_index: index(metrics.snapshot.map(|id| id.index)),
            segments: stats.segments,
            bytes: stats.bytes,
        }
    }

    fn store_status(&self) -> StoreStatus {
        let view = self.store().view();
        let stats = self.store().stats();
        StoreStatus {
            revision: view.revision(),
            oldest_revision: view.oldest_revision(),
            digest: format!("{:032x}", view.digest()),
            keys: view.meta().keys,
            leases: 0,
            cold_bytes: stats.cold.table_bytes,
            hot: HotStatus {
                entries: stats.hot.entries,
                bytes: stats.hot.bytes,
                bytes_max: stats.hot.bytes_max,
                hits: stats.hot.hits,
                misses: stats.hot.misses,
                promotions: stats.hot.promotions,
                evictions: stats.hot.evictions,
            },
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; above 2^53 it rounds")]
    fn set_gauges(&self) {
        let status = self.status();
        let process = ProcessFigures::read();
        let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        gauge("raftmap_is_leader", u64::from(self.is_leader()));
        gauge("raftmap_term", status.term);
        gauge("raftmap_members", status.members.len() as u64);
        gauge("raftmap_log_last_index", status.log.last_index);
        gauge("raftmap_log_committed_index", status.log.committed_index);
        gauge("raftmap_applied_index", status.log.applied_index);
        gauge("raftmap_checkpoint_index", status.log.snapshot_index);
        gauge("raftmap_store_revision", status.store.revision);
        gauge("raftmap_store_keys", status.store.keys);
        gauge("raftmap_store_cold_bytes", status.store.cold_bytes);
        gauge("raftmap_hot_entries", status.store.hot.entries);
        gauge("raftmap_hot_bytes", status.store.hot.bytes);
        gauge("raftmap_writes_in_flight_bytes", self.0.gate.in_flight_bytes());
        self.room().set_gauges();
        gauge("raftmap_process_resident_bytes", process.resident_bytes);
        gauge("raftmap_process_open_fds", process.open_fds);
        gauge("raftmap_uptime_seconds", status.uptime_ms / 1000);
        metrics::gauge!("raftmap_process_cpu_seconds_total").set(process.cpu_seconds);
        let count = |name: &'static str, value: u64| metrics::counter!(name).absolute(value);
        count("raftmap_hot_hits_total", status.store.hot.hits);
        count("raftmap_hot_misses_total", status.store.hot.misses);
        count("raftmap_hot_promotions_total", status.store.hot.promotions);
        count("raftmap_hot_evictions_total", status.store.hot.evictions);
        count("raftmap_process_write_bytes_total", process.write_bytes);
    }
}

fn recovery(recovery: Recovery) -> RecoveryStatus {
    let path = match recovery.found {
        Found::Nothing => RecoveryPath::Fresh,
        // The hot tier begins empty after every start: what was hot is not remembered yet.
        Found::Clean | Found::Unclean => RecoveryPath::Cold,
    };
    RecoveryStatus { path, records: recovery.keys, ms: recovery.ms, missing: 0 }
}

fn role(state: ServerState) -> NodeRole {
    match state {
        ServerState::Leader => NodeRole::Leader,
        ServerState::Follower => NodeRole::Follower,
        ServerState::Learner => NodeRole::Learner,
        ServerState::Candidate => NodeRole::Candidate,
        ServerState::Shutdown => NodeRole::Shutdown,
    }
}
