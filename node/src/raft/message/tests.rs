//! Raft's messages on the wire: round trips, golden bytes, garbage.

use bytes::Bytes;
use openraft::EntryPayload;
use proptest::prelude::*;
use raftmap_state_machine::raft::Membership;
use raftmap_state_machine::{Command, Member};

use super::*;
use crate::raft::frame::FrameReader;

fn framed(pieces: Pieces) -> Frame {
    let mut reader = FrameReader::default();
    reader.push(pieces.joined());
    reader.next_frame().unwrap().unwrap()
}

fn id((term, node, index): (u64, u64, u64)) -> LogId {
    Codec::log_id_from_parts(LogIdParts { term, node, index })
}

fn some_vote((term, node, committed): (u64, u64, bool)) -> Vote {
    Codec::vote_from_parts(VoteParts { term, node, committed })
}

fn membership() -> Membership {
    let member = |addr: &str| Member { addr: addr.into(), log_uuid: 3, ..Member::default() };
    let nodes = [(1, member("a:1")), (2, member("b:2"))];
    let nodes: std::collections::BTreeMap<_, _> = nodes.into();
    Membership::new(vec![[1].into(), [1, 2].into()], nodes).unwrap()
}

fn payload() -> impl Strategy<Value = EntryPayload<Command, u64, Member>> {
    prop_oneof![
        Just(EntryPayload::Blank),
        prop::collection::vec(any::<u8>(), 0..100)
            .prop_map(|bytes| EntryPayload::Normal(Command::from_bytes(bytes.into()))),
        (16_000..40_000_usize)
            .prop_map(|len| EntryPayload::Normal(Command::from_bytes(vec![9; len].into()))),
        Just(EntryPayload::Membership(membership())),
    ]
}

/// Entries whose ids follow each other, with a change of leader here and there.
fn request() -> impl Strategy<Value = AppendRequest> {
    let ids = (any::<(u64, u64)>(), 0..1_u64 << 50);
    let entries = prop::collection::vec((payload(), 0..10_u8), 0..12);
    let head = (any::<(u64, u64, bool)>(), any::<bool>(), any::<Option<(u64, u64, u64)>>());
    (head, ids, entries).prop_map(|((vote, prev, commit), ((term, node), first), entries)| {
        let mut leader = (term >> 1, node);
        let first = if prev { first + 1 } else { 0 };
        let prev_log_id = prev.then(|| id((leader.0, leader.1, first - 1)));
        let entries = entries.into_iter().zip(first..).map(|((payload, change), index)| {
            leader = if change == 0 { (leader.0 + 1, leader.1 ^ 1) } else { leader };
            Entry { log_id: id((leader.0, leader.1, index)), payload }
        });
        let entries = entries.collect();
        AppendRequest { vote: some_vote(vote), prev_log_id, entries, leader_commit: commit.map(id) }
    })
}

fn ack() -> impl Strategy<Value = Ack> {
    let result = prop_oneof![
        any::<Option<(u64, u64, u64)>>().prop_map(|matching| Ok(Ok(matching.map(id)))),
        any::<(u64, u64, u64)>().prop_map(|at| Ok(Err(StreamAppendError::Conflict(id(at))))),
        any::<(u64, u64, bool)>()
            .prop_map(|vote| Ok(Err(StreamAppendError::HigherVote(some_vote(vote))))),
        ".{0,40}".prop_map(|why| Err(RaftStopped(why))),
    ];
    (any::<u64>(), result).prop_map(|(answered, result)| Ack { answered, result })
}

fn plain(request: &AppendRequest) -> String {
    format!("{request:?}")
}

#[test]
fn the_bytes_of_an_append_are_these() {
    let command =
        |text: &'static [u8]| EntryPayload::Normal(Command::from_bytes(Bytes::from_static(text)));
    let request = AppendRequest {
        vote: some_vote((3, 2, true)),
        prev_log_id: Some(id((3, 2, 9))),
        entries: vec![
            Entry { log_id: id((3, 2, 10)), payload: EntryPayload::Blank },
            Entry { log_id: id((3, 2, 11)), payload: command(b"ab") },
        ],
        leader_commit: None,
    };
    let mut expected = Vec::new();
    for number in [3_u64, 2] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend([1, 1]); // committed; a previous log id
    for number in [3_u64, 2, 9] {
        expected.extend(number.to_le_bytes());
    }
    expected.push(0); // nothing committed
    expected.extend(2_u32.to_le_bytes());
    expected.push(0); // blank
    for number in [3_u64, 2, 10] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend(0_u32.to_le_bytes());
    expected.push(0x81); // a command, one further
    expected.extend(2_u32.to_le_bytes());
    expected.extend(b"ab");
    assert_eq!(framed(encode_append(&request)).body, expected);
}

