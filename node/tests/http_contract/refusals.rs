//! The table of errors: every code that can be provoked, each shown to have changed nothing.

use std::time::Duration;

use raftmap_node::config::Formation;
use raftmap_node::http::Limits;

use crate::nodes::{Nodes, until};
use crate::wire::read_reply;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_change_nothing() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);
    let before = at.fingerprint().await;

    for (method, target, field) in [
        ("GET", "/v1/kv/", "key"),
        ("PUT", "/v1/kv/", "key"),
        ("PUT", "/v1/kv", "key_base64"),
        ("PATCH", "/v1/kv?ttl=1s", "key_base64"),
        ("PUT", "/v1/kv/%", "key"),
        ("PUT", "/v1/kv/a%4", "key"),
        ("PUT", "/v1/kv/%zz", "key"),
        ("PUT", "/v1/kv/a?colour=red", "colour"),
        ("PUT", "/v1/kv/a?ttl=1s&ttl=2s", "ttl"),
        ("PUT", "/v1/kv/a?ttl=5", "ttl"),
        ("PUT", "/v1/kv/a?ttl=0ms", "ttl"),
        ("PUT", "/v1/kv/a?ttl=", "ttl"),
        ("PUT", "/v1/kv/a?ttl=1s&lease=7", "lease"),
        ("PUT", "/v1/kv/a?lease=0", "lease"),
        ("PUT", "/v1/kv/a?lease=x", "lease"),
        ("PUT", "/v1/kv/a?prev=1", "prev"),
        ("PUT", "/v1/kv/a?prev", "prev"),
        ("PUT", "/v1/kv/a?timeout=5", "timeout"),
        ("PUT", "/v1/kv/a?revision=2", "revision"),
        ("PUT", "/v1/kv/a?key_base64=YQ", "key_base64"),
        ("PUT", "/v1/kv?key_base64=a", "key_base64"),
        ("PUT", "/v1/kv?key_base64=YQ&key_base64=YQ", "key_base64"),
        ("DELETE", "/v1/kv/a?prefix=b", "prefix"),
        ("DELETE", "/v1/kv/a?revision=2", "revision"),
        ("PATCH", "/v1/kv/a?prev=true&ttl=1s", "prev"),
        ("GET", "/v1/kv/a?revision=0", "revision"),
        ("GET", "/v1/kv/a?revision=-1", "revision"),
        ("GET", "/v1/kv/a?min_revision=x", "min_revision"),
        ("GET", "/v1/kv/a?limit=1", "limit"),
        ("GET", "/v1/kv/a?%ff=1", "query"),
        ("GET", "/v1/status?verbose=true", "verbose"),
    ] {
        at.send(method, target, &[], b"").await.invalid(field);
    }
    for (name, value, field) in [
        ("idempotency-key", "abc", "Idempotency-Key"),
        ("kv-guard", "no-token", "KV-Guard"),
        ("kv-guard", "@1", "KV-Guard"),
        ("kv-guard", "a@-1", "KV-Guard"),
        ("kv-guard", "%@1", "KV-Guard"),
    ] {
        for (method, target) in
            [("PUT", "/v1/kv/a"), ("DELETE", "/v1/kv/a"), ("DELETE", "/v1/kv?all=true")]
        {
            at.send(method, target, &[(name, value)], b"").await.invalid(field);
        }
        at.send("POST", "/v1/txn", &[(name, value)], b"{}").await.invalid(field);
    }
    assert_eq!(at.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_says_so() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let before = at.fingerprint().await;

    for target in [
        "/",
        "/v1",
        "/v1/kvx",
        "/v1/watch",
        "/v1/leases",
        "/v1/locks/a",
        "/v2/kv/a",
        "/v1/settings",
        "/v1/backup",
        "/v1/verify",
        "/v1/cluster/compact",
        "/ui",
        "/raft/v2/x",
        "/v1/txn/",
        "//v1/kv/a",
    ] {
        at.get(target).await.refused(404, "route_not_found");
        at.post(target, "{}").await.refused(404, "route_not_found");
    }
    for (method, target, allow) in [
        ("POST", "/v1/kv/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("OPTIONS", "/v1/kv/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("POST", "/v1/kv", "GET, HEAD, PUT, PATCH, DELETE"),
        ("TRACE", "/v1/kv", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", "/v1/txn", "POST"),
        ("PUT", "/v1/status", "GET, HEAD"),
        ("GET", "/v1/cluster/init", "POST"),
        ("DELETE", "/v1/cluster/members", "GET, HEAD, POST"),
        ("GET", "/v1/cluster/members/1", "PUT, DELETE"),
        ("GET", "/v1/cluster/leader", "POST"),
        ("GET", "/v1/cluster/snapshot", "POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("BREW", "/readyz", "GET, HEAD"),
    ] {
        let reply = at.send(method, target, &[], b"").await;
        assert_eq!(reply.header("allow"), allow, "{method} {target}");
        reply.refused(405, "method_not_allowed");
    }
    for (method, target) in [
        ("GET", "/v1/kv/a"),
        ("PUT", "/v1/kv/a"),
        ("DELETE", "/v1/kv?all=true"),
        ("GET", "/v1/kv"),
        ("POST", "/v1/txn"),
        ("GET", "/v1/status"),
    ] {
        let accept = [("accept", "text/html;q=0.9, image/*")];
        at.send(method, target, &accept, b"").await.refused(406, "not_acceptable");
    }
    for coding in ["gzip", "br", "identity, gzip", "x"] {
        let coded = [("content-encoding", coding)];
        at.send("PUT", "/v1/kv/a", &coded, b"x").await.refused(415, "unsupported_media_type");
        at.send("POST", "/v1/txn", &coded, b"{}").await.refused(415, "unsupported_media_type");
    }
    assert_eq!(at.fingerprint().await, before);
    at.send("PUT", "/v1/kv/a", &[("content-encoding", "identity")], b"x").await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let before = at.fingerprint().await;

    let long = "k".repeat(4097);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let query = if method == "PATCH" { "?ttl=1s" } else { "" };
        let reply = at.send(method, &format!("/v1/kv/{long}{query}"), &[], b"").await;
        assert_eq!(reply.refused(414, "key_too_large")["limit"], 4096);
    }
    let body = format!(r#"{{"success":[{{"put":{{"key":"{long}","value":""}}}}]}}"#);
    assert_eq!(at.post("/v1/txn", body).await.refused(414, "key_too_large")["limit"], 4096);

    // Announced: refused without a byte of it.
    let mut socket = at.connect().await;
    let head = "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 8388609\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let problem = read_reply(&mut socket).await.unwrap().refused(413, "value_too_large");
    assert_eq!(problem["limit"], 8 << 20);
    // A client that waits for leave to send is not given it, or is, as the length deserves.
    let mut socket = at.connect().await;
    let expecting = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    socket.write_all(expecting.as_bytes()).await.unwrap();
    read_reply(&mut socket).await.unwrap().refused(413, "value_too_large");
    let mut socket = at.connect().await;
    let expecting = expecting.replace("8388609", "5").replace("/a ", "/a?prev=x ");
    socket.write_all(expecting.as_bytes()).await.unwrap();
    read_reply(&mut socket).await.unwrap().invalid("prev");
    let mut socket = at.connect().await;
    let expecting = expecting.replace("?prev=x", "").replace("PUT", "POST");
    socket.write_all(expecting.as_bytes()).await.unwrap();
    read_reply(&mut socket).await.unwrap().refused(405, "method_not_allowed");
    // Sent all the same: the answer is still heard.
    let beyond = vec![b'v'; (8 << 20) + 1];
    let problem = at.put("/v1/kv/a", &beyond).await.refused(413, "value_too_large");
    assert_eq!(problem["limit"], 8 << 20);
    // Not announced: refused as soon as it is too long.
    let mut chunked =
        b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&vec![b'v'; 1 << 20]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    at.raw(&chunked).await.unwrap().refused(413, "value_too_large");

    let coded = "A".repeat(12 << 20);
    let body = format!(r#"{{"success":[{{"put":{{"key":"a","value_base64":"{coded}"}}}}]}}"#);
    at.post("/v1/txn", body).await.refused(413, "value_too_large");
    let body = vec![b' '; (16 << 20) + 1];
    let problem = at.post("/v1/txn", body).await.refused(413, "request_too_large");
    assert_eq!(problem["limit"], 16 << 20);
    let body = vec![b' '; 70 << 10];
    at.post("/v1/cluster/members", body).await.refused(413, "request_too_large");
    assert_eq!(at.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_of_a_lock_that_does_not_exist_fails() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);
    let before = at.fingerprint().await;
    let guard = [("kv-guard", "my%20lock@41")];
    for (method, target) in [
        ("PUT", "/v1/kv/a"),
        ("PATCH", "/v1/kv/a?ttl=1s"),
        ("DELETE", "/v1/kv/a"),
        ("DELETE", "/v1/kv?all=true"),
    ] {
        let problem = at.send(method, target, &guard, b"").await.refused(412, "guard_failed");
        assert_eq!(problem["token"], 0);
    }
    at.send("POST", "/v1/txn", &guard, b"{}").await.refused(412, "guard_failed");
    assert_eq!(at.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_takes_deletes_and_reads_and_clears_by_itself() {
    let nodes = Nodes::one_with(|config| config.quota_bytes = Some(100_000)).await;
    let at = nodes.only();
    let value = vec![b'v'; 30_000];
    for key in ["a", "b", "c"] {
        at.put(&format!("/v1/kv/{key}"), &value).await.is(201);
    }
    let before = at.fingerprint().await;
    let problem = at.put("/v1/kv/d", &value).await.refused(507, "quota_exceeded");
    assert_eq!(problem["limit"], 100_000);
    let coded = String::from_utf8(value.clone()).unwrap();
    let body = format!(r#"{{"success":[{{"put":{{"key":"d","value":"{coded}"}}}}]}}"#);
    at.post("/v1/txn", body).await.refused(507, "quota_exceeded");
    assert_eq!(at.fingerprint().await, before);

    at.get("/v1/kv/a").await.is(200);
    at.delete("/v1/kv/a").await.is(200);
    at.put("/v1/kv/d", &value).await.is(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_says_come_back_later() {
    let nodes = Nodes::one().await;
    nodes.only().put("/v1/kv/a", vec![b'v'; 40_000]).await.is(201);
    let before = nodes.only().fingerprint().await;

    let none = Limits { requests_max: 0, ..Limits::default() };
    let (at, _stop) = nodes.with_limits(none).await;
    at.get("/v1/kv/a").await.refused(429, "too_many_requests");
    at.put("/v1/kv/a", "y").await.refused(429, "too_many_requests");

    let small = Limits { body_bytes_max: 30_000, ..Limits::default() };
    let (at, _stop) = nodes.with_limits(small).await;
    at.put("/v1/kv/a", vec![b'v'; 40_000]).await.refused(429, "too_many_requests");
    at.get("/v1/kv/a").await.refused(429, "too_many_requests");
    at.get("/v1/kv/b").await.refused(404, "not_found");
    assert_eq!(nodes.only().fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_formed_or_is_stopping_says_so() {
    let nodes = Nodes::one_with(|config| config.formation = Formation::WaitForInit).await;
    let at = nodes.only();
    at.get("/livez").await.is(200);
    at.get("/readyz").await.refused(503, "no_leader");
    at.put("/v1/kv/a?timeout=50ms", "x").await.refused(503, "no_leader");
    at.get("/v1/kv/a?timeout=50ms").await.refused(503, "no_leader");
    assert_eq!(at.get("/v1/status").await.is(200).json()["cluster_id"], serde_json::Value::Null);

    let nodes = Nodes::one().await;
    let at = nodes.only();
    let before = at.fingerprint().await;
    nodes.node(1).service().stop_admitting();
    at.put("/v1/kv/a", "x").await.refused(503, "shutting_down");
    at.get("/v1/kv/a").await.refused(503, "shutting_down");
    at.get("/readyz").await.refused(503, "shutting_down");
    at.get("/livez").await.is(200);
    assert_eq!(at.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_broken_body_leaves_no_trace() {
    let nodes = Nodes::one().await;
    let before = nodes.only().fingerprint().await;
    let hasty = Limits { body_grace: Duration::from_millis(50), ..Limits::default() };
    let (at, _stop) = nodes.with_limits(hasty).await;

    let mut socket = at.connect().await;
    let head = "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    socket.write_all(head.as_bytes()).await.unwrap();
    let reply = read_reply(&mut socket).await.unwrap();
    assert_eq!(reply.header("connection"), "close");
    reply.invalid("body");

    for head in [
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /v1/txn HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
        "PUT /v1/kv/a HT",
    ] {
        let mut socket = nodes.only().connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        drop(socket);
    }
    until("every request's end", || async {
        let figures = nodes.only().get("/metrics").await.text();
        figures.lines().any(|line| line == "raftmap_http_requests_under_way 1")
    })
    .await;
    assert_eq!(nodes.only().fingerprint().await, before);
}
