//! The `raftmap` command: a cluster from the shell.
//!
//! ```text
//!   args ──► context (client, output) ──► one command, one file ──► stdout │ Failure ──► stderr, exit code
//! ```
//!
//! Results go to stdout, everything else to stderr. Exit codes are a contract: 0 done, 1 not found or precondition
//! failed, 2 usage, 3 the cluster could not be reached or did not answer, 4 outcome unknown.

mod args;
mod context;
mod failure;
mod output;
mod progress;

mod bench;
mod del;
mod export;
mod get;
mod import;
mod leader;
mod list;
mod member;
mod put;
mod snapshot;
mod status;
mod touch;
mod txn;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Args, Command},
    context::Context,
    failure::Failure,
};

// The load generator shares the machine with the nodes: what it saves on memory, they can use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.common.json();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local("start the runtime", e))?;
    let context = Context::new(&args.common)?;
    // The bench has threads and runtimes of its own.
    if let Command::Bench(bench) = &args.command {
        return bench::run(bench, &context, &runtime);
    }
    runtime.block_on(command(args.command, &context))
}

async fn command(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Put(args) => put::run(args, context).await,
        Command::Get(args) => get::run(args, context).await,
        Command::Del(args) => del::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Txn(args) => txn::run(args, context).await,
        Command::Touch(args) => touch::run(args, context).await,
        Command::Member(args) => member::run(args, context).await,
        Command::Leader(args) => leader::run(&args, context).await,
        Command::Status => status::run(context).await,
        Command::Snapshot => snapshot::run(context).await,
        Command::Import(args) => import::run(args, context).await,
        Command::Export(args) => export::run(args, context).await,
        Command::Bench(_) => unreachable!("run() has taken the bench"),
    }
}
