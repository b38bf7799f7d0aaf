//! The calls beside Raft's own, as frames: forwarded writes, read index, formation and administration.
//!
//! ```text
//!   Forward        count u32 | commands as blobs              ForwardReply*  count u32 | replies   (several frames)
//!   ReadIndex      (empty)                                    ReadIndexReply 0 index u64 | 1 leader | 2 text
//!   Hello          (empty)                                    HelloReply     the fields of `Hello` in order
//!   Join           id u64 | member                            JoinReply      0 | 1 addr | 2 why | 3 why
//!   Call           verb | body                                CallReply      body: both are the node's own business
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use raftmap_state_machine::{Member, Reply};

use super::frame::{Frame, Kind};
use super::service::{ForwardError, ForwardRefusal, Hello, JoinReply, JoinRequest, ReadIndexError};
use super::wire::{FrameWriter, Malformed, Pieces, Reader};

/// Replies of forwarded commands are cut into frames of about this size (a single reply may be larger).
const REPLY_FRAME_BYTES: usize = 4 * 1024 * 1024;

pub(crate) fn encode_forward(commands: &[Bytes]) -> Pieces {
    let bytes: usize = commands.iter().map(|command| 4 + command.len()).sum();
    let mut frame = FrameWriter::new(Kind::Forward, 4 + bytes);
    frame.count(commands.len());
    for command in commands {
        frame.blob(command);
    }
    frame.finish()
}

pub(crate) fn decode_forward(frame: Frame) -> Result<Vec<Bytes>, Malformed> {
    let mut reader = frame.expect(Kind::Forward)?;
    let count = reader.count(4)?;
    let commands = (0..count).map(|_| reader.blob()).collect::<Result<Vec<_>, _>>()?;
    reader.end()?;
    Ok(commands)
}

/// One frame, or several when the replies are large.
pub(crate) fn encode_forward_replies(replies: &[Result<Reply, ForwardError>]) -> Vec<Pieces> {
    let encoded: Vec<_> = replies.iter().map(|reply| reply.as_ref().map(Reply::encode)).collect();
    let mut frames = Vec::with_capacity(1);
    let mut rest = &encoded[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|reply| {
            bytes += 5 + reply.as_ref().map_or(9, Bytes::len);
            bytes <= REPLY_FRAME_BYTES
        });
        let (now, later) = rest.split_at(fitting.count().max(1));
        frames.push(forward_reply_frame(now));
        rest = later;
    }
    frames
}

fn forward_reply_frame(replies: &[Result<Bytes, &ForwardError>]) -> Pieces {
    let bytes: usize = replies.iter().map(|reply| 13 + reply.as_ref().map_or(0, Bytes::len)).sum();
    let mut frame = FrameWriter::new(Kind::ForwardReply, 4 + bytes);
    frame.count(replies.len());
    for reply in replies {
        match reply {
            Ok(reply) => {
                frame.u8(0);
                frame.blob(reply);
            }
            Err(ForwardError::NotLeader { leader }) => {
                frame.u8(1);
                put_optional_u64(&mut frame, *leader);
            }
            Err(ForwardError::Unknown) => frame.u8(2),
            Err(ForwardError::Refused(why)) => {
                frame.u8(3);
                frame.u8(refusal_byte(*why));
            }
        }
    }
    frame.finish()
}

