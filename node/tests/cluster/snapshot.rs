//! Nodes that are too far behind for the log catch up by a snapshot, while writes go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raftmap_client::api::cluster::MemberRole;
use raftmap_client::{Client, PutOptions};

use crate::harness::{Cluster, until};

/// A short log, so that a few thousand writes leave a stopped node behind it.
const SHORT_LOG: [&str; 6] =
    ["--log-keep-entries", "100", "--checkpoint-bytes", "64KiB", "--log-bytes-max", "256KiB"];

async fn fill(client: &Client, from: u64, count: u64) {
    let writers = (0..16).map(|writer| async move {
        for number in (from + writer..from + count).step_by(16) {
            let value = vec![b'x'; 512];
            let put = client.put(format!("key-{number}"), value, &PutOptions::default()).await;
            put.expect("a write is taken");
        }
    });
    futures_util::future::join_all(writers).await;
}

async fn log_purged_beyond(cluster: &Cluster, index: u64) {
    until("the log behind the checkpoint is gone", || async {
        let leader = cluster.leader().await;
        (cluster.status(leader).await?.log.first_index > index).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_down_past_the_purge_floor_catches_up_by_snapshot() {
    let mut cluster = Cluster::of(3, &SHORT_LOG).await;
    let client = cluster.client();
    fill(&client, 0, 100).await;
    let down = cluster.ids().into_iter().max().unwrap();
    let left_at = cluster.status(down).await.unwrap().log.last_index;
    cluster.kill(down);

    fill(&client, 100, 3_000).await;
    log_purged_beyond(&cluster, left_at + 1).await;
    cluster.start(down);

    cluster.settled().await;
    // Behind a snapshot the log begins anew; 0 while nothing follows it.
    let first = cluster.status(down).await.unwrap().log.first_index;
    assert!(first == 0 || first > left_at, "{first} is not behind {left_at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_and_a_fifth_node_join_by_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::of(3, &SHORT_LOG).await;
    let client = cluster.client();
    fill(&client, 0, 3_000).await;
    log_purged_beyond(&cluster, 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                fill(&client, 10_000 + round * 160, 160).await;
                round += 1;
            }
            round
        })
    };

    cluster.join(4, &SHORT_LOG);
    cluster.join(5, &SHORT_LOG);
    until("five voters", || async {
        let members = client.members().await.ok()?.members;
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
        (voters == 5).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);

    assert!(writer.await.unwrap() > 0, "no writes went on meanwhile");
    cluster.settled().await;
    // The new ones count: with two of five gone the rest is a majority.
    let leader = cluster.leader().await;
    for id in [1, 2].into_iter().filter(|id| *id != leader) {
        cluster.kill(id);
    }
    cluster.client().put("after", "v", &PutOptions::default()).await.unwrap();
}
