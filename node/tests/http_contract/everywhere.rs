//! The same stories on every node of a cluster of three: a follower answers like the leader.

use std::collections::BTreeSet;

use crate::nodes::{Nodes, until};
use crate::wire::At;
use crate::{deletes, keys, lists, reads, txns};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_answers_alike() {
    let nodes = Nodes::three().await;
    for id in nodes.ids() {
        let at = At { prefix: format!("n{id}/"), ..nodes.at(id) };
        keys::stories(&at).await;
        reads::stories(&at).await;
        lists::stories(&at).await;
        txns::stories(&at).await;
        deletes::stories(&at).await;
    }
    let reached = nodes.at(1).revision().await;
    let mut states = BTreeSet::new();
    for id in nodes.ids() {
        let at = nodes.at(id);
        let target = format!("/v1/kv?limit=1&consistency=stale&min_revision={reached}");
        at.get(&target).await.is(200);
        states.insert(at.fingerprint().await);
    }
    assert_eq!(states.len(), 1, "the nodes differ: {states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_one_node_is_read_on_all() {
    let nodes = Nodes::three().await;
    for writer in nodes.ids() {
        let put = nodes.at(writer).put("/v1/kv/shared", format!("by {writer}")).await;
        let revision = put.number("kv-revision");
        for reader in nodes.ids() {
            let at = nodes.at(reader);
            let got = at.get("/v1/kv/shared").await.is(200);
            assert_eq!(got.text(), format!("by {writer}"), "linearizable on {reader}");
            assert_eq!(got.number("kv-node"), reader);
            assert_eq!(got.number("kv-leader"), put.number("kv-leader"));
            let stale = format!("/v1/kv/shared?consistency=stale&min_revision={revision}");
            assert_eq!(at.get(&stale).await.is(200).text(), format!("by {writer}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_works_at_any_node() {
    let nodes = Nodes::three().await;
    for key in 0..9 {
        nodes.at(1).put(&format!("/v1/kv/c{key}"), "").await.is(201);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for page in 0.. {
        let at = nodes.at(page % 3 + 1);
        let reply = at.get(&format!("/v1/kv?prefix=c&limit=2{cursor}")).await.is(200).json();
        // What is written between the pages does not show.
        at.put(&format!("/v1/kv/c{page}x"), "").await.is(201);
        let items = reply["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["key"].as_str().unwrap().to_owned()));
        match reply["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_are_unknown_or_refused_and_stale_reads_go_on() {
    let mut nodes = Nodes::three().await;
    nodes.at(1).put("/v1/kv/a", "x").await.is(201);
    let followers: Vec<u64> = {
        let leader = nodes.at(1).get("/v1/kv/a").await.number("kv-leader");
        nodes.ids().into_iter().filter(|id| *id != leader).collect()
    };
    for id in followers {
        nodes.stop(id).await;
    }
    let at = nodes.at(nodes.ids()[0]);
    let put = at.put("/v1/kv/a?timeout=300ms", "y").await;
    match put.status {
        504 => drop(put.refused(504, "timeout")),
        _ => drop(put.refused(503, "no_leader")),
    }
    until("the loss of leadership", || async {
        let got = at.get("/v1/kv/a?timeout=300ms").await;
        got.status == 503 && got.json()["code"] == "no_leader"
    })
    .await;
    assert_eq!(at.get("/v1/kv/a?consistency=stale").await.is(200).text(), "x");
}
