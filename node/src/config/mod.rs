//! What one node is told: its place in the cluster, its directories, its budgets and its timing.
//!
//! Everything is read through one table of options ([`options`]), checked as a whole, and all
//! problems are reported together, because fixing a configuration one error at a time is a waste
//! of a person's evening. After [`Config::resolve`] nothing below this module checks it again.

pub mod options;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use options::Texts;
use raftmap_client::api::duration;

use crate::units::{format_bytes, parse_bytes};

/// The effective configuration of one node.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's id; at least 1, never used by another node of the cluster, before or later.
    pub id: u64,
    /// Where clients and, without `peer_listen`, peers are answered.
    pub listen: SocketAddr,
    /// The address that others reach this node by (`host:port`).
    pub advertise: String,
    /// An address of its own for peers.
    pub peer_listen: Option<SocketAddr>,
    /// Where the data lie.
    pub data_dir: PathBuf,
    /// Where the write-ahead log lies.
    pub log_dir: PathBuf,
    /// How a node without data finds its cluster; a node with data ignores it.
    pub formation: Formation,
    /// Free words about this node, carried in the membership.
    pub labels: BTreeMap<String, String>,
    /// Memory for hot records.
    pub hot_bytes_max: u64,
    /// Memory for blocks of the cold tier; at least 32 MiB, which the store needs to work well.
    pub block_cache_bytes: u64,
    /// The cluster's quota when this node forms it.
    pub quota_bytes: Option<u64>,
    /// How much log stays behind a checkpoint, in bytes: a follower that is further behind takes
    /// a snapshot.
    pub log_bytes_max: u64,
    /// The same in entries; whichever is reached first counts.
    pub log_keep_entries: u64,
    /// Length of a segment of the log, taken from the disk at once.
    pub log_segment_bytes: u64,
    /// Free bytes on the disks below which no writes are taken that take room; 0: take them always.
    /// `None`: a share of the file system, see [`crate::room`].
    pub disk_reserve_bytes: Option<u64>,
    /// A checkpoint follows after this many applied bytes.
    pub checkpoint_bytes: u64,
    /// How often a leader shows that it is there. Must exceed the longest stall of a disk that is
    /// to be survived without an election, and three of it must fit into an election time-out.
    pub heartbeat: Duration,
    /// A follower stands for election after this much silence, chosen between the two.
    pub election_timeout: (Duration, Duration),
    /// How this program logs.
    pub log_format: LogFormat,
    /// What this program logs (a `tracing` filter).
    pub log_level: String,
    /// Allows an address that is not loopback without TLS and tokens.
    pub insecure: bool,
}

/// How a node without data finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formation {
    /// A cluster of itself.
    Alone,
    /// All of these are started with the same list.
    InitialCluster(BTreeMap<u64, String>),
    /// It asks this member to be added.
    Join(String),
    /// It waits for `POST /v1/cluster/init`.
    WaitForInit,
}

