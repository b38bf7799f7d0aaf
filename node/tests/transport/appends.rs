//! Entries and heartbeats.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::raft::StreamAppendError;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use raftmap_node::raft::{AppendRequest, Network};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::fakes::{
    FakeNode, Listening, Manners, batch, caller, client, log_id, payload_bytes, until,
};

/// A bound that no test reaches by accident, even on a busy machine.
const PATIENT: Duration = Duration::from_secs(30);

/// What the transport may have in flight.
const IN_FLIGHT_BYTES: usize = 8 << 20;

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(4))
}

/// openraft's side: what was pulled, and whether the stream is gone.
#[derive(Default)]
struct Pulled {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicBool,
}

struct Requests {
    queue: mpsc::UnboundedReceiver<AppendRequest>,
    pulled: Arc<Pulled>,
}

impl Stream for Requests {
    type Item = AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        assert!(!self.pulled.dropped.load(Ordering::SeqCst), "polled after it was dropped");
        let next = self.queue.poll_recv(cx);
        if let Poll::Ready(Some(request)) = &next {
            self.pulled.requests.fetch_add(1, Ordering::SeqCst);
            self.pulled.bytes.fetch_add(payload_bytes(request), Ordering::SeqCst);
        }
        next
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.pulled.dropped.store(true, Ordering::SeqCst);
    }
}

fn requests() -> (mpsc::UnboundedSender<AppendRequest>, Requests, Arc<Pulled>) {
    let (sender, queue) = mpsc::unbounded_channel();
    let pulled = Arc::new(Pulled::default());
    (sender, Requests { queue, pulled: pulled.clone() }, pulled)
}

#[tokio::test]
async fn entries_arrive_whole_and_in_order() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let small = [0, 1, 100, 300];
    let mixed = [0, 16_383, 16_384, 70_000, 1_000_000, 3];
    let mut next = 0;
    let sent: Vec<_> = (0..200)
        .map(|n| {
            let lens = if n % 50 == 0 { &mixed[..] } else { &small[..] };
            let request = batch(next, lens);
            next += u64::try_from(lens.len()).unwrap();
            request
        })
        .collect();

    let acks = client.stream_append(stream::iter(sent.clone()), option()).await.unwrap();
    let acks: Vec<_> = acks.map(|ack| ack.unwrap().unwrap().unwrap()).collect().await;

    assert_eq!(acks.last(), Some(&log_id(next - 1)));
    assert!(acks.is_sorted(), "acks out of order: {acks:?}");
    let received = follower.node.raft.appended.lock().unwrap();
    assert_eq!(format!("{received:?}"), format!("{sent:?}"));
}

#[tokio::test]
async fn answers_that_are_ready_together_come_as_one() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.raft.manners.send_replace(Manners::Holding);
    let mut client = client(&follower, PATIENT).await;
    let sent = stream::iter((0..100).map(|n| batch(n, &[10])));

    let mut acks = client.stream_append(sent, option()).await.unwrap();
    until("all arrived", || follower.node.raft.appended() == 100).await;
    follower.node.raft.manners.send_replace(Manners::Prompt);

    let mut count = 0;
    let mut last = None;
    while let Some(ack) = acks.next().await {
        count += 1;
        last = ack.unwrap().unwrap();
    }
    assert_eq!(last, Some(log_id(99)));
    assert!(count <= 3, "{count} answers for 100 requests that were answered together");
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_in_bytes() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.raft.manners.send_replace(Manners::Holding);
    let mut client = client(&follower, PATIENT).await;
    let (sender, requests, pulled) = requests();
    for n in 0..64 {
        sender.send(batch(n, &[500_000])).unwrap();
    }

    let mut acks = client.stream_append(requests, option()).await.unwrap();
    let raft = &follower.node.raft;
    until("the bound is reached", || pulled.bytes.load(Ordering::SeqCst) >= IN_FLIGHT_BYTES).await;
    until("what was sent arrived", || raft.appended_bytes() == pulled.bytes.load(Ordering::SeqCst))
        .await;
    assert!(pulled.bytes.load(Ordering::SeqCst) < IN_FLIGHT_BYTES + 500_000);

    // Answers make room again.
    raft.manners.send_replace(Manners::Prompt);
    drop(sender);
    let mut last = None;
    while let Some(ack) = acks.next().await {
        last = ack.unwrap().unwrap();
    }
    assert_eq!(last, Some(log_id(63)));
}

