//! `raftmap-node log …` on the real files of a real node: what the commands say, their exit codes, and a single node
//! that goes on with what could be saved.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use raftmap_client::PutOptions;
use serde_json::Value;

use crate::formation::copy_dir;
use crate::harness::{Cluster, free_addr};

/// One node that has written a few keys and stopped.
async fn stopped() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::empty();
    cluster.add(1, free_addr(), &[], &[]);
    cluster.leader().await;
    for n in 0..20 {
        put(&cluster, &format!("key-{n}")).await;
    }
    cluster.stop(1);
    let dir = cluster.dir_of(1);
    (cluster, dir)
}

async fn put(cluster: &Cluster, key: &str) {
    cluster.client().put(key, "value", &PutOptions::default()).await.expect("a write");
}

fn tool(dir: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftmap-node"));
    command.arg("log").args(words).arg("--data-dir").arg(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAFTMAP_") {
            command.env_remove(name);
        }
    }
    let Output { status, stdout, stderr } = command.output().expect("run the tool");
    let text = String::from_utf8(stdout).expect("UTF-8") + &String::from_utf8_lossy(&stderr);
    (status.code().expect("an exit code"), text)
}

fn json(dir: &Path, words: &[&str]) -> (i32, Value) {
    let (code, text) = tool(dir, &[words, &["--json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}")))
}

/// Changes one byte in the middle of the last entries.
fn damage(dir: &Path) {
    let wal = std::fs::read_dir(dir.join("wal")).expect("list the log");
    let mut segments: Vec<_> = wal.map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|ext| ext == "wal"));
    segments.sort();
    let path = segments.first().expect("a segment");
    let mut bytes = std::fs::read(path).expect("read a segment");
    let at = bytes.windows(6).position(|window| window == b"key-15").expect("an entry");
    bytes[at + 4] = b'9';
    std::fs::write(path, bytes).expect("write a segment");
}