/// How this program logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The configuration of one node that is a cluster of itself, with its data in `data_dir`.
    pub fn alone(data_dir: impl Into<PathBuf>) -> Config {
        let texts = Texts::from([("data-dir", vec![data_dir.into().display().to_string()])]);
        Config::resolve(texts).expect("the defaults are valid")
    }

    /// Parses and checks merged texts. Errors: every problem, each naming its option.
    pub fn resolve(texts: Texts) -> Result<Config, Vec<String>> {
        let mut reader = Reader { texts, problems: Vec::new() };
        let config = reader.config();
        let mut problems = reader.problems;
        if problems.is_empty() {
            problems = config.contradictions();
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        let (min, max) = self.election_timeout;
        check(self.id >= 1, "id: must be at least 1");
        check(!self.heartbeat.is_zero(), "heartbeat: must not be 0");
        check(min < max, "election-timeout: the first must be smaller than the second");
        check(self.heartbeat * 3 <= min, "election-timeout: must be at least three heartbeats");
        check(self.block_cache_bytes >= 32 << 20, "block-cache-bytes: must be at least 32MiB");
        check(
            (1 << 20..=1 << 30).contains(&self.log_segment_bytes),
            "log-segment-bytes: must be 1MiB to 1GiB",
        );
        check(self.checkpoint_bytes >= 1 << 16, "checkpoint-bytes: must be at least 64KiB");
        for listen in [Some(self.listen), self.peer_listen].into_iter().flatten() {
            check(
                self.insecure || listen.ip().is_loopback(),
                "listen: an address that is not loopback needs TLS and tokens, or --insecure",
            );
        }
        check(
            self.peer_listen.is_none_or(|addr| !addr.ip().is_unspecified()),
            "peer-listen: others are told this address, so it must be one that they can reach",
        );
        if let Formation::InitialCluster(members) = &self.formation {
            check(members.contains_key(&self.id), "initial-cluster: this node's id is missing");
            check(
                members.get(&self.id).is_none_or(|addr| *addr == self.advertise),
                "initial-cluster: this node's address differs from --advertise (or --listen)",
            );
        }
        problems
    }

    /// The configuration as TOML that reads back as itself.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: toml::Value| {
            let _ = writeln!(text, "{name} = {value}");
        };
        let string = |text: String| toml::Value::String(text);
        line("id", toml::Value::Integer(i64::try_from(self.id).unwrap_or(i64::MAX)));
        line("listen", string(self.listen.to_string()));
        line("advertise", string(self.advertise.clone()));
        if let Some(peer_listen) = self.peer_listen {
            line("peer-listen", string(peer_listen.to_string()));
        }
        line("data-dir", string(self.data_dir.display().to_string()));
        line("log-dir", string(self.log_dir.display().to_string()));
        match &self.formation {
            Formation::Alone => {}
            Formation::InitialCluster(members) => {
                let list: Vec<_> =
                    members.iter().map(|(id, addr)| format!("{id}={addr}")).collect();
                line("initial-cluster", string(list.join(",")));
            }
            Formation::Join(addr) => line("join", string(addr.clone())),
            Formation::WaitForInit => line("wait-for-init", toml::Value::Boolean(true)),
        }
        if !self.labels.is_empty() {
            let list = self.labels.iter().map(|(k, v)| string(format!("{k}={v}"))).collect();
            line("label", toml::Value::Array(list));
        }
        line("hot-bytes-max", string(format_bytes(self.hot_bytes_max)));
        line("block-cache-bytes", string(format_bytes(self.block_cache_bytes)));
        if let Some(quota) = self.quota_bytes {
            line("quota-bytes", string(format_bytes(quota)));
        }
        line("log-bytes-max", string(format_bytes(self.log_bytes_max)));
        line("log-segment-bytes", string(format_bytes(self.log_segment_bytes)));
        if let Some(reserve) = self.disk_reserve_bytes {
            line("disk-reserve-bytes", string(format_bytes(reserve)));
        }
        line("log-keep-entries", string(self.log_keep_entries.to_string()));
        line("checkpoint-bytes", string(format_bytes(self.checkpoint_bytes)));
        line("heartbeat", string(duration::format(self.heartbeat)));
        let (min, max) = self.election_timeout;
        line(
            "election-timeout",
            string(format!("{}-{}", duration::format(min), duration::format(max))),
        );
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        line("log-format", string(format.into()));
        line("log-level", string(self.log_level.clone()));
        line("insecure", toml::Value::Boolean(self.insecure));
        text
    }
}

/// Takes one option after the other out of the texts and collects what is wrong.
struct Reader {
    texts: Texts,
    problems: Vec<String>,
}

