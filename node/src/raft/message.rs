//! Raft's own messages as frames.
//!
//! ```text
//!   log id        term u64 | node u64 | index u64            vote   term u64 | node u64 | committed u8
//!   optional x    0, or 1 | x
//!
//!   Append        vote | prev: optional log id | commit: optional log id | count u32 | entries
//!     entry       kind u8 | log id | payload                  payload = length u32 | bytes
//!     entry       kind u8 + FOLLOWS | payload                 its log id is that of the entry before, index + 1
//!   Ack           answered u64 | 0 matching: optional log id  | 1 conflict: log id
//!                              | 2 higher: vote               | 3 stopped: text
//! ```
//!
//! `answered` counts the requests of this stream that are answered so far: one ack may answer many.

use openraft::raft::{StreamAppendError, TransferLeaderError};
use raftmap_log_store::raft::{EntryCodec, EntryParts, LogIdParts, VoteParts};

use super::codec::{Codec, KIND_LIMIT};
use super::frame::{Frame, Kind};
use super::port::RaftStopped;
use super::types::{
    AppendRequest, AppendResult, Entry, LogId, TransferRequest, TransferResponse, Vote,
    VoteRequest, VoteResponse,
};
use super::wire::{FrameWriter, Malformed, Pieces, Reader};

/// Set in an entry's kind when its log id follows from the entry before.
const FOLLOWS: u8 = 0x80;
const _: () = assert!(KIND_LIMIT <= FOLLOWS);

/// The bytes of the shortest entry: kind and length of the payload.
const ENTRY_BYTES_MIN: usize = 5;

/// Everything in an append frame but its entries.
const APPEND_HEAD_BYTES: usize = 17 + 25 + 25 + 4;

/// What an entry may add to its payload.
const ENTRY_HEAD_BYTES: usize = 1 + 24 + 4;

pub(crate) fn encode_append(request: &AppendRequest) -> Pieces {
    let parts: Vec<EntryParts> = request.entries.iter().map(Codec::entry_to_parts).collect();
    let bytes: usize = parts.iter().map(|entry| ENTRY_HEAD_BYTES + entry.payload.len()).sum();
    // Long payloads are passed on as they are, so the estimate stops where copying does.
    let mut frame =
        FrameWriter::new(Kind::Append, APPEND_HEAD_BYTES + bytes.min(COPY_BYTES_EXPECTED));
    put_vote(&mut frame, &request.vote);
    put_optional_log_id(&mut frame, request.prev_log_id.as_ref());
    put_optional_log_id(&mut frame, request.leader_commit.as_ref());
    frame.count(parts.len());
    let mut before = None;
    for entry in &parts {
        put_entry(&mut frame, entry, before);
        before = Some(entry.id);
    }
    frame.finish()
}

/// The most that is reserved at once for a batch: a batch of small entries is rarely larger.
const COPY_BYTES_EXPECTED: usize = 2 * 1024 * 1024;

fn put_entry(frame: &mut FrameWriter, entry: &EntryParts, before: Option<LogIdParts>) {
    assert!(entry.kind < KIND_LIMIT, "entry {} has kind {}", entry.id.index, entry.kind);
    if before.is_some_and(|before| follows(before, entry.id)) {
        frame.u8(entry.kind | FOLLOWS);
    } else {
        frame.u8(entry.kind);
        put_log_id_parts(frame, entry.id);
    }
    frame.blob(&entry.payload);
}

fn follows(before: LogIdParts, id: LogIdParts) -> bool {
    before.term == id.term
        && before.node == id.node
        && before.index.checked_add(1) == Some(id.index)
}

