//! Real file systems that fill up: nobody ends, nothing acknowledged is lost, and all goes on by itself.

use std::time::Duration;

use raftmap_client::{Client, Error, PutOptions};

use crate::harness::{Cluster, free_addr, until};
use crate::small_disk::{SmallDisk, small_disks};

const MIB: u64 = 1 << 20;
const RESERVE: u64 = 32 * MIB;
const OPTIONS: [&str; 6] =
    ["--log-segment-bytes", "1MiB", "--disk-reserve-bytes", "32MiB", "--checkpoint-bytes", "4MiB"];

/// Three nodes, those of the first disks on them.
struct Small {
    /// Ends before the disks go.
    cluster: Cluster,
    disks: Vec<SmallDisk>,
}

impl Small {
    async fn of(disks: Vec<SmallDisk>) -> Small {
        let mut cluster = Cluster::empty();
        let addrs = [free_addr(), free_addr(), free_addr()];
        let list: Vec<String> =
            (1..).zip(&addrs).map(|(id, addr)| format!("{id}={addr}")).collect();
        let list = list.join(",");
        for (id, disk) in (1..).zip(&disks) {
            let dir = cluster.dir_of(id);
            std::os::unix::fs::symlink(disk.path(), dir).expect("name the directory");
        }
        for (id, addr) in (1..).zip(addrs) {
            cluster.add(id, addr, &["--initial-cluster", &list], &OPTIONS);
        }
        cluster.leader().await;
        Small { cluster, disks }
    }

    fn disk(&self, id: u64) -> &SmallDisk {
        &self.disks[usize::try_from(id - 1).expect("a small id")]
    }

    async fn until_low(&self, id: u64, low: bool) {
        until("a look at the disk", || async {
            let disk = self.cluster.status(id).await?.disk?;
            (disk.low == low).then_some(())
        })
        .await;
    }
}

/// Bytes that no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(|_| rand::random::<u64>().to_le_bytes()).collect()
}

/// Writes values of 64 KiB until it was refused for want of room so often; gives the acknowledged keys.
async fn write_until_full(client: &Client, refusals: u32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    for number in 0..20_000 {
        let key = format!("fill/{number}");
        match client.put(&key, noise(64 << 10), &PutOptions::default()).await {
            Ok(_) => acknowledged.push(key),
            Err(Error::Full(problem)) => {
                assert_eq!(problem.limit, Some(RESERVE), "{problem}");
                refused += 1;
                if refused == refusals {
                    return acknowledged;
                }
                pause.tick().await;
            }
            // The leadership moves to where there is room.
            Err(Error::Unknown { .. } | Error::Retry { .. }) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
    panic!("the disks never filled");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_stop_before_the_disks_are_full_and_go_on_when_there_is_room() {
    let name = "full_disk::writes_stop_before_the_disks_are_full_and_go_on_when_there_is_room";
    let Some(disks) = small_disks(name, 3, 160) else { return };
    disks.iter().for_each(|disk| disk.fill(64 * MIB));
    let mut small = Small::of(disks).await;
    let client = small.cluster.client();

    let acknowledged = write_until_full(&client, 40).await;

    for id in 1..=3 {
        assert!(small.cluster.alive(id), "{}", small.cluster.tail(id));
        let free = small.disk(id).free_bytes();
        assert!(free > RESERVE / 4, "node {id} has {free} bytes left");
        println!("node {id}: {free} bytes free after {} writes of 64 KiB", acknowledged.len());
    }
    let some = acknowledged.last().expect("some were acknowledged");
    client.get(some, &Default::default()).await.expect("reads go on");

    for id in 1..=3 {
        small.disk(id).free();
    }
    for id in 1..=3 {
        small.until_low(id, false).await;
    }
    for id in 1..=3 {
        let client = small.cluster.client_of(id);
        // The leader asks the others once a second.
        until("writes are taken again", || async {
            client.put("after", "x", &PutOptions::default()).await.ok()
        })
        .await;
    }
    small.cluster.settled().await;
    for key in &acknowledged {
        let got = client.get(key, &Default::default()).await.expect("a read");
        assert!(got.record.is_some(), "{key} is lost");
    }
    for id in 1..=3 {
        assert!(small.cluster.alive(id), "{}", small.cluster.tail(id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_on_a_full_disk_stays_up_starts_again_and_catches_up() {
    let name = "full_disk::a_follower_on_a_full_disk_stays_up_starts_again_and_catches_up";
    let Some(disks) = small_disks(name, 1, 128) else { return };
    let mut small = Small::of(disks).await;
    small.cluster.settled().await;
    if small.cluster.leader().await == 1 {
        small.cluster.client().transfer_leader(None).await.expect("another leads");
    }
    let client = small.cluster.client();
    client.put("before", "x", &PutOptions::default()).await.unwrap();

    // By somebody else, to the last byte.
    small.disk(1).fill(128 * MIB);
    small.until_low(1, true).await;
    let behind = small.cluster.status(1).await.unwrap().log.last_index;
    for number in 0..50 {
        client.put(&format!("k/{number}"), noise(1 << 10), &PutOptions::default()).await.unwrap();
    }
    assert!(small.cluster.alive(1), "{}", small.cluster.tail(1));
    assert!(small.cluster.status(1).await.unwrap().log.last_index <= behind + 1);

    // Killed and stopped, and started on the full disk: it is a member each time.
    for round in 0..4 {
        if round % 2 == 0 {
            small.cluster.kill(1);
        } else {
            small.cluster.stop(1);
        }
        small.cluster.start(1);
        until("the full node knows its leader", || async { small.cluster.status(1).await?.leader })
            .await;
        client.put("meanwhile", round.to_string(), &PutOptions::default()).await.unwrap();
    }
    assert!(small.cluster.alive(1), "{}", small.cluster.tail(1));

    small.disk(1).free();
    small.until_low(1, false).await;
    small.cluster.settled().await;
    assert!(small.cluster.alive(1), "{}", small.cluster.tail(1));
}