impl Reader {
    fn config(&mut self) -> Config {
        let id = self.parsed("id", 1, |text| text.parse::<u64>().map_err(|e| e.to_string()));
        let listen = self.parsed("listen", SocketAddr::from(([127, 0, 0, 1], 7700)), address);
        let data_dir = PathBuf::from(self.text("data-dir").unwrap_or("./raftmap-data".into()));
        Config {
            id,
            listen,
            advertise: self.text("advertise").unwrap_or_else(|| listen.to_string()),
            peer_listen: self.parsed("peer-listen", None, |text| address(text).map(Some)),
            log_dir: self.text("log-dir").map_or_else(|| data_dir.join("wal"), PathBuf::from),
            data_dir,
            formation: self.formation(),
            labels: self.labels(),
            hot_bytes_max: self.parsed("hot-bytes-max", 64 << 20, parse_bytes),
            block_cache_bytes: self.parsed("block-cache-bytes", 64 << 20, parse_bytes),
            quota_bytes: self.parsed("quota-bytes", None, |text| parse_bytes(text).map(Some)),
            log_bytes_max: self.parsed("log-bytes-max", 1 << 30, parse_bytes),
            log_segment_bytes: self.parsed("log-segment-bytes", 64 << 20, parse_bytes),
            disk_reserve_bytes: self
                .parsed("disk-reserve-bytes", None, |text| parse_bytes(text).map(Some)),
            log_keep_entries: self.parsed("log-keep-entries", 500_000, |text| {
                text.parse().map_err(|error| format!("{text:?} is not a whole number: {error}"))
            }),
            checkpoint_bytes: self.parsed("checkpoint-bytes", 64 << 20, parse_bytes),
            heartbeat: self.parsed("heartbeat", Duration::from_millis(100), parse_duration),
            election_timeout: self.parsed(
                "election-timeout",
                (Duration::from_millis(300), Duration::from_millis(600)),
                duration_range,
            ),
            log_format: self.parsed("log-format", LogFormat::Text, |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("text or json is expected".into()),
            }),
            log_level: self.text("log-level").unwrap_or_else(|| "info".into()),
            insecure: self.on("insecure"),
        }
    }

    fn formation(&mut self) -> Formation {
        let members = self.parsed("initial-cluster", None, |text| member_list(text).map(Some));
        let join = self.text("join");
        match (members, join, self.on("wait-for-init")) {
            (None, None, false) => Formation::Alone,
            (Some(members), None, false) => Formation::InitialCluster(members),
            (None, Some(addr), false) => Formation::Join(addr),
            (None, None, true) => Formation::WaitForInit,
            _ => {
                let problem = "initial-cluster, join and wait-for-init exclude each other";
                self.problems.push(problem.into());
                Formation::Alone
            }
        }
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for text in self.texts.remove("label").unwrap_or_default() {
            match text.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    labels.insert(key.to_owned(), value.to_owned());
                }
                _ => self.problems.push(format!("label: {text:?} is not KEY=VALUE")),
            }
        }
        labels
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.texts.remove(name)?;
        if values.len() > 1 {
            self.problems.push(format!("{name}: given more than once"));
        }
        values.pop()
    }

    fn on(&mut self, name: &str) -> bool {
        self.parsed(name, false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false is expected".into()),
        })
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.text(name) else { return default };
        parse(&text).unwrap_or_else(|problem| {
            self.problems.push(format!("{name}: {problem}"));
            default
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_not_one| format!("{text:?} is not an address such as 127.0.0.1:7700"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|problem| format!("{text:?} is {problem}"))
}

fn duration_range(text: &str) -> Result<(Duration, Duration), String> {
    let (min, max) = text.split_once('-').ok_or("two durations are expected: 300ms-600ms")?;
    Ok((parse_duration(min)?, parse_duration(max)?))
}

fn member_list(text: &str) -> Result<BTreeMap<u64, String>, String> {
    let mut members = BTreeMap::new();
    for part in text.split(',') {
        let (id, addr) = part
            .split_once('=')
            .and_then(|(id, addr)| Some((id.parse::<u64>().ok()?, addr)))
            .filter(|(id, addr)| *id >= 1 && !addr.is_empty())
            .ok_or_else(|| format!("{part:?} is not ID=ADDR"))?;
        if members.insert(id, addr.to_owned()).is_some() {
            return Err(format!("id {id} is there twice"));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: &[(&'static str, &str)]) -> Result<Config, Vec<String>> {
        let texts = options.iter().map(|(name, text)| (*name, vec![(*text).to_owned()]));
        Config::resolve(texts.collect())
    }

    #[test]
    fn no_arguments_mean_one_node_on_loopback() {
        let config = resolve(&[]).unwrap();
        assert_eq!((config.id, config.listen.to_string().as_str()), (1, "127.0.0.1:7700"));
        assert_eq!(config.formation, Formation::Alone);
        assert_eq!(config.log_dir, PathBuf::from("./raftmap-data/wal"));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let problems = resolve(&[("id", "x"), ("heartbeat", "5"), ("hot-bytes-max", "many")]);
        assert_eq!(problems.unwrap_err().len(), 3);
    }

    #[test]
    fn timings_that_cannot_work_are_refused() {
        let problems = resolve(&[("heartbeat", "200ms")]).unwrap_err();
        assert!(problems[0].contains("three heartbeats"), "{problems:?}");
        assert!(resolve(&[("election-timeout", "600ms-300ms")]).is_err());
    }

    #[test]
    fn an_open_address_needs_the_word_insecure() {
        assert!(resolve(&[("listen", "0.0.0.0:7700")]).is_err());
        assert!(resolve(&[("listen", "0.0.0.0:7700"), ("insecure", "true")]).is_ok());
    }

    #[test]
    fn a_node_must_be_in_its_own_list() {
        let list = "1=127.0.0.1:7701,2=127.0.0.1:7702";
        assert!(resolve(&[("id", "3"), ("initial-cluster", list)]).is_err());
        let fits = [("id", "2"), ("listen", "127.0.0.1:7702"), ("initial-cluster", list)];
        assert!(resolve(&fits).is_ok());
        assert!(resolve(&[("initial-cluster", "1=a,1=b")]).is_err());
    }

    #[test]
    fn the_printed_configuration_reads_back() {
        let config = resolve(&[("id", "2"), ("label", "zone=a"), ("join", "127.0.0.1:1")]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, config.to_toml()).unwrap();
        let mut problems = Vec::new();
        let texts = options::from_file(&path, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(Config::resolve(texts).unwrap().to_toml(), config.to_toml());
    }

    #[test]
    fn an_unknown_name_is_an_error_in_every_source() {
        let mut problems = Vec::new();
        let vars = [("RAFTMAP_NONSENSE".into(), "1".into()), ("PATH".into(), "x".into())];
        options::from_environment(vars, &mut problems);
        assert_eq!(problems, ["RAFTMAP_NONSENSE: no such option"]);
    }
}
