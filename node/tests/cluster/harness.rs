//! A cluster of real processes: started, killed, stopped, paused and asked from outside.
//!
//! Every wait has a condition and a deadline. A test that fails prints the nodes' last log lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use raftmap_client::api::cluster::{NodeRole, Status};
use raftmap_client::{Client, Got};
use tempfile::TempDir;

/// What is waited for comes within this time on a slow, busy machine, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Timings that hold on a starved two-core machine, short enough for many rounds.
const TIMINGS: [&str; 4] = ["--heartbeat", "100ms", "--election-timeout", "500ms-1000ms"];

/// Ports are taken from below the range that the kernel gives to outgoing connections, so that a
/// stopped node finds its own free again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Cluster {
    dir: TempDir,
    nodes: BTreeMap<u64, Process>,
}

pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) addr: String,
    args: Vec<String>,
    child: Option<Child>,
}

impl Cluster {
    /// A cluster without nodes.
    pub(crate) fn empty() -> Cluster {
        Cluster { dir: tempfile::tempdir().expect("make a directory"), nodes: BTreeMap::new() }
    }

    /// Nodes 1 to `count`, started with the same list, once they have a leader.
    pub(crate) async fn of(count: u64, extra: &[&str]) -> Cluster {
        let mut cluster = Cluster::empty();
        let addrs: BTreeMap<u64, String> = (1..=count).map(|id| (id, free_addr())).collect();
        let list: Vec<String> = addrs.iter().map(|(id, addr)| format!("{id}={addr}")).collect();
        let list = list.join(",");
        for (id, addr) in addrs {
            cluster.add(id, addr, &["--initial-cluster", &list], extra);
        }
        cluster.leader().await;
        cluster
    }

    /// Starts another node that asks the first one to be added.
    pub(crate) fn join(&mut self, id: u64, extra: &[&str]) {
        let member = self.nodes.values().find(|node| node.child.is_some()).expect("a member runs");
        let member = member.addr.clone();
        self.add(id, free_addr(), &["--join", &member], extra);
    }

    /// Adds and starts a node.
    pub(crate) fn add(&mut self, id: u64, addr: String, formation: &[&str], extra: &[&str]) {
        let dir = self.dir_of(id).display().to_string();
        let mut args = vec!["--id".into(), id.to_string(), "--listen".into(), addr.clone()];
        args.extend(["--data-dir".into(), dir]);
        args.extend(TIMINGS.iter().chain(formation).chain(extra).map(|arg| (*arg).to_owned()));
        self.nodes.insert(id, Process { id, addr, args, child: None });
        self.start(id);
    }

    pub(crate) fn dir_of(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        self.nodes.values().filter(|node| node.child.is_some()).map(|node| node.id).collect()
    }

    /// Starts a node on whatever its directory holds.
    pub(crate) fn start(&mut self, id: u64) {
        self.start_behind(id, &[]);
    }

    /// The same behind another program, a tracer for example. It must end by itself: `kill` would end the other
    /// program alone.
    pub(crate) fn start_behind(&mut self, id: u64, wrapper: &[&str]) {
        let log = self.log_path(id);
        let log = File::options().create(true).append(true).open(log).expect("open a log file");
        let node = self.nodes.get_mut(&id).expect("a known node");
        assert!(node.child.is_none(), "node {id} runs already");
        let own = env!("CARGO_BIN_EXE_raftmap-node");
        let mut words = wrapper.iter().copied().chain([own]);
        let mut command = Command::new(words.next().expect("at least the node itself"));
        command.args(words);
        // The server refuses options that it does not know, also the tests' own.
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("RAFTMAP_")) {
            command.env_remove(name);
        }
        let child = command
            .args(&node.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start a node");
        node.child = Some(child);
    }

    /// Ends a node without a word.
    pub(crate) fn kill(&mut self, id: u64) {
        let mut child = self.take(id);
        child.kill().expect("kill a node");
        child.wait().expect("wait for a killed node");
    }

