//! `POST /v1/txn`: compare, then one of two lists, in one revision.

use serde_json::{Value, json};

use crate::nodes::Nodes;
use crate::wire::At;

pub(crate) async fn stories(at: &At) {
    a_transaction_runs_in_order_at_one_revision(at).await;
    a_false_branch_is_a_result(at).await;
    every_comparison_does_what_it_says(at).await;
    a_request_is_refused_whole(at).await;
}

macro_rules! on_one_node {
    ($($name:ident)*) => {
        mod on_one_node {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let nodes = super::Nodes::one().await;
                super::$name(&nodes.only()).await;
            })*
        }
    };
}

on_one_node! {
    a_transaction_runs_in_order_at_one_revision
    a_false_branch_is_a_result
    every_comparison_does_what_it_says
    a_request_is_refused_whole
}

async fn txn(at: &At, body: &Value) -> Value {
    let reply = at.post("/v1/txn", body.to_string()).await.is(200);
    let json = reply.json();
    assert_eq!(json["revision"], reply.number("kv-revision"));
    json
}

async fn a_transaction_runs_in_order_at_one_revision(at: &At) {
    let key = |name: &str| format!("{}t/{name}", at.prefix);
    at.put(&at.key("t/a"), "old").await.is(201);
    let before = at.revision().await;

    let reply = txn(
        at,
        &json!({
            "compare": [{"key": key("a"), "target": "mod_revision", "op": "=", "value": before}],
            "success": [
                {"put": {"key": key("a"), "value": "new", "ttl": "30s", "prev": true}},
                {"put": {"key": key("b"), "value_base64": "/w=="}},
                {"get": {"key": key("b")}},
                {"delete": {"key": key("a"), "prev": true}},
                {"get": {"key": key("a")}},
                {"put": {"key": key("a"), "value": "again"}},
                {"put": {"key": key("a"), "value": "and again"}},
                {"range": {"prefix": key(""), "keys_only": true, "reverse": true, "limit": 1}},
                {"range": {"start": key("a"), "count_only": true, "end": key("z")}},
                {"delete": {"prefix": key("none/")}},
            ],
            "failure": [{"get": {"key": key("a")}}],
        }),
    )
    .await;

    assert_eq!((&reply["succeeded"], &reply["revision"]), (&json!(true), &json!(before + 1)));
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results.len(), 10);
    assert_eq!(results[0]["put"]["created"], false);
    assert_eq!(results[0]["put"]["prev"]["value"], "old");
    assert_eq!(results[1], json!({"put": {"created": true}}));
    assert_eq!(results[2]["get"]["value_base64"], "/w==");
    assert_eq!(results[2]["get"]["mod_revision"], before + 1);
    assert_eq!(results[3]["delete"]["deleted"], 1);
    assert_eq!(results[3]["delete"]["prev"][0]["value"], "new");
    assert_eq!(results[4], json!({"get": null}));
    assert_eq!(results[5], json!({"put": {"created": true}}));
    assert_eq!(results[6], json!({"put": {"created": false}}));
    let range = &results[7]["range"];
    assert_eq!((&range["count"], &range["items"][0]["key"]), (&json!(1), &json!(key("b"))));
    assert_eq!(range["items"][0].get("value"), None);
    assert_eq!(results[8], json!({"range": {"items": [], "count": 2}}));
    assert_eq!(results[9], json!({"delete": {"deleted": 0}}));

    let got = at.get(&at.key("t/a")).await.is(200);
    assert_eq!((got.text().as_str(), got.number("kv-version")), ("and again", 2));
    assert_eq!(got.number("kv-create-revision"), before + 1);
    assert_eq!(got.find("kv-ttl-ms"), None);
}

async fn a_false_branch_is_a_result(at: &At) {
    at.put(&at.key("f"), "x").await.is(201);
    let before = at.revision().await;
    let key = format!("{}f", at.prefix);
    let reply = txn(
        at,
        &json!({
            "compare": [{"key": key, "target": "value", "op": "=", "value": "y"}],
            "success": [{"put": {"key": key, "value": "z"}}],
            "failure": [{"get": {"key": key}}],
        }),
    )
    .await;
    assert_eq!((&reply["succeeded"], &reply["revision"]), (&json!(false), &json!(before)));
    assert_eq!(reply["results"][0]["get"]["value"], "x");
    let empty = txn(at, &json!({})).await;
    assert_eq!(empty, json!({"succeeded": true, "revision": before, "results": []}));
}

