//! The membership changes while writes go on.

use raftmap_client::PutOptions;
use raftmap_client::api::cluster::MemberRole;

use crate::harness::{Cluster, until};

async fn put(cluster: &Cluster, key: &str) {
    cluster.client().put(key, "v", &PutOptions::default()).await.expect("a write is taken");
}

#[tokio::test]
async fn the_leadership_moves_where_it_is_sent() {
    let cluster = Cluster::of(3, &[]).await;
    put(&cluster, "before").await;
    let old = cluster.leader().await;
    let new = cluster.ids().into_iter().find(|id| *id != old).unwrap();

    let leader = cluster.client_of(old).transfer_leader(Some(new)).await.unwrap();

    assert_eq!(leader, new);
    assert_eq!(cluster.leader().await, new);
    put(&cluster, "after").await;
    cluster.settled().await;
}

#[tokio::test]
async fn an_orderly_stop_hands_the_leadership_over() {
    let mut cluster = Cluster::of(3, &[]).await;
    put(&cluster, "before").await;
    let old = cluster.leader().await;

    cluster.stop(old);

    assert!(cluster.logged(old, "handed over"), "{}", cluster.tail(old));
    put(&cluster, "after").await;
}

#[tokio::test]
async fn a_change_that_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::of(3, &[]).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[0]);
    // Two of three answer. Without the other one only one of two would.
    let client = cluster.client_of(leader);
    let refused = client.remove_member(others[1]).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 409, "{refused}");
    put(&cluster, "still serving").await;
    // Removing the dead one is what helps.
    client.remove_member(others[0]).await.unwrap();
    put(&cluster, "after").await;
}

#[tokio::test]
async fn learners_become_voters_and_back() {
    let mut cluster = Cluster::of(1, &[]).await;
    put(&cluster, "k").await;
    cluster.join(2, &[]);
    cluster.join(3, &[]);
    let client = cluster.client();
    until("three voters", || async {
        let members = client.members().await.ok()?.members;
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter).count();
        (voters == 3).then_some(())
    })
    .await;

    let members = client.set_role(3, MemberRole::Learner).await.unwrap().members;

    let third = members.iter().find(|member| member.id == 3).unwrap();
    assert_eq!(third.role, MemberRole::Learner);
    let members = client.set_role(3, MemberRole::Voter).await.unwrap().members;
    assert!(members.iter().all(|member| member.role == MemberRole::Voter));
    put(&cluster, "after").await;
    cluster.settled().await;
}

/// The steps of docs/operations.md, "Replacing a node that lost its data".
#[tokio::test]
async fn a_node_whose_log_refuses_is_replaced_as_the_manual_says() {
    let mut cluster = Cluster::of(3, &[]).await;
    for number in 0..20 {
        put(&cluster, &format!("before/{number}")).await;
    }
    cluster.settled().await;
    cluster.kill(3);
    // A byte of the first frame, behind which others are.
    let wal = cluster.dir_of(3).join("wal");
    let segment = wal.join("0000000000000001-00000000000000000000.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    assert_eq!(&bytes[4096..4100], b"RFRM");
    bytes[4096 + 60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    cluster.start(3);
    assert_eq!(cluster.exit_code(3).await, Some(1));
    assert!(cluster.logged(3, "the log is damaged"), "{}", cluster.tail(3));

    std::fs::rename(cluster.dir_of(3), cluster.dir_of(3).with_extension("broken")).unwrap();
    cluster.leader().await;
    put(&cluster, "meanwhile").await;
    cluster.client_of(cluster.leader().await).remove_member(3).await.unwrap();
    cluster.join(4, &[]);
    until("the replacement votes", || async {
        let members = cluster.status(4).await?.members;
        let voters = members.iter().filter(|member| member.role == MemberRole::Voter);
        let ids: Vec<_> = voters.map(|member| member.id).collect();
        (ids == [1, 2, 4]).then_some(())
    })
    .await;
    cluster.settled().await;
}
