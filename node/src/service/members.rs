//! The membership: who is in the cluster, and changing it one step at a time.
//!
//! Only the leader changes it; another node sends the call on. A change is refused when the
//! members that answer now would be no majority of the new voters, because such a cluster could
//! not even take the change back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use raftmap_client::api::cluster::{Member as MemberStatus, MemberRole};
use raftmap_state_machine::Member;
use raftmap_state_machine::raft::TypeConfig;
use tokio::time::{Instant, timeout_at};

use super::{Service, ServiceError};

/// How far a learner may be behind, in entries, when it becomes a voter.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// A member that does not answer for this long does not count for a majority.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it waits before it asks again while another change is under way.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

type Voters = BTreeSet<u64>;

impl Service {
    /// The membership as this node knows it.
    pub(crate) fn local_members(&self) -> Vec<MemberStatus> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: Voters = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, member)| MemberStatus {
                id: *id,
                addr: member.addr.clone(),
                role: if voters.contains(id) { MemberRole::Voter } else { MemberRole::Learner },
                labels: member.labels.clone(),
                matched_index: match &metrics.replication {
                    Some(_) if *id == self.node_id() => metrics.last_log_index,
                    Some(matched) => {
                        matched.get(id).map(|log_id| log_id.as_ref().map_or(0, |id| id.index))
                    }
                    None => None,
                },
            })
            .collect()
    }

    /// Adds a member, on the leader. Adding one that is there already only changes its role.
    pub(crate) async fn add_member_here(
        &self,
        id: u64,
        member: Member,
        role: MemberRole,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let known = self.members_by_id();
        match known.get(&id) {
            Some(_) if !self.id_is_taken(id, member.log_uuid) => {}
            Some(_) => {
                return Err(ServiceError::Conflict(format!(
                    "id {id} belongs to a member with another log: a node that lost its data is \
                     removed and joins again under a new id"
                )));
            }
            None => {
                if let Some((other, _)) = known.iter().find(|(_, m)| m.addr == member.addr) {
                    let why = format!("member {other} has the address {}", member.addr);
                    return Err(ServiceError::Conflict(why));
                }
                let change = ChangeMembers::AddNodes(BTreeMap::from([(id, member)]));
                self.change(change, true, deadline).await?;
            }
        }
        self.set_role_here(id, role, deadline).await
    }

    /// Makes a member a voter (once it is caught up) or a learner, on the leader.
    pub(crate) async fn set_role_here(
        &self,
        id: u64,
        role: MemberRole,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        if !self.members_by_id().contains_key(&id) {
            return Err(ServiceError::MemberNotFound);
        }
        self.settle_membership(deadline).await?;
        let voters = self.voters();
        match (role, voters.contains(&id)) {
            (MemberRole::Voter, true) | (MemberRole::Learner, false) => Ok(()),
            (MemberRole::Voter, false) => {
                self.caught_up(id, deadline).await?;
                self.check_quorum(voters.iter().copied().chain([id]).collect()).await?;
                self.change(ChangeMembers::AddVoterIds([id].into()), true, deadline).await
            }
            (MemberRole::Learner, true) => {
                self.check_quorum(voters.iter().copied().filter(|v| *v != id).collect()).await?;
                self.change(ChangeMembers::RemoveVoters([id].into()), true, deadline).await
            }
        }
    }

    /// Removes a member, on the leader. Its id is never to be used again.
    pub(crate) async fn remove_member_here(
        &self,
        id: u64,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        if !self.members_by_id().contains_key(&id) {
            return Err(ServiceError::MemberNotFound);
        }
        self.settle_membership(deadline).await?;
        let voters = self.voters();
        if voters.contains(&id) {
            self.check_quorum(voters.iter().copied().filter(|v| *v != id).collect()).await?;
            self.change(ChangeMembers::RemoveVoters([id].into()), false, deadline).await
        } else {
            self.change(ChangeMembers::RemoveNodes([id].into()), false, deadline).await
        }
    }

    /// Whether a member with this id has another log: the asking node is not that member.
    pub(crate) fn id_is_taken(&self, id: u64, log_uuid: u128) -> bool {
        self.members_by_id().get(&id).is_some_and(|member| member.log_uuid != log_uuid)
    }

    pub(crate) fn members_by_id(&self) -> BTreeMap<u64, Member> {
        let metrics = self.raft().server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    pub(crate) fn voters(&self) -> Voters {
        self.raft().voter_ids().collect()
    }

    /// Finishes a change that an earlier leader or a call that ran out of time left half done, and
    /// waits until the membership is committed: only then may anything be told about it.
    async fn settle_membership(&self, deadline: Instant) -> Result<(), ServiceError> {
        loop {
            let (joint, committed) = {
                let metrics = self.raft().metrics();
                let now = metrics.borrow_watched();
                let effective = &now.membership_config;
                let joint = effective.membership().get_joint_config().len() > 1;
                (joint, effective.log_id() == now.committed_membership_config.log_id())
            };
            if committed && !joint {
                return Ok(());
            }
            if committed {
                let flatten = ChangeMembers::AddVoterIds(Voters::new());
                self.change(flatten, true, deadline).await?;
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(ServiceError::Timeout);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<u64, Member>,
        retain: bool,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        loop {
            let attempt = self.raft().change_membership(change.clone(), retain);
            let Ok(result) = timeout_at(deadline, attempt).await else {
                return Err(ServiceError::Timeout);
            };
            match result.map_err(change_refused) {
                Ok(_) => return Ok(()),
                Err(Refused::Busy) if Instant::now() + RETRY_PAUSE < deadline => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(Refused::Busy) => {
                    let why = "another change of the membership is under way";
                    return Err(ServiceError::Conflict(why.into()));
                }
                Err(Refused::Final(error)) => return Err(error),
            }
        }
    }

    /// Waits until a learner's log is nearly the leader's.
    async fn caught_up(&self, id: u64, deadline: Instant) -> Result<(), ServiceError> {
        let mut metrics = self.raft().metrics();
        loop {
            {
                let now = metrics.borrow_watched();
                let Some(replication) = &now.replication else {
                    return Err(ServiceError::NoLeader);
                };
                let matched = replication.get(&id).and_then(Option::as_ref).map(|id| id.index);
                let last = now.last_log_index.unwrap_or(0);
                if matched.is_some_and(|index| index + CAUGHT_UP_ENTRIES >= last) {
                    return Ok(());
                }
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(ServiceError::ShuttingDown),
                Err(_elapsed) => {
                    let why = format!("node {id} did not catch up in time; it stays a learner");
                    return Err(ServiceError::Conflict(why));
                }
            }
        }
    }

    /// Refuses voters of whom no majority answers now. They are asked: what heartbeats tell is old
    /// by as long as the silence that must be noticed.
    async fn check_quorum(&self, voters: Voters) -> Result<(), ServiceError> {
        if voters.is_empty() {
            return Err(ServiceError::Conflict("the last voter cannot be removed".into()));
        }
        let members = self.members_by_id();
        let asked = voters.iter().filter(|id| **id != self.node_id()).map(|id| {
            let member = members.get(id);
            async move { self.answers(member?).await.then_some(()) }
        });
        let others = futures_util::future::join_all(asked).await.into_iter().flatten().count();
        let answering = others + usize::from(voters.contains(&self.node_id()));
        if answering > voters.len() / 2 {
            return Ok(());
        }
        Err(ServiceError::Conflict(format!(
            "only {answering} of the {} voters answer: the cluster would lose its quorum",
            voters.len()
        )))
    }

    async fn answers(&self, member: &Member) -> bool {
        let addr = member.peer_addr.as_ref().unwrap_or(&member.addr);
        let hello = self.peers().hello(addr, ANSWER_TIMEOUT).await;
        hello.is_ok_and(|hello| hello.log_uuid == member.log_uuid)
    }
}

enum Refused {
    /// Another change is under way: it may be tried again.
    Busy,
    Final(ServiceError),
}

fn change_refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Refused {
    use openraft::errors::ChangeMembershipError;
    Refused::Final(match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) => return Refused::Busy,
            other => ServiceError::Conflict(other.to_string()),
        },
        // A change has two steps, and this may be the second: what was done is not known.
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ServiceError::Timeout,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => ServiceError::Timeout,
        RaftError::APIError(other) => ServiceError::Conflict(other.to_string()),
        RaftError::Fatal(fatal) => ServiceError::StorageFailed(fatal.to_string()),
    })
}
