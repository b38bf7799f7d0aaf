//! Nodes are killed without a word while clients write: nothing acknowledged is lost, nothing is
//! applied twice, and all states are equal in the end.
//!
//! `RAFTMAP_TEST_ROUNDS` sets the number of kills (12 without it; the release gate runs 100).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raftmap_client::{Client, Condition, Error, PutOptions};

use crate::harness::{Cluster, text, until};

const WRITERS: u64 = 8;

fn rounds() -> u64 {
    std::env::var("RAFTMAP_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// What the writers know to be true.
#[derive(Default)]
struct Ledger {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// Successful increments of the counter, and those whose outcome is unknown.
    increments: AtomicU64,
    unknown_increments: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_applied_twice() {
    let mut cluster =
        Cluster::of(3, &["--checkpoint-bytes", "64KiB", "--log-keep-entries", "200"]).await;
    let ledger = Arc::new(Ledger::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_unique_keys(cluster.client(), writer, ledger.clone())))
        .collect();
    let counter = tokio::spawn(increment(cluster.client(), ledger.clone()));

    for round in 0..rounds() {
        let before = ledger.acknowledged.load(Ordering::Relaxed);
        until("writes go on", || async {
            (ledger.acknowledged.load(Ordering::Relaxed) > before + 50).then_some(())
        })
        .await;
        // In turn: whoever leads, and each node whatever its role.
        let victim = if round % 2 == 0 { cluster.leader().await } else { 1 + (round / 2) % 3 };
        cluster.kill(victim);
        let after_kill = ledger.acknowledged.load(Ordering::Relaxed);
        until("the majority writes on", || async {
            (ledger.acknowledged.load(Ordering::Relaxed) > after_kill + 10).then_some(())
        })
        .await;
        cluster.start(victim);
        until("the killed node answers", || cluster.status(victim)).await;
    }
    ledger.stop.store(true, Ordering::Relaxed);

    let mut keys = Vec::new();
    for writer in writers {
        keys.extend(writer.await.expect("a writer's checks hold"));
    }
    counter.await.expect("the counter's checks hold");
    cluster.settled().await;
    check_keys(&cluster, &keys).await;
    check_counter(&cluster.client(), &ledger).await;
    println!("{} kills, {} acknowledged writes", rounds(), keys.len());
}

/// Writes keys that nobody else writes, each once; returns the acknowledged ones.
async fn write_unique_keys(client: Client, writer: u64, ledger: Arc<Ledger>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if ledger.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("unique/{writer}/{number}");
        match client.put(&key, key.clone(), &PutOptions::default()).await {
            Ok(reply) => {
                assert!(reply.created, "{key} was there before it was written");
                ledger.acknowledged.fetch_add(1, Ordering::Relaxed);
                acknowledged.push(key);
            }
            Err(Error::Unknown { .. } | Error::Retry { .. }) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
    acknowledged
}

/// Adds one by compare-and-set, again and again.
async fn increment(client: Client, ledger: Arc<Ledger>) {
    while !ledger.stop.load(Ordering::Relaxed) {
        let Ok(got) = client.get("counter", &Default::default()).await else { continue };
        let value = text(&got).map_or(0, |text| text.parse::<u64>().expect("a number"));
        let condition = match got.record {
            Some(record) => Condition::Revision(record.mod_revision),
            None => Condition::Absent,
        };
        let options = PutOptions { condition, ..PutOptions::default() };
        match client.put("counter", (value + 1).to_string(), &options).await {
            Ok(_) => drop(ledger.increments.fetch_add(1, Ordering::Relaxed)),
            Err(Error::Unknown { .. }) => {
                ledger.unknown_increments.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

async fn check_keys(cluster: &Cluster, keys: &[String]) {
    let started = Instant::now();
    for id in cluster.running() {
        let client = cluster.client_of(id);
        let mut there = std::collections::BTreeMap::new();
        let mut records = client
            .list_stream(&raftmap_client::ListOptions::prefix("unique/"))
            .await
            .expect("list every key");
        while let Some(record) = records.next().await.expect("a whole list") {
            there.insert(String::from_utf8(record.key.to_vec()).expect("a text"), record.version);
        }
        for key in keys {
            let version = there.get(key);
            assert_eq!(version, Some(&1), "{key} on node {id}: lost or applied twice");
        }
        assert!(started.elapsed() < Duration::from_secs(120), "checking takes too long");
    }
}

async fn check_counter(client: &Client, ledger: &Ledger) {
    let got = client.get("counter", &Default::default()).await.expect("read the counter");
    let value: u64 = text(&got).expect("it was counted").parse().expect("a number");
    let version = got.record.expect("it was counted").version;
    let sure = ledger.increments.load(Ordering::Relaxed);
    let unknown = ledger.unknown_increments.load(Ordering::Relaxed);
    assert!(
        value >= sure && value <= sure + unknown,
        "{value} is not in {sure}..={sure}+{unknown}"
    );
    // Every increment was applied at most once, or the version would have run ahead of the value.
    assert_eq!(version, value);
}