pub(crate) fn decode_forward_replies(
    frame: Frame,
) -> Result<Vec<Result<Reply, ForwardError>>, Malformed> {
    let mut reader = frame.expect(Kind::ForwardReply)?;
    let count = reader.count(1)?;
    let replies = (0..count).map(|_| forward_reply(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    reader.end()?;
    Ok(replies)
}

fn forward_reply(reader: &mut Reader) -> Result<Result<Reply, ForwardError>, Malformed> {
    Ok(match reader.u8()? {
        0 => Ok(Reply::decode(&reader.blob()?)
            .map_err(|_unreadable| Malformed("an unreadable reply"))?),
        1 => Err(ForwardError::NotLeader { leader: optional_u64(reader)? }),
        2 => Err(ForwardError::Unknown),
        3 => Err(ForwardError::Refused(refusal(reader.u8()?)?)),
        _ => return Err(Malformed("an unknown outcome of a forwarded command")),
    })
}

fn refusal_byte(refusal: ForwardRefusal) -> u8 {
    match refusal {
        ForwardRefusal::TooMany => 0,
        ForwardRefusal::ShuttingDown => 1,
        ForwardRefusal::NoLeader => 2,
        ForwardRefusal::Unreachable => 3,
        ForwardRefusal::Invalid => 4,
        ForwardRefusal::NoRoom => 5,
    }
}

fn refusal(byte: u8) -> Result<ForwardRefusal, Malformed> {
    Ok(match byte {
        0 => ForwardRefusal::TooMany,
        1 => ForwardRefusal::ShuttingDown,
        2 => ForwardRefusal::NoLeader,
        3 => ForwardRefusal::Unreachable,
        4 => ForwardRefusal::Invalid,
        5 => ForwardRefusal::NoRoom,
        _ => return Err(Malformed("an unknown refusal of a forwarded command")),
    })
}

/// A call without fields.
pub(crate) fn encode_empty(kind: Kind) -> Pieces {
    FrameWriter::new(kind, 0).finish()
}

pub(crate) fn decode_empty(frame: Frame, kind: Kind) -> Result<(), Malformed> {
    frame.expect(kind)?.end()
}

pub(crate) fn encode_read_index_reply(reply: &Result<u64, ReadIndexError>) -> Pieces {
    let mut frame = FrameWriter::new(Kind::ReadIndexReply, 64);
    match reply {
        Ok(index) => {
            frame.u8(0);
            frame.u64(*index);
        }
        Err(ReadIndexError::NotLeader { leader }) => {
            frame.u8(1);
            put_optional_u64(&mut frame, *leader);
        }
        Err(ReadIndexError::NoQuorum(why) | ReadIndexError::Peer(why)) => {
            frame.u8(2);
            frame.text(why);
        }
    }
    frame.finish()
}

pub(crate) fn decode_read_index_reply(
    frame: Frame,
) -> Result<Result<u64, ReadIndexError>, Malformed> {
    let mut reader = frame.expect(Kind::ReadIndexReply)?;
    let reply = match reader.u8()? {
        0 => Ok(reader.u64()?),
        1 => Err(ReadIndexError::NotLeader { leader: optional_u64(&mut reader)? }),
        2 => Err(ReadIndexError::NoQuorum(reader.text()?)),
        _ => return Err(Malformed("an unknown answer to a read index")),
    };
    reader.end()?;
    Ok(reply)
}

pub(crate) fn encode_hello(hello: &Hello) -> Pieces {
    let mut frame = FrameWriter::new(Kind::HelloReply, 128);
    frame.u64(hello.node_id);
    frame.u128(hello.cluster_id);
    frame.u128(hello.log_uuid);
    frame.bool(hello.pristine);
    frame.text(&hello.version);
    frame.text(&hello.addr);
    put_optional_text(&mut frame, hello.peer_addr.as_deref());
    put_labels(&mut frame, &hello.labels);
    frame.finish()
}

pub(crate) fn decode_hello(frame: Frame) -> Result<Hello, Malformed> {
    let mut reader = frame.expect(Kind::HelloReply)?;
    let hello = Hello {
        node_id: reader.u64()?,
        cluster_id: reader.u128()?,
        log_uuid: reader.u128()?,
        pristine: reader.bool()?,
        version: reader.text()?,
        addr: reader.text()?,
        peer_addr: optional_text(&mut reader)?,
        labels: labels(&mut reader)?,
    };
    reader.end()?;
    Ok(hello)
}

pub(crate) fn encode_join(request: &JoinRequest) -> Pieces {
    let mut frame = FrameWriter::new(Kind::Join, 256);
    frame.u64(request.id);
    put_member(&mut frame, &request.member);
    frame.finish()
}

pub(crate) fn decode_join(frame: Frame) -> Result<JoinRequest, Malformed> {
    let mut reader = frame.expect(Kind::Join)?;
    let request = JoinRequest { id: reader.u64()?, member: member(&mut reader)? };
    reader.end()?;
    Ok(request)
}

pub(crate) fn encode_join_reply(reply: &JoinReply) -> Pieces {
    let mut frame = FrameWriter::new(Kind::JoinReply, 128);
    match reply {
        JoinReply::Accepted => frame.u8(0),
        JoinReply::Redirect { addr } => {
            frame.u8(1);
            frame.text(addr);
        }
        JoinReply::Busy { reason } => {
            frame.u8(2);
            frame.text(reason);
        }
        JoinReply::Refused { reason } => {
            frame.u8(3);
            frame.text(reason);
        }
    }
    frame.finish()
}

pub(crate) fn decode_join_reply(frame: Frame) -> Result<JoinReply, Malformed> {
    let mut reader = frame.expect(Kind::JoinReply)?;
    let reply = match reader.u8()? {
        0 => JoinReply::Accepted,
        1 => JoinReply::Redirect { addr: reader.text()? },
        2 => JoinReply::Busy { reason: reader.text()? },
        3 => JoinReply::Refused { reason: reader.text()? },
        _ => return Err(Malformed("an unknown answer to a join")),
    };
    reader.end()?;
    Ok(reply)
}

pub(crate) fn encode_call(verb: &str, body: &Bytes) -> Pieces {
    let mut frame = FrameWriter::new(Kind::Call, 8 + verb.len() + body.len());
    frame.text(verb);
    frame.blob(body);
    frame.finish()
}

pub(crate) fn decode_call(frame: Frame) -> Result<(String, Bytes), Malformed> {
    let mut reader = frame.expect(Kind::Call)?;
    let call = (reader.text()?, reader.blob()?);
    reader.end()?;
    Ok(call)
}

pub(crate) fn encode_call_reply(body: &Bytes) -> Pieces {
    let mut frame = FrameWriter::new(Kind::CallReply, 4 + body.len());
    frame.blob(body);
    frame.finish()
}

pub(crate) fn decode_call_reply(frame: Frame) -> Result<Bytes, Malformed> {
    let mut reader = frame.expect(Kind::CallReply)?;
    let body = reader.blob()?;
    reader.end()?;
    Ok(body)
}

fn put_member(frame: &mut FrameWriter, member: &Member) {
    frame.text(&member.addr);
    put_optional_text(frame, member.peer_addr.as_deref());
    put_labels(frame, &member.labels);
    frame.u128(member.log_uuid);
}

fn member(reader: &mut Reader) -> Result<Member, Malformed> {
    Ok(Member {
        addr: reader.text()?,
        peer_addr: optional_text(reader)?,
        labels: labels(reader)?,
        log_uuid: reader.u128()?,
    })
}

fn put_labels(frame: &mut FrameWriter, labels: &BTreeMap<String, String>) {
    frame.count(labels.len());
    for (name, value) in labels {
        frame.text(name);
        frame.text(value);
    }
}

fn labels(reader: &mut Reader) -> Result<BTreeMap<String, String>, Malformed> {
    let count = reader.count(8)?;
    (0..count).map(|_| Ok((reader.text()?, reader.text()?))).collect()
}

fn put_optional_u64(frame: &mut FrameWriter, value: Option<u64>) {
    frame.bool(value.is_some());
    if let Some(value) = value {
        frame.u64(value);
    }
}

fn optional_u64(reader: &mut Reader) -> Result<Option<u64>, Malformed> {
    reader.bool()?.then(|| reader.u64()).transpose()
}

fn put_optional_text(frame: &mut FrameWriter, value: Option<&str>) {
    frame.bool(value.is_some());
    if let Some(value) = value {
        frame.text(value);
    }
}

fn optional_text(reader: &mut Reader) -> Result<Option<String>, Malformed> {
    reader.bool()?.then(|| reader.text()).transpose()
}

#[cfg(test)]
mod tests;
