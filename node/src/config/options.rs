//! Every option of the server once, and the four places it can come from.
//!
//! ```text
//! flags  >  RAFTMAP_… in the environment  >  --config FILE (TOML)  >  defaults
//! ```
//!
//! One table says which options exist; flags, environment and file are read through it, so they
//! cannot drift apart, and a name that is not in it is an error wherever it stands.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

/// What kind of value an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// Any number of values, one per use (`--label a=b --label c=d`; a list in the file).
    Values(&'static str),
    /// None: it is on when it is named.
    Nothing,
}

/// One option of the server.
#[derive(Debug)]
pub struct OptionSpec {
    /// The flag without its dashes; also the file's key, and upper-cased the environment's name.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// One line for `--help`, with the default.
    pub help: &'static str,
}

/// All options, in the order of `--help`.
pub const OPTIONS: &[OptionSpec] = &[
    value("id", "N", "this node's id, for ever its own [default: 1]"),
    value("listen", "ADDR", "where clients and peers are answered [default: 127.0.0.1:7700]"),
    value("advertise", "ADDR", "the address that others reach this node by [default: --listen]"),
    value("peer-listen", "ADDR", "an address of its own for peers [default: --listen]"),
    value("data-dir", "DIR", "where the data lie [default: ./raftmap-data]"),
    value("log-dir", "DIR", "another place for the write-ahead log [default: DATA_DIR/wal]"),
    value("initial-cluster", "LIST", "form a cluster of these: 1=ADDR,2=ADDR,3=ADDR"),
    value("join", "ADDR", "ask this member to be added as a voter"),
    flag("wait-for-init", "start unformed and wait for POST /v1/cluster/init"),
    OptionSpec {
        name: "label",
        takes: Takes::Values("KEY=VALUE"),
        help: "a label of this node, may be repeated",
    },
    value("hot-bytes-max", "SIZE", "memory for hot records [default: 64MiB]"),
    value("block-cache-bytes", "SIZE", "memory for blocks of the cold tier [default: 64MiB]"),
    value("quota-bytes", "SIZE", "seeds the cluster's quota when it is formed [default: none]"),
    value("log-bytes-max", "SIZE", "the log kept behind a checkpoint [default: 1GiB]"),
    value("log-keep-entries", "N", "entries kept behind a checkpoint [default: 500000]"),
    value("log-segment-bytes", "SIZE", "length of a file of the log [default: 64MiB]"),
    value("disk-reserve-bytes", "SIZE", "free bytes kept on the disks [default: 1GiB, or a tenth]"),
    value("checkpoint-bytes", "SIZE", "applied bytes between checkpoints [default: 64MiB]"),
    value("heartbeat", "DURATION", "the leader's heartbeat [default: 100ms]"),
    value("election-timeout", "MIN-MAX", "silence before an election [default: 300ms-600ms]"),
    value("log-format", "text|json", "how this program logs [default: text]"),
    value("log-level", "LEVEL", "what it logs: error, warn, info, debug [default: info]"),
    flag("insecure", "allow an address that is not loopback without TLS and tokens"),
];

/// Names under `RAFTMAP_` that belong to others: the client's, and the test script's.
const FOREIGN: &[&str] = &["ENDPOINTS", "TOKEN", "OUTPUT", "CONFIG", "TEST_PORT", "BIN_DIR"];

/// Raw texts by option name, before they are parsed.
pub type Texts = BTreeMap<&'static str, Vec<String>>;

const fn value(name: &'static str, takes: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, takes: Takes::Value(takes), help }
}

const fn flag(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, takes: Takes::Nothing, help }
}

/// Adds every option to a clap command.
pub fn add_flags(mut command: Command) -> Command {
    for option in OPTIONS {
        let arg = Arg::new(option.name).long(option.name).help(option.help).global(true);
        command = command.arg(match option.takes {
            Takes::Value(name) => arg.value_name(name).action(ArgAction::Set),
            Takes::Values(name) => arg.value_name(name).action(ArgAction::Append),
            Takes::Nothing => arg.action(ArgAction::SetTrue),
        });
    }
    command
}

/// The texts given as flags.
pub fn from_flags(matches: &clap::ArgMatches) -> Texts {
    let mut texts = Texts::new();
    for option in OPTIONS {
        if option.takes == Takes::Nothing {
            if matches.get_flag(option.name) {
                texts.insert(option.name, vec!["true".into()]);
            }
        } else if let Some(values) = matches.get_many::<String>(option.name) {
            texts.insert(option.name, values.cloned().collect());
        }
    }
    texts
}

/// The texts in the environment: `RAFTMAP_DATA_DIR` for `--data-dir`; lists are comma-separated.
pub fn from_environment(
    vars: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<String>,
) -> Texts {
    let mut texts = Texts::new();
    for (name, text) in vars {
        let Some(rest) = name.strip_prefix("RAFTMAP_") else { continue };
        let flag = rest.to_ascii_lowercase().replace('_', "-");
        match OPTIONS.iter().find(|option| option.name == flag) {
            Some(OptionSpec { name, takes: Takes::Values(_), .. }) => {
                texts.insert(name, text.split(',').map(str::to_owned).collect());
            }
            Some(option) => {
                texts.insert(option.name, vec![text]);
            }
            None if FOREIGN.contains(&rest) => {}
            None => problems.push(format!("{name}: no such option")),
        }
    }
    texts
}

/// The texts of a TOML file: `data-dir = "d1"`, `label = ["zone=a"]`; numbers and booleans as such.
pub fn from_file(path: &Path, problems: &mut Vec<String>) -> Texts {
    let mut texts = Texts::new();
    let place = path.display();
    let table = match std::fs::read_to_string(path) {
        Ok(text) => text.parse::<toml::Table>().map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    let table = match table {
        Ok(table) => table,
        Err(e) => {
            problems.push(format!("{place}: {e}"));
            return texts;
        }
    };
    for (key, value) in table {
        let Some(option) = OPTIONS.iter().find(|option| option.name == key) else {
            problems.push(format!("{place}: {key}: no such option"));
            continue;
        };
        let values = match value {
            toml::Value::Array(list) if matches!(option.takes, Takes::Values(_)) => list,
            other => vec![other],
        };
        let parsed: Option<Vec<String>> = values.iter().map(scalar).collect();
        match parsed {
            Some(list) => drop(texts.insert(option.name, list)),
            None => problems.push(format!("{place}: {key}: a text, number or boolean is expected")),
        }
    }
    texts
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}