    /// Asks a node to stop; it must end with 0 within its ten seconds.
    pub(crate) fn stop(&mut self, id: u64) {
        self.signal(id, "TERM");
        let mut child = self.take(id);
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = child.try_wait().expect("wait for a stopping node") {
                assert!(status.success(), "node {id} stopped with {status}:\n{}", self.tail(id));
                return;
            }
            assert!(Instant::now() < deadline, "node {id} does not stop:\n{}", self.tail(id));
            std::thread::yield_now();
        }
    }

    /// Sends a signal by name (`STOP`, `CONT`, `TERM`).
    pub(crate) fn signal(&self, id: u64, signal: &str) {
        let pid = self.nodes[&id].child.as_ref().expect("a running node").id();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
        assert!(sent.expect("run kill").success());
    }

    /// Waits until a node ends by itself and returns its exit code.
    pub(crate) async fn exit_code(&mut self, id: u64) -> Option<i32> {
        let mut child = self.take(id);
        let status = until(&format!("node {id} ends"), || {
            let status = child.try_wait().expect("wait for a node");
            async move { status }
        })
        .await;
        status.code()
    }

    /// Whether a node that was started still runs.
    pub(crate) fn alive(&mut self, id: u64) -> bool {
        let child = self.nodes.get_mut(&id).and_then(|node| node.child.as_mut());
        child.is_some_and(|child| child.try_wait().expect("look at a node").is_none())
    }

    fn take(&mut self, id: u64) -> Child {
        self.nodes.get_mut(&id).and_then(|node| node.child.take()).expect("a running node")
    }

    pub(crate) fn addr(&self, id: u64) -> &str {
        &self.nodes[&id].addr
    }

    /// A client that knows every node.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.nodes.values().map(|node| node.addr.clone())).expect("make a client")
    }

    /// A client of one node alone.
    pub(crate) fn client_of(&self, id: u64) -> Client {
        Client::builder([self.addr(id)]).pinned().build().expect("make a client")
    }

    /// What one node says of itself, if it answers.
    pub(crate) async fn status(&self, id: u64) -> Option<Status> {
        let url = format!("http://{}/v1/status", self.addr(id));
        let get = reqwest::Client::new().get(url).timeout(Duration::from_secs(2)).send();
        let body = get.await.ok()?.bytes().await.ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// The leader, once a running node leads and a majority of the running ones agree.
    pub(crate) async fn leader(&self) -> u64 {
        let running = self.running();
        until("a leader", || async {
            for id in &running {
                let Some(status) = self.status(*id).await else { continue };
                if status.role == NodeRole::Leader && status.cluster_id.is_some() {
                    return Some(*id);
                }
            }
            None
        })
        .await
    }

    /// Waits until all running nodes have applied the same index, and checks that their states
    /// have the same digest there. Returns that digest.
    pub(crate) async fn settled(&self) -> String {
        let running = self.running();
        until("equal states", || async {
            let mut states = Vec::new();
            for id in &running {
                let status = self.status(*id).await?;
                states.push((status.log.applied_index, status.store.digest));
            }
            let (first, digest) = states[0].clone();
            if states.iter().any(|(applied, _)| *applied != first) {
                return None;
            }
            for (id, (_, other)) in running.iter().zip(&states) {
                assert_eq!(*other, digest, "node {id} differs at index {first}");
            }
            Some(digest)
        })
        .await
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}.log"))
    }

    /// The end of a node's log, for a failing test.
    pub(crate) fn tail(&self, id: u64) -> String {
        let text = std::fs::read_to_string(self.log_path(id)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether a node's log has a line with this text.
    pub(crate) fn logged(&self, id: u64, text: &str) -> bool {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default().contains(text)
    }
}

impl Cluster {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its nodes said last")]
    fn print_tails(&self) {
        for id in self.ids() {
            eprintln!("--- node {id}\n{}", self.tail(id));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            self.print_tails();
        }
    }
}

/// Asks again and again until there is an answer. Panics at the deadline.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        pause.tick().await;
    }
}

/// The value that was read, as text; `None` for a key that is not there.
pub(crate) fn text(got: &Got) -> Option<String> {
    let value = got.record.as_ref()?.value.as_ref().expect("a read has a value");
    Some(String::from_utf8(value.to_vec()).expect("the tests' values are texts"))
}

/// An address on loopback that nobody uses.
pub(crate) fn free_addr() -> String {
    for _ in PORTS {
        // Tests run as processes side by side: each begins elsewhere.
        let offset = std::process::id().wrapping_mul(97);
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + offset.wrapping_add(step) % (PORTS.end - PORTS.start);
        let addr = format!("127.0.0.1:{port}");
        if TcpListener::bind(&addr).is_ok() {
            return addr;
        }
    }
    panic!("no free port");
}
