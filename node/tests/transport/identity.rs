//! Who is listened to.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use raftmap_node::raft::{Network, VoteRequest};
use raftmap_state_machine::Member;

use crate::fakes::{CLUSTER, FakeNode, Listening, batch, caller, log_id, log_of, vote};

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(4))
}

/// Everything that node 1 may say to `target` at `at`; the words of the refusals.
async fn refusals(at: &Listening, target: u64, cluster_id: u128, log_uuid: u128) -> Vec<String> {
    let (node, peers) = caller();
    {
        let mut identity = node.identity.lock().unwrap();
        identity.cluster_id = cluster_id;
        identity.log_uuid = log_uuid;
    }
    let mut network = Network::new(peers);
    let mut client = network.new_client(target, &at.member()).await;
    let mut heartbeats = network.new_heartbeat_client(target, &at.member()).await;
    let question = || VoteRequest::new(vote(1, 1), None);

    let mut refusals = Vec::new();
    refusals.push(client.vote(question(), option()).await.err());
    refusals.push(client.pre_vote(question(), option()).await.err());
    let entries = client.stream_append(stream::iter([batch(0, &[1])]), option()).await;
    refusals.push(entries.err());
    let beat = heartbeats.stream_append(stream::iter([batch(0, &[])]), option()).await;
    refusals.push(beat.unwrap().next().await.unwrap().err());

    let words = |refusal: Option<RPCError<_>>| match refusal {
        Some(RPCError::Unreachable(error)) => error.to_string(),
        other => panic!("not refused as unreachable: {other:?}"),
    };
    refusals.into_iter().map(words).collect()
}

async fn all_refused(target: u64, cluster_id: u128, log_uuid: u128, word: &str) {
    let listener = Listening::start(FakeNode::new(2)).await;
    for refusal in refusals(&listener, target, cluster_id, log_uuid).await {
        assert!(refusal.contains(word), "{refusal}");
    }
    let raft = &listener.node.raft;
    assert_eq!((raft.appended(), raft.votes.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_message_for_another_node_is_not_heard() {
    all_refused(3, CLUSTER, log_of(1), "for node 3, this is node 2").await;
}

#[tokio::test]
async fn a_message_of_another_cluster_is_not_heard() {
    all_refused(2, CLUSTER + 1, log_of(1), "the message is of cluster").await;
}

#[tokio::test]
async fn an_emptied_directory_under_a_known_id_is_not_heard() {
    all_refused(2, CLUSTER, log_of(1) + 99, "its directory was emptied or replaced").await;
    all_refused(2, 0, log_of(1) + 99, "its directory was emptied or replaced").await;
}

#[tokio::test]
async fn a_node_that_lost_its_log_hears_of_it() {
    let listener = Listening::start(FakeNode::new(2)).await;
    let (_node, peers) = caller();
    let member = Member { log_uuid: log_of(2) + 99, ..listener.member() };
    let mut client = Network::new(peers).new_client(2, &member).await;
    let refused = client.vote(VoteRequest::new(vote(1, 1), None), option()).await;
    assert!(matches!(refused, Err(RPCError::Unreachable(_))), "{refused:?}");
    assert_eq!(listener.node.lost_log.lock().unwrap().len(), 1);
    assert_eq!(listener.node.raft.votes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cluster_that_is_being_formed_is_heard() {
    let listener = Listening::start(FakeNode::new(2)).await;
    listener.node.identity.lock().unwrap().cluster_id = 0;
    let (_node, peers) = caller();
    let mut client = Network::new(peers).new_client(2, &listener.member()).await;
    let sent = stream::iter([batch(0, &[1])]);
    let acks = client.stream_append(sent, option()).await.unwrap();
    let acks: Vec<_> = acks.map(|ack| ack.unwrap().unwrap()).collect().await;
    assert_eq!(acks, [Some(log_id(0))]);
}

#[tokio::test]
async fn a_node_listens_again_once_its_membership_names_the_log() {
    let listener = Listening::start(FakeNode::new(2)).await;
    let (node, peers) = caller();
    node.identity.lock().unwrap().log_uuid = 77;
    let mut client = Network::new(peers).new_client(2, &listener.member()).await;
    let question = || VoteRequest::new(vote(1, 1), None);
    assert!(client.vote(question(), option()).await.is_err());
    listener.node.recorded.lock().unwrap().insert(1, 77);
    assert!(client.vote(question(), option()).await.unwrap().vote_granted);
}

#[tokio::test]
#[should_panic(expected = "send Raft messages to itself")]
async fn a_client_of_this_very_node_is_a_bug() {
    let (_node, peers) = caller();
    let member = Member::default();
    Network::new(peers).new_client(1, &member).await;
}
