//! How clusters come to be, and who is not let in.

use std::path::Path;

use raftmap_client::PutOptions;
use raftmap_client::api::cluster::MemberRole;

use crate::harness::{Cluster, free_addr, text, until};

#[tokio::test]
async fn a_node_without_arguments_is_a_cluster_of_itself() {
    let mut cluster = Cluster::empty();
    cluster.add(1, free_addr(), &[], &[]);
    cluster.leader().await;

    let put = cluster.client().put("k", "v", &PutOptions::default()).await.unwrap();

    // An empty store is at revision 1.
    assert_eq!(put.revision, 2);
}

#[tokio::test]
async fn three_nodes_with_one_list_form_one_cluster_and_remember_it() {
    let mut cluster = Cluster::of(3, &[]).await;
    let before = cluster.status(1).await.unwrap();
    assert_eq!(before.members.len(), 3);
    assert!(before.members.iter().all(|member| member.role == MemberRole::Voter));
    cluster.client().put("k", "v", &PutOptions::default()).await.unwrap();

    for id in cluster.ids() {
        cluster.stop(id);
    }
    for id in cluster.ids() {
        cluster.start(id);
    }
    cluster.leader().await;

    let got = cluster.client().get("k", &Default::default()).await.unwrap();
    assert_eq!(text(&got).as_deref(), Some("v"));
    assert_eq!(cluster.status(2).await.unwrap().cluster_id, before.cluster_id);
}

#[tokio::test]
async fn a_cluster_can_be_formed_by_hand() {
    let mut cluster = Cluster::empty();
    let addrs = [free_addr(), free_addr()];
    for (id, addr) in (1..).zip(&addrs) {
        cluster.add(id, addr.clone(), &["--wait-for-init"], &[]);
    }
    for id in [1, 2] {
        until("a node that waits", || cluster.status(id)).await;
    }
    let url = format!("http://{}/v1/cluster/init", addrs[0]);
    let body = format!(
        r#"{{"members":[{{"id":1,"addr":"{}"}},{{"id":2,"addr":"{}"}}]}}"#,
        addrs[0], addrs[1]
    );
    let init = || reqwest::Client::new().post(&url).body(body.clone()).send();

    assert_eq!(init().await.unwrap().status(), 200);
    cluster.leader().await;
    let again = init().await.unwrap();

    assert_eq!(again.status(), 409);
    assert!(again.text().await.unwrap().contains("already_initialized"));
    cluster.client().put("k", "v", &PutOptions::default()).await.unwrap();
}

#[tokio::test]
async fn an_emptied_directory_under_a_known_id_is_refused_and_its_replacement_joins() {
    let mut cluster = Cluster::of(3, &[]).await;
    let client = cluster.client();
    client.put("k", "v", &PutOptions::default()).await.unwrap();
    cluster.settled().await;

    cluster.kill(3);
    std::fs::remove_dir_all(cluster.dir_of(3)).unwrap();
    cluster.start(3);

    assert_eq!(cluster.exit_code(3).await, Some(1));
    assert!(cluster.logged(3, "another log"), "{}", cluster.tail(3));
    client.put("k", "still serving", &PutOptions::default()).await.unwrap();

    client.remove_member(3).await.unwrap();
    cluster.join(4, &[]);
    until("the replacement votes", || async {
        let members = cluster.status(4).await?.members;
        let ids: Vec<_> = members
            .iter()
            .filter(|member| member.role == MemberRole::Voter)
            .map(|member| member.id)
            .collect();
        (ids == [1, 2, 4]).then_some(())
    })
    .await;
    cluster.settled().await;
}

#[tokio::test]
async fn a_log_of_another_node_or_a_lost_log_does_not_open() {
    let mut cluster = Cluster::empty();
    cluster.add(1, free_addr(), &[], &[]);
    cluster.leader().await;
    cluster.client().put("k", "v", &PutOptions::default()).await.unwrap();
    cluster.stop(1);

    std::fs::remove_dir_all(cluster.dir_of(1).join("wal")).unwrap();
    cluster.start(1);

    assert_eq!(cluster.exit_code(1).await, Some(1));
}

#[tokio::test]
async fn an_older_copy_of_the_log_is_refused_and_an_older_store_is_not() {
    let mut cluster = Cluster::empty();
    cluster.add(1, free_addr(), &[], &[]);
    cluster.leader().await;
    let (wal, store) = (cluster.dir_of(1).join("wal"), cluster.dir_of(1).join("sm"));
    let older = tempfile::tempdir().unwrap();
    let put = async |cluster: &Cluster, value: &str| {
        cluster.client().put("k", value.to_owned(), &PutOptions::default()).await.unwrap();
    };
    put(&cluster, "older").await;
    cluster.stop(1);
    copy_dir(&wal, &older.path().join("wal"));
    copy_dir(&store, &older.path().join("sm"));
    cluster.start(1);
    cluster.leader().await;
    put(&cluster, "newer").await;
    cluster.stop(1);
    let newer = older.path().join("newer");
    copy_dir(&wal, &newer);

    replace_dir(&older.path().join("wal"), &wal);
    cluster.start(1);

    assert_eq!(cluster.exit_code(1).await, Some(1));
    assert!(cluster.logged(1, "it is an older copy or its end is lost"), "{}", cluster.tail(1));

    // The log has everything that an older store lacks.
    replace_dir(&newer, &wal);
    replace_dir(&older.path().join("sm"), &store);
    cluster.start(1);
    cluster.leader().await;
    let got = cluster.client().get("k", &Default::default()).await.unwrap();
    assert_eq!(text(&got).as_deref(), Some("newer"));
}

/// A log that was copied while it was open has no seal; the open that finds it writes one, and the log is then
/// longer than what the store has seen of it. What counts is where it ended before.
#[tokio::test]
async fn an_older_copy_of_an_open_log_is_refused_however_long_its_seal() {
    let mut cluster = Cluster::empty();
    cluster.add(1, free_addr(), &[], &[]);
    cluster.leader().await;
    let client = cluster.client();
    let wal = cluster.dir_of(1).join("wal");
    let older = tempfile::tempdir().unwrap();
    // Its seal lists every entry.
    for number in 0..100 {
        client.put(&format!("k/{number}"), "v", &PutOptions::default()).await.unwrap();
    }
    copy_dir(&wal, &older.path().join("wal"));
    client.put("k/last", "v", &PutOptions::default()).await.unwrap();
    let url = format!("http://{}/v1/cluster/snapshot", cluster.addr(1));
    let checkpoint = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(checkpoint.status(), 200);
    cluster.kill(1);

    replace_dir(&older.path().join("wal"), &wal);
    cluster.start(1);

    assert_eq!(cluster.exit_code(1).await, Some(1));
    assert!(cluster.logged(1, "it is an older copy or its end is lost"), "{}", cluster.tail(1));
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("read a directory") {
        let entry = entry.expect("an entry of it");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy a file");
        }
    }
}

fn replace_dir(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).expect("remove a directory");
    copy_dir(from, to);
}
