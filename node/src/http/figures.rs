//! What clients asked for and how it went, counted. The handles are made once: counting a request
//! is one atomic addition.

use http::StatusCode;
use metrics::{Counter, Gauge, counter, gauge};

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    Touch,
    Delete,
    List,
    Txn,
    Cluster,
    Probe,
    Other,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::Get, "get"),
    (Kind::Put, "put"),
    (Kind::Touch, "touch"),
    (Kind::Delete, "delete"),
    (Kind::List, "list"),
    (Kind::Txn, "txn"),
    (Kind::Cluster, "cluster"),
    (Kind::Probe, "probe"),
    (Kind::Other, "other"),
];

/// The classes of a status from 200 on.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The counters of one node's HTTP side.
pub(crate) struct Figures {
    requests: Vec<[Counter; CLASSES.len()]>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        let of_kind = |name: &'static str| {
            CLASSES.map(
                |class| counter!("raftmap_http_requests_total", "call" => name, "status" => class),
            )
        };
        Figures { requests: KINDS.iter().map(|(_, name)| of_kind(name)).collect() }
    }

    pub(crate) fn count(&self, kind: Kind, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        let of_kind = KINDS.iter().position(|(known, _)| *known == kind);
        let counter = of_kind.and_then(|at| self.requests.get(at)?.get(class));
        counter.iter().for_each(|counter| counter.increment(1));
    }
}

/// The gauges of one listener.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) open: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) given_up: Counter,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Connections {
            open: gauge!("raftmap_http_connections"),
            accepted: counter!("raftmap_http_connections_accepted_total"),
            refused: counter!("raftmap_http_connections_refused_total"),
            given_up: counter!("raftmap_http_connections_given_up_total"),
        }
    }
}
