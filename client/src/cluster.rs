//! The calls on the cluster and on single nodes.

use std::time::Duration;

use http::Method;

use crate::{
    api::{
        InitRequest, LeaderReply, LeaderRequest, MemberAdd, MemberRole, MemberRoleChange, Members,
        NewMember, SnapshotReply, Status,
    },
    client::Client,
    endpoints::Prefer,
    error::Result,
    request::Request,
};

/// A new voter is first brought up to date, which takes as long as its data takes to travel.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    /// What one node, whichever answers first, knows of itself and the cluster.
    ///
    /// # Errors
    /// As in [`Error`](crate::Error).
    pub async fn status(&self) -> Result<Status> {
        let mut request = Request::read("/v1/status");
        request.prefer = Prefer::Any;
        let status = self.transport.call(&request).await?.json()?;
        self.transport.learn(&status);
        Ok(status)
    }

    /// What the node at this `host:port` knows of itself and the cluster. It is asked once.
    ///
    /// # Errors
    /// As in [`Error`](crate::Error).
    pub async fn status_of(&self, addr: &str, timeout: Duration) -> Result<Status> {
        let mut request = Request::read("/v1/status");
        request.timeout = Some(timeout);
        self.transport.call_at(addr, &request).await?.json()
    }

    /// Forms a cluster of nodes that were started with `--wait-for-init`.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if it is formed already.
    pub async fn init(&self, members: Vec<NewMember>) -> Result<()> {
        let request =
            Request::write(Method::POST, "/v1/cluster/init").json(&InitRequest { members })?;
        self.transport.call(&request).await?.success()
    }

    /// The members.
    ///
    /// # Errors
    /// As in [`Error`](crate::Error).
    pub async fn members(&self) -> Result<Members> {
        self.transport.call(&Request::read("/v1/cluster/members")).await?.json()
    }

    /// Adds a member and waits until it is one, two minutes at most.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if the membership does not allow it.
    pub async fn add_member(&self, member: &MemberAdd) -> Result<Members> {
        self.change(Request::write(Method::POST, "/v1/cluster/members").json(member)?).await
    }

    /// Gives a member a vote or takes it.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such member,
    /// [`Error::Conflict`](crate::Error::Conflict) if the cluster would lose its quorum.
    pub async fn set_role(&self, id: u64, role: MemberRole) -> Result<Members> {
        let path = format!("/v1/cluster/members/{id}");
        self.change(Request::write(Method::PUT, &path).json(&MemberRoleChange { role })?).await
    }

    /// Removes a member; its id is never used again.
    ///
    /// # Errors
    /// As [`Client::set_role`].
    pub async fn remove_member(&self, id: u64) -> Result<Members> {
        let path = format!("/v1/cluster/members/{id}");
        self.change(Request::write(Method::DELETE, &path)).await
    }

    /// Moves leadership to a member, or to the best one, and returns who leads when it is done.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if that member cannot lead.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64> {
        let request =
            Request::write(Method::POST, "/v1/cluster/leader").json(&LeaderRequest { to })?;
        let reply: LeaderReply = self.transport.call(&request).await?.json()?;
        Ok(reply.leader)
    }

    /// Makes one node write a snapshot and returns the log index that it stands at.
    ///
    /// # Errors
    /// As in [`Error`](crate::Error).
    pub async fn snapshot(&self) -> Result<u64> {
        let mut request = Request::write(Method::POST, "/v1/cluster/snapshot");
        request.timeout = Some(MEMBER_TIMEOUT);
        let reply: SnapshotReply = self.transport.call(&request).await?.json()?;
        Ok(reply.applied_index)
    }

    async fn change(&self, mut request: Request) -> Result<Members> {
        request.timeout = Some(MEMBER_TIMEOUT);
        self.transport.call(&request).await?.json()
    }
}
