//! Snapshots again and again under sustained writes on few cores: the race of install, purge and
//! apply that stops nodes in other users' hands (openraft issue 2116) must not stop ours.
//!
//! `RAFTMAP_TEST_ROUNDS` sets the number of rounds (4 without it).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use raftmap_client::{Client, PutOptions};

use crate::harness::{Cluster, until};

/// The smallest window that still lets a follower keep up: every pause ends in a snapshot.
const TINY_LOG: [&str; 6] =
    ["--log-keep-entries", "20", "--checkpoint-bytes", "64KiB", "--log-bytes-max", "128KiB"];

fn rounds() -> u64 {
    std::env::var("RAFTMAP_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_snapshots_under_sustained_writes_stop_no_node() {
    let mut cluster = Cluster::of(3, &TINY_LOG).await;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..16)
        .map(|writer| tokio::spawn(write(cluster.client(), writer, stop.clone(), written.clone())))
        .collect();

    for round in 0..rounds() {
        let leader = cluster.leader().await;
        let followers: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let slow = followers[usize::try_from(round % 2).unwrap()];
        let last = cluster.status(slow).await.map_or(0, |status| status.log.last_index);
        cluster.signal(slow, "STOP");
        until("the paused node falls behind the log", || async {
            let leader = cluster.leader().await;
            (cluster.status(leader).await?.log.first_index > last + 1).then_some(())
        })
        .await;
        cluster.signal(slow, "CONT");
        until("the paused node is back", || async {
            (cluster.status(slow).await?.log.first_index > last).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }

    for id in cluster.ids() {
        assert!(cluster.alive(id), "node {id} ended:\n{}", cluster.tail(id));
        assert!(!cluster.logged(id, "panicked"), "node {id}:\n{}", cluster.tail(id));
    }
    cluster.settled().await;
    assert!(written.load(Ordering::Relaxed) > 1_000, "hardly anything was written");
}

async fn write(client: Client, writer: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("soak/{writer}/{}", number % 500);
        // Failures are part of it: a paused node may lead by then.
        if client.put(key, vec![b'x'; 1024], &PutOptions::default()).await.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
        }
        number += 1;
    }
}
