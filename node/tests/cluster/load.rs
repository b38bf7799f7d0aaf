//! Clients that write all the time, and know what was acknowledged to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use raftmap_client::{Client, ListOptions, PutOptions};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, until};

const WRITERS: u64 = 4;

/// Writes that go on whatever happens to single members.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(client: &Client) -> Load {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let write = |writer: u64| {
            let (client, stop, acknowledged) = (client.clone(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut keys = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("load/{writer}/{number}");
                    let options = PutOptions::default();
                    // Without an answer the write may have happened or not.
                    if client.put(&key, value_of(&key), &options).await.is_ok() {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        keys.push(key);
                    }
                }
                keys
            })
        };
        let writers = (0..WRITERS).map(write).collect();
        Load { stop, acknowledged, writers }
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) async fn goes_on(&self, count: u64) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until("writes go on", || async {
            (self.acknowledged.load(Ordering::Relaxed) >= before + count).then_some(())
        })
        .await;
    }

    /// Ends it and checks that every running node has everything that was acknowledged.
    pub(crate) async fn check(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let mut keys = Vec::new();
        for writer in self.writers {
            keys.extend(writer.await.expect("a writer ends"));
        }
        cluster.settled().await;
        for id in cluster.running() {
            let mut there = BTreeSet::new();
            let options = ListOptions::prefix("load/");
            let mut records =
                cluster.client_of(id).list_stream(&options).await.expect("list every key");
            while let Some(record) = records.next().await.expect("a whole list") {
                there.insert(String::from_utf8(record.key.to_vec()).expect("a text"));
            }
            let lost: Vec<_> = keys.iter().filter(|key| !there.contains(key.as_str())).collect();
            assert!(lost.is_empty(), "node {id} lost {lost:?} of {}", keys.len());
        }
    }
}

/// What is written under a key: long enough that checkpoints come often.
pub(crate) fn value_of(key: &str) -> String {
    format!("value of {key} {}", "x".repeat(400))
}
