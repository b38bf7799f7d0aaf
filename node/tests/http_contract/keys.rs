//! One key: PUT, GET, HEAD, PATCH, DELETE, and the conditions on them.

use serde_json::json;

use crate::nodes::{Nodes, until};
use crate::wire::At;

/// Everything of this file, for `everywhere`.
pub(crate) async fn stories(at: &At) {
    a_put_creates_then_changes(at).await;
    a_get_tells_everything_about_a_record(at).await;
    keys_and_values_are_bytes(at).await;
    paths_are_not_normalised(at).await;
    a_get_takes_conditions(at).await;
    a_write_takes_conditions(at).await;
    a_patch_changes_the_deadline_alone(at).await;
    a_delete_takes_one_key(at).await;
    a_key_with_a_ttl_ends(at).await;
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
    a_put_creates_then_changes
    a_get_tells_everything_about_a_record
    keys_and_values_are_bytes
    paths_are_not_normalised
    a_get_takes_conditions
    a_write_takes_conditions
    a_patch_changes_the_deadline_alone
    a_delete_takes_one_key
    a_key_with_a_ttl_ends
}

pub(crate) async fn a_put_creates_then_changes(at: &At) {
    let key = at.key("put");
    let before = at.revision().await;

    let created = at.put(&key, "one").await.is(201);
    let revision = before + 1;
    assert_eq!(created.json(), json!({"revision": revision, "created": true}));
    assert_eq!(created.header("etag"), format!("\"{revision}\""));
    assert_eq!(created.number("kv-revision"), revision);
    assert_eq!(created.header("content-type"), "application/json");
    created.number("kv-leader");

    // The same value again is a change.
    let changed = at.put(&key, "one").await.is(200);
    assert_eq!(changed.json(), json!({"revision": revision + 1, "created": false}));

    let with_prev = at.put(&format!("{key}?prev=true"), "two").await.is(200).json();
    assert_eq!(with_prev["prev"]["value"], "one");
    assert_eq!(with_prev["prev"]["version"], 2);
    assert_eq!(with_prev["prev"]["create_revision"], revision);
    let fresh = at.put(&format!("{}?prev=true", at.key("put2")), "").await.is(201).json();
    assert_eq!(fresh.get("prev"), None);
    let without = at.put(&format!("{key}?prev=false"), "three").await.is(200).json();
    assert_eq!(without.get("prev"), None);
}

pub(crate) async fn a_get_tells_everything_about_a_record(at: &At) {
    let key = at.key("got");
    let revision = at.put(&key, "v1").await.is(201).number("kv-revision");
    at.put(&format!("{key}?ttl=1h"), "v2").await.is(200);
    at.put(&at.key("other"), "").await;

    let got = at.get(&key).await.is(200);
    assert_eq!(got.text(), "v2");
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert_eq!(got.header("etag"), format!("\"{}\"", revision + 1));
    assert_eq!(got.number("kv-revision"), revision + 2, "the store's, not the key's");
    assert_eq!(got.number("kv-create-revision"), revision);
    assert_eq!(got.number("kv-version"), 2);
    assert_eq!(got.find("kv-lease"), None);
    assert!((3_000_000..=3_600_000).contains(&got.number("kv-ttl-ms")));
    assert!(["hot", "cold"].contains(&got.header("kv-tier")));
    got.number("kv-leader");

    let head = at.send("HEAD", &key, &[], b"").await.is(200);
    assert_eq!(head.body, b"");
    assert_eq!(head.header("content-length"), "2");
    assert_eq!(head.header("etag"), got.header("etag"));

    let json = at.send("GET", &key, &[("accept", "application/json")], b"").await.is(200);
    assert_eq!(json.header("content-type"), "application/json");
    let mut record = json.json();
    let ttl_ms = record["ttl_ms"].take();
    assert!(ttl_ms.as_u64().is_some_and(|ms| ms <= 3_600_000));
    let name = format!("{}got", at.prefix);
    assert_eq!(
        record,
        json!({"key": name, "value": "v2", "create_revision": revision,
               "mod_revision": revision + 1, "version": 2, "ttl_ms": null})
    );

    let absent = at.get(&at.key("absent")).await;
    assert_eq!(absent.number("kv-revision"), revision + 2);
    absent.refused(404, "not_found");
    let head = at.send("HEAD", &at.key("absent"), &[], b"").await.is(404);
    assert_eq!(head.body, b"");
}

