//! The `raftmap` binary against a fake node: exit codes, what goes to stdout and what to stderr.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by a panic")]

mod support;

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use axum::{body::Body, response::Response};
use raftmap_client::api::Code;
use serde_json::{Value, json};
use support::{Fake, from, json, nobody, problem, record};

fn raftmap(endpoint: &str, args: &[&str]) -> Output {
    raftmap_with(endpoint, args, "")
}

fn raftmap_with(endpoint: &str, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_raftmap"))
        .args(args)
        .env("RAFTMAP_ENDPOINTS", endpoint)
        .env_remove("RAFTMAP_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its stdin may be gone by now.
    let _written = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn put_reply() -> Response {
    json(201, &json!({ "revision": 12, "created": true }))
}

fn status(endpoint: &str) -> Value {
    json!({
        "node_id": 1, "cluster_id": "0".repeat(32), "version": "0", "role": "leader", "term": 3, "leader": 1,
        "members": [{ "id": 1, "addr": endpoint, "role": "voter", "labels": {}, "matched_index": 9 }],
        "uptime_ms": 1,
        "log": { "first_index": 1, "last_index": 9, "committed_index": 9, "applied_index": 9,
                 "snapshot_index": 0, "segments": 1, "bytes": 0 },
        "store": { "revision": 7, "oldest_revision": 1, "keys": 5, "leases": 0, "cold_bytes": 0,
                   "hot": { "entries": 0, "bytes": 0, "bytes_max": 0, "hits": 0, "misses": 0,
                            "promotions": 0, "evictions": 0 } },
    })
}

#[test]
fn done_is_0_and_says_what_was_done() {
    let node = Fake::start(|_, _| put_reply());
    let output = raftmap(&node.endpoint(), &["put", "a", "1", "--ttl", "30s"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(stdout(&output), "created at revision 12\n");
    assert_eq!(node.lines(), ["PUT /v1/kv/a?ttl=30s"]);
}

#[test]
fn a_value_comes_from_stdin_byte_by_byte() {
    let node = Fake::start(|_, _| put_reply());
    let output = raftmap_with(&node.endpoint(), &["put", "a", "-"], "line\n\n");
    assert_eq!(code(&output), 0);
    assert_eq!(node.asked()[0].body, "line\n\n");
}

#[test]
fn a_value_goes_to_stdout_byte_by_byte() {
    let node = Fake::start(|_, _| record("hello"));
    let output = raftmap(&node.endpoint(), &["get", "a"]);
    assert_eq!((code(&output), stdout(&output)), (0, "hello"));
}

#[test]
fn json_is_the_object_of_the_interface() {
    let node = Fake::start(|_, _| record("hello"));
    let output = raftmap(&node.endpoint(), &["get", "a", "--output", "json"]);
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        value,
        json!({ "key": "a", "value": "hello", "create_revision": 2, "mod_revision": 12, "version": 5 })
    );
}

#[test]
fn absent_and_precondition_failed_are_1() {
    for refusal in [Code::NotFound, Code::PreconditionFailed] {
        let node = Fake::start(move |_, _| {
            let mut response = problem(refusal);
            response.headers_mut().insert("kv-revision", 7.into());
            response
        });
        let output = raftmap(&node.endpoint(), &["get", "a"]);
        assert_eq!((code(&output), stdout(&output)), (1, ""), "{refusal}");
        assert!(stderr(&output).starts_with("raftmap: "), "{}", stderr(&output));
    }
}

#[test]
fn usage_is_2_and_nothing_is_sent() {
    let node = Fake::start(|_, _| put_reply());
    for args in [
        &["watch"][..],
        &["put", "a"],
        &["put", "a", "1", "--ttl", "30"],
        &["put", "", "1"],
        &["del"],
        &["del", "--prefix", ""],
        &["get", "a", "--consistency", "sometimes"],
        &["bench", "put", "--clients", "0"],
        &["bench", "put", "--key-bytes", "2"],
        &["put", "a", "1", "--endpoints", "nonsense"],
        &["txn", "/nonexistent"],
    ] {
        let output = raftmap(&node.endpoint(), args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
    }
    assert_eq!(node.lines(), Vec::<String>::new());
}

#[test]
fn unreachable_is_3() {
    let output = raftmap(&nobody(), &["get", "a", "--timeout", "200ms"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let no_leader = Fake::start(|_, _| problem(Code::NoLeader));
    let output = raftmap(&no_leader.endpoint(), &["put", "a", "1", "--timeout", "200ms"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn an_unknown_outcome_is_4() {
    let node = Fake::start(|_, _| problem(Code::Timeout));
    let output = raftmap(&node.endpoint(), &["put", "a", "1", "--output", "json"]);
    assert_eq!(code(&output), 4);
    let value: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert_eq!(value["exit_code"], 4);
    assert_eq!(node.asked().len(), 1);
}

#[test]
fn status_asks_every_member() {
    let node = Fake::start(|asked, _| {
        let host = asked.headers["host"].to_str().unwrap();
        json(200, &status(host))
    });
    let output = raftmap(&node.endpoint(), &["status"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines[0].starts_with("ID  ADDRESS"), "{lines:?}");
    assert!(lines[1].contains("leader") && lines[1].contains(&node.endpoint()), "{lines:?}");
}

#[test]
fn status_says_whose_disk_is_nearly_full() {
    let disk = json!({ "free_bytes": 1000, "reserve_bytes": 2000, "low": true });
    let node = Fake::start(move |asked, _| {
        let mut status = status(asked.headers["host"].to_str().unwrap());
        status["disk"] = disk.clone();
        json(200, &status)
    });
    let output = raftmap(&node.endpoint(), &["status"]);
    let last = stdout(&output).lines().last().unwrap();
    assert!(last.contains("node 1 is nearly full: 1000 bytes are free, 2000"), "{last}");
}

#[test]
fn a_transaction_is_passed_on_and_its_branch_is_a_result() {
    let node = Fake::start(|_, _| {
        json(200, &json!({ "succeeded": false, "revision": 9, "results": [{ "get": null }] }))
    });
    let txn = r#"{"compare":[{"key":"a","target":"version","op":"=","value":0}],"failure":[{"get":{"key":"a"}}]}"#;
    let output = raftmap_with(&node.endpoint(), &["txn", "-"], txn);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "failure branch, revision 9\n{\"get\":null}\n");
    let sent: Value = serde_json::from_slice(&node.asked()[0].body).unwrap();
    assert_eq!(sent["compare"][0]["target"], "version");
}

const EXPORTED: &str = "{\"key\":\"a\",\"value\":\"1\",\"create_revision\":2,\"mod_revision\":2,\"version\":1}\n\
    {\"key\":\"b\\n\",\"value\":\"2\",\"create_revision\":3,\"mod_revision\":3,\"version\":1,\"ttl_ms\":900}\n\
    {\"end\":true,\"revision\":3,\"count\":2}\n";

fn with_two_records() -> Fake {
    Fake::start(|asked, _| {
        if asked.line.contains("count_only") {
            return json(200, &json!({ "revision": 3, "items": [], "prefixes": [], "count": 2 }));
        }
        if asked.line.starts_with("GET") {
            return Response::new(Body::from(EXPORTED));
        }
        json(200, &json!({ "succeeded": true, "revision": 4, "results": [] }))
    })
}

#[test]
fn a_list_is_a_line_per_key() {
    let node = with_two_records();
    let output = raftmap(&node.endpoint(), &["list"]);
    assert_eq!(stdout(&output), "a\t1\nb\\n\t2\n");
    let output = raftmap(&node.endpoint(), &["list", "--output", "json"]);
    assert_eq!(stdout(&output), EXPORTED);
    let output = raftmap(&node.endpoint(), &["list", "--count"]);
    assert_eq!(stdout(&output), "2\n");
}

#[test]
fn what_was_exported_can_be_imported() {
    let node = with_two_records();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.ndjson");
    let file = file.to_str().unwrap();

    let output = raftmap(&node.endpoint(), &["export", file]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(stdout(&output), "exported 2 keys at revision 3\n");
    assert_eq!(std::fs::read_to_string(file).unwrap(), EXPORTED);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");

    let output = raftmap(&node.endpoint(), &["import", file]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(stdout(&output), "imported 2 keys, revision 4\n");
    let txn: Value = serde_json::from_slice(&node.asked().last().unwrap().body).unwrap();
    assert_eq!(
        txn["success"],
        json!([{ "put": { "key": "a", "value": "1" } }, { "put": { "key": "b\n", "value": "2", "ttl": "900ms" } }])
    );
}

#[test]
fn an_export_that_was_cut_off_leaves_no_file() {
    let node = Fake::start(|asked, _| {
        if asked.line.contains("count_only") {
            return json(200, &json!({ "revision": 3, "items": [], "prefixes": [], "count": 2 }));
        }
        Response::new(Body::from(EXPORTED.lines().next().unwrap().to_owned() + "\n"))
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.ndjson");
    let output = raftmap(&node.endpoint(), &["export", file.to_str().unwrap()]);
    assert_eq!(code(&output), 3);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_whole_is_refused_before_anything_is_written() {
    let node = with_two_records();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("half.ndjson");
    std::fs::write(&file, EXPORTED.lines().next().unwrap()).unwrap();
    let output = raftmap(&node.endpoint(), &["import", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(node.lines(), Vec::<String>::new());
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let many = EXPORTED.lines().next().unwrap().to_owned() + "\n";
    let node = Fake::start(move |_, _| Response::new(Body::from(many.repeat(100_000))));
    let mut child = Command::new(env!("CARGO_BIN_EXE_raftmap"))
        .args(["list", "--endpoints", &node.endpoint()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, ""));
}

#[test]
fn a_bench_counts_what_was_answered() {
    let node = Fake::start(|asked, number| {
        match asked.line.as_str() {
        "GET /v1/status" => json(200, &status(asked.headers["host"].to_str().unwrap())),
        "GET /metrics" => from(1, 1)
            .body(Body::from(format!(
                "raftmap_process_cpu_seconds_total {number}\nraftmap_process_write_bytes_total {number}\n\
                 raftmap_process_resident_bytes 1048576\n"
            )))
            .unwrap(),
        line if line.starts_with("PUT") => put_reply(),
        _ => record("v"),
    }
    });
    let args = ["bench", "mixed", "--clients", "4", "--keys", "10", "--duration", "200ms"];
    let args = [&args[..], &["--warmup", "10ms", "--output", "json"]].concat();
    let output = raftmap(&node.endpoint(), &args);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(report["workload"], "mixed");
    assert_eq!(report["errors"], json!({}));
    assert!(report["latency_us"]["put"]["operations"].as_u64().unwrap() > 0, "{report}");
    assert!(report["latency_us"]["get"]["p99"].as_u64().unwrap() > 0, "{report}");
    assert!(report["nodes"]["cpu_seconds_per_100k"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["nodes"]["resident_bytes_max"], 1_048_576.0);
    let puts = node.asked().into_iter().filter(|a| a.line.starts_with("PUT")).collect::<Vec<_>>();
    assert_eq!(puts[0].body.len(), 256);
    assert_eq!(puts[0].line, "PUT /v1/kv/bench/0000000000");
}
