//! A member loses something: a bit, a directory, the end of its log, its disk, its power. Whoever may have
//! forgotten a promise does not come back as if nothing had been; nobody else loses anything.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftmap_client::api::cluster::{MemberRole, NodeRole};
use raftmap_client::{Client, PutOptions};
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::{LogConfig, RecoveryInfo, examine};

use crate::harness::{Cluster, text, until};
use crate::load::{Load, value_of};

/// Changes one bit in the middle of these bytes, wherever they are in the log.
fn flip_a_bit(wal: &Path, of: &str) {
    for path in segments(wal) {
        let bytes = std::fs::read(&path).expect("read a segment");
        let found = bytes.windows(of.len()).position(|window| window == of.as_bytes());
        if let Some(at) = found {
            let at = at + of.len() / 2;
            let file = std::fs::File::options().write(true).open(&path).expect("open a segment");
            let offset = u64::try_from(at).expect("a small file");
            return file.write_all_at(&[bytes[at] ^ 4], offset).expect("write a byte");
        }
    }
    panic!("{of} is not in the log");
}

fn segments(wal: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(wal).expect("list the log").flatten().map(|entry| entry.path());
    names.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).collect()
}

/// Every byte of the log, but for the lock, which says who looked last.
fn image(wal: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = std::fs::read_dir(wal).expect("list the log").flatten().map(|entry| entry.path());
    let files = names.filter(|path| path.is_file() && !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), std::fs::read(path).expect("read a file"))).collect()
}

/// What is in the log of a node that does not run.
fn looked_at(wal: &Path) -> RecoveryInfo {
    examine(&LogConfig::new(wal), &RealDisk, None).expect("a good log")
}

async fn put(client: &Client, key: &str) {
    client.put(key, value_of(key), &PutOptions::default()).await.expect("a write");
}

async fn voters_are(cluster: &Cluster, expected: &[u64]) {
    until("the membership", || async {
        let members = cluster.client().members().await.ok()?.members;
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter);
        let ids: Vec<_> = voters.map(|member| member.id).collect();
        (ids == expected).then_some(())
    })
    .await;
}