#[test]
fn payloads_are_slices_of_what_came() {
    let payload = EntryPayload::Normal(Command::from_bytes(Bytes::from_static(b"a command")));
    let entries = vec![Entry { log_id: id((1, 1, 0)), payload }];
    let request = AppendRequest {
        vote: some_vote((1, 1, true)),
        prev_log_id: None,
        entries,
        leader_commit: None,
    };
    let frame = framed(encode_append(&request));
    let received = frame.body.as_ptr_range();
    let decoded = decode_append(frame).unwrap();
    let EntryPayload::Normal(command) = &decoded.entries[0].payload else {
        panic!("not a command")
    };
    assert!(received.contains(&command.as_bytes().as_ptr()));
}

#[test]
fn entries_with_a_gap_are_refused() {
    let entry = |index| Entry { log_id: id((1, 1, index)), payload: EntryPayload::Blank };
    for (prev, entries) in
        [(Some(3), vec![entry(5)]), (None, vec![entry(1)]), (Some(3), vec![entry(4), entry(6)])]
    {
        let prev_log_id = prev.map(|index| id((1, 1, index)));
        let vote = some_vote((1, 1, true));
        let request = AppendRequest { vote, prev_log_id, entries, leader_commit: None };
        let refused = decode_append(framed(encode_append(&request))).unwrap_err();
        assert_eq!(refused, Malformed("entries that do not follow each other"));
    }
}

proptest! {
    #[test]
    fn an_append_survives_the_wire(request in request()) {
        let decoded = decode_append(framed(encode_append(&request))).unwrap();
        prop_assert_eq!(plain(&decoded), plain(&request));
    }

    #[test]
    fn an_ack_survives_the_wire(ack in ack()) {
        prop_assert_eq!(decode_ack(framed(encode_ack(&ack))).unwrap(), ack);
    }

    #[test]
    fn votes_and_transfers_survive_the_wire(
        vote in any::<(u64, u64, bool)>(),
        last in any::<Option<(u64, u64, u64)>>(),
        flag in any::<bool>(),
        to in any::<u64>(),
        kind in 0..3_u8,
    ) {
        let (vote, last) = (some_vote(vote), last.map(id));
        let mut request = VoteRequest::new(vote, last);
        request.leadership_transfer = flag;
        prop_assert_eq!(decode_vote_request(framed(encode_vote_request(&request))).unwrap(), request);
        let response = VoteResponse::new(vote, last, flag);
        prop_assert_eq!(decode_vote_response(framed(encode_vote_response(&response))).unwrap(), response);
        let transfer = TransferRequest::new(vote, to, last);
        prop_assert_eq!(decode_transfer(framed(encode_transfer(&transfer))).unwrap(), transfer);
        let response = match kind {
            0 => Ok(()),
            1 => Err(TransferLeaderError::VoteChanged { expected: vote, actual: vote }),
            _ => Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None }),
        };
        prop_assert_eq!(decode_transfer_response(framed(encode_transfer_response(&response))).unwrap(), response);
    }

    /// What passes the checksum may still be anything.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), request in request()) {
        let frame = |kind, body: &[u8]| Frame { kind, body: Bytes::copy_from_slice(body) };
        let _ = decode_append(frame(Kind::Append, &bytes));
        let _ = decode_ack(frame(Kind::Ack, &bytes));
        let _ = decode_vote_request(frame(Kind::Vote, &bytes));
        let _ = decode_vote_response(frame(Kind::VoteReply, &bytes));
        let _ = decode_transfer(frame(Kind::TransferLeader, &bytes));
        let _ = decode_transfer_response(frame(Kind::TransferLeaderReply, &bytes));
        // Nearly right is harder than random: a cut and a changed byte.
        let mut near = framed(encode_append(&request)).body.to_vec();
        let place = bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        near.truncate(near.len() - place % near.len().min(40));
        let at = place % near.len().max(1);
        if let (Some(byte), Some(noise)) = (near.get_mut(at), bytes.first()) {
            *byte ^= noise;
        }
        let _ = decode_append(frame(Kind::Append, &near));
    }
}