pub(crate) async fn keys_and_values_are_bytes(at: &At) {
    let key = at.key("%ff%00");
    at.put(&key, b"\xfe\x00\n").await.is(201);
    assert_eq!(at.get(&key).await.is(200).body, b"\xfe\x00\n");

    let mut name = at.prefix.clone().into_bytes();
    name.extend_from_slice(b"\xff\x00");
    let coded = base64(&name);
    let url_safe = coded.replace('+', "-").replace('/', "_");
    for text in [&coded, &url_safe, &url_safe.trim_end_matches('=').to_owned()] {
        let target = format!("/v1/kv?key_base64={text}");
        assert_eq!(at.get(&target).await.is(200).body, b"\xfe\x00\n", "{target}");
    }
    let target = format!("/v1/kv?key_base64={coded}");
    let json = at.send("GET", &target, &[("accept", "application/json")], b"").await.json();
    assert_eq!(json["key_base64"], coded);
    assert_eq!(json["value_base64"], "/gAK");
    assert_eq!(json.get("key"), None);
    assert_eq!(json.get("value"), None);

    at.put(&target, "").await.is(200);
    let empty = at.get(&key).await.is(200);
    assert_eq!(empty.body, b"");
    assert_eq!(empty.header("content-length"), "0");
    at.patch(&format!("{target}&ttl=1h")).await.is(200);
    assert_eq!(at.delete(&target).await.is(200).json()["deleted"], 1);
    at.get(&target).await.refused(404, "not_found");

    // A value in chunks, and one that a client announces first, are values like any other.
    let chunked = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
        at.key("chunked")
    );
    at.raw(chunked.as_bytes()).await.unwrap().is(201);
    assert_eq!(at.get(&at.key("chunked")).await.text(), "abcdefg");

    let longest = format!("{}{}", at.prefix, "k".repeat(4096 - at.prefix.len()));
    at.put(&format!("/v1/kv/{longest}"), "x").await.is(201);
    let encoded: String = longest.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(at.get(&format!("/v1/kv/{encoded}")).await.is(200).text(), "x");
    let large = vec![b'v'; 8 << 20];
    at.put(&at.key("large"), &large).await.is(201);
    assert!(at.get(&at.key("large")).await.is(200).body == large, "another value came back");
}

