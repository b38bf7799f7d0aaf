//! The calls that one node sends on to the leader, as bytes.
//!
//! ```text
//!   call    version u8 | timeout_ms u64 | verb u8 | its fields
//!   answer  version u8 | kind u8        | its fields
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use raftmap_client::api::cluster::{Member as MemberStatus, MemberRole};
use raftmap_state_machine::Member;

use super::ServiceError;
use crate::raft::wire::{Malformed, Reader};

/// The name under which the transport carries these calls.
pub(crate) const VERB: &str = "admin";

const VERSION: u8 = 1;

/// What only the leader can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminCall {
    /// Tell the membership.
    Members,
    /// Add a member, or change the role of one that is there.
    Add { id: u64, member: Member, role: MemberRole },
    /// Make a member a voter or a learner.
    SetRole { id: u64, role: MemberRole },
    /// Remove a member.
    Remove { id: u64 },
    /// Hand the leadership over.
    Transfer { to: Option<u64> },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminReply {
    /// The membership after the call.
    Members(Vec<MemberStatus>),
    /// Who leads after the call.
    Leader(u64),
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminRefusal {
    /// Not done: that node does not lead.
    NotLeader,
    /// Not done: there is no such member.
    MemberNotFound,
    /// Not done: the cluster's state does not allow it.
    Conflict(String),
    /// It may have been done.
    Unknown,
}

impl From<ServiceError> for AdminRefusal {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NoLeader | ServiceError::ShuttingDown => Self::NotLeader,
            ServiceError::MemberNotFound => Self::MemberNotFound,
            ServiceError::Conflict(why) => Self::Conflict(why),
            ServiceError::NoRoom { .. } => Self::Conflict(error.to_string()),
            ServiceError::Invalid { .. }
            | ServiceError::TooStale
            | ServiceError::StorageFailed(_)
            | ServiceError::TooManyRequests
            | ServiceError::Timeout
            | ServiceError::AlreadyInitialized
            | ServiceError::RequestTooLarge { .. }
            | ServiceError::Compacted { .. }
            | ServiceError::Future { .. }
            | ServiceError::Internal(_) => Self::Unknown,
        }
    }
}

pub(crate) fn encode_call(call: &AdminCall, timeout: Duration) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    out.put_u8(VERSION);
    out.put_u64_le(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    match call {
        AdminCall::Members => out.put_u8(0),
        AdminCall::Add { id, member, role } => {
            out.put_u8(1);
            out.put_u64_le(*id);
            put_text(&mut out, &member.addr);
            put_text(&mut out, member.peer_addr.as_deref().unwrap_or_default());
            put_labels(&mut out, &member.labels);
            out.put_u128_le(member.log_uuid);
            out.put_u8(role_byte(*role));
        }
        AdminCall::SetRole { id, role } => {
            out.put_u8(2);
            out.put_u64_le(*id);
            out.put_u8(role_byte(*role));
        }
        AdminCall::Remove { id } => {
            out.put_u8(3);
            out.put_u64_le(*id);
        }
        AdminCall::Transfer { to } => {
            out.put_u8(4);
            // No node has the id 0.
            out.put_u64_le(to.unwrap_or(0));
        }
    }
    out.freeze()
}

pub(crate) fn decode_call(body: Bytes) -> Result<(AdminCall, Duration), Malformed> {
    let mut body = Reader::new(body);
    version(&mut body)?;
    let timeout = Duration::from_millis(body.u64()?);
    let call = match body.u8()? {
        0 => AdminCall::Members,
        1 => AdminCall::Add {
            id: body.u64()?,
            member: Member {
                addr: body.text()?,
                peer_addr: Some(body.text()?).filter(|addr| !addr.is_empty()),
                labels: labels(&mut body)?,
                log_uuid: body.u128()?,
            },
            role: role(&mut body)?,
        },
        2 => AdminCall::SetRole { id: body.u64()?, role: role(&mut body)? },
        3 => AdminCall::Remove { id: body.u64()? },
        4 => AdminCall::Transfer { to: Some(body.u64()?).filter(|to| *to != 0) },
        _ => return Err(Malformed("an unknown call")),
    };
    body.end()?;
    Ok((call, timeout))
}

