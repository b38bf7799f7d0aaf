//! Real nodes in this process, on ports that the system chose, in directories that go with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmap_node::config::Formation;
use raftmap_node::http::{Front, Limits};
use raftmap_node::room::{FreeSpace, Machine};
use raftmap_node::{Config, Node, http};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::wire::{At, PATIENCE};

/// One node, or a cluster of them.
pub(crate) struct Nodes {
    nodes: BTreeMap<u64, Node>,
    _dirs: Vec<TempDir>,
}

impl Nodes {
    /// A node that is a cluster of itself.
    pub(crate) async fn one() -> Nodes {
        Nodes::one_with(|_| {}).await
    }

    /// The same, with its configuration changed before it starts.
    pub(crate) async fn one_with(change: impl FnOnce(&mut Config)) -> Nodes {
        Nodes::one_on(Arc::new(Machine), change).await
    }

    /// The same, on a disk of the test's own.
    pub(crate) async fn one_on(
        disk: Arc<dyn FreeSpace>,
        change: impl FnOnce(&mut Config),
    ) -> Nodes {
        let dir = tempfile::tempdir().expect("make a directory");
        let listener = bind().await;
        let mut config = config(1, dir.path(), &listener);
        change(&mut config);
        let forms = config.formation != Formation::WaitForInit;
        let node = Node::start_with(listener, config, disk).await.expect("start a node");
        let nodes = Nodes { nodes: BTreeMap::from([(1, node)]), _dirs: vec![dir] };
        if forms {
            nodes.ready(1).await;
        }
        nodes
    }

    /// Nodes 1 to 3 in one cluster.
    pub(crate) async fn three() -> Nodes {
        Nodes::three_on(|_| Arc::new(Machine), |_| {}).await
    }

    /// The same, each on a disk of the test's own.
    pub(crate) async fn three_on(
        disk: impl Fn(u64) -> Arc<dyn FreeSpace>,
        change: impl Fn(&mut Config),
    ) -> Nodes {
        let mut listeners = BTreeMap::new();
        for id in 1..=3 {
            listeners.insert(id, bind().await);
        }
        let list: BTreeMap<u64, String> =
            listeners.iter().map(|(id, listener)| (*id, addr(listener).to_string())).collect();
        let mut nodes = Nodes { nodes: BTreeMap::new(), _dirs: Vec::new() };
        for (id, listener) in listeners {
            let dir = tempfile::tempdir().expect("make a directory");
            let mut config = config(id, dir.path(), &listener);
            config.formation = Formation::InitialCluster(list.clone());
            change(&mut config);
            let node = Node::start_with(listener, config, disk(id)).await.expect("start a node");
            nodes.nodes.insert(id, node);
            nodes._dirs.push(dir);
        }
        for id in 1..=3 {
            nodes.ready(id).await;
        }
        nodes
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn at(&self, id: u64) -> At {
        At::new(self.nodes[&id].addr())
    }

    /// The only node of a cluster of itself.
    pub(crate) fn only(&self) -> At {
        self.at(1)
    }

    /// Stops one node for good.
    pub(crate) async fn stop(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("a running node");
        node.stop().await.expect("a clean stop");
    }

    pub(crate) async fn ready(&self, id: u64) {
        let at = self.at(id);
        until("a ready node", || async { at.get("/readyz").await.status == 200 }).await;
    }

    /// Another listener of node 1, with bounds of its own; it ends with the returned sender.
    pub(crate) async fn with_limits(&self, limits: Limits) -> (At, watch::Sender<bool>) {
        let listener = bind().await;
        let at = At::new(addr(&listener));
        let (stop, stopping) = watch::channel(false);
        let front = Front::new(self.nodes[&1].service().clone(), limits);
        tokio::spawn(http::serve(listener, Some(front), None, stopping));
        (at, stop)
    }
}

/// Asks again until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

fn addr(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener")
}

fn config(id: u64, dir: &std::path::Path, listener: &TcpListener) -> Config {
    let mut config = Config::alone(dir);
    config.id = id;
    config.listen = addr(listener);
    config.advertise = config.listen.to_string();
    // Timings that hold on a starved machine.
    config.election_timeout = (Duration::from_millis(600), Duration::from_millis(1200));
    config
}
