//! How a node without data finds its cluster.
//!
//! - *alone*: it is a cluster of itself;
//! - *initial cluster*: the lowest listed id initialises, once every listed node has answered that
//!   it is pristine and with which log; the others wait for it;
//! - *join*: it asks a member to be added as a voter, and asks again until it is;
//! - *wait*: somebody calls `POST /v1/cluster/init`.
//!
//! A node with data ignores all of it. The cluster's id is not drawn here but proposed by the first
//! leader, so that it is one whatever happens in between.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use raftmap_state_machine::Member;
use tokio::sync::watch;

use crate::config::Formation;
use crate::raft::{Hello, JoinReply, JoinRequest};
use crate::service::{Service, ServiceError};

/// How long one call to another node may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a join may take: the new node is brought up to date meanwhile.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it waits before it asks again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Brings a pristine node into its cluster; tells `fail` when it must not be part of it.
pub async fn run(service: Service, fail: watch::Sender<Option<String>>) {
    match service.raft().is_initialized().await {
        Ok(false) => {}
        Ok(true) | Err(_) => return,
    }
    let formed = match service.config().formation.clone() {
        Formation::Alone => alone(&service).await,
        Formation::InitialCluster(list) => listed(&service, &list).await,
        Formation::Join(addr) => join(&service, addr).await,
        Formation::WaitForInit => Ok(()),
    };
    if let Err(why) = formed {
        tracing::error!(reason = %why, "this node cannot be part of the cluster");
        fail.send_replace(Some(why));
    }
}

/// Initialises a cluster of `members` (id to address and labels) on request.
///
/// # Errors
/// `AlreadyInitialized`, or `Conflict` when a listed node does not answer as a pristine one.
pub async fn init(
    service: &Service,
    members: BTreeMap<u64, (String, BTreeMap<String, String>)>,
) -> Result<(), ServiceError> {
    let fatal = |error: openraft::errors::Fatal<_>| ServiceError::StorageFailed(error.to_string());
    if service.raft().is_initialized().await.map_err(fatal)? {
        return Err(ServiceError::AlreadyInitialized);
    }
    if !members.contains_key(&service.node_id()) {
        let why = "this node's id is not among the members".to_owned();
        return Err(ServiceError::Conflict(why));
    }
    let mut nodes = BTreeMap::new();
    for (id, (addr, labels)) in members {
        let member = pristine_member(service, id, addr, labels).await?;
        nodes.insert(id, member);
    }
    initialize(service, nodes).await
}

async fn alone(service: &Service) -> Result<(), String> {
    let config = service.config();
    let me = this_member(service);
    let members = BTreeMap::from([(config.id, me)]);
    initialize(service, members).await.map_err(|error| error.to_string())
}

async fn listed(service: &Service, list: &BTreeMap<u64, String>) -> Result<(), String> {
    let lowest = list.keys().next().is_some_and(|id| *id == service.node_id());
    if !lowest {
        // Initialised by the lowest. Peers refuse this node if they know it with another log.
        return Ok(());
    }
    let mut members = BTreeMap::from([(service.node_id(), this_member(service))]);
    for (id, addr) in list {
        while !members.contains_key(id) {
            match pristine_member(service, *id, addr.clone(), BTreeMap::new()).await {
                Ok(member) => drop(members.insert(*id, member)),
                Err(error) => {
                    tracing::debug!(%error, "waiting for the listed nodes");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            if service.raft().is_initialized().await.unwrap_or(true) {
                return Ok(());
            }
        }
    }
    initialize(service, members).await.map_err(|error| error.to_string())
}

async fn join(service: &Service, first: String) -> Result<(), String> {
    let mut addr = first.clone();
    let member = this_member(service);
    loop {
        let request = JoinRequest { id: service.node_id(), member: member.clone() };
        match service.peers().join(&addr, request, JOIN_TIMEOUT).await {
            Ok(JoinReply::Accepted) => {
                tracing::info!(by = %addr, "joined the cluster");
                return Ok(());
            }
            Ok(JoinReply::Redirect { addr: leader }) => {
                addr = leader;
                continue;
            }
            Ok(JoinReply::Refused { reason }) => return Err(reason),
            Ok(JoinReply::Busy { reason }) => tracing::info!(%reason, "not joined yet"),
            Err(error) => {
                tracing::warn!(%error, "not joined yet");
                addr.clone_from(&first);
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn this_member(service: &Service) -> Member {
    let config = service.config();
    Member {
        addr: config.advertise.clone(),
        peer_addr: config.peer_listen.map(|addr| addr.to_string()),
        labels: config.labels.clone(),
        log_uuid: service.log_uuid(),
    }
}

async fn pristine_member(
    service: &Service,
    id: u64,
    addr: String,
    labels: BTreeMap<String, String>,
) -> Result<Member, ServiceError> {
    if id == service.node_id() {
        let own = this_member(service);
        let labels = if labels.is_empty() { own.labels } else { labels };
        return Ok(Member { addr, labels, ..own });
    }
    let hello = service.peers().hello(&addr, CALL_TIMEOUT).await;
    let hello: Hello = hello.map_err(|error| ServiceError::Conflict(error.to_string()))?;
    let problem = if hello.node_id != id {
        format!("the node at {addr} has the id {}", hello.node_id)
    } else if !hello.pristine {
        format!("the node at {addr} is not pristine")
    } else {
        let labels = if labels.is_empty() { hello.labels } else { labels };
        let peer_addr = hello.peer_addr;
        return Ok(Member { addr, peer_addr, labels, log_uuid: hello.log_uuid });
    };
    Err(ServiceError::Conflict(problem))
}

async fn initialize(service: &Service, members: BTreeMap<u64, Member>) -> Result<(), ServiceError> {
    match service.raft().initialize(members).await {
        Ok(()) => Ok(()),
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
            Err(ServiceError::AlreadyInitialized)
        }
        Err(RaftError::APIError(error)) => Err(ServiceError::Conflict(error.to_string())),
        Err(RaftError::Fatal(fatal)) => Err(ServiceError::StorageFailed(fatal.to_string())),
    }
}
