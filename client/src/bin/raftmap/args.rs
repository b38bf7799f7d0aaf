//! The command line: what every command takes, the list of commands, and how texts become values.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    time::Duration,
};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use raftmap_client::{
    Condition, Consistency, ReadOptions,
    api::{Ttl, duration},
};

use crate::{
    bench::BenchArgs, del::DelArgs, export::ExportArgs, get::GetArgs, import::ImportArgs,
    leader::LeaderArgs, list::ListArgs, member::MemberArgs, put::PutArgs, touch::TouchArgs,
    txn::TxnArgs,
};

/// Reads and writes a Raftmap cluster.
///
/// Exit codes: 0 done, 1 not found or precondition failed, 2 usage, 3 the cluster could not be reached or did not
/// answer, 4 outcome unknown.
#[derive(Debug, Parser)]
#[command(name = "raftmap", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// Addresses of nodes; one is enough, more survive its loss
    #[arg(
        long,
        global = true,
        env = "RAFTMAP_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7700"
    )]
    pub(crate) endpoints: Vec<String>,
    /// Bearer token
    #[arg(long, global = true, env = "RAFTMAP_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// What stdout is for
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// How long a call may take, retries included
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) timeout: Duration,
}

impl Common {
    pub(crate) fn json(&self) -> bool {
        matches!(self.output, Output::Json)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs: the objects of the HTTP interface
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a key
    Put(PutArgs),
    /// Read a key
    Get(GetArgs),
    /// Delete a key, or all keys with a prefix
    Del(DelArgs),
    /// List keys and values in order
    List(ListArgs),
    /// Run a transaction: compare, then one of two lists of operations
    Txn(TxnArgs),
    /// Change a key's TTL or lease and nothing else
    Touch(TouchArgs),
    /// List and change the members of the cluster
    Member(MemberArgs),
    /// Move leadership
    Leader(LeaderArgs),
    /// Show every node
    Status,
    /// Make a node write a snapshot
    Snapshot,
    /// Write the records of a file
    Import(ImportArgs),
    /// Write all records of one moment to a file
    Export(ExportArgs),
    /// Measure the cluster: N clients, each with one request in flight
    Bench(Box<BenchArgs>),
}

/// Options of commands that read.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ReadArgs {
    /// How fresh the answer must be
    #[arg(long, value_enum, default_value_t = Freshness::Linearizable)]
    pub(crate) consistency: Freshness,
    /// With --consistency stale: how far the node may be behind
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) max_staleness: Option<Duration>,
    /// Wait until the node has this revision
    #[arg(long, value_name = "N")]
    pub(crate) min_revision: Option<u64>,
    /// The state as of this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Freshness {
    /// Shows every write that was acknowledged before
    Linearizable,
    /// What the asked node has at once
    Stale,
}

impl ReadArgs {
    pub(crate) fn options(&self) -> ReadOptions {
        let consistency = match self.consistency {
            Freshness::Linearizable => Consistency::Linearizable,
            Freshness::Stale => Consistency::Stale { max_staleness: self.max_staleness },
        };
        ReadOptions {
            consistency,
            min_revision: self.min_revision,
            revision: self.revision,
            timeout: None,
        }
    }
}

/// Options of commands that write under a condition.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct ConditionArgs {
    /// Only if the key was last changed at this revision
    #[arg(long, value_name = "N", conflicts_with = "if_exists")]
    pub(crate) if_revision: Option<u64>,
    /// Only if the key exists
    #[arg(long)]
    pub(crate) if_exists: bool,
}

impl ConditionArgs {
    pub(crate) fn condition(self) -> Condition {
        match self.if_revision {
            Some(revision) => Condition::Revision(revision),
            None if self.if_exists => Condition::Exists,
            None => Condition::None,
        }
    }
}

/// The bytes of a key or value as the shell passed them, UTF-8 or not.
pub(crate) fn bytes(text: OsString) -> Vec<u8> {
    text.into_vec()
}

/// Whether a FILE or VALUE argument means stdin or stdout.
pub(crate) fn is_dash(text: &std::ffi::OsStr) -> bool {
    text.as_bytes() == b"-"
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(str::to_owned)
}

pub(crate) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    Ttl::parse(text).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn conditions_exclude_each_other() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert!(parse("raftmap put a b --if-revision 3 --if-absent").is_err());
        assert!(parse("raftmap put a b --if-exists --if-absent").is_err());
        assert!(parse("raftmap put a b --ttl 30s --lease 7").is_err());
        assert!(parse("raftmap put a b --ttl 30").is_err());
        assert!(parse("raftmap put a b --if-absent --ttl 30s").is_ok());
    }
}