pub(crate) fn decode_append(frame: Frame) -> Result<AppendRequest, Malformed> {
    let mut reader = frame.expect(Kind::Append)?;
    let vote = vote(&mut reader)?;
    let prev_log_id = optional_log_id(&mut reader)?;
    let leader_commit = optional_log_id(&mut reader)?;
    let count = reader.count(ENTRY_BYTES_MIN)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    let mut next_index = prev_log_id.map_or(0, |id| id.index() + 1);
    for _ in 0..count {
        let entry = entry(&mut reader, entries.last())?;
        // openraft assumes it: a gap would be a panic there, in a debug build.
        if entry.log_id.index() != next_index {
            return Err(Malformed("entries that do not follow each other"));
        }
        next_index = next_index.checked_add(1).ok_or(Malformed("the end of all indexes"))?;
        entries.push(entry);
    }
    reader.end()?;
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

fn entry(reader: &mut Reader, before: Option<&Entry>) -> Result<Entry, Malformed> {
    let kind = reader.u8()?;
    let id = if kind & FOLLOWS == 0 {
        log_id_parts(reader)?
    } else {
        let before = before.ok_or(Malformed("a first entry that follows another"))?;
        let before = Codec::log_id_to_parts(&before.log_id);
        let index = before.index.checked_add(1).ok_or(Malformed("the end of all indexes"))?;
        LogIdParts { index, ..before }
    };
    let parts = EntryParts { id, kind: kind & !FOLLOWS, payload: reader.blob()? };
    Codec::entry_from_parts(parts).map_err(|_unreadable| {
        Malformed("an entry of an unknown kind or with a damaged membership")
    })
}

/// One answer on an append stream: everything up to the `answered`th request.
#[derive(Debug, PartialEq)]
pub(crate) struct Ack {
    pub(crate) answered: u64,
    pub(crate) result: Result<AppendResult, RaftStopped>,
}

pub(crate) fn encode_ack(ack: &Ack) -> Pieces {
    let mut frame = FrameWriter::new(Kind::Ack, 40);
    frame.u64(ack.answered);
    match &ack.result {
        Ok(Ok(matching)) => {
            frame.u8(0);
            put_optional_log_id(&mut frame, matching.as_ref());
        }
        Ok(Err(StreamAppendError::Conflict(at))) => {
            frame.u8(1);
            put_log_id(&mut frame, at);
        }
        Ok(Err(StreamAppendError::HigherVote(higher))) => {
            frame.u8(2);
            put_vote(&mut frame, higher);
        }
        Err(RaftStopped(why)) => {
            frame.u8(3);
            frame.text(why);
        }
    }
    frame.finish()
}

pub(crate) fn decode_ack(frame: Frame) -> Result<Ack, Malformed> {
    let mut reader = frame.expect(Kind::Ack)?;
    let answered = reader.u64()?;
    let result = match reader.u8()? {
        0 => Ok(Ok(optional_log_id(&mut reader)?)),
        1 => Ok(Err(StreamAppendError::Conflict(log_id(&mut reader)?))),
        2 => Ok(Err(StreamAppendError::HigherVote(vote(&mut reader)?))),
        3 => Err(RaftStopped(reader.text()?)),
        _ => return Err(Malformed("an unknown ack")),
    };
    reader.end()?;
    Ok(Ack { answered, result })
}

pub(crate) fn encode_vote_request(request: &VoteRequest) -> Pieces {
    let mut frame = FrameWriter::new(Kind::Vote, 43);
    put_vote(&mut frame, &request.vote);
    put_optional_log_id(&mut frame, request.last_log_id.as_ref());
    frame.bool(request.leadership_transfer);
    frame.finish()
}

pub(crate) fn decode_vote_request(frame: Frame) -> Result<VoteRequest, Malformed> {
    let mut reader = frame.expect(Kind::Vote)?;
    let mut request = VoteRequest::new(vote(&mut reader)?, optional_log_id(&mut reader)?);
    request.leadership_transfer = reader.bool()?;
    reader.end()?;
    Ok(request)
}

pub(crate) fn encode_vote_response(response: &VoteResponse) -> Pieces {
    let mut frame = FrameWriter::new(Kind::VoteReply, 43);
    put_vote(&mut frame, &response.vote);
    frame.bool(response.vote_granted);
    put_optional_log_id(&mut frame, response.last_log_id.as_ref());
    frame.finish()
}

pub(crate) fn decode_vote_response(frame: Frame) -> Result<VoteResponse, Malformed> {
    let mut reader = frame.expect(Kind::VoteReply)?;
    let vote = vote(&mut reader)?;
    let granted = reader.bool()?;
    let response = VoteResponse::new(vote, optional_log_id(&mut reader)?, granted);
    reader.end()?;
    Ok(response)
}

pub(crate) fn encode_transfer(request: &TransferRequest) -> Pieces {
    let mut frame = FrameWriter::new(Kind::TransferLeader, 50);
    put_vote(&mut frame, request.from_leader());
    frame.u64(*request.to_node_id());
    put_optional_log_id(&mut frame, request.last_log_id());
    frame.finish()
}

pub(crate) fn decode_transfer(frame: Frame) -> Result<TransferRequest, Malformed> {
    let mut reader = frame.expect(Kind::TransferLeader)?;
    let from = vote(&mut reader)?;
    let to = reader.u64()?;
    let request = TransferRequest::new(from, to, optional_log_id(&mut reader)?);
    reader.end()?;
    Ok(request)
}

pub(crate) fn encode_transfer_response(response: &TransferResponse) -> Pieces {
    let mut frame = FrameWriter::new(Kind::TransferLeaderReply, 51);
    match response {
        Ok(()) => frame.u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            frame.u8(1);
            put_vote(&mut frame, expected);
            put_vote(&mut frame, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            frame.u8(2);
            put_optional_log_id(&mut frame, expected.as_ref());
            put_optional_log_id(&mut frame, actual.as_ref());
        }
    }
    frame.finish()
}

pub(crate) fn decode_transfer_response(frame: Frame) -> Result<TransferResponse, Malformed> {
    let mut reader = frame.expect(Kind::TransferLeaderReply)?;
    let response = match reader.u8()? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged {
            expected: vote(&mut reader)?,
            actual: vote(&mut reader)?,
        }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: optional_log_id(&mut reader)?,
            actual: optional_log_id(&mut reader)?,
        }),
        _ => return Err(Malformed("an unknown answer to a transfer")),
    };
    reader.end()?;
    Ok(response)
}

