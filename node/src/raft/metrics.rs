//! What the transport counts. Handles are made once per peer or stream, not per event: install the recorder first.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `raftmap_peer_bytes_{in,out}_total` | peer, purpose | on the connections this node dialled |
//! | `raftmap_peer_dials_total`, `raftmap_peer_dials_failed_total` | peer, purpose | |
//! | `raftmap_peer_frames_out_total`, `raftmap_peer_acks_in_total` | peer | append streams of this leader |
//! | `raftmap_peer_entries_out_total` | peer | |
//! | `raftmap_peer_in_flight_bytes` | peer | sent and not acknowledged |
//! | `raftmap_peer_streams_total`, `raftmap_peer_stream_errors_total` | peer | append streams begun; ended by an error |
//! | `raftmap_peer_append_rtt_seconds`, `raftmap_peer_heartbeat_rtt_seconds` | peer | answer included: the follower's sync |
//! | `raftmap_peer_frames_in_total` | peer | append frames that this follower received |
//! | `raftmap_peer_snapshot_bytes_{in,out}_total` | peer | |
//! | `raftmap_peer_forgotten` | peer | 1: it lost what it had acknowledged, nothing is sent to it any more |
//! | `raftmap_peer_refused_total` | peer, reason | messages not listened to |

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::link::Purpose;

/// Of one connection.
#[derive(Clone)]
pub(crate) struct LinkMetrics {
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) dials: Counter,
    pub(crate) dials_failed: Counter,
}

impl LinkMetrics {
    /// `peer` is a node id, or a word for a node whose id is not known yet.
    pub(crate) fn new(peer: &str, purpose: Purpose) -> LinkMetrics {
        let peer = peer.to_owned();
        let purpose = purpose.label();
        LinkMetrics {
            bytes_in: counter!("raftmap_peer_bytes_in_total", "peer" => peer.clone(), "purpose" => purpose),
            bytes_out: counter!("raftmap_peer_bytes_out_total", "peer" => peer.clone(), "purpose" => purpose),
            dials: counter!("raftmap_peer_dials_total", "peer" => peer.clone(), "purpose" => purpose),
            dials_failed: counter!("raftmap_peer_dials_failed_total", "peer" => peer, "purpose" => purpose),
        }
    }
}

/// Of one peer, as a leader sees it.
#[derive(Debug, Clone)]
pub(crate) struct PeerMetrics {
    pub(crate) frames_out: Counter,
    pub(crate) entries_out: Counter,
    pub(crate) acks_in: Counter,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) streams: Counter,
    pub(crate) stream_errors: Counter,
    pub(crate) append_rtt: Histogram,
    pub(crate) heartbeat_rtt: Histogram,
    pub(crate) snapshot_bytes: Counter,
    pub(crate) forgotten: Gauge,
}

impl PeerMetrics {
    pub(crate) fn new(peer: u64) -> PeerMetrics {
        let peer = peer.to_string();
        PeerMetrics {
            frames_out: counter!("raftmap_peer_frames_out_total", "peer" => peer.clone()),
            entries_out: counter!("raftmap_peer_entries_out_total", "peer" => peer.clone()),
            acks_in: counter!("raftmap_peer_acks_in_total", "peer" => peer.clone()),
            in_flight_bytes: gauge!("raftmap_peer_in_flight_bytes", "peer" => peer.clone()),
            streams: counter!("raftmap_peer_streams_total", "peer" => peer.clone()),
            stream_errors: counter!("raftmap_peer_stream_errors_total", "peer" => peer.clone()),
            append_rtt: histogram!("raftmap_peer_append_rtt_seconds", "peer" => peer.clone()),
            heartbeat_rtt: histogram!("raftmap_peer_heartbeat_rtt_seconds", "peer" => peer.clone()),
            snapshot_bytes: counter!("raftmap_peer_snapshot_bytes_out_total", "peer" => peer.clone()),
            forgotten: gauge!("raftmap_peer_forgotten", "peer" => peer),
        }
    }
}

/// Append frames that came from `peer`.
pub(crate) fn frames_in(peer: u64) -> Counter {
    counter!("raftmap_peer_frames_in_total", "peer" => peer.to_string())
}

/// Snapshot bytes that came from `peer`.
pub(crate) fn snapshot_bytes_in(peer: u64) -> Counter {
    counter!("raftmap_peer_snapshot_bytes_in_total", "peer" => peer.to_string())
}

/// A message that this node did not listen to.
pub(crate) fn refused(peer: u64, reason: &'static str) -> Counter {
    counter!("raftmap_peer_refused_total", "peer" => peer.to_string(), "reason" => reason)
}

/// A number for a gauge or histogram; beyond 2^32 the metric stays there.
pub(crate) fn number(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
