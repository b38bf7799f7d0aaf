//! Disks that are nearly full: what is refused, what goes on, and that all of it passes by itself.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raftmap_node::Config;
use raftmap_node::room::{FreeSpace, Space};

use crate::nodes::{Nodes, until};
use crate::wire::{At, Reply};

const MIB: u64 = 1 << 20;
const RESERVE: u64 = 800 * MIB;
/// Free bytes for each of the levels.
const ENOUGH: u64 = 2_000 * MIB;
const LOW: u64 = 600 * MIB;
const SHORT: u64 = 300 * MIB;
const FULL: u64 = 100 * MIB;

/// A file system whose free bytes the test sets.
#[derive(Debug, Clone)]
struct Disk(Arc<AtomicU64>);

impl Disk {
    fn new() -> Disk {
        Disk(Arc::new(AtomicU64::new(ENOUGH)))
    }

    fn set(&self, free_bytes: u64) {
        self.0.store(free_bytes, Ordering::Relaxed);
    }
}

impl FreeSpace for Disk {
    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let free_bytes = self.0.load(Ordering::Relaxed);
        Ok(Space { filesystem: 1, free_bytes, total_bytes: 1 << 40 })
    }
}

fn reserve(config: &mut Config) {
    config.disk_reserve_bytes = Some(RESERVE);
}

/// Sets the free bytes and waits until the node has looked.
async fn set(at: &At, disk: &Disk, free_bytes: u64) {
    disk.set(free_bytes);
    until("a look at the disk", || async {
        let disk = &at.get("/v1/status").await.json()["disk"];
        disk["free_bytes"] == free_bytes && disk["low"] == (free_bytes < RESERVE)
    })
    .await;
}