pub(crate) fn put_vote(frame: &mut FrameWriter, vote: &Vote) {
    let VoteParts { term, node, committed } = Codec::vote_to_parts(vote);
    frame.u64(term);
    frame.u64(node);
    frame.bool(committed);
}

pub(crate) fn vote(reader: &mut Reader) -> Result<Vote, Malformed> {
    let parts = VoteParts { term: reader.u64()?, node: reader.u64()?, committed: reader.bool()? };
    Ok(Codec::vote_from_parts(parts))
}

pub(crate) fn put_optional_log_id(frame: &mut FrameWriter, id: Option<&LogId>) {
    frame.bool(id.is_some());
    if let Some(id) = id {
        put_log_id(frame, id);
    }
}

pub(crate) fn optional_log_id(reader: &mut Reader) -> Result<Option<LogId>, Malformed> {
    reader.bool()?.then(|| log_id(reader)).transpose()
}

fn put_log_id(frame: &mut FrameWriter, id: &LogId) {
    put_log_id_parts(frame, Codec::log_id_to_parts(id));
}

fn log_id(reader: &mut Reader) -> Result<LogId, Malformed> {
    Ok(Codec::log_id_from_parts(log_id_parts(reader)?))
}

fn put_log_id_parts(frame: &mut FrameWriter, id: LogIdParts) {
    frame.u64(id.term);
    frame.u64(id.node);
    frame.u64(id.index);
}

fn log_id_parts(reader: &mut Reader) -> Result<LogIdParts, Malformed> {
    Ok(LogIdParts { term: reader.u64()?, node: reader.u64()?, index: reader.u64()? })
}

#[cfg(test)]
mod tests;