#[tokio::test]
async fn one_batch_above_the_bound_goes_alone() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let sent = stream::iter([batch(0, &[IN_FLIGHT_BYTES * 2]), batch(1, &[10])]);
    let acks = client.stream_append(sent, option()).await.unwrap();
    let last = acks.map(|ack| ack.unwrap().unwrap()).collect::<Vec<_>>().await;
    assert_eq!(last.last(), Some(&Some(log_id(1))));
}

#[tokio::test]
async fn a_follower_that_hangs_ends_the_stream_and_the_next_one_works() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.raft.manners.send_replace(Manners::Deaf);
    let mut client = client(&follower, Duration::from_secs(1)).await;
    let (sender, requests, _pulled) = requests();
    sender.send(batch(0, &[10])).unwrap();
    let mut acks = client.stream_append(requests, option()).await.unwrap();
    let ended = acks.next().await.expect("an error, not the end");
    assert!(matches!(ended, Err(RPCError::Timeout(_))), "{ended:?}");
    drop(acks);

    follower.node.raft.manners.send_replace(Manners::Prompt);
    let acks = client.stream_append(stream::iter([batch(0, &[10])]), option()).await.unwrap();
    let acks: Vec<_> = acks.map(|ack| ack.unwrap().unwrap()).collect().await;
    assert_eq!(acks, [Some(log_id(0))]);
}

#[tokio::test]
async fn a_stream_with_nothing_in_flight_may_be_silent() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, Duration::from_secs(1)).await;
    let (sender, requests, _pulled) = requests();
    sender.send(batch(0, &[10])).unwrap();
    let mut acks = client.stream_append(requests, option()).await.unwrap();
    assert_eq!(acks.next().await.unwrap().unwrap().unwrap(), Some(log_id(0)));
    let quiet = tokio::time::timeout(Duration::from_millis(2500), acks.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    sender.send(batch(1, &[10])).unwrap();
    assert_eq!(acks.next().await.unwrap().unwrap().unwrap(), Some(log_id(1)));
}

#[tokio::test]
async fn a_server_that_accepts_and_never_speaks_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_node, peers) = caller();
    let member = raftmap_state_machine::Member {
        addr: listener.local_addr().unwrap().to_string(),
        ..Default::default()
    };
    let silence_max = Duration::from_millis(100);
    let mut client = Network::new(peers).with_silence_max(silence_max).new_client(2, &member).await;
    let opened = client.stream_append(stream::iter([batch(0, &[10])]), option()).await;
    let Err(error) = opened else { panic!("there is nobody") };
    assert!(matches!(error, RPCError::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn requests_are_dropped_before_the_answers_are() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.raft.manners.send_replace(Manners::Holding);
    let mut client = client(&follower, PATIENT).await;
    let (sender, requests, pulled) = requests();
    sender.send(batch(0, &[10])).unwrap();
    let acks = client.stream_append(requests, option()).await.unwrap();
    until("it arrived", || follower.node.raft.appended() == 1).await;

    drop(acks);
    assert!(pulled.dropped.load(Ordering::SeqCst));
    assert!(sender.send(batch(1, &[10])).is_err());
}

#[tokio::test]
async fn a_conflict_comes_behind_the_successes_and_ends_the_stream() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.raft.conflict_at.store(5, Ordering::SeqCst);
    follower.node.raft.manners.send_replace(Manners::Holding);
    let mut client = client(&follower, PATIENT).await;
    let sent = stream::iter([0, 1, 5, 6].map(|n| batch(n, &[10]))).chain(stream::pending());
    let mut acks = client.stream_append(sent, option()).await.unwrap();
    until("all arrived", || follower.node.raft.appended() == 4).await;
    follower.node.raft.manners.send_replace(Manners::Prompt);

    assert_eq!(acks.next().await.unwrap().unwrap(), Ok(Some(log_id(1))));
    let conflict = StreamAppendError::Conflict(log_id(4));
    assert_eq!(acks.next().await.unwrap().unwrap(), Err(conflict));
    assert!(acks.next().await.is_none());
}

