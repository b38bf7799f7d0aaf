//! The calls on the cluster and on this node.

use std::collections::BTreeMap;

use http::StatusCode;
use raftmap_client::api::cluster::{
    InitRequest, LeaderReply, LeaderRequest, Member, MemberAdd, MemberRole, MemberRoleChange,
    Members, NewMember, SnapshotReply,
};

use tokio::time::timeout;

use super::accept::{Form, choose};
use super::answer::Answer;
use super::call::Call;
use super::error::{ApiError, Result};
use super::query::{Names, Params};
use crate::formation;
use crate::service::ServiceError;

/// Longest body of these calls in bytes.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// `GET /v1/status`.
pub(crate) fn status(call: &Call<'_>) -> Result<Answer> {
    begin(call)?;
    Ok(Answer::serialized(StatusCode::OK, &call.service.status()))
}

/// `POST /v1/cluster/init`.
pub(crate) async fn init(call: &mut Call<'_>) -> Result<Answer> {
    let params = begin(call)?;
    let InitRequest { members } = call.json(BODY_BYTES_MAX).await?;
    if members.is_empty() {
        return Err(ApiError::invalid("members", "must name at least one"));
    }
    let mut by_id = BTreeMap::new();
    for NewMember { id, addr, labels } in members {
        check_member(id, &addr)?;
        if by_id.insert(id, (addr, labels)).is_some() {
            return Err(ApiError::invalid("members", format!("the id {id} twice")));
        }
    }
    let voter = |(id, (addr, labels)): (&u64, &(String, BTreeMap<String, String>))| Member {
        id: *id,
        addr: addr.clone(),
        role: MemberRole::Voter,
        labels: labels.clone(),
        matched_index: None,
    };
    let voters = by_id.iter().map(voter).collect();
    let formed = timeout(params.timeout(), formation::init(call.service, by_id)).await;
    formed.map_err(|_elapsed| ServiceError::Timeout)??;
    Ok(membership(voters))
}

/// `GET /v1/cluster/members`.
pub(crate) async fn members(call: &mut Call<'_>) -> Result<Answer> {
    let params = begin(call)?;
    Ok(membership(call.service.members(params.timeout()).await?))
}

/// `POST /v1/cluster/members`.
pub(crate) async fn add_member(call: &mut Call<'_>) -> Result<Answer> {
    let params = begin(call)?;
    let MemberAdd { id, addr, labels, role } = call.json(BODY_BYTES_MAX).await?;
    check_member(id, &addr)?;
    Ok(membership(call.service.add_member(id, addr, labels, role, params.timeout()).await?))
}

/// `PUT /v1/cluster/members/{id}`.
pub(crate) async fn set_role(call: &mut Call<'_>, id: &str) -> Result<Answer> {
    let params = begin(call)?;
    let id = member_id(id)?;
    let MemberRoleChange { role } = call.json(BODY_BYTES_MAX).await?;
    Ok(membership(call.service.set_role(id, role, params.timeout()).await?))
}

/// `DELETE /v1/cluster/members/{id}`.
pub(crate) async fn remove_member(call: &mut Call<'_>, id: &str) -> Result<Answer> {
    let params = begin(call)?;
    let id = member_id(id)?;
    Ok(membership(call.service.remove_member(id, params.timeout()).await?))
}

/// `POST /v1/cluster/leader`.
pub(crate) async fn transfer_leader(call: &mut Call<'_>) -> Result<Answer> {
    let params = begin(call)?;
    let LeaderRequest { to } = call.json_or_default(BODY_BYTES_MAX).await?;
    let leader = call.service.transfer_leader(to, params.timeout()).await?;
    Ok(Answer::serialized(StatusCode::OK, &LeaderReply { leader }))
}

/// `POST /v1/cluster/snapshot`.
pub(crate) async fn snapshot(call: &mut Call<'_>) -> Result<Answer> {
    let params = begin(call)?;
    let Nothing {} = call.json_or_default(BODY_BYTES_MAX).await?;
    let applied_index = call.service.snapshot(params.timeout()).await?;
    Ok(Answer::serialized(StatusCode::OK, &SnapshotReply { applied_index }))
}

/// The body of a call that takes nothing.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn begin(call: &Call<'_>) -> Result<Params> {
    choose(&call.head.headers, &[Form::Json])?;
    if call.head.method != http::Method::GET && call.head.method != http::Method::HEAD {
        call.check_promises()?;
    }
    Params::parse(call.query(), Names::TIMEOUT)
}

fn membership(members: Vec<Member>) -> Answer {
    Answer::serialized(StatusCode::OK, &Members { members })
}

fn member_id(text: &str) -> Result<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = if digits { text.parse().ok() } else { None };
    id.filter(|id| *id > 0).ok_or_else(|| ApiError::invalid("id", "must be a number from 1"))
}

fn check_member(id: u64, addr: &str) -> Result<()> {
    if id == 0 {
        return Err(ApiError::invalid("id", "must be a number from 1"));
    }
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, ""));
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(ApiError::invalid("addr", "must be host:port"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_an_id_and_an_address() {
        assert!(check_member(1, "127.0.0.1:7701").is_ok());
        assert!(check_member(1, "[::1]:7701").is_ok());
        for (id, addr) in [(0, "a:1"), (1, "a"), (1, ":1"), (1, "a:"), (1, "a:99999"), (1, "")] {
            assert!(check_member(id, addr).is_err(), "{id} {addr}");
        }
        assert_eq!(member_id("18446744073709551615").unwrap(), u64::MAX);
        for text in ["", "0", "-1", "+1", "x", "1/2", "18446744073709551616"] {
            assert!(member_id(text).is_err(), "{text}");
        }
    }
}
