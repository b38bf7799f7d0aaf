//! The library against fake nodes over real sockets: what is sent where, what is repeated, what is not.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by a panic")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{body::Body, response::Response};
use raftmap_client::{
    Client, Condition, Consistency, Deadline, DeleteOptions, Error, ListOptions, PutOptions,
    ReadOptions,
    api::{Bounds, Code, Record, Ttl, TxnRequest},
};
use serde_json::json;
use support::{Asked, Fake, from, json, nobody, problem, record};

fn put_reply() -> Response {
    json(200, &json!({ "revision": 12, "created": false }))
}

fn client<const N: usize>(endpoints: [String; N]) -> Client {
    Client::builder(endpoints).timeout(Duration::from_secs(5)).build().unwrap()
}

/// A server that reads a request and then closes the connection without a word.
fn hangs_up() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).unwrap() > 0 {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (addr, requests)
}

/// Waits until `holds`, at most 5 s.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_that_is_gone_is_passed_over() {
    let alive = Fake::start(|_, _| put_reply());
    let client = client([nobody(), nobody(), alive.endpoint()]);
    let reply = client.put("a", "1", &PutOptions::default()).await.unwrap();
    assert_eq!(reply.revision, 12);
    assert_eq!(alive.lines(), ["PUT /v1/kv/a"]);
}

#[tokio::test]
async fn without_a_leader_requests_go_round() {
    let nodes = [0, 1, 2].map(|_| Fake::start(|_, _| put_reply()));
    let client = client(nodes.each_ref().map(Fake::endpoint));
    for _ in 0..6 {
        client.put("a", "1", &PutOptions::default()).await.unwrap();
    }
    assert_eq!(nodes.map(|node| node.lines().len()), [2, 2, 2]);
}