/// The one loss that a log cannot see by itself: its last commit, gone as a whole.
#[tokio::test]
async fn a_peer_that_lacks_what_it_acknowledged_gets_nothing_any_more() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let sent = stream::iter((0..4).map(|n| batch(n, &[10]))).chain(stream::pending());
    let mut acks = client.stream_append(sent, option()).await.unwrap();
    until("all arrived", || follower.node.raft.appended() == 4).await;
    while acks.next().await.unwrap().unwrap() != Ok(Some(log_id(3))) {}
    drop(acks);

    follower.node.raft.conflict_at.store(3, Ordering::SeqCst);
    let heartbeat = batch(4, &[]);
    let refused = client.append_entries(heartbeat.clone(), option()).await.unwrap_err();
    assert!(matches!(&refused, RPCError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("lost entries up to"), "{refused}");

    // Not even when it has them again: who forgot once may have voted for anyone meanwhile.
    follower.node.raft.conflict_at.store(u64::MAX, Ordering::SeqCst);
    let before = follower.node.raft.appended();
    assert!(client.append_entries(heartbeat, option()).await.is_err());
    let again = stream::iter([batch(4, &[10])]).chain(stream::pending());
    assert!(client.stream_append(again, option()).await.is_err());
    assert_eq!(follower.node.raft.appended(), before, "nothing was sent");
}

#[tokio::test]
async fn a_follower_that_restarts_is_found_again() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let (sender, requests, _pulled) = requests();
    sender.send(batch(0, &[10])).unwrap();
    let mut acks = client.stream_append(requests, option()).await.unwrap();
    assert_eq!(acks.next().await.unwrap().unwrap(), Ok(Some(log_id(0))));

    let addr = follower.stop().await;
    let broken = acks.next().await.expect("an error, not the end");
    assert!(matches!(broken, Err(RPCError::Network(_))), "{broken:?}");
    drop(acks);
    let refused = client.stream_append(stream::iter([batch(1, &[10])]), option()).await.err();
    assert!(matches!(refused, Some(RPCError::Unreachable(_))), "{refused:?}");

    let _follower = Listening::start_at(FakeNode::new(2), addr).await;
    let acks = client.stream_append(stream::iter([batch(1, &[10])]), option()).await.unwrap();
    let acks: Vec<_> = acks.map(|ack| ack.unwrap().unwrap()).collect().await;
    assert_eq!(acks, [Some(log_id(1))]);
}

#[tokio::test]
async fn a_node_without_raft_is_unreachable() {
    let follower = Listening::start(FakeNode::new(2)).await;
    follower.node.has_raft.store(false, Ordering::SeqCst);
    let mut client = client(&follower, PATIENT).await;
    let refused = client.stream_append(stream::iter([batch(0, &[10])]), option()).await.err();
    assert!(matches!(refused, Some(RPCError::Unreachable(_))), "{refused:?}");
}