/// Starts a node that must refuse its directory, saying this, and change nothing in its log.
async fn refuses(cluster: &mut Cluster, id: u64, texts: &[&str]) {
    let wal = cluster.dir_of(id).join("wal");
    let before = image(&wal);
    cluster.start(id);
    assert_eq!(cluster.exit_code(id).await, Some(1), "{}", cluster.tail(id));
    for text in texts {
        assert!(cluster.logged(id, text), "{text}:\n{}", cluster.tail(id));
    }
    assert!(image(&wal) == before, "a refusal changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_flipped_bit_refuses_while_the_others_go_on_and_is_replaced() {
    let mut cluster = Cluster::of(3, &[]).await;
    put(&cluster.client(), "marked").await;
    let load = Load::start(&cluster.client());
    load.goes_on(100).await;
    let leader = cluster.leader().await;
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.kill(victim);
    flip_a_bit(&cluster.dir_of(victim).join("wal"), "value of marked");

    let what_to_do = "remove this member from the cluster, empty its directory and join again";
    refuses(&mut cluster, victim, &["the log is damaged", "at byte", what_to_do]).await;

    load.goes_on(100).await;
    let client = cluster.client();
    client.remove_member(victim).await.expect("the damaged member is removed");
    cluster.join(4, &[]);
    voters_are(&cluster, &(1..=4).filter(|id| *id != victim).collect::<Vec<_>>()).await;
    load.goes_on(100).await;
    load.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_only_running_member_with_the_last_write_rots_the_cluster_waits_and_forgets_nothing()
{
    let mut cluster = Cluster::of(3, &[]).await;
    put(&cluster.client(), "before").await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (rotten, behind) = (others[0], others[1]);
    cluster.kill(behind);
    // Acknowledged by the leader and by the one that is going to rot.
    put(&cluster.client(), "last").await;
    cluster.kill(leader);
    cluster.kill(rotten);
    flip_a_bit(&cluster.dir_of(rotten).join("wal"), "value of last");

    cluster.start(behind);
    until("the one behind answers", || cluster.status(behind)).await;
    refuses(&mut cluster, rotten, &["the log is damaged"]).await;

    // It would have had the votes to lead, had the rotten one only cut what it could not read.
    let status = cluster.status(behind).await.expect("it still answers");
    assert_ne!(status.role, NodeRole::Leader);
    cluster.start(leader);
    cluster.leader().await;
    let got = cluster.client().get("last", &Default::default()).await.expect("a read");
    assert_eq!(text(&got).as_deref(), Some(value_of("last").as_str()));
    cluster.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_log_refuses_and_one_without_its_store_gets_it_back() {
    let mut cluster = Cluster::of(3, &["--checkpoint-bytes", "64KiB"]).await;
    let load = Load::start(&cluster.client());
    load.goes_on(200).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (no_log, no_store) = (others[0], others[1]);

    cluster.kill(no_store);
    std::fs::remove_dir_all(cluster.dir_of(no_store).join("sm")).unwrap();
    cluster.start(no_store);
    until("a node without its store answers", || cluster.status(no_store)).await;
    load.goes_on(100).await;
    let applied = cluster.status(leader).await.expect("the leader answers").log.applied_index;
    until("it has caught up", || async {
        (cluster.status(no_store).await?.log.applied_index >= applied).then_some(())
    })
    .await;

    cluster.kill(no_log);
    std::fs::remove_dir_all(cluster.dir_of(no_log).join("wal")).unwrap();
    cluster.start(no_log);
    assert_eq!(cluster.exit_code(no_log).await, Some(1), "{}", cluster.tail(no_log));
    assert!(cluster.logged(no_log, "foreign store"), "{}", cluster.tail(no_log));
    load.goes_on(100).await;
    load.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_left_alone_drops_what_nobody_else_has_and_rejoins() {
    let mut cluster = Cluster::of(3, &[]).await;
    put(&cluster.client(), "before").await;
    cluster.settled().await;
    let old = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    let before = cluster.status(old).await.expect("the leader answers").log.last_index;
    // Gone, not paused: a paused one would still read what has reached it.
    others.iter().for_each(|id| cluster.kill(*id));
    // Written by the leader alone, acknowledged to nobody.
    let client = cluster.client_of(old);
    let alone: Vec<_> = (0..10)
        .map(|number| {
            let client = client.clone();
            let put = async move {
                client.put(format!("alone/{number}"), "v", &PutOptions::default()).await.is_ok()
            };
            tokio::spawn(put)
        })
        .collect();
    until("the leader's own entries", || async {
        (cluster.status(old).await?.log.last_index > before).then_some(())
    })
    .await;
    cluster.kill(old);
    // Nobody asks again: what comes back could only come from the old leader's log.
    for put in alone {
        put.abort();
        let acknowledged = put.await.unwrap_or(false);
        assert!(!acknowledged, "acknowledged by a leader without a majority");
    }
    others.iter().for_each(|id| cluster.start(*id));
    let new = cluster.leader().await;
    for number in 0..20 {
        put(&cluster.client_of(new), &format!("after/{number}")).await;
    }

    // Twice: what was dropped stays dropped.
    for _ in 0..2 {
        cluster.start(old);
        until("the old leader answers", || cluster.status(old)).await;
        cluster.settled().await;
        cluster.kill(old);
        let info = looked_at(&cluster.dir_of(old).join("wal"));
        assert!(info.records.truncations > 0, "it dropped its own entries: {info}");
    }
    cluster.start(old);
    cluster.settled().await;
    for number in 0..10 {
        let key = format!("alone/{number}");
        let got = cluster.client().get(&key, &Default::default()).await.expect("a read");
        assert_eq!(text(&got), None, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_killed_at_once_under_load_come_back_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::of(3, &["--checkpoint-bytes", "64KiB"]).await;
    let load = Load::start(&cluster.client());
    for _ in 0..3 {
        load.goes_on(150).await;
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.start(id);
        }
    }
    load.goes_on(50).await;
    load.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_log_taken_while_it_ran_does_not_pass_for_the_log() {
    let mut cluster = Cluster::of(3, &["--checkpoint-bytes", "64KiB"]).await;
    let load = Load::start(&cluster.client());
    load.goes_on(100).await;
    let leader = cluster.leader().await;
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let wal = cluster.dir_of(victim).join("wal");
    let backup = tempfile::tempdir().expect("make a directory");
    copy(&wal, backup.path());
    let position = cluster.status(victim).await.expect("it answers").log.snapshot_index;
    until("a checkpoint that has seen more", || async {
        let status = cluster.status(victim).await?;
        (status.log.snapshot_index > position).then_some(())
    })
    .await;
    load.goes_on(50).await;
    cluster.kill(victim);
    std::fs::remove_dir_all(&wal).expect("remove the log");
    copy(backup.path(), &wal);

    cluster.start(victim);

    assert_eq!(cluster.exit_code(victim).await, Some(1), "{}", cluster.tail(victim));
    // Which of the two says so depends on where the copy was cut.
    let says = ["it is an older copy or its end is lost", "the log is damaged"];
    assert!(says.iter().any(|text| cluster.logged(victim, text)), "{}", cluster.tail(victim));
    load.goes_on(50).await;
    load.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_restored_whole_from_an_older_copy_is_noticed_by_the_leader_and_replaced() {
    let mut cluster = Cluster::of(3, &[]).await;
    put(&cluster.client(), "before").await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let backup = tempfile::tempdir().expect("make a directory");
    cluster.kill(victim);
    copy_whole(&cluster.dir_of(victim), backup.path());
    cluster.start(victim);
    let load = Load::start(&cluster.client());
    load.goes_on(50).await;
    // It has acknowledged entries of this leadership that the copy does not have.
    let reached = cluster.status(leader).await.expect("it answers").log.committed_index;
    until("the follower has them", || async {
        (cluster.status(victim).await?.log.last_index >= reached).then_some(())
    })
    .await;
    cluster.kill(victim);
    std::fs::remove_dir_all(cluster.dir_of(victim)).expect("remove a directory");
    copy_whole(backup.path(), &cluster.dir_of(victim));

    // Nothing in the copy tells that it is one.
    cluster.start(victim);

    let lost = "it has lost entries up to";
    until("the leader notices", || async { cluster.logged(leader, lost).then_some(()) }).await;
    assert_eq!(cluster.leader().await, leader, "it leads on");
    load.goes_on(50).await;
    let last = cluster.status(victim).await.expect("it answers").log.last_index;
    assert!(last < reached, "it gets nothing any more: {last} of {reached}");
    cluster.kill(victim);
    cluster.client().remove_member(victim).await.expect("it is removed");
    cluster.join(4, &[]);
    voters_are(&cluster, &(1..=4).filter(|id| *id != victim).collect::<Vec<_>>()).await;
    load.check(&cluster).await;
}

/// A copy of a directory that nobody uses.
fn copy_whole(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("list a directory").flatten() {
        if entry.path().is_dir() {
            copy_whole(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy a file");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("list a directory").flatten() {
        // A spare may get its name meanwhile.
        if entry.path().is_file() {
            let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_cannot_be_synced_once_ends_with_1_and_comes_back_with_everything() {
    let probe = ["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "true"];
    if !Command::new("strace").args(probe).output().is_ok_and(|out| out.status.success()) {
        return println!("SKIPPED a_member_whose_log_…: there is no strace that can inject");
    }
    let mut cluster = Cluster::of(3, &[]).await;
    let load = Load::start(&cluster.client());
    load.goes_on(100).await;
    let leader = cluster.leader().await;
    let victim = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.stop(victim);
    let wal = cluster.dir_of(victim).join("wal");
    let segment = next_segment(&wal);
    let trace = cluster.dir_of(victim).join("trace").display().to_string();
    // The sync of a commit that has company in the same segment, and no other sync of the process.
    let inject = "inject=fdatasync:error=EIO:when=5";
    let path =
        ["-P", &segment, "-o", &trace, "-e", "signal=none", "-e", "trace=fdatasync", "-e", inject];
    let wrapper: Vec<_> = ["strace", "-f", "-qq"].into_iter().chain(path).collect();

    cluster.start_behind(victim, &wrapper);

    assert_eq!(cluster.exit_code(victim).await, Some(1), "{}", cluster.tail(victim));
    assert!(cluster.logged(victim, "the log has failed: sync"), "{}", cluster.tail(victim));
    assert!(wal.join("FAILED").exists());
    load.goes_on(50).await;
    cluster.start(victim);
    until("it is back", || cluster.status(victim)).await;
    assert!(cluster.logged(victim, "after a disk failure"), "{}", cluster.tail(victim));
    load.check(&cluster).await;
}

/// The file that the next process begins, once it has something to write.
fn next_segment(wal: &Path) -> String {
    let info = looked_at(wal);
    let names =
        segments(wal).into_iter().filter_map(|path| path.file_stem()?.to_str().map(str::to_owned));
    let number = names.filter_map(|name| name.split('-').next()?.parse::<u64>().ok()).max();
    let (number, base) =
        (number.expect("it has segments") + 1, info.last.expect("entries").index + 1);
    wal.join(format!("{number:016}-{base:020}.wal")).display().to_string()
}
