//! One node: everything is wired here, started in one order and stopped in the reverse one.
//!
//! ```text
//!   log ─┐
//!        ├─► Raft ─► Service ─┬─► client routes ─┐
//! store ─┘                    └─► peer routes ───┴─► one listener
//! ```
//!
//! Routes exist before Raft may stand for election. A stop takes no new work, hands the leadership
//! over, finishes what is under way, and closes the log and the store last. A failure of the
//! storage is not a stop: nothing is acknowledged any more and the process ends with 1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use openraft::StorageHelper;
use openraft::async_runtime::WatchReceiver;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::raft::LogStore;
use raftmap_log_store::{Log, LogConfig, Owner, tools};
use raftmap_state_machine::store::{LocalIdentity, StoreConfig};
use raftmap_state_machine::{Store, raft::StateMachine};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::formation;
use crate::http;
use crate::keeper;
use crate::peer_service::PeerSide;
use crate::raft::{Codec, Network, Peers};
use crate::room::{FreeSpace, Machine, Room};
use crate::service::{Freshness, Parts, Raft, Service};
use crate::telemetry;

/// How long a stopping node tries to hand its leadership over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a stopping node waits for what is under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the store is asked whether it still works.
const STORE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    service: Service,
    addr: SocketAddr,
    log: Log,
    store: Store,
    /// Told once, when the listener shall take nothing new.
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    failed: watch::Receiver<Option<String>>,
}

impl Node {
    /// Opens the data and starts the node; returns once it answers.
    ///
    /// # Errors
    /// A directory that cannot be used, data of another node, a damaged log, an address in use.
    pub async fn start(config: Config) -> anyhow::Result<Node> {
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen on {}", config.listen))?;
        Node::start_on(listener, config).await
    }

    /// [`start`](Self::start) on a listener that is bound already.
    pub async fn start_on(listener: TcpListener, config: Config) -> anyhow::Result<Node> {
        Node::start_with(listener, config, Arc::new(Machine)).await
    }

    /// [`start_on`](Self::start_on), with free bytes asked for elsewhere.
    pub async fn start_with(
        listener: TcpListener,
        mut config: Config,
        free_space: Arc<dyn FreeSpace>,
    ) -> anyhow::Result<Node> {
        let addr = listener.local_addr().context("read the listener's address")?;
        if config.listen.port() == 0 && config.advertise == config.listen.to_string() {
            config.advertise = addr.to_string();
        }
        config.listen = addr;
        telemetry::recorder();
        let (log, mut machine, store) = open(&config).await?;
        look_at_repair(&config, &log, &mut machine).await?;
        let room = Arc::new(Room::new(&config, free_space)?);
        let (fail, failed) = watch::channel(None);
        let peer_side = PeerSide::new(&config, &log, &store, fail.clone());
        let peers = Arc::new(Peers::new(peer_side.clone()));
        let raft = build_raft(&config, &log, machine, &peers).await?;
        let freshness = Arc::new(Freshness::default());
        let service = Service::start(Parts {
            config: config.clone(),
            raft: raft.clone(),
            store: store.clone(),
            log: log.clone(),
            peers: peers.clone(),
            freshness: freshness.clone(),
            room,
        });
        peer_side.connect(service.clone());
        let (stop, stopping) = watch::channel(false);
        let mut background = vec![
            tokio::spawn(supervise(service.clone(), fail.clone())),
            tokio::spawn(watch_store(service.clone(), fail.clone())),
            tokio::spawn(keeper::run(service.clone())),
            tokio::spawn(follow_membership(service.clone())),
        ];
        let servers = serve(&config, listener, &service, peer_side, stopping).await?;
        raft.run();
        background.push(tokio::spawn(formation::run(service.clone(), fail)));
        tracing::info!(node = config.id, %addr, data = %config.data_dir.display(), "node started");
        Ok(Node { service, addr, log, store, stop, servers, background, failed })
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it does for its callers.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&mut self) -> String {
        loop {
            if let Some(why) = self.failed.borrow_and_update().clone() {
                return why;
            }
            if self.failed.changed().await.is_err() {
                return "the node's supervision ended".into();
            }
        }
    }