fn assert_no_room(reply: &Reply) {
    assert_eq!(reply.status, 507, "{}", reply.text());
    let problem = reply.json();
    assert_eq!(problem["code"], "quota_exceeded");
    assert_eq!(problem["limit"], RESERVE);
    assert!(problem["detail"].as_str().unwrap().contains("disk"), "{problem}");
    assert!(reply.find("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_reserve_nothing_is_taken_that_takes_room() {
    let disk = Disk::new();
    let nodes = Nodes::one_on(Arc::new(disk.clone()), reserve).await;
    let at = nodes.only();
    for key in ["a", "b", "c"] {
        at.put(&format!("/v1/kv/{key}"), "x").await.is(201);
    }
    set(&at, &disk, LOW).await;
    let before = at.fingerprint().await;

    assert_no_room(&at.put("/v1/kv/new", "x").await);
    assert_no_room(&at.put("/v1/kv/a", "").await);
    assert_no_room(&at.post("/v1/txn", r#"{"failure":[{"put":{"key":"n","value":""}}]}"#).await);
    assert_eq!(at.fingerprint().await, before, "a refused write left no trace");

    at.get("/v1/kv/a").await.is(200);
    at.get("/readyz").await.is(200);
    at.patch("/v1/kv/a?ttl=1h").await.is(200);
    at.delete("/v1/kv/b").await.is(200);
    at.post("/v1/txn", r#"{"success":[{"get":{"key":"a"}},{"delete":{"key":"c"}}]}"#).await.is(200);
    let figures = at.get("/metrics").await.text();
    assert!(figures.contains("raftmap_disk_level 1"), "{figures}");
    assert!(figures.contains("raftmap_disk_refused_writes_total"), "{figures}");

    set(&at, &disk, ENOUGH).await;
    at.put("/v1/kv/new", "x").await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_half_the_reserve_only_reads_go_on_and_time_stands_still() {
    let disk = Disk::new();
    let nodes = Nodes::one_on(Arc::new(disk.clone()), reserve).await;
    let at = nodes.only();
    at.put("/v1/kv/a?ttl=3s", "x").await.is(201);
    at.put("/v1/kv/b", "x").await.is(201);
    set(&at, &disk, SHORT).await;
    let left = at.get("/v1/kv/a").await.is(200).number("kv-ttl-ms");

    for reply in [
        at.put("/v1/kv/c", "x").await,
        at.delete("/v1/kv/b").await,
        at.patch("/v1/kv/a?ttl=1h").await,
    ] {
        assert_no_room(&reply);
    }
    // Its owner cannot renew it, so it does not end.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(left + 500) {
        at.get("/v1/kv/a").await.is(200);
    }

    set(&at, &disk, ENOUGH).await;
    at.delete("/v1/kv/b").await.is(200);
    until("it ends", || async { at.get("/v1/kv/a").await.status == 404 }).await;
}

/// Three nodes, each on a disk of its own.
async fn three() -> (Nodes, BTreeMap<u64, Disk>) {
    let disks: BTreeMap<u64, Disk> = (1..=3).map(|id| (id, Disk::new())).collect();
    let nodes = Nodes::three_on(|id| Arc::new(disks[&id].clone()), reserve).await;
    (nodes, disks)
}

async fn leader(nodes: &Nodes) -> u64 {
    let status = nodes.at(1).get("/v1/status").await.json();
    status["leader"].as_u64().expect("a leader")
}

async fn applied(nodes: &Nodes, id: u64) -> u64 {
    let status = nodes.at(id).get("/v1/status").await.json();
    status["log"]["applied_index"].as_u64().expect("an index")
}

async fn assert_equal_states(nodes: &Nodes) {
    let reached = nodes.at(1).revision().await;
    let mut states = std::collections::BTreeSet::new();
    for id in nodes.ids() {
        let at = nodes.at(id);
        at.get(&format!("/v1/kv?limit=1&consistency=stale&min_revision={reached}")).await.is(200);
        states.insert(at.fingerprint().await);
    }
    assert_eq!(states.len(), 1, "the nodes differ: {states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_room_takes_nothing_and_catches_up_by_itself() {
    let (nodes, disks) = three().await;
    nodes.at(1).put("/v1/kv/before", "x").await.is(201);
    let leader = leader(&nodes).await;
    let full = 1 + leader % 3;
    set(&nodes.at(full), &disks[&full], FULL).await;
    let stood = applied(&nodes, full).await;

    for key in 0..50 {
        // Through the full node as well: only the leader's disk and the majority's count.
        let through = if key % 2 == 0 { full } else { leader };
        nodes.at(through).put(&format!("/v1/kv/{key}"), "x").await.is(201);
    }
    assert!(applied(&nodes, full).await <= stood + 1, "it took entries");
    let figures = nodes.at(full).get("/metrics").await.text();
    assert!(figures.contains("raftmap_disk_refused_appends_total"), "{figures}");

    set(&nodes.at(full), &disks[&full], ENOUGH).await;
    assert_equal_states(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_on_a_majority_writes_are_refused_not_left_open() {
    let (nodes, disks) = three().await;
    nodes.at(1).put("/v1/kv/before", "x").await.is(201);
    let leader = leader(&nodes).await;
    let others: Vec<u64> = nodes.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        set(&nodes.at(*id), &disks[id], SHORT).await;
    }
    // Until the leader has asked them, they take what it lets in: nothing is left open.
    until("the leader knows", || async {
        let status = nodes.at(leader).put("/v1/kv/probe", "x").await.status;
        assert!(matches!(status, 200 | 201 | 507), "{status}");
        status == 507
    })
    .await;

    assert_no_room(&nodes.at(leader).put("/v1/kv/new", "x").await);
    assert_no_room(&nodes.at(others[0]).put("/v1/kv/new", "x").await);
    nodes.at(others[0]).get("/v1/kv/before").await.is(200);

    set(&nodes.at(others[0]), &disks[&others[0]], ENOUGH).await;
    until("writes are taken again", || async {
        nodes.at(leader).put("/v1/kv/new", "x").await.status < 300
    })
    .await;
    set(&nodes.at(others[1]), &disks[&others[1]], ENOUGH).await;
    assert_equal_states(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_hands_over_to_a_node_that_has_some() {
    let (nodes, disks) = three().await;
    nodes.at(1).put("/v1/kv/before", "x").await.is(201);
    let old = leader(&nodes).await;

    set(&nodes.at(old), &disks[&old], LOW).await;

    until("another leads, and takes writes through any node", || async {
        nodes.at(old).put("/v1/kv/after", "x").await.status < 300
    })
    .await;
    assert_ne!(leader(&nodes).await, old);

    // Where nobody has room, nobody is asked to lead.
    for id in nodes.ids() {
        set(&nodes.at(id), &disks[&id], LOW).await;
    }
    for id in nodes.ids() {
        assert_no_room(&nodes.at(id).put("/v1/kv/more", "x").await);
        nodes.at(id).get("/v1/kv/after").await.is(200);
    }
    nodes.at(1).delete("/v1/kv/after").await.is(200);
    assert_equal_states(&nodes).await;
}
