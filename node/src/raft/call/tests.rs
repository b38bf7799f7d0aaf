//! Calls on the wire: round trips and garbage.

use proptest::prelude::*;
use raftmap_state_machine::Outcome;

use super::*;
use crate::raft::frame::FrameReader;

fn framed(pieces: Pieces) -> Frame {
    let mut reader = FrameReader::default();
    reader.push(pieces.joined());
    reader.next_frame().unwrap().unwrap()
}

fn labels_of(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

fn forward_errors() -> Vec<ForwardError> {
    let refusals = [
        ForwardRefusal::TooMany,
        ForwardRefusal::ShuttingDown,
        ForwardRefusal::NoLeader,
        ForwardRefusal::Unreachable,
        ForwardRefusal::Invalid,
        ForwardRefusal::NoRoom,
    ];
    let mut errors: Vec<_> = refusals.into_iter().map(ForwardError::Refused).collect();
    errors.push(ForwardError::Unknown);
    errors.extend([None, Some(7)].map(|leader| ForwardError::NotLeader { leader }));
    errors
}

fn put_reply(revision: u64, prev_bytes: usize) -> Reply {
    let prev = raftmap_state_machine::Item {
        key: Bytes::from_static(b"k"),
        value: vec![3; prev_bytes].into(),
        create_revision: 1,
        mod_revision: 2,
        version: 2,
        lease: 0,
        ttl_ms: None,
    };
    Reply { revision, outcome: Outcome::Put { created: false, prev: Some(prev) } }
}

#[test]
fn answers_to_forwarded_commands_survive_the_wire() {
    let mut replies: Vec<_> = forward_errors().into_iter().map(Err).collect();
    replies.push(Ok(put_reply(9, 10)));
    let mut frames = encode_forward_replies(&replies);
    assert_eq!(frames.len(), 1);
    assert_eq!(decode_forward_replies(framed(frames.remove(0))).unwrap(), replies);
}

#[test]
fn large_answers_come_in_several_frames() {
    let replies: Vec<_> =
        (0..5).map(|revision| Ok(put_reply(revision, REPLY_FRAME_BYTES / 2 - 100))).collect();
    let frames = encode_forward_replies(&replies);
    assert_eq!(frames.len(), 3);
    let found: Vec<_> = frames
        .into_iter()
        .flat_map(|frame| decode_forward_replies(framed(frame)).unwrap())
        .collect();
    assert_eq!(found, replies);
}

#[test]
fn read_indexes_survive_the_wire() {
    let replies = [
        Ok(u64::MAX),
        Err(ReadIndexError::NotLeader { leader: None }),
        Err(ReadIndexError::NotLeader { leader: Some(2) }),
        Err(ReadIndexError::NoQuorum("alone".into())),
    ];
    for reply in replies {
        assert_eq!(
            decode_read_index_reply(framed(encode_read_index_reply(&reply))).unwrap(),
            reply
        );
    }
}

#[test]
fn answers_to_a_join_survive_the_wire() {
    let replies = [
        JoinReply::Accepted,
        JoinReply::Redirect { addr: "127.0.0.1:1".into() },
        JoinReply::Busy { reason: "b".into() },
        JoinReply::Refused { reason: "r".into() },
    ];
    for reply in replies {
        assert_eq!(decode_join_reply(framed(encode_join_reply(&reply))).unwrap(), reply);
    }
}

proptest! {
    #[test]
    fn introductions_survive_the_wire(
        ids in any::<(u64, u128, u128, bool)>(),
        texts in any::<(String, String, Option<String>)>(),
        pairs in any::<Vec<(String, String)>>(),
    ) {
        let (node_id, cluster_id, log_uuid, pristine) = ids;
        let (version, addr, peer_addr) = texts;
        let labels = labels_of(&pairs);
        let member = Member { addr: addr.clone(), peer_addr: peer_addr.clone(), labels: labels.clone(), log_uuid };
        let hello = Hello { node_id, cluster_id, log_uuid, pristine, version, addr, peer_addr, labels };
        prop_assert_eq!(decode_hello(framed(encode_hello(&hello))).unwrap(), hello);
        let join = JoinRequest { id: node_id, member };
        prop_assert_eq!(decode_join(framed(encode_join(&join))).unwrap(), join);
    }

    #[test]
    fn commands_and_calls_survive_the_wire(
        commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        verb in any::<String>(),
        long in 0..40_000_usize,
    ) {
        let mut commands: Vec<Bytes> = commands.into_iter().map(Bytes::from).collect();
        commands.push(vec![1; long].into());
        prop_assert_eq!(decode_forward(framed(encode_forward(&commands))).unwrap(), commands.clone());
        let body = commands.swap_remove(0);
        let call = decode_call(framed(encode_call(&verb, &body))).unwrap();
        prop_assert_eq!(call, (verb, body.clone()));
        prop_assert_eq!(decode_call_reply(framed(encode_call_reply(&body))).unwrap(), body);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let frame = |kind| Frame { kind, body: Bytes::copy_from_slice(&bytes) };
        let _ = decode_forward(frame(Kind::Forward));
        let _ = decode_forward_replies(frame(Kind::ForwardReply));
        let _ = decode_read_index_reply(frame(Kind::ReadIndexReply));
        let _ = decode_hello(frame(Kind::HelloReply));
        let _ = decode_join(frame(Kind::Join));
        let _ = decode_join_reply(frame(Kind::JoinReply));
        let _ = decode_call(frame(Kind::Call));
        let _ = decode_call_reply(frame(Kind::CallReply));
    }
}
