//! Reads on every node: never older than they promise.

use std::time::Duration;

use raftmap_client::{Consistency, PutOptions, ReadOptions};

use crate::harness::{Cluster, text, until};

#[tokio::test]
async fn every_node_reads_what_was_acknowledged_anywhere() {
    let cluster = Cluster::of(3, &[]).await;
    for round in 0..30u64 {
        let writer = cluster.client_of(1 + round % 3);
        let put = writer.put("k", round.to_string(), &PutOptions::default()).await.unwrap();
        for id in cluster.ids() {
            let got = cluster.client_of(id).get("k", &ReadOptions::default()).await.unwrap();
            assert!(got.revision >= put.revision);
            assert_eq!(text(&got), Some(round.to_string()), "round {round} on node {id}");
        }
    }
}

#[tokio::test]
async fn a_cut_off_leader_answers_no_linearizable_read() {
    let mut cluster = Cluster::of(3, &[]).await;
    let leader = cluster.leader().await;
    cluster.client().put("k", "old", &PutOptions::default()).await.unwrap();
    for id in cluster.ids() {
        if id != leader {
            cluster.kill(id);
        }
    }
    let client = cluster.client_of(leader);
    let timeout = Some(Duration::from_millis(1500));

    let read = client.get("k", &ReadOptions { timeout, ..ReadOptions::default() }).await;
    assert!(read.is_err(), "{read:?}");

    let stale = Consistency::Stale { max_staleness: None };
    let options = ReadOptions { consistency: stale, ..ReadOptions::default() };
    assert_eq!(text(&client.get("k", &options).await.unwrap()).as_deref(), Some("old"));
    let bounded = Consistency::Stale { max_staleness: Some(Duration::from_millis(1)) };
    let options = ReadOptions { consistency: bounded, timeout, ..ReadOptions::default() };
    until("the state is too old", || async { client.get("k", &options).await.err() }).await;
}

#[tokio::test]
async fn a_paused_leader_wakes_up_to_the_new_truth() {
    let cluster = Cluster::of(3, &[]).await;
    let old = cluster.leader().await;
    cluster.client().put("k", "old", &PutOptions::default()).await.unwrap();
    cluster.signal(old, "STOP");
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    until("the others write", || async {
        let client = cluster.client_of(others[0]);
        client.put("k", "new", &PutOptions::default()).await.ok()
    })
    .await;

    cluster.signal(old, "CONT");

    let got = until("the woken node reads", || async {
        cluster.client_of(old).get("k", &ReadOptions::default()).await.ok()
    })
    .await;
    assert_eq!(text(&got).as_deref(), Some("new"));
}