/// openraft backs off from a peer that is down while it makes the next request. A transport that connects
/// first tries such a peer thousands of times a second.
#[tokio::test]
async fn a_peer_is_not_tried_before_openraft_has_a_request() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let backing_off = stream::once(tokio::time::sleep(Duration::from_millis(150)));
    let sent = Box::pin(backing_off.map(|()| batch(0, &[10])));
    let connections = follower.connections.clone();

    let opening = tokio::spawn(async move {
        let acks = client.stream_append(sent, option()).await.unwrap();
        acks.map(|ack| ack.unwrap().unwrap()).collect::<Vec<_>>().await
    });
    let early = tokio::time::timeout(Duration::from_millis(50), async {
        until("it connects", || connections.load(Ordering::SeqCst) > 0).await;
    });
    assert!(early.await.is_err(), "it connected before there was a request");
    assert_eq!(opening.await.unwrap(), [Some(log_id(0))]);
}

#[tokio::test]
async fn a_stream_without_requests_ends_at_once() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let mut acks = client.stream_append(stream::empty(), option()).await.unwrap();
    assert!(acks.next().await.is_none());
    assert_eq!(follower.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_late_heartbeat_answer_is_not_taken_for_the_next() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let raft = &follower.node.raft;
    let (_node, peers) = caller();
    let mut client = Network::new(peers).new_heartbeat_client(2, &follower.member()).await;
    let heartbeat = |index| stream::iter([AppendRequest { entries: vec![], ..batch(index, &[]) }]);

    for index in 1..4 {
        let mut answers = client.stream_append(heartbeat(index), option()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), Ok(Some(log_id(index - 1))));
        assert!(answers.next().await.is_none());
    }

    raft.manners.send_replace(Manners::Holding);
    let short = RPCOption::new(Duration::from_millis(80));
    let mut answers = client.stream_append(heartbeat(5), short).await.unwrap();
    let late = answers.next().await.unwrap();
    assert!(matches!(late, Err(RPCError::Timeout(_))), "{late:?}");
    drop(answers);

    raft.manners.send_replace(Manners::Prompt);
    let mut answers = client.stream_append(heartbeat(9), option()).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), Ok(Some(log_id(8))));
}

/// Not a measurement, but a floor: something is broken when a small batch costs a millisecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_batches_go_at_thousands_a_second() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let mut client = client(&follower, PATIENT).await;
    let begun = std::time::Instant::now();
    let sent = stream::iter((0..20_000).map(|n| batch(n, &[300])));
    let acks = client.stream_append(sent, option()).await.unwrap();
    let acks: Vec<_> = acks.map(|ack| ack.unwrap().unwrap()).collect().await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("20,000 batches in {seconds:.3} s, {} acks", acks.len());
    assert_eq!(acks.last(), Some(&Some(log_id(19_999))));
    assert!(seconds < 10.0, "{seconds} s for 20,000 small batches");
}

/// The same floor for heartbeats: every read round is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_go_at_thousands_a_second() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let (_node, peers) = caller();
    let mut client = Network::new(peers).new_heartbeat_client(2, &follower.member()).await;
    let begun = std::time::Instant::now();
    for _ in 0..3000 {
        let heartbeat = stream::iter([batch(8, &[])]);
        let mut answers = client.stream_append(heartbeat, option()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), Ok(Some(log_id(7))));
        assert!(answers.next().await.is_none());
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("3,000 heartbeats in {seconds:.3} s");
    assert!(seconds < 10.0, "{seconds} s for 3,000 heartbeats");
}

#[tokio::test]
async fn heartbeats_that_nobody_answers_end_with_the_connection() {
    let follower = Listening::start(FakeNode::new(2)).await;
    let raft = &follower.node.raft;
    raft.manners.send_replace(Manners::Holding);
    let (_node, peers) = caller();
    let mut client = Network::new(peers).new_heartbeat_client(2, &follower.member()).await;
    for _ in 0..9 {
        let short = RPCOption::new(Duration::from_millis(20));
        let mut answers = client.stream_append(stream::iter([batch(8, &[])]), short).await.unwrap();
        let missed = answers.next().await.unwrap();
        assert!(matches!(missed, Err(RPCError::Timeout(_))), "{missed:?}");
    }
    until("a new connection was made", || follower.connections.load(Ordering::SeqCst) == 2).await;
}