async fn every_comparison_does_what_it_says(at: &At) {
    let revision = at.put(&at.key("c"), "m").await.is(201).number("kv-revision");
    at.put(&at.key("c"), "m").await.is(200);
    let present = format!("{}c", at.prefix);
    let absent = format!("{}c-absent", at.prefix);
    for (key, target, op, value, holds) in [
        (&present, "value", "=", json!("m"), true),
        (&present, "value", "!=", json!("m"), false),
        (&present, "value", "<", json!("n"), true),
        (&present, "value", ">", json!("a"), true),
        (&present, "version", "=", json!(2), true),
        (&present, "version", "<", json!(2), false),
        (&present, "create_revision", "=", json!(revision), true),
        (&present, "mod_revision", ">", json!(revision), true),
        (&present, "lease", "=", json!(0), true),
        (&present, "exists", "=", json!(true), true),
        (&present, "exists", "!=", json!(true), false),
        (&absent, "exists", "=", json!(false), true),
        (&absent, "version", "=", json!(0), true),
        (&absent, "mod_revision", "<", json!(1), true),
        (&absent, "value", "=", json!(""), false),
        (&absent, "value", "!=", json!("m"), false),
        (&absent, "value", "<", json!("m"), false),
    ] {
        let compare = json!([{"key": key, "target": target, "op": op, "value": value}]);
        let reply = txn(at, &json!({"compare": compare})).await;
        assert_eq!(reply["succeeded"], holds, "{key} {target} {op} {value}");
    }
    let coded = json!([{"key": present, "target": "value", "op": "=", "value_base64": "bQ=="}]);
    assert_eq!(txn(at, &json!({"compare": coded})).await["succeeded"], true);
}

async fn a_request_is_refused_whole(at: &At) {
    let before = at.fingerprint().await;
    let put = format!(r#"{{"put":{{"key":"{}w","value":"x"}}}}"#, at.prefix);
    for (body, field) in [
        (String::new(), "body"),
        ("{".to_owned(), "body"),
        ("[]".to_owned(), "body"),
        (format!(r#"{{"success":[{put}],"then":[]}}"#), "then"),
        (format!(r#"{{"success":[{put}],"success":[]}}"#), "success"),
        (format!(r#"{{"success":[{put},{{"put":{{"key":"a"}}}}]}}"#), "success[1].put"),
        (format!(r#"{{"success":[{put},{{"get":{{"key":""}}}}]}}"#), "key"),
        (format!(r#"{{"success":[{put}],"failure":[{{"get":{{"key":""}}}}]}}"#), "key"),
        (
            format!(r#"{{"success":[{put},{{"put":{{"key":"a","value":"","ttl":"5"}}}}]}}"#),
            "success[1].put.ttl",
        ),
        (format!(r#"{{"success":[{put},{{"put":{{"key":"a","value":"","lease":0}}}}]}}"#), "lease"),
    ] {
        at.post("/v1/txn", &body).await.invalid(field);
    }
    for list in ["success", "failure"] {
        let body = format!(r#"{{"{list}":[{}]}}"#, vec![put.as_str(); 1025].join(","));
        let problem = at.post("/v1/txn", body).await.invalid(list);
        assert_eq!(problem["limit"], 1024);
    }
    let lease = format!(r#"{{"success":[{put},{{"put":{{"key":"a","value":"","lease":9}}}}]}}"#);
    at.post("/v1/txn", lease).await.refused(404, "lease_not_found");
    at.post("/v1/txn?prev=true", "{}").await.invalid("prev");
    for header in ["if-match", "if-none-match"] {
        let reply = at.send("POST", "/v1/txn", &[(header, "*")], b"{}").await;
        assert_eq!(reply.refused(400, "invalid_argument")["code"], "invalid_argument");
    }
    assert_eq!(at.fingerprint().await, before);
    // A wrong media type is none of its business.
    let odd = [("content-type", "application/x-www-form-urlencoded")];
    at.send("POST", "/v1/txn", &odd, b"{}").await.is(200);
}