    /// Stops in order: no new work, leadership handed over, what is under way finished, stores
    /// closed.
    ///
    /// # Errors
    /// What could not be closed cleanly; the node is stopped all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!(node = self.service.node_id(), "stopping");
        hand_over(&self.service).await;
        self.service.stop_admitting();
        self.stop.send_replace(true);
        for mut server in self.servers {
            if tokio::time::timeout(DRAIN_TIMEOUT, &mut server).await.is_err() {
                server.abort();
            }
        }
        for task in &self.background {
            task.abort();
        }
        self.service.raft().shutdown().await.context("stop raft")?;
        let (log, store) = (self.log, self.store);
        let closing = tokio::task::spawn_blocking(move || {
            let closed = store.close().context("close the store");
            log.close().context("close the log").and(closed)
        });
        closing.await.context("close the stores")??;
        tracing::info!(node = self.service.node_id(), "stopped");
        Ok(())
    }
}

/// Opens the log, then the store, which must be of this node and know this log.
async fn open(config: &Config) -> anyhow::Result<(Log, StateMachine, Store)> {
    let config = config.clone();
    let opening = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("create {}", config.data_dir.display()))?;
        let owner = Owner { node_id: config.id, new_uuid: rand::random::<u128>().max(1) };
        let log_config = log_config(&config);
        let (log, recovered) = Log::open(log_config, Arc::new(RealDisk), owner)
            .with_context(|| format!("open the log in {}", config.log_dir.display()))?;
        tracing::info!("log: {recovered}");
        let store_config = StoreConfig {
            hot_bytes_max: config.hot_bytes_max,
            block_cache_bytes: config.block_cache_bytes,
            checkpoint_bytes: config.checkpoint_bytes,
            ..StoreConfig::new(config.data_dir.join("sm"))
        };
        let identity = LocalIdentity { node_id: config.id, wal_uuid: log.uuid() };
        let (machine, store) = raftmap_state_machine::store::open(store_config, identity)
            .with_context(|| format!("open the store in {}", config.data_dir.display()))?;
        let durable = log.clone();
        store.meet_log(recovered.found_lsn, move || durable.stats().durable_lsn).with_context(
            || format!("compare the store with the log in {}", config.log_dir.display()),
        )?;
        Ok((log, machine, store))
    });
    opening.await.context("open the data")?
}

/// A log that was repaired with its identity kept may have forgotten what it acknowledged: it goes on only where it
/// has nobody to deceive. That is looked at once, so that the cluster may grow afterwards.
async fn look_at_repair(
    config: &Config,
    log: &Log,
    machine: &mut StateMachine,
) -> anyhow::Result<()> {
    let dir = &config.log_dir;
    let looking = || format!("look at the repair of the log in {}", dir.display());
    if !tools::keeps_identity(&RealDisk, dir).with_context(looking)? {
        return Ok(());
    }
    let mut log_store = LogStore::<_, Codec>::new(log.clone());
    let known = StorageHelper::new(&mut log_store, machine).get_membership().await;
    let known = known.with_context(looking)?;
    let (applied, last) = (known.committed().voter_ids(), known.effective().voter_ids());
    let mut others: Vec<u64> = applied.chain(last).filter(|&id| id != config.id).collect();
    others.sort_unstable();
    others.dedup();
    anyhow::ensure!(
        others.is_empty(),
        "the log in {} was repaired with --keep-identity, and this node is not alone: the other voters are \
         {others:?}. It may have forgotten what it acknowledged and whom it voted for, and must not vote under its \
         id again: remove node {} from the cluster, empty its directories and join it under a new id",
        dir.display(),
        config.id
    );
    tools::settle_kept_identity(&RealDisk, dir).with_context(looking)
}

fn log_config(config: &Config) -> LogConfig {
    let defaults = LogConfig::new(config.log_dir.clone());
    let segment_bytes_max = config.log_segment_bytes;
    let batch_bytes_max = defaults.batch_bytes_max.min(segment_bytes_max / 4);
    LogConfig { segment_bytes_max, batch_bytes_max, ..defaults }
}

