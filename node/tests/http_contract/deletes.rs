//! `DELETE /v1/kv?…`: a range at once, everything, and never anything by accident.

use serde_json::json;

use crate::nodes::Nodes;
use crate::wire::At;

pub(crate) async fn stories(at: &At) {
    a_range_is_deleted_at_once(at).await;
    nothing_is_deleted_by_accident(at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_on_one_node() {
    let nodes = Nodes::one().await;
    stories(&nodes.only()).await;
    a_range_beyond_its_bound_is_refused_whole(&nodes.only()).await;
    a_clear_takes_everything_and_the_history(&nodes.only()).await;
}

async fn fill(at: &At, keys: &[&str]) {
    for key in keys {
        at.put(&at.key(key), *key).await.is(201);
    }
}

async fn left(at: &At, prefix: &str) -> u64 {
    let target = format!("/v1/kv?prefix={}{prefix}&count_only=true", at.prefix);
    at.get(&target).await.is(200).json()["count"].as_u64().unwrap()
}

async fn a_range_is_deleted_at_once(at: &At) {
    let p = &at.prefix;
    fill(at, &["d/a", "d/b", "d/c", "d/d", "dd"]).await;
    let before = at.revision().await;

    let ranged = at.delete(&format!("/v1/kv?start={p}d/b&end={p}d/d&prev=true")).await.is(200);
    let reply = ranged.json();
    assert_eq!((&reply["revision"], &reply["deleted"]), (&json!(before + 1), &json!(2)));
    let prev = reply["prev"].as_array().unwrap();
    assert_eq!((prev.len(), &prev[1]["value"]), (2, &json!("d/c")));
    assert_eq!(ranged.number("kv-revision"), before + 1);

    let rest = at.delete(&format!("/v1/kv?prefix={p}d/")).await.is(200).json();
    assert_eq!(rest, json!({"revision": before + 2, "deleted": 2}));
    let nothing = at.delete(&format!("/v1/kv?prefix={p}d/&prev=true")).await.is(200).json();
    assert_eq!(nothing, json!({"revision": before + 2, "deleted": 0}));
    assert_eq!(left(at, "dd").await, 1);
    let inverted = at.delete(&format!("/v1/kv?start={p}f&end={p}e")).await.is(200).json();
    assert_eq!(inverted["deleted"], 0);
}

async fn nothing_is_deleted_by_accident(at: &At) {
    fill(at, &["kept"]).await;
    let before = at.fingerprint().await;
    for (query, field) in [
        ("", "prefix"),
        ("?all=false", "prefix"),
        ("?prefix=", "prefix"),
        ("?prefix_base64=", "prefix"),
        ("?start=", "start"),
        ("?all=true&prefix=a", "prefix"),
        ("?all=true&prev=true", "prev"),
        ("?all=", "all"),
        ("?prefix=a&end=b", "prefix"),
        ("?prefix=a&limit=1", "limit"),
        ("?key_base64=&all=true", "all"),
    ] {
        at.delete(&format!("/v1/kv{query}")).await.invalid(field);
    }
    let kept = [("if-match", "*")];
    at.send("DELETE", "/v1/kv?prefix=k", &kept, b"").await.invalid("If-Match");
    at.send("DELETE", "/v1/kv?all=true", &[("if-none-match", "*")], b"")
        .await
        .invalid("If-None-Match");
    assert_eq!(at.fingerprint().await, before);
}

async fn a_range_beyond_its_bound_is_refused_whole(at: &At) {
    for first in (0..10_001).step_by(1_000) {
        let keys = first..(first + 1_000).min(10_001);
        let puts: Vec<String> =
            keys.map(|key| format!(r#"{{"put":{{"key":"r/{key:05}","value":""}}}}"#)).collect();
        at.post("/v1/txn", format!(r#"{{"success":[{}]}}"#, puts.join(","))).await.is(200);
    }
    let before = at.fingerprint().await;
    let problem = at.delete("/v1/kv?prefix=r/").await.refused(422, "range_too_large");
    assert_eq!(problem["limit"], 10_000);
    assert_eq!(at.fingerprint().await, before);

    let large = vec![b'v'; 3 << 20];
    for key in ["v/1", "v/2"] {
        at.put(&at.key(key), &large).await.is(201);
    }
    let before = at.fingerprint().await;
    let problem = at.delete("/v1/kv?prefix=v/&prev=true").await.refused(422, "range_too_large");
    assert_eq!(problem["limit"], 4 << 20);
    assert_eq!(at.fingerprint().await, before);
    assert_eq!(at.delete("/v1/kv?prefix=r/0").await.is(200).json()["deleted"], 10_000);
}

async fn a_clear_takes_everything_and_the_history(at: &At) {
    let before = at.revision().await;
    let keys = at.get("/v1/kv?count_only=true").await.json()["count"].clone();
    let cleared = at.delete("/v1/kv?all=true").await.is(200).json();
    assert_eq!(cleared, json!({"revision": before + 1, "deleted": keys}));
    assert_eq!(left(at, "").await, 0);

    let gone = at.get(&format!("/v1/kv/kept?revision={before}")).await;
    assert_eq!(gone.refused(410, "compacted")["oldest_revision"], before + 1);
    let list = at.get("/v1/kv?revision=1").await.refused(410, "compacted");
    assert_eq!(list["oldest_revision"], before + 1);
    at.put("/v1/kv/new", "x").await.is(201);
    assert_eq!(at.get("/v1/kv/new").await.is(200).number("kv-version"), 1);
}