#[tokio::test]
async fn writes_go_to_the_leader_that_a_reply_named() {
    let leader = Fake::start(|_, _| {
        from(2, 2).body(Body::from(r#"{"revision":3,"created":true}"#)).unwrap()
    });
    let members = json!([
        { "id": 1, "addr": "127.0.0.1:1", "role": "voter", "labels": {}, "matched_index": null },
        { "id": 2, "addr": leader.endpoint(), "role": "voter", "labels": {}, "matched_index": null },
    ]);
    let status = json!({
        "node_id": 1, "cluster_id": null, "version": "0", "role": "follower", "term": 1, "leader": 2,
        "members": members, "uptime_ms": 1,
        "log": { "first_index": 0, "last_index": 0, "committed_index": 0, "applied_index": 0,
                 "snapshot_index": 0, "segments": 1, "bytes": 0 },
        "store": { "revision": 1, "oldest_revision": 1, "keys": 0, "leases": 0, "cold_bytes": 0,
                   "hot": { "entries": 0, "bytes": 0, "bytes_max": 0, "hits": 0, "misses": 0,
                            "promotions": 0, "evictions": 0 } },
    })
    .to_string();
    let follower = Fake::start(move |asked, _| match asked.line.as_str() {
        "GET /v1/status" => from(1, 2).body(Body::from(status.clone())).unwrap(),
        _ => from(1, 2).body(Body::from(r#"{"revision":2,"created":true}"#)).unwrap(),
    });
    let client = client([follower.endpoint()]);

    // The follower forwards the first writes; its replies name node 2, its status gives the address.
    until("a write to the leader", async || {
        client.put("a", "1", &PutOptions::default()).await.unwrap();
        !leader.asked().is_empty()
    })
    .await;

    let before = follower.asked().len();
    client.put("a", "1", &PutOptions::default()).await.unwrap();
    assert_eq!(follower.asked().len(), before, "the follower is left alone from now on");
}

#[tokio::test]
async fn a_write_that_was_certainly_not_applied_is_repeated() {
    for code in [Code::NoLeader, Code::ShuttingDown, Code::StorageFailed, Code::TooManyRequests] {
        let node = Fake::start(move |_, number| match number {
            0 | 1 => problem(code),
            _ => put_reply(),
        });
        let reply = client([node.endpoint()]).put("a", "1", &PutOptions::default()).await;
        assert_eq!(reply.unwrap().revision, 12, "{code}");
        assert_eq!(node.asked().len(), 3, "{code}");
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_said_to_be_so_and_not_repeated() {
    for code in [Code::Timeout, Code::Internal] {
        let node = Fake::start(move |_, _| problem(code));
        let error = client([node.endpoint()]).put("a", "1", &PutOptions::default()).await;
        assert!(matches!(error, Err(Error::Unknown { .. })), "{code}: {error:?}");
        assert_eq!(node.asked().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_write_whose_connection_broke_is_unknown_and_not_repeated() {
    let (addr, requests) = hangs_up();
    let other = Fake::start(|_, _| put_reply());
    let client = client([addr.to_string(), other.endpoint()]);
    let error = client.put("a", "1", &PutOptions::default()).await;
    assert!(matches!(error, Err(Error::Unknown { .. })), "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    assert_eq!(other.asked().len(), 0);
}

#[tokio::test]
async fn a_read_whose_connection_broke_is_repeated_elsewhere() {
    let (addr, requests) = hangs_up();
    let other = Fake::start(|_, _| record("hello"));
    let client = client([addr.to_string(), other.endpoint()]);
    let got = client.get("a", &ReadOptions::default()).await.unwrap();
    assert_eq!(got.record.unwrap().value.unwrap(), "hello");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_node_that_never_answers_does_not_hold_a_read() {
    // The kernel accepts the connection, nobody ever reads from it: as a stopped process.
    let stopped = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Fake::start(|_, _| record("hello"));
    let client = client([stopped.local_addr().unwrap().to_string(), other.endpoint()]);
    let got = client.get("a", &ReadOptions::default()).await.unwrap();
    assert_eq!(got.record.unwrap().value.unwrap(), "hello");
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let node = Fake::start(|_, _| problem(Code::NoLeader));
    let options = PutOptions { timeout: Some(Duration::from_millis(300)), ..PutOptions::default() };
    let started = Instant::now();
    let error = client([node.endpoint()]).put("a", "1", &options).await.unwrap_err();
    assert!(matches!(error, Error::Retry { .. }), "{error:?}");
    assert_eq!(error.code(), Some(Code::NoLeader));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(node.asked().len() > 1);
}

#[tokio::test]
async fn a_refusal_is_final() {
    for code in [Code::PreconditionFailed, Code::InvalidArgument, Code::QuotaExceeded] {
        let node = Fake::start(move |_, _| problem(code));
        let error = client([node.endpoint()]).put("a", "1", &PutOptions::default()).await;
        assert_eq!(error.unwrap_err().code(), Some(code));
        assert_eq!(node.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_read_brings_the_record_with_its_revisions() {
    let node = Fake::start(|_, _| record("hello"));
    let got = client([node.endpoint()]).get("a", &ReadOptions::default()).await.unwrap();
    let expected = Record {
        key: "a".into(),
        value: Some("hello".into()),
        create_revision: 2,
        mod_revision: 12,
        version: 5,
        lease: None,
        ttl_ms: None,
    };
    assert_eq!(got.record, Some(expected));
    assert_eq!((got.revision, got.tier.as_deref()), (13, Some("hot")));
}

#[tokio::test]
async fn an_absent_key_is_no_error() {
    let node = Fake::start(|_, _| {
        let mut response = problem(Code::NotFound);
        response.headers_mut().insert("kv-revision", 7.into());
        response
    });
    let got = client([node.endpoint()]).get("a", &ReadOptions::default()).await.unwrap();
    assert_eq!((got.record, got.revision), (None, 7));
}

#[tokio::test]
async fn calls_look_on_the_wire_as_the_contract_says() {
    let node = Fake::start(|asked, _| match asked.line.split(' ').next() {
        Some("GET") => record("x"),
        Some("PATCH") => {
            json(200, &json!({ "key": "a", "create_revision": 2, "mod_revision": 2, "version": 1 }))
        }
        Some("POST") => json(200, &json!({ "succeeded": true, "revision": 2, "results": [] })),
        Some("DELETE") => json(200, &json!({ "revision": 2, "deleted": 1 })),
        _ => put_reply(),
    });
    let client = client([node.endpoint()]);
    let put = PutOptions {
        ttl: Some(Ttl::After(Duration::from_secs(30))),
        condition: Condition::Absent,
        prev: true,
        ..PutOptions::default()
    };
    client.put(b"\xff/ b", "v", &put).await.unwrap();
    let if_12 = DeleteOptions { condition: Condition::Revision(12), ..DeleteOptions::default() };
    client.delete("a/../b", &if_12).await.unwrap();
    let prefix = Bounds::Prefix("p/".into());
    client.delete_range(&prefix, &DeleteOptions::default()).await.unwrap();
    client.clear().await.unwrap();
    client.touch("a", Deadline::Ttl(Ttl::Never), Condition::Exists).await.unwrap();
    let stale = Consistency::Stale { max_staleness: None };
    let read = ReadOptions { consistency: stale, revision: Some(9), ..ReadOptions::default() };
    client.get("a", &read).await.unwrap();
    client.txn(&TxnRequest::default()).await.unwrap();

    assert_eq!(
        node.lines(),
        [
            "PUT /v1/kv/%FF/%20b?ttl=30s&prev=true",
            "DELETE /v1/kv?key_base64=YS8uLi9i",
            "DELETE /v1/kv?prefix=p%2F",
            "DELETE /v1/kv?all=true",
            "PATCH /v1/kv/a?ttl=none",
            "GET /v1/kv/a?consistency=stale&revision=9",
            "POST /v1/txn",
        ]
    );
    let asked = node.asked();
    let header = |asked: &Asked, name: &str| asked.headers[name].to_str().unwrap().to_owned();
    assert_eq!(asked[0].body, "v");
    assert_eq!(header(&asked[0], "if-none-match"), "*");
    assert_eq!(header(&asked[1], "if-match"), "\"12\"");
    assert_eq!(header(&asked[4], "if-match"), "*");
}

#[tokio::test]
async fn the_token_goes_with_every_call() {
    let node = Fake::start(|_, _| put_reply());
    let client = Client::builder([node.endpoint()]).token("secret").build().unwrap();
    client.put("a", "1", &PutOptions::default()).await.unwrap();
    assert_eq!(node.asked()[0].headers["authorization"], "Bearer secret");
}

const TWO_RECORDS: &str = "{\"key\":\"a\",\"value\":\"1\",\"create_revision\":2,\"mod_revision\":2,\"version\":1}\n\
    {\"key\":\"b\",\"value\":\"2\",\"create_revision\":3,\"mod_revision\":3,\"version\":1}\n";

fn stream_of(text: String) -> Fake {
    Fake::start(move |_, _| Response::new(Body::from(text.clone())))
}

#[tokio::test]
async fn a_stream_ends_with_its_end_line() {
    let node = stream_of(format!("{TWO_RECORDS}{{\"end\":true,\"revision\":3,\"count\":2}}\n"));
    let options = ListOptions { keys_only: true, ..ListOptions::prefix("a") };
    let mut records = client([node.endpoint()]).list_stream(&options).await.unwrap();
    let mut keys = Vec::new();
    while let Some(record) = records.next().await.unwrap() {
        keys.push(record.key);
    }
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(records.end().unwrap().revision, 3);
    assert_eq!(records.next().await.unwrap(), None);
    assert_eq!(node.lines(), ["GET /v1/kv?prefix=a&keys_only=true"]);
    assert_eq!(node.asked()[0].headers["accept"], "application/x-ndjson");
}

#[tokio::test]
async fn a_stream_without_its_end_line_was_cut_off() {
    let node = stream_of(TWO_RECORDS.to_owned());
    let options = ListOptions::prefix("");
    let mut records = client([node.endpoint()]).list_stream(&options).await.unwrap();
    assert!(records.next().await.unwrap().is_some());
    assert!(records.next().await.unwrap().is_some());
    let error = records.next().await.unwrap_err();
    assert!(matches!(error, Error::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("after 2 records"), "{error}");
}

#[tokio::test]
async fn a_stream_that_miscounts_is_not_believed() {
    let node = stream_of(format!("{TWO_RECORDS}{{\"end\":true,\"revision\":3,\"count\":3}}\n"));
    let options = ListOptions::prefix("");
    let mut records = client([node.endpoint()]).list_stream(&options).await.unwrap();
    records.next().await.unwrap();
    records.next().await.unwrap();
    assert!(matches!(records.next().await, Err(Error::Internal { .. })));
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_stream_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _request = stream.read(&mut [0; 4096]).unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        stream.write_all(format!("{head}{TWO_RECORDS}").as_bytes()).unwrap();
    });
    let options = ListOptions::prefix("");
    let mut records = client([addr.to_string()]).list_stream(&options).await.unwrap();
    let error = loop {
        match records.next().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(error, Error::Retry { .. }), "{error:?}");
}