#[tokio::test]
async fn the_log_of_a_stopped_node_is_clean_and_can_be_read() {
    let (_cluster, dir) = stopped().await;
    let (code, text) = tool(&dir, &["verify", "--deep"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("clean"), "{text}");
    let (code, found) = json(&dir, &["verify"]);
    assert_eq!((code, found["outcome"].as_str()), (0, Some("clean")));
    let last = found["found"]["last_index"].as_u64().expect("the last entry");

    let (code, text) = tool(&dir, &["inspect"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("IDENTITY  node 1") && text.contains("FRONTIER"), "{text}");
    let (_, found) = json(&dir, &["inspect"]);
    assert_eq!(found["identity"]["node_id"], 1);

    let last_text = last.to_string();
    let (code, text) = tool(&dir, &["dump", "--from", &last_text, "--hex"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!(".{last} ")), "{text}");
    let (_, text) = tool(&dir, &["dump", "--json", "--records"]);
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert!(lines.iter().any(|line| line["type"] == "vote"));
    let payload = |line: &Value| line["entry"]["payload"].as_str().map(str::to_owned);
    assert!(lines.iter().filter_map(payload).any(|payload| payload.starts_with("put")), "{text}");

    let (code, text) = tool(&dir, &["repair", "--i-accept-data-loss"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("nothing to repair"), "{text}");
}

#[tokio::test]
async fn a_single_node_goes_on_with_what_could_be_saved_of_its_log() {
    let (mut cluster, dir) = stopped().await;
    damage(&dir);
    cluster.start(1);
    assert_eq!(cluster.exit_code(1).await, Some(1), "a damaged log is refused");

    let (code, found) = json(&dir, &["verify"]);
    assert_eq!((code, found["damage"]["cause"].as_str()), (2, Some("end_lost")), "{found}");
    let (code, plan) = json(&dir, &["repair"]);
    assert_eq!((code, plan["done"].as_str()), (1, Some("planned")), "{plan}");
    let kept = plan["keeps"]["last_index"].as_u64().expect("something is kept");
    assert_eq!(plan["lost"]["first_index"].as_u64(), Some(kept + 1));
    assert_eq!(tool(&dir, &["verify"]).0, 2, "a plan changes nothing");

    // As another voter the log is refused by its own store.
    let copy = dir.with_file_name("copy");
    copy_dir(&dir, &copy);
    let (code, text) = tool(&copy, &["repair", "--i-accept-data-loss"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(tool(&copy, &["verify"]).0, 0);
    let said = refused(&copy, 1);
    assert!(said.contains("belongs to node 1 and log"), "{said}");
    // What it says then is a way back.
    let printed = |word: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(word));
        line.unwrap_or_else(|| panic!("{word} in {text}")).trim().to_owned()
    };
    assert!(printed("mv").contains("wal.new-identity"), "{text}");
    assert!(printed("raftmap-node").ends_with("--keep-identity --i-accept-data-loss"), "{text}");
    let script: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("  mv")).collect();
    let program = env!("CARGO_BIN_EXE_raftmap-node");
    let script = script.join("\n").replace("raftmap-node", program);
    let way_back = Command::new("sh").args(["-e", "-c", &script]).output().expect("run a shell");
    assert!(way_back.status.success(), "{script}: {way_back:?}");
    assert_eq!(tool(&copy, &["verify"]).0, 0);
    assert!(mark(&copy).contains("identity kept\n"), "{}", mark(&copy));

    let (code, text) = tool(&dir, &["repair", "--keep-identity", "--i-accept-data-loss"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("keeps     entries 0 to {kept}")), "{text}");
    assert!(dir.join("wal.backup-1").is_dir());
    assert_eq!(tool(&dir, &["verify", "--deep"]).0, 0);
    cluster.start(1);
    cluster.leader().await;
    let got = cluster.client().get("key-3", &Default::default()).await.expect("a read");
    assert!(got.record.is_some(), "what was kept is there");
    put(&cluster, "after").await;
    cluster.stop(1);
    assert_eq!(tool(&dir, &["verify"]).0, 0);
    assert!(mark(&dir).contains("identity settled\n"), "the cluster may grow: {}", mark(&dir));
}

/// What the repair wrote into the log.
fn mark(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("wal/REPAIRED")).expect("the mark of a repair")
}

/// Starts a node that must not start; what it says.
fn refused(dir: &Path, id: u64) -> String {
    let node = Command::new(env!("CARGO_BIN_EXE_raftmap-node"))
        .args(["--id", &id.to_string(), "--listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(dir)
        .output()
        .expect("run a node");
    let said = String::from_utf8_lossy(&node.stderr).into_owned();
    assert_eq!(node.status.code(), Some(1), "{said}");
    said
}

#[tokio::test]
async fn a_member_of_a_cluster_does_not_go_on_with_a_log_whose_identity_a_repair_kept() {
    let mut cluster = Cluster::of(3, &[]).await;
    cluster.leader().await;
    for n in 0..20 {
        put(&cluster, &format!("key-{n}")).await;
    }
    cluster.settled().await;
    cluster.stop(2);
    let dir = cluster.dir_of(2);
    damage(&dir);
    let (code, text) = tool(&dir, &["repair", "--keep-identity", "--i-accept-data-loss"]);
    assert_eq!(code, 0, "{text}");
    for _ in 0..2 {
        let said = refused(&dir, 2);
        assert!(said.contains("the other voters are [1, 3]"), "{said}");
        assert!(said.contains("join it under a new id"), "{said}");
    }
    assert!(mark(&dir).contains("identity kept\n"));
}

#[tokio::test]
async fn a_reader_who_goes_away_does_not_change_the_answer() {
    let (_cluster, dir) = stopped().await;
    damage(&dir);
    let mut verify = Command::new(env!("CARGO_BIN_EXE_raftmap-node"))
        .args(["log", "verify", "--data-dir"])
        .arg(&dir)
        .stdout(closed_pipe())
        .spawn()
        .expect("run the tool");
    assert_eq!(verify.wait().expect("it ends").code(), Some(2));
}

/// A pipe that nobody reads.
fn closed_pipe() -> std::process::Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn a_running_node_is_looked_at_and_never_repaired() {
    let (mut cluster, dir) = stopped().await;
    cluster.start(1);
    cluster.leader().await;
    let (code, text) = tool(&dir, &["verify"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("may be moving"), "{text}");
    let (code, text) = tool(&dir, &["repair"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("stop it first"), "{text}");
}

#[test]
fn wrong_use_and_nothing_there_have_their_codes() {
    let dir = tempfile::tempdir().expect("a directory");
    for words in [&["verify"][..], &["inspect"], &["dump"], &["repair"]] {
        assert_eq!(tool(dir.path(), words).0, 3, "{words:?}");
    }
    for words in [&["verfy"][..], &["dump", "--from", "x"], &[]] {
        assert_eq!(tool(dir.path(), words).0, 2, "{words:?}");
    }
}
