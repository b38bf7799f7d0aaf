//! The `raftmap-node` server: read the configuration, run one node, end with a code that says how
//! it went (0 stopped in order, 1 failed, 2 wrong use).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, Command};
use raftmap_node::config::{Config, options};
use raftmap_node::{Node, log_tools, telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An orderly stop that takes longer than this is ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let matches = command().get_matches();
    let config = match configuration(&matches) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                complain(&problem);
            }
            return ExitCode::from(2);
        }
    };
    if matches.subcommand_matches("config").is_some() {
        say(&config.to_toml());
        return ExitCode::SUCCESS;
    }
    if let Some(log) = matches.subcommand_matches("log") {
        let given_id = matches.get_one::<String>("id").map(|_| config.id);
        return log_tools::run(log, &config, given_id);
    }
    end_on_panic();
    raise_file_limit();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let command = Command::new("raftmap-node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("One node of a Raftmap cluster")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("RAFTMAP_CONFIG")
                .global(true)
                .help("a TOML file with options by their names"),
        )
        .subcommand(Command::new("config").about("Prints the effective configuration as TOML"))
        .subcommand(log_tools::command());
    options::add_flags(command)
}

fn configuration(matches: &clap::ArgMatches) -> Result<Config, Vec<String>> {
    let mut problems = Vec::new();
    let mut texts = match matches.get_one::<String>("config") {
        Some(path) => options::from_file(Path::new(path), &mut problems),
        None => options::Texts::new(),
    };
    texts.extend(options::from_environment(std::env::vars(), &mut problems));
    texts.extend(options::from_flags(matches));
    match Config::resolve(texts) {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(problems),
        Err(more) => Err(problems.into_iter().chain(more).collect()),
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    telemetry::init_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut node = Node::start(config).await?;
        tokio::select! {
            why = node.failed() => {
                // At once: what failed may never let go of a thread that would be waited for.
                complain(&format!("the node failed: {why}"));
                std::process::exit(1);
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let stopped = tokio::time::timeout(STOP_TIMEOUT, node.stop()).await;
        stopped.unwrap_or_else(|_| anyhow::bail!("not stopped within {STOP_TIMEOUT:?}"))
    });
    // Blocking reads may still be under way; nobody waits for them any more.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// A panic means that a promise of ours is broken: the process ends, never one thread alone.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(1);
    }));
}

/// Connections, segments and tables need descriptors; the default of many systems is 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

#[expect(clippy::print_stderr, reason = "problems of use go to stderr, without log decoration")]
fn complain(problem: &str) {
    eprintln!("raftmap-node: {problem}");
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to stdout")]
fn say(text: &str) {
    print!("{text}");
}
