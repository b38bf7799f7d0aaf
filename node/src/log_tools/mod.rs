//! `raftmap-node log …`: the offline tools over the write-ahead log.
//!
//! ```text
//!   inspect   every file and what it says of itself
//!   dump      every record, in order
//!   verify    the answer that a start would give (0, 1, 2, 3)
//!   repair    what can be saved, as a new log
//! ```
//! They take the directories from the same options as the server. Results go to stdout, as text or with `--json`
//! as one JSON object (a line for each record of a dump); what went wrong goes to stderr. Exit codes: 0 done, 3 it
//! could not be done; `verify` also 1 torn tail, 2 corrupt; `repair` also 1 shown only, or not
//! what was asked for but the rest of an earlier repair. Wrong use is 2, as everywhere.

mod json;
mod lines;
mod repair;

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::tools::{self, Wanted};

use crate::config::Config;

/// What cannot be read, by the tools and by `verify`'s own exit code.
const UNREADABLE: u8 = 3;

/// `log` with its commands.
pub fn command() -> Command {
    let json = || flag("json", "JSON instead of text");
    Command::new("log")
        .about("Offline tools over the write-ahead log")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("inspect")
                .about("Shows every file of the log and what it says of itself, also behind damage")
                .arg(json()),
        )
        .subcommand(
            Command::new("dump")
                .about("Shows every record in the order in which it was written, also behind damage")
                .arg(index("from", "entries from this index on"))
                .arg(index("to", "entries up to this index"))
                .arg(flag("records", "all kinds of records, not only entries and truncations"))
                .arg(flag("hex", "the payloads, in hexadecimal"))
                .arg(flag("json", "a JSON object for each record, one a line")),
        )
        .subcommand(
            Command::new("verify")
                .about("Says whether the log is whole: exit code 0 clean, 1 torn tail, 2 corrupt, 3 unreadable")
                .arg(flag("deep", "reads every byte again, past the cache, and every entry by its footer"))
                .arg(json()),
        )
        .subcommand(repair::command().arg(json()))
}

/// Runs the command that `matches` names. `given_id` is the node's id where it was given, not its default.
pub fn run(matches: &ArgMatches, config: &Config, given_id: Option<u64>) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match matches.subcommand() {
        Some(("inspect", matches)) => inspect(matches, config, &mut out),
        Some(("dump", matches)) => dump(matches, config, &mut out),
        Some(("verify", matches)) => verify(matches, config, &mut out),
        Some(("repair", matches)) => repair::run(matches, config, given_id, &mut out),
        _ => Ok(2),
    };
    match done.and_then(|code| seen(out.flush()).map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(UNREADABLE)
        }
    }
}

/// Whoever reads the output may have seen enough of it: that changes nothing of what was found or done.
fn seen(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn inspect(matches: &ArgMatches, config: &Config, out: &mut dyn Write) -> anyhow::Result<u8> {
    let found = tools::inspect(&RealDisk, &config.log_dir)?;
    if matches.get_flag("json") {
        seen(writeln!(out, "{:#}", json::inspection(&found)))?;
    } else {
        seen(write!(out, "{found}"))?;
    }
    Ok(0)
}

fn dump(matches: &ArgMatches, config: &Config, out: &mut dyn Write) -> anyhow::Result<u8> {
    let bound = |name: &str, default: u64| matches.get_one(name).copied().unwrap_or(default);
    let wanted = Wanted {
        indexes: bound("from", 0)..=bound("to", u64::MAX),
        all_kinds: matches.get_flag("records"),
    };
    let with_hex = matches.get_flag("hex");
    let mut written = Ok(());
    tools::dump(&RealDisk, &config.log_dir, &wanted, &mut |dumped| {
        written = if matches.get_flag("json") {
            writeln!(out, "{}", json::dumped(&dumped, with_hex))
        } else {
            lines::write(out, &dumped, with_hex)
        };
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    seen(written)?;
    Ok(0)
}

fn verify(matches: &ArgMatches, config: &Config, out: &mut dyn Write) -> anyhow::Result<u8> {
    let log = LogConfig::new(&config.log_dir);
    let found = tools::verify(&log, &RealDisk, matches.get_flag("deep"));
    if matches.get_flag("json") {
        seen(writeln!(out, "{:#}", json::verification(&found)))?;
    } else {
        seen(write!(out, "{found}"))?;
    }
    Ok(found.outcome.exit_code())
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn index(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("INDEX").help(help).value_parser(clap::value_parser!(u64))
}

#[expect(clippy::print_stderr, reason = "problems go to stderr, without log decoration")]
fn complain(error: &anyhow::Error) {
    eprintln!("raftmap-node: {error:#}");
}
