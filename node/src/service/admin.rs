//! Calls that only the leader can carry out: made here, or sent on to it.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use raftmap_client::api::cluster::{Member as MemberStatus, MemberRole};
use raftmap_state_machine::Member;
use tokio::time::{Instant, timeout_at};

use super::admin_call::{self, AdminCall, AdminRefusal, AdminReply};
use super::{Service, ServiceError};

/// How long a call waits for a leader to be known.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(3);

/// How far behind a follower may be, in entries, to take over the leadership.
const TRANSFER_LAG_MAX: u64 = 10_000;

impl Service {
    /// The membership, with what the leader knows of each member's log.
    pub async fn members(&self, timeout: Duration) -> Result<Vec<MemberStatus>, ServiceError> {
        match self.admin(AdminCall::Members, timeout).await {
            Ok(AdminReply::Members(members)) => Ok(members),
            // Without a leader this node's own knowledge is the best there is.
            Ok(AdminReply::Leader(_)) | Err(_) => Ok(self.local_members()),
        }
    }

    /// Adds the node that answers at `addr`, which must be the new node `id`, or changes the role
    /// of a member that is there.
    pub async fn add_member(
        &self,
        id: u64,
        addr: String,
        labels: std::collections::BTreeMap<String, String>,
        role: MemberRole,
        timeout: Duration,
    ) -> Result<Vec<MemberStatus>, ServiceError> {
        let hello = self.peers().hello(&addr, timeout).await.map_err(|error| {
            ServiceError::Conflict(format!("no node answers at {addr}: {error}"))
        })?;
        let ours = self.store().view().cluster_id();
        let problem = if hello.node_id != id {
            Some(format!("the node at {addr} has the id {}", hello.node_id))
        } else if !hello.pristine && hello.cluster_id != 0 && hello.cluster_id != ours {
            Some(format!("the node at {addr} belongs to another cluster"))
        } else {
            None
        };
        if let Some(why) = problem {
            return Err(ServiceError::Conflict(why));
        }
        let member = Member { addr, peer_addr: hello.peer_addr, labels, log_uuid: hello.log_uuid };
        self.change_members(AdminCall::Add { id, member, role }, timeout).await
    }

    /// Makes a member a voter or a learner.
    pub async fn set_role(
        &self,
        id: u64,
        role: MemberRole,
        timeout: Duration,
    ) -> Result<Vec<MemberStatus>, ServiceError> {
        self.change_members(AdminCall::SetRole { id, role }, timeout).await
    }

    /// Removes a member.
    pub async fn remove_member(
        &self,
        id: u64,
        timeout: Duration,
    ) -> Result<Vec<MemberStatus>, ServiceError> {
        self.change_members(AdminCall::Remove { id }, timeout).await
    }

    /// Hands the leadership to `to`, or to the follower that is furthest. Returns when it is done.
    pub async fn transfer_leader(
        &self,
        to: Option<u64>,
        timeout: Duration,
    ) -> Result<u64, ServiceError> {
        match self.admin(AdminCall::Transfer { to }, timeout).await? {
            AdminReply::Leader(leader) => {
                self.wait_leader(leader, Instant::now() + timeout).await?;
                Ok(leader)
            }
            AdminReply::Members(_) => Err(ServiceError::Internal("unexpected reply".into())),
        }
    }

    /// Makes a checkpoint of this node's store and returns the log index that it stands at.
    pub async fn snapshot(&self, timeout: Duration) -> Result<u64, ServiceError> {
        self.admit()?;
        let wanted = self.applied_index();
        let fatal =
            |error: openraft::errors::Fatal<_>| ServiceError::StorageFailed(error.to_string());
        self.raft().trigger().snapshot().await.map_err(fatal)?;
        let mut metrics = self.raft().metrics();
        let deadline = Instant::now() + timeout;
        loop {
            let reached = metrics.borrow_watched().snapshot.map_or(0, |id| id.index);
            if reached >= wanted {
                return Ok(reached);
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(ServiceError::ShuttingDown),
                Err(_elapsed) => return Err(ServiceError::Timeout),
            }
        }
    }

    async fn change_members(
        &self,
        call: AdminCall,
        timeout: Duration,
    ) -> Result<Vec<MemberStatus>, ServiceError> {
        match self.admin(call, timeout).await? {
            AdminReply::Members(members) => Ok(members),
            AdminReply::Leader(_) => Err(ServiceError::Internal("unexpected reply".into())),
        }
    }

