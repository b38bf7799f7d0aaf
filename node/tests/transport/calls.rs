//! Votes, forwarded writes and the other calls with one answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::network::RPCOption;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use raftmap_node::raft::{
    ForwardError, ForwardRefusal, JoinReply, JoinRequest, Network, PeerError, Peers,
    ReadIndexError, TransferRequest, VoteRequest,
};
use raftmap_state_machine::command::{Condition, Deadline, Op, Put};
use raftmap_state_machine::{Command, Item, Member, Outcome, Reply};
use tokio::net::TcpListener;

use crate::fakes::{FakeNode, Listening, caller, log_id, log_of, until, vote};

const LONG: Duration = Duration::from_secs(10);

fn put(value: usize) -> Command {
    let put = Put {
        key: Bytes::from_static(b"k"),
        value: vec![1; value].into(),
        deadline: Deadline::Default,
        condition: Condition::none(),
        prev: true,
    };
    Command::encode(&Op::Put(put), 0)
}

fn with_book(members: &[(u64, Member)]) -> Arc<Peers> {
    let (_node, peers) = caller();
    peers.update(members.iter().cloned().collect::<BTreeMap<_, _>>());
    peers
}

#[tokio::test]
async fn votes_and_transfers_are_answered() {
    let peer = Listening::start(FakeNode::new(2)).await;
    let (_node, peers) = caller();
    let mut client = Network::new(peers).new_client(2, &peer.member()).await;
    let option = || RPCOption::new(LONG);
    let request = VoteRequest::new(vote(3, 1), Some(log_id(7)));
    let granted = client.vote(request.clone(), option()).await.unwrap();
    assert_eq!((granted.vote_granted, granted.last_log_id), (true, Some(log_id(7))));
    // A grant would be openraft's default when nothing is implemented.
    assert!(!client.pre_vote(request, option()).await.unwrap().vote_granted);
    let transfer = TransferRequest::new(vote(1, 1), 2, None);
    assert_eq!(client.transfer_leader(transfer, option()).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn forwarded_writes_are_answered_in_order() {
    let leader = Listening::start(FakeNode::new(2)).await;
    *leader.node.forwarding.lock().unwrap() = |command| {
        let len = u64::try_from(command.len()).unwrap();
        if len.is_multiple_of(3) {
            Err(ForwardError::NotLeader { leader: Some(len) })
        } else {
            Ok(Reply::nothing(len))
        }
    };
    let peers = with_book(&[(2, leader.member())]);
    let commands: Vec<_> = (0..100).map(|n| put(n * 300)).collect();
    let lens: Vec<_> = commands.iter().map(|command| command.as_bytes().len()).collect();

    let answers = peers.forward(2, commands, LONG).await;

    let expected: Vec<_> = lens
        .into_iter()
        .map(|len| u64::try_from(len).unwrap())
        .map(|len| {
            if len % 3 == 0 {
                Err(ForwardError::NotLeader { leader: Some(len) })
            } else {
                Ok(Reply::nothing(len))
            }
        })
        .collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn large_writes_and_large_answers_get_through() {
    let leader = Listening::start(FakeNode::new(2)).await;
    *leader.node.forwarding.lock().unwrap() = |command| {
        let prev = Item {
            key: Bytes::from_static(b"k"),
            value: vec![7; command.len()].into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
            ttl_ms: None,
        };
        Ok(Reply { revision: 1, outcome: Outcome::Put { created: false, prev: Some(prev) } })
    };
    let peers = with_book(&[(2, leader.member())]);
    // 40 MiB each way: several requests, each with several frames of answers.
    let answers =
        peers.forward(2, (0..5).map(|_| put(8 << 20)).collect(), Duration::from_secs(30)).await;
    assert_eq!(answers.len(), 5);
    for answer in answers {
        let Outcome::Put { prev: Some(prev), .. } = answer.unwrap().outcome else {
            panic!("no old value")
        };
        assert!(prev.value.len() > 8 << 20);
    }
}

#[tokio::test]
async fn a_forwarded_write_that_was_not_sent_was_not_done() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Member { addr: listener.local_addr().unwrap().to_string(), ..Member::default() };
    drop(listener);
    let peers = with_book(&[(2, nobody)]);
    let refused = Err(ForwardError::Refused(ForwardRefusal::Unreachable));
    assert_eq!(peers.forward(2, vec![put(1), put(2)], LONG).await, vec![refused.clone(); 2]);
    // Not even in the book.
    assert_eq!(peers.forward(9, vec![put(1)], LONG).await, vec![refused]);
}

#[tokio::test]
async fn a_forwarded_write_without_an_answer_is_unknown() {
    let leader = Listening::start(FakeNode::new(2)).await;
    leader.node.forwards_hang.store(true, Ordering::SeqCst);
    let peers = with_book(&[(2, leader.member())]);
    let late = peers.forward(2, vec![put(1)], Duration::from_millis(100)).await;
    assert_eq!(late, [Err(ForwardError::Unknown)]);

    let node = leader.node.clone();
    let cut = tokio::spawn(async move { peers.forward(2, vec![put(1), put(2)], LONG).await });
    until("they arrived", || node.forwarded.load(Ordering::SeqCst) == 3).await;
    leader.stop().await;
    assert_eq!(cut.await.unwrap(), vec![Err(ForwardError::Unknown); 2]);
}

#[tokio::test]
async fn a_write_after_a_restart_of_the_leader_finds_the_new_one() {
    let leader = Listening::start(FakeNode::new(2)).await;
    let peers = with_book(&[(2, leader.member())]);
    assert_eq!(peers.forward(2, vec![put(1)], LONG).await, [Ok(Reply::nothing(0))]);
    let addr = leader.stop().await;
    let _leader = Listening::start_at(FakeNode::new(2), addr).await;
    // The old connection is found dead before anything is sent on it, or the outcome is unknown.
    let mut answer = peers.forward(2, vec![put(1)], LONG).await;
    if answer == [Err(ForwardError::Unknown)] {
        answer = peers.forward(2, vec![put(1)], LONG).await;
    }
    assert_eq!(answer, [Ok(Reply::nothing(0))]);
}

#[tokio::test]
async fn nodes_introduce_themselves_and_join() {
    let peer = Listening::start(FakeNode::new(2)).await;
    let (_node, peers) = caller();
    let addr = peer.addr.to_string();
    let hello = peers.hello(&addr, LONG).await.unwrap();
    assert_eq!((hello.node_id, hello.log_uuid, hello.pristine), (2, log_of(2), true));
    assert_eq!(hello.labels.get("zone").map(String::as_str), Some("a"));

    let member = Member {
        addr: "x:1".into(),
        peer_addr: Some("x:2".into()),
        log_uuid: 5,
        ..Member::default()
    };
    let request = JoinRequest { id: 4, member };
    let reply = peers.join(&addr, request.clone(), LONG).await.unwrap();
    assert_eq!(reply, JoinReply::Redirect { addr: "127.0.0.1:9".into() });
    assert_eq!(*peer.node.joined.lock().unwrap(), [request]);
}

#[tokio::test]
async fn the_node_calls_itself_on_another_node() {
    let peer = Listening::start(FakeNode::new(2)).await;
    let peers = with_book(&[(2, peer.member())]);
    let reply = peers.call(2, "members", Bytes::from_static(b"all"), LONG).await.unwrap();
    assert_eq!(reply, Bytes::from_static(b"members:all"));
    let unknown = peers.call(7, "members", Bytes::new(), LONG).await.unwrap_err();
    assert!(matches!(unknown, PeerError::UnknownNode(7)) && unknown.certainly_not_done());
    let index = peers.read_index(2, LONG).await;
    assert_eq!(index, Err(ReadIndexError::NotLeader { leader: Some(3) }));
}

#[tokio::test]
async fn a_member_that_moved_is_called_at_its_new_address() {
    let old = Listening::start(FakeNode::new(2)).await;
    let new = Listening::start(FakeNode::new(2)).await;
    let peers = with_book(&[(2, old.member())]);
    peers.update(BTreeMap::from([(2, new.member())]));
    assert_eq!(peers.forward(2, vec![put(1)], LONG).await.len(), 1);
    let count = |node: &FakeNode| node.forwarded.load(Ordering::SeqCst);
    assert_eq!((count(&old.node), count(&new.node)), (0, 1));
}
