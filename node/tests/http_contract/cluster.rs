//! The calls on the cluster and on one node.

use std::collections::BTreeSet;

use raftmap_client::api::Status;
use raftmap_node::config::Formation;
use serde_json::{Value, json};

use crate::nodes::{Nodes, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_its_state() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);

    let reply = at.get("/v1/status").await.is(200);
    let status: Status = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((status.node_id, status.leader), (1, Some(1)));
    assert_eq!((status.store.revision, status.store.keys), (2, 1));
    assert_eq!(status.cluster_id.map(|id| id.len()), Some(32));
    assert_eq!(status.members.len(), 1);
    let json = reply.json();
    for member in ["version", "role", "term", "uptime_ms"] {
        assert!(!json[member].is_null(), "no {member}");
    }
    for index in [
        "first_index",
        "last_index",
        "committed_index",
        "applied_index",
        "snapshot_index",
        "segments",
        "bytes",
    ] {
        assert!(json["log"][index].is_u64(), "no log.{index}");
    }
    for figure in ["entries", "bytes", "bytes_max", "hits", "misses", "promotions", "evictions"] {
        assert!(json["store"]["hot"][figure].is_u64(), "no store.hot.{figure}");
    }

    assert_eq!(at.get("/livez").await.is(200).text(), "ok\n");
    assert_eq!(at.get("/readyz").await.is(200).text(), "ok\n");
    assert_eq!(at.send("HEAD", "/readyz", &[], b"").await.is(200).body, b"");
    let figures = at.send("GET", "/metrics", &[("accept", "text/html")], b"").await.is(200);
    assert!(figures.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(figures.text().contains("raftmap_http_requests_total{call=\"put\",status=\"2xx\"}"));

    let snapshot = at.post("/v1/cluster/snapshot", "").await.is(200).json();
    assert!(snapshot["applied_index"].as_u64().is_some_and(|index| index > 0));
    at.post("/v1/cluster/snapshot", "{\"x\":1}").await.invalid("x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_formed_once() {
    let nodes = Nodes::one_with(|config| config.formation = Formation::WaitForInit).await;
    let at = nodes.only();
    let me = at.addr.to_string();
    for (body, field) in [
        ("".to_owned(), "body"),
        ("{}".to_owned(), "members"),
        (json!({"members": []}).to_string(), "members"),
        (json!({"members": [{"id": 0, "addr": me}]}).to_string(), "id"),
        (json!({"members": [{"id": 1, "addr": "nowhere"}]}).to_string(), "addr"),
        (json!({"members": [{"id": 1, "addr": me, "x": 1}]}).to_string(), "members[0].x"),
        (json!({"members": [{"id": 1, "addr": me}, {"id": 1, "addr": me}]}).to_string(), "members"),
    ] {
        at.post("/v1/cluster/init", body).await.invalid(field);
    }
    let members = json!({"members": [{"id": 1, "addr": me, "labels": {"zone": "a"}}]}).to_string();
    let formed = at.post("/v1/cluster/init", &members).await.is(200).json();
    assert_eq!(formed["members"][0]["id"], 1);
    nodes.ready(1).await;
    at.post("/v1/cluster/init", &members).await.refused(409, "already_initialized");
    let listed = at.get("/v1/cluster/members").await.is(200).json();
    assert_eq!(listed["members"][0]["labels"], json!({"zone": "a"}));
    assert_eq!(at.put("/v1/kv/a", "x").await.is(201).number("kv-revision"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_leaders_are_changed_from_any_node() {
    let nodes = Nodes::three().await;
    for id in nodes.ids() {
        let listed = nodes.at(id).get("/v1/cluster/members").await.is(200).json();
        let ids: Vec<_> = listed["members"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
    for to in nodes.ids() {
        let asked = nodes.at(to % 3 + 1);
        let reply = asked.post("/v1/cluster/leader", format!(r#"{{"to":{to}}}"#)).await.is(200);
        assert_eq!(reply.json(), json!({"leader": to}));
        assert_eq!(nodes.at(to).put("/v1/kv/a", "x").await.number("kv-leader"), to);
    }
    let moved = nodes.at(1).post("/v1/cluster/leader", "").await.is(200).json();
    assert_ne!(moved["leader"], 3, "to another one");

    let at = nodes.at(1);
    at.post("/v1/cluster/leader", r#"{"to":"2"}"#).await.invalid("to");
    at.post("/v1/cluster/leader", r#"{"to":9}"#).await.refused(404, "member_not_found");
    at.delete("/v1/cluster/members/9").await.refused(404, "member_not_found");
    at.send("PUT", "/v1/cluster/members/9", &[], br#"{"role":"voter"}"#)
        .await
        .refused(404, "member_not_found");
    at.delete("/v1/cluster/members/x").await.invalid("id");
    at.send("PUT", "/v1/cluster/members/2", &[], br#"{"role":"king"}"#).await.invalid("role");
    at.post("/v1/cluster/members", r#"{"id":4,"addr":"x"}"#).await.invalid("addr");
    let unused = r#"{"id":4,"addr":"127.0.0.1:1"}"#;
    at.post("/v1/cluster/members", unused).await.refused(409, "conflict");

    let demoted = at.send("PUT", "/v1/cluster/members/3", &[], br#"{"role":"learner"}"#).await;
    let roles = |members: &Value| {
        let members = members["members"].as_array().unwrap().iter();
        members.map(|m| m["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles(&demoted.is(200).json()), ["voter", "voter", "learner"]);
    let removed = at.delete("/v1/cluster/members/3").await.is(200).json();
    assert_eq!(roles(&removed), ["voter", "voter"]);
    until("both to know", || async {
        let mut known = BTreeSet::new();
        for id in [1, 2] {
            known.insert(roles(&nodes.at(id).get("/v1/status").await.json()).len());
        }
        known == BTreeSet::from([2])
    })
    .await;
}