async fn build_raft(
    config: &Config,
    log: &Log,
    machine: StateMachine,
    peers: &Arc<Peers>,
) -> anyhow::Result<Raft> {
    let raft_config = Arc::new(raft_config(config).validate().context("raft configuration")?);
    let network = Network::new(peers.clone());
    let log_store = LogStore::<_, Codec>::new(log.clone());
    Raft::build(config.id, raft_config, network, log_store, machine)
        .await
        .context("start raft from the stored state")
}

fn raft_config(config: &Config) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (election_min, election_max) = config.election_timeout;
    openraft::Config {
        cluster_name: "raftmap".into(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        // The whole transfer; the transport watches its progress with a limit of its own. A short
        // one makes leaders resend a snapshot while its predecessor is still being installed.
        install_snapshot_timeout: 600_000,
        max_payload_entries: 4096,
        replication_lag_threshold: 1_000,
        // Checkpoints are made by bytes and time (see keeper), never by openraft's own count.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.log_keep_entries,
        purge_batch_size: 4096.min(config.log_keep_entries.max(1)),
        api_channel_size: Some(16_384),
        state_machine_channel_size: Some(65_536),
        enable_pre_vote: Some(true),
        // Lease state is volatile: a restarted leader takes part in an election like everybody.
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(true),
        backoff: "50ms 100ms 200ms 400ms 1s".into(),
        ..openraft::Config::default()
    }
}

async fn serve(
    config: &Config,
    listener: TcpListener,
    service: &Service,
    peer_side: Arc<PeerSide>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let client_routes = http::router(service.clone());
    let peer_routes = crate::raft::server::router(peer_side);
    let mut servers = Vec::new();
    if let Some(peer_listen) = config.peer_listen {
        let own = TcpListener::bind(peer_listen)
            .await
            .with_context(|| format!("listen on {peer_listen}"))?;
        let peers_only = http::serve(own, None, Some(peer_routes.clone()), stopping.clone());
        servers.push(tokio::spawn(peers_only));
    }
    // Also with an address of its own for peers: nodes that only know this one ask here first.
    let both = http::serve(listener, Some(client_routes), Some(peer_routes), stopping);
    servers.push(tokio::spawn(both));
    Ok(servers)
}

/// Ends the node when Raft or the log cannot go on.
async fn supervise(service: Service, fail: watch::Sender<Option<String>>) {
    let mut metrics = service.raft().metrics();
    loop {
        let state = metrics.borrow_watched().running_state.clone();
        if let Err(fatal) = state
            && !service.is_stopping()
        {
            fail.send_replace(Some(fatal.to_string()));
            return;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Ends the node when its store failed. Apply need not notice: it may be waiting for a store whose
/// own threads are gone, while the log goes on and this node goes on leading.
async fn watch_store(service: Service, fail: watch::Sender<Option<String>>) {
    let mut looks = tokio::time::interval(STORE_LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Never waited for: it takes a lock that a commit may hold for ever.
    let mut check: Option<JoinHandle<()>> = None;
    loop {
        looks.tick().await;
        if check.as_ref().is_none_or(JoinHandle::is_finished) {
            let store = service.store().clone();
            // What it finds is remembered by the store, which is asked below.
            check = Some(tokio::task::spawn_blocking(move || drop(store.check())));
        }
        if let Some(why) = service.store().failed() {
            fail.send_replace(Some(format!("the store failed: {why}")));
            return;
        }
    }
}

/// Keeps the address book equal to the membership.
async fn follow_membership(service: Service) {
    let mut metrics = service.raft().server_metrics();
    loop {
        service.peers().update(service.members_by_id());
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn hand_over(service: &Service) {
    if !service.is_leader() || service.voters().len() < 2 {
        return;
    }
    match service.transfer_leader(None, HANDOVER_TIMEOUT).await {
        Ok(leader) => tracing::info!(leader, "the leadership is handed over"),
        Err(error) => tracing::warn!(%error, "the leadership could not be handed over"),
    }
}