    /// Carries `call` out where it can be: here if this node leads, else at the leader.
    async fn admin(&self, call: AdminCall, timeout: Duration) -> Result<AdminReply, ServiceError> {
        self.admit()?;
        let deadline = Instant::now() + timeout;
        let leader = self.some_leader(deadline.min(Instant::now() + LEADER_WAIT_MAX)).await?;
        if leader == self.node_id() {
            return self.admin_here(call, deadline).await;
        }
        let body = admin_call::encode_call(&call, timeout);
        let answer = self.peers().call(leader, admin_call::VERB, body, timeout).await;
        let result = match answer {
            Ok(body) => admin_call::decode_answer(body).unwrap_or(Err(AdminRefusal::Unknown)),
            Err(error) if error.certainly_not_done() => Err(AdminRefusal::NotLeader),
            Err(_) => Err(AdminRefusal::Unknown),
        };
        result.map_err(|refusal| match refusal {
            AdminRefusal::NotLeader => ServiceError::NoLeader,
            AdminRefusal::MemberNotFound => ServiceError::MemberNotFound,
            AdminRefusal::Conflict(why) => ServiceError::Conflict(why),
            AdminRefusal::Unknown => ServiceError::Timeout,
        })
    }

    /// Carries out a call that another node sent here.
    pub(crate) async fn admin_for_peer(&self, body: bytes::Bytes) -> bytes::Bytes {
        let result = match admin_call::decode_call(body) {
            Ok((call, timeout)) if self.is_leader() && !self.is_stopping() => {
                self.admin_here(call, Instant::now() + timeout).await.map_err(AdminRefusal::from)
            }
            Ok(_) => Err(AdminRefusal::NotLeader),
            Err(malformed) => Err(AdminRefusal::Conflict(malformed.to_string())),
        };
        admin_call::encode_answer(&result)
    }

    async fn admin_here(
        &self,
        call: AdminCall,
        deadline: Instant,
    ) -> Result<AdminReply, ServiceError> {
        match call {
            AdminCall::Members => {}
            AdminCall::Add { id, member, role } => {
                self.add_member_here(id, member, role, deadline).await?;
            }
            AdminCall::SetRole { id, role } => self.set_role_here(id, role, deadline).await?,
            AdminCall::Remove { id } => self.remove_member_here(id, deadline).await?,
            AdminCall::Transfer { to } => {
                return Ok(AdminReply::Leader(self.transfer_here(to, deadline).await?));
            }
        }
        Ok(AdminReply::Members(self.local_members()))
    }

    /// Hands over on the leader. A transfer cannot be taken back: until somebody wins, this node
    /// refuses writes. So the target is checked first.
    async fn transfer_here(&self, to: Option<u64>, deadline: Instant) -> Result<u64, ServiceError> {
        if to == Some(self.node_id()) {
            return Ok(self.node_id());
        }
        if let Some(to) = to
            && !self.members_by_id().contains_key(&to)
        {
            return Err(ServiceError::MemberNotFound);
        }
        let Some(target) = self.transfer_target(to) else {
            return Err(ServiceError::Conflict(match to {
                Some(to) => format!("node {to} is no voter that is nearly caught up"),
                None => "no other voter is nearly caught up".into(),
            }));
        };
        let fatal =
            |error: openraft::errors::Fatal<_>| ServiceError::StorageFailed(error.to_string());
        self.raft().trigger().transfer_leader(target).await.map_err(fatal)?;
        self.wait_leader(target, deadline).await?;
        Ok(target)
    }

    /// The voter to hand over to: `to` if it is near enough, else the one that is furthest.
    fn transfer_target(&self, to: Option<u64>) -> Option<u64> {
        let voters = self.voters();
        let metrics = self.raft().metrics().borrow_watched().clone();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication?;
        let matched = |id: &u64| Some(replication.get(id)?.as_ref()?.index);
        voters
            .iter()
            .filter(|id| **id != self.node_id() && to.is_none_or(|to| to == **id))
            .filter_map(|id| Some((matched(id)?, *id)))
            .filter(|(index, _)| index + TRANSFER_LAG_MAX >= last)
            .max()
            .map(|(_, id)| id)
    }

    async fn some_leader(&self, deadline: Instant) -> Result<u64, ServiceError> {
        let mut metrics = self.raft().server_metrics();
        loop {
            if let Some(leader) = metrics.borrow_watched().current_leader {
                return Ok(leader);
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(ServiceError::ShuttingDown),
                Err(_elapsed) => return Err(ServiceError::NoLeader),
            }
        }
    }

    async fn wait_leader(&self, leader: u64, deadline: Instant) -> Result<(), ServiceError> {
        let mut metrics = self.raft().server_metrics();
        while metrics.borrow_watched().current_leader != Some(leader) {
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(ServiceError::ShuttingDown),
                Err(_elapsed) => return Err(ServiceError::Timeout),
            }
        }
        Ok(())
    }
}
