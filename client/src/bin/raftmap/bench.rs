//! `raftmap bench put|get|mixed`

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use clap::{Args, ValueEnum};
use raftmap_client::{
    api::Status,
    bench::{self, HttpDriver, KeySpace, Meter, Mix, Plan, Report, meter::own_cpu_seconds},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    args::{Freshness, parse_duration},
    context::Context,
    failure::Failure,
    progress::Progress,
};

/// Files that the process needs besides one connection per client.
const OTHER_FILES: u64 = 64;

/// A closed loop: each client sends its next request when it has the reply to the one before. Gets read keys that were
/// written first. Latencies are of requests that succeeded.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[arg(value_enum)]
    workload: Workload,
    /// Requests in flight, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_count)]
    clients: usize,
    /// The measured window
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Load before it that is not counted
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    warmup: Duration,
    /// Length of each key
    #[arg(long, value_name = "N", default_value_t = 16)]
    key_bytes: usize,
    /// Length of each value; the bytes are random
    #[arg(long, value_name = "N", default_value_t = 256)]
    value_bytes: usize,
    /// How many different keys, drawn evenly
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    keys: u64,
    /// mixed: the share of gets in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// How fresh gets must be
    #[arg(long, value_enum, default_value_t = Freshness::Linearizable)]
    consistency: Freshness,
    /// Where requests go
    #[arg(long, value_enum, default_value_t = Target::All)]
    target: Target,
    /// get, mixed: do not write the keys first
    #[arg(long)]
    no_load: bool,
    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    threads: usize,
    /// Measure these processes of this machine instead of asking the nodes
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pids: Vec<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Workload {
    Put,
    Get,
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// To the leader
    Leader,
    /// To all members in turn
    All,
}

pub(crate) fn run(
    args: &BenchArgs,
    context: &Context,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), Failure> {
    let plan = plan(args, context.timeout)?;
    raise_open_files(args.clients);
    let status = runtime.block_on(context.client.status())?;
    let nodes = addresses(status.members.iter().map(|m| m.addr.as_str()))?;
    let driver = driver(args, &plan, &status, &nodes)?;
    if plan.mix != Mix::Put && !args.no_load {
        load(&plan, &driver)?;
    }
    let meter = match args.pids.as_slice() {
        [] => Meter::Metrics(nodes),
        pids => Meter::Processes(pids.to_vec()),
    };
    let report = measure(plan, driver, &meter)?;
    context.out.result(&report.to_json(), || report.to_string())
}

fn plan(args: &BenchArgs, timeout: Duration) -> Result<Plan, Failure> {
    let keys = KeySpace::new(args.key_bytes, args.keys).ok_or_else(|| {
        Failure::Usage(format!("{} keys of {} bytes do not exist", args.keys, args.key_bytes))
    })?;
    let mix = match args.workload {
        Workload::Put => Mix::Put,
        Workload::Get => Mix::Get,
        Workload::Mixed => Mix::Mixed(args.reads),
    };
    Ok(Plan {
        mix,
        clients: args.clients,
        duration: args.duration,
        warmup: args.warmup,
        keys,
        value_bytes: args.value_bytes,
        threads: args.threads,
        timeout,
    })
}

fn driver(
    args: &BenchArgs,
    plan: &Plan,
    status: &Status,
    nodes: &[SocketAddr],
) -> Result<HttpDriver, Failure> {
    let query = match args.consistency {
        Freshness::Linearizable => "",
        Freshness::Stale => "?consistency=stale",
    };
    let mut nodes = nodes.to_vec();
    if args.target == Target::Leader {
        let leader = status.members.iter().position(|m| Some(m.id) == status.leader);
        let leader =
            leader.ok_or_else(|| Failure::NotFound("there is no leader now".to_owned()))?;
        nodes.rotate_left(leader);
    }
    if nodes.is_empty() {
        return Err(Failure::NotFound("the cluster has no members yet".to_owned()));
    }
    Ok(HttpDriver::new(nodes, args.target == Target::All, plan, query))
}

fn load(plan: &Plan, driver: &HttpDriver) -> Result<(), Failure> {
    let written = Arc::new(AtomicU64::new(0));
    let _progress = Progress::new("load", Some(plan.keys.count())).follow(&written);
    bench::load(plan, driver.clone(), &written).map_err(|e| Failure::local("bench", e))
}

fn measure(plan: Plan, driver: HttpDriver, meter: &Meter) -> Result<Report, Failure> {
    let done = Arc::new(AtomicU64::new(0));
    let progress = Progress::new(plan.mix.name(), None).follow(&done);
    let mut readings = Vec::new();
    let ran = bench::run(&plan, driver, &done, |_closed| {
        let own = own_cpu_seconds();
        readings.push((meter.read(), own));
    });
    drop(progress);
    let (tally, measured) = ran.map_err(|e| Failure::local("bench", e))?;
    let (nodes, generator_cpu_seconds) = match readings.as_slice() {
        [(before, own_before), (after, own_after)] => (
            before.zip(*after).map(|(before, after)| after - before),
            own_before.zip(*own_after).map(|(before, after)| after - before),
        ),
        _ => (None, None),
    };
    Ok(Report { plan, tally, measured, nodes, generator_cpu_seconds })
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<SocketAddr>, Failure> {
    texts
        .map(|text| {
            let found =
                text.to_socket_addrs().map_err(|e| Failure::local(format!("find {text}"), e))?;
            found
                .into_iter()
                .next()
                .ok_or_else(|| Failure::NotFound(format!("{text} has no address")))
        })
        .collect()
}

/// A connection per client needs a file each; the usual soft limit of 1024 would end a run of 1000 clients.
fn raise_open_files(clients: usize) {
    let wanted = u64::try_from(clients).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
        // If it stays too low, connections fail and the report shows them as errors.
        let _raised =
            setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a number of 1 or more".to_owned()),
    }
}