pub(crate) async fn paths_are_not_normalised(at: &At) {
    for key in ["a/b", "a//b", "a/../b", "a/./b", "a/b/", "a+b", "a%20b", "A/b"] {
        at.put(&at.key(key), key).await.is(201);
    }
    for (key, value) in [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%61/b", "a/b"),
        ("a//b", "a//b"),
        ("a/../b", "a/../b"),
        ("a%2F..%2Fb", "a/../b"),
        ("a/./b", "a/./b"),
        ("a/b/", "a/b/"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a%20b"),
        ("A/b", "A/b"),
    ] {
        assert_eq!(at.get(&at.key(key)).await.is(200).text(), value, "{key}");
    }
    at.get(&at.key("b")).await.refused(404, "not_found");
    // A key may look like another route.
    let odd = at.key("/v1/txn");
    at.put(&odd, "x").await.is(201);
    assert_eq!(at.get(&odd).await.is(200).text(), "x");
}

pub(crate) async fn a_get_takes_conditions(at: &At) {
    let key = at.key("condition");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");
    let tag = format!("\"{revision}\"");
    let other = format!("\"{}\"", revision + 1);
    let both = format!("{other}, {tag}");
    let weak = format!("W/{tag}");
    for (name, value, status) in [
        ("if-none-match", tag.as_str(), 304),
        ("if-none-match", &both, 304),
        ("if-none-match", "*", 304),
        ("if-none-match", &other, 200),
        ("if-none-match", &weak, 200),
        ("if-match", &tag, 200),
        ("if-match", "*", 200),
        ("if-match", &both, 200),
        ("if-match", &other, 412),
        ("if-match", &weak, 412),
        ("if-match", "\"x\"", 412),
    ] {
        let reply = at.send("GET", &key, &[(name, value)], b"").await;
        assert_eq!(reply.status, status, "{name}: {value}");
        assert_eq!(reply.header("etag"), tag);
        assert_eq!(reply.number("kv-revision"), revision);
        assert_eq!(reply.body.is_empty(), status == 304);
    }
    // Without the condition it would be 404, so the condition does not count (RFC 9110 §13.2.1).
    let absent = at.key("condition-absent");
    at.send("GET", &absent, &[("if-match", "*")], b"").await.refused(404, "not_found");
    for value in ["12", "\"12", "", "*, \"1\""] {
        at.send("GET", &key, &[("if-match", value)], b"").await.invalid("If-Match");
        at.send("GET", &key, &[("if-none-match", value)], b"").await.invalid("If-None-Match");
    }
}

pub(crate) async fn a_write_takes_conditions(at: &At) {
    let key = at.key("cas");
    let absent = at.key("cas-absent");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");
    let tag = format!("\"{revision}\"");
    let next = format!("\"{}\"", revision + 1);
    let weak = format!("W/{tag}");
    let before = at.fingerprint().await;

    for (target, name, value, mod_revision) in [
        (&key, "if-match", next.as_str(), revision),
        (&key, "if-match", &weak, revision),
        (&key, "if-match", "\"never\"", revision),
        (&key, "if-none-match", "*", revision),
        (&key, "if-none-match", &tag, revision),
        (&absent, "if-match", "*", 0),
        (&absent, "if-match", &tag, 0),
    ] {
        let patched = format!("{target}?ttl=1h");
        for (method, target) in [("PUT", target), ("DELETE", target), ("PATCH", &patched)] {
            if method == "PATCH" && mod_revision == 0 {
                continue;
            }
            let reply = at.send(method, target, &[(name, value)], b"").await;
            let etag = reply.find("etag").map(str::to_owned);
            let problem = reply.refused(412, "precondition_failed");
            assert_eq!(problem["mod_revision"], mod_revision, "{method} {name}: {value}");
            assert_eq!(etag, (mod_revision > 0).then(|| tag.clone()));
        }
    }
    for value in ["12", "\"12", "", "*, \"1\"", "\"1\" \"2\""] {
        at.send("PUT", &key, &[("if-match", value)], b"y").await.invalid("If-Match");
        at.send("DELETE", &key, &[("if-none-match", value)], b"").await.invalid("If-None-Match");
    }
    assert_eq!(at.fingerprint().await, before, "a refused write left a trace");

    at.send("PUT", &key, &[("if-match", &tag)], b"y").await.is(200);
    at.send("PUT", &key, &[("if-match", "*")], b"y").await.is(200);
    at.send("PUT", &key, &[("if-none-match", &tag)], b"y").await.is(200);
    at.send("PUT", &absent, &[("if-none-match", "*")], b"z").await.is(201);
    at.send("DELETE", &absent, &[("if-match", "*")], b"").await.is(200);
    let current = at.get(&key).await.header("etag").to_owned();
    let both = [("if-match", current.as_str()), ("if-none-match", "\"1\"")];
    at.send("PATCH", &format!("{key}?ttl=1h"), &both, b"").await.is(200);
    at.send("DELETE", &key, &both, b"").await.is(200);
}

pub(crate) async fn a_patch_changes_the_deadline_alone(at: &At) {
    let key = at.key("patched");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");

    let patched = at.patch(&format!("{key}?ttl=1h")).await.is(200);
    assert_eq!(patched.number("kv-revision"), revision, "no revision of its own");
    assert_eq!(patched.header("etag"), format!("\"{revision}\""));
    let record = patched.json();
    assert_eq!((&record["value"], &record["version"]), (&json!("x"), &json!(1)));
    assert!(record["ttl_ms"].as_u64().is_some_and(|ms| ms > 3_000_000));
    assert!(at.get(&key).await.number("kv-ttl-ms") > 3_000_000);

    let without = at.patch(&format!("{key}?ttl=none")).await.is(200).json();
    assert_eq!(without.get("ttl_ms"), None);
    assert_eq!(at.get(&key).await.find("kv-ttl-ms"), None);

    // A PUT without a deadline clears an earlier one.
    at.put(&format!("{key}?ttl=1h"), "y").await.is(200);
    at.put(&key, "z").await.is(200);
    assert_eq!(at.get(&key).await.find("kv-ttl-ms"), None);

    let before = at.fingerprint().await;
    at.patch(&format!("{}?ttl=1h", at.key("patched-absent"))).await.refused(404, "not_found");
    at.patch(&format!("{key}?lease=77")).await.refused(404, "lease_not_found");
    at.put(&format!("{key}?lease=77"), "x").await.refused(404, "lease_not_found");
    at.patch(&key).await.invalid("ttl");
    at.patch(&format!("{key}?ttl=0s")).await.invalid("ttl");
    at.patch(&format!("{key}?ttl=1h&lease=7")).await.invalid("lease");
    assert_eq!(at.fingerprint().await, before);
}

pub(crate) async fn a_delete_takes_one_key(at: &At) {
    let key = at.key("deleted");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");

    let deleted = at.delete(&format!("{key}?prev=true")).await.is(200);
    assert_eq!(deleted.number("kv-revision"), revision + 1);
    let reply = deleted.json();
    assert_eq!((&reply["revision"], &reply["deleted"]), (&json!(revision + 1), &json!(1)));
    assert_eq!(reply["prev"]["value"], "x");
    at.get(&key).await.refused(404, "not_found");

    let again = at.delete(&format!("{key}?prev=true")).await.is(200);
    assert_eq!(again.json(), json!({"revision": revision + 1, "deleted": 0}));
    let created = at.put(&key, "y").await.is(201).json();
    assert_eq!(created["created"], true);
    let plain = at.delete(&key).await.is(200).json();
    assert_eq!(plain, json!({"revision": revision + 3, "deleted": 1}));
}

pub(crate) async fn a_key_with_a_ttl_ends(at: &At) {
    let key = at.key("ends");
    let revision = at.put(&format!("{key}?ttl=200ms"), "x").await.is(201).number("kv-revision");
    until("the key's end", || async { at.get(&key).await.status == 404 }).await;
    assert_eq!(at.get(&key).await.number("kv-revision"), revision + 1);
    at.put(&key, "again").await.is(201);
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    raftmap_client::api::bytes::encode_base64(bytes)
}