pub(crate) fn encode_answer(answer: &Result<AdminReply, AdminRefusal>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(VERSION);
    match answer {
        Ok(AdminReply::Members(members)) => {
            out.put_u8(0);
            out.put_u32_le(u32::try_from(members.len()).unwrap_or(u32::MAX));
            for member in members {
                out.put_u64_le(member.id);
                put_text(&mut out, &member.addr);
                out.put_u8(role_byte(member.role));
                put_labels(&mut out, &member.labels);
                out.put_u64_le(member.matched_index.map_or(u64::MAX, |index| index));
            }
        }
        Ok(AdminReply::Leader(leader)) => {
            out.put_u8(1);
            out.put_u64_le(*leader);
        }
        Err(AdminRefusal::NotLeader) => out.put_u8(2),
        Err(AdminRefusal::MemberNotFound) => out.put_u8(3),
        Err(AdminRefusal::Conflict(why)) => {
            out.put_u8(4);
            put_text(&mut out, why);
        }
        Err(AdminRefusal::Unknown) => out.put_u8(5),
    }
    out.freeze()
}

pub(crate) fn decode_answer(body: Bytes) -> Result<Result<AdminReply, AdminRefusal>, Malformed> {
    let mut body = Reader::new(body);
    version(&mut body)?;
    let answer = match body.u8()? {
        0 => {
            let count = body.count(20)?;
            let members = (0..count).map(|_| member_status(&mut body));
            Ok(AdminReply::Members(members.collect::<Result<_, _>>()?))
        }
        1 => Ok(AdminReply::Leader(body.u64()?)),
        2 => Err(AdminRefusal::NotLeader),
        3 => Err(AdminRefusal::MemberNotFound),
        4 => Err(AdminRefusal::Conflict(body.text()?)),
        5 => Err(AdminRefusal::Unknown),
        _ => return Err(Malformed("an unknown answer")),
    };
    body.end()?;
    Ok(answer)
}

fn member_status(body: &mut Reader) -> Result<MemberStatus, Malformed> {
    Ok(MemberStatus {
        id: body.u64()?,
        addr: body.text()?,
        role: role(body)?,
        labels: labels(body)?,
        matched_index: Some(body.u64()?).filter(|index| *index != u64::MAX),
    })
}

fn version(body: &mut Reader) -> Result<(), Malformed> {
    if body.u8()? == VERSION { Ok(()) } else { Err(Malformed("an unknown version")) }
}

fn role_byte(role: MemberRole) -> u8 {
    match role {
        MemberRole::Voter => 0,
        MemberRole::Learner => 1,
    }
}

fn role(body: &mut Reader) -> Result<MemberRole, Malformed> {
    match body.u8()? {
        0 => Ok(MemberRole::Voter),
        1 => Ok(MemberRole::Learner),
        _ => Err(Malformed("an unknown role")),
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

fn put_labels(out: &mut BytesMut, labels: &BTreeMap<String, String>) {
    out.put_u32_le(u32::try_from(labels.len()).unwrap_or(u32::MAX));
    for (key, value) in labels {
        put_text(out, key);
        put_text(out, value);
    }
}

fn labels(body: &mut Reader) -> Result<BTreeMap<String, String>, Malformed> {
    let count = body.count(8)?;
    (0..count).map(|_| Ok((body.text()?, body.text()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers_come_back_as_they_went() {
        let member = Member {
            addr: "127.0.0.1:1".into(),
            peer_addr: Some("127.0.0.1:2".into()),
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            log_uuid: 7,
        };
        for call in [
            AdminCall::Members,
            AdminCall::Add { id: 4, member, role: MemberRole::Voter },
            AdminCall::SetRole { id: 4, role: MemberRole::Learner },
            AdminCall::Remove { id: 4 },
            AdminCall::Transfer { to: None },
            AdminCall::Transfer { to: Some(2) },
        ] {
            let timeout = Duration::from_secs(3);
            assert_eq!(decode_call(encode_call(&call, timeout)).unwrap(), (call, timeout));
        }
        let status = MemberStatus {
            id: 1,
            addr: "a".into(),
            role: MemberRole::Voter,
            labels: BTreeMap::new(),
            matched_index: Some(9),
        };
        for answer in [
            Ok(AdminReply::Members(vec![status])),
            Ok(AdminReply::Leader(3)),
            Err(AdminRefusal::NotLeader),
            Err(AdminRefusal::MemberNotFound),
            Err(AdminRefusal::Conflict("why".into())),
            Err(AdminRefusal::Unknown),
        ] {
            assert_eq!(decode_answer(encode_answer(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn cut_bytes_are_malformed_and_never_panic() {
        let call = encode_call(&AdminCall::Remove { id: 1 }, Duration::ZERO);
        for len in 0..call.len() {
            assert!(decode_call(call.slice(..len)).is_err());
        }
    }
}
