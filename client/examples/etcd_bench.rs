//! The load generator of `raftmap bench`, driving etcd: the other column of a comparison.
//!
//! ```text
//!   client ─┐                             ┌─ HTTP/2 stream: POST /etcdserverpb.KV/Put
//!   client ─┼─ connection (one of --conns) ┤    5-byte gRPC frame + protobuf
//!   client ─┘                             └─ trailers: grpc-status
//! ```
//!
//! It speaks gRPC by hand: two messages of two fields each do not need a code generator, and the client stays as lean
//! as the one on the other side. Loop, keys, values, histogram and report are those of `raftmap bench`. Reads are
//! linearizable, which is etcd's default.
//!
//! ```text
//!   cargo run --release -p raftmap-client --example etcd_bench -- put \
//!       --endpoints 127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579 --clients 256 --conns 6 --output json
//! ```

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use raftmap_client::{
    api::duration,
    bench::{
        self, Driver, KeySpace, Kind, Meter, Mix, Plan, Report, Session, meter::own_cpu_seconds,
        run::Failure,
    },
};
use tokio::{net::TcpStream, sync::Mutex};

/// A closed loop against etcd, with the report of `raftmap bench`.
#[derive(Debug, Parser)]
struct Args {
    #[arg(value_enum)]
    workload: Workload,
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<SocketAddr>,
    /// Connections that all clients share, spread over the endpoints
    #[arg(long, default_value_t = 6)]
    conns: usize,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    warmup: Duration,
    #[arg(long, default_value_t = 16)]
    key_bytes: usize,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// mixed: the share of gets in percent
    #[arg(long, default_value_t = 50)]
    reads: u8,
    /// get, mixed: do not write the keys first
    #[arg(long)]
    no_load: bool,
    /// Processes whose use of the machine is reported
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Workload {
    Put,
    Get,
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let plan = plan(&args)?;
    if plan.mix != Mix::Put && !args.no_load {
        let driver = EtcdDriver::new(&args, &plan);
        bench::load(&plan, driver, &Arc::new(AtomicU64::new(0))).context("write the keys")?;
    }
    let meter = Meter::Processes(args.pids.clone());
    let mut readings = Vec::new();
    let driver = EtcdDriver::new(&args, &plan);
    let (tally, measured) = bench::run(&plan, driver, &Arc::default(), |_closed| {
        let own = own_cpu_seconds();
        readings.push((meter.read(), own));
    })?;
    let [(before, own_before), (after, own_after)] = readings[..] else {
        bail!("the window was not opened and closed once");
    };
    let report = Report {
        plan,
        tally,
        measured,
        nodes: before.zip(after).map(|(before, after)| after - before),
        generator_cpu_seconds: own_before.zip(own_after).map(|(before, after)| after - before),
    };
    print(&args, &report);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn print(args: &Args, report: &Report) {
    match args.output {
        Output::Json => println!("{}", report.to_json()),
        Output::Text => println!("{report}"),
    }
}

fn plan(args: &Args) -> Result<Plan> {
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
        keys: KeySpace::new(args.key_bytes, args.keys).context("so many keys are longer")?,
        value_bytes: args.value_bytes,
        // Connections belong to one runtime.
        threads: 1,
        timeout: Duration::from_secs(10),
    })
}

/// Shared HTTP/2 connections, made when first needed.
struct EtcdDriver {
    endpoints: Vec<SocketAddr>,
    conns: Vec<Mutex<Option<SendRequest<Full<Bytes>>>>>,
    keys: KeySpace,
    value: Bytes,
}

impl EtcdDriver {
    fn new(args: &Args, plan: &Plan) -> EtcdDriver {
        let mut value = vec![0; plan.value_bytes];
        rand::RngCore::fill_bytes(
            &mut <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(7),
            &mut value,
        );
        EtcdDriver {
            endpoints: args.endpoints.clone(),
            conns: (0..args.conns.max(1)).map(|_| Mutex::new(None)).collect(),
            keys: plan.keys.clone(),
            value: value.into(),
        }
    }
}

impl Driver for EtcdDriver {
    type Session = EtcdSession;

    async fn connect(&self, client: usize, _attempt: usize) -> Result<EtcdSession, Failure> {
        let slot = client % self.conns.len();
        let addr = self.endpoints[slot % self.endpoints.len()];
        let mut conn = self.conns[slot].lock().await;
        let sender = match conn.as_ref() {
            Some(sender) if !sender.is_closed() => sender.clone(),
            _ => conn.insert(dial(addr).await?).clone(),
        };
        Ok(EtcdSession { addr, sender, keys: self.keys.clone(), value: self.value.clone() })
    }
}

async fn dial(addr: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(addr).await.map_err(|_closed| Failure::Connect)?;
    stream.set_nodelay(true).map_err(|_closed| Failure::Connect)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_refused| Failure::Connect)?;
    tokio::spawn(async move {
        // When it ends, so do its requests, and they are counted.
        let _ended = connection.await;
    });
    Ok(sender)
}

struct EtcdSession {
    addr: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    keys: KeySpace,
    value: Bytes,
}

impl Session for EtcdSession {
    async fn perform(&mut self, kind: Kind, key: u64) -> Result<(), Failure> {
        let (method, message) = match kind {
            Kind::Put => ("Put", message(&[&self.keys.key(key), &self.value])),
            Kind::Get => ("Range", message(&[&self.keys.key(key)])),
        };
        let request = Request::post(format!("http://{}/etcdserverpb.KV/{method}", self.addr))
            .header("content-type", HeaderValue::from_static("application/grpc"))
            .header("te", HeaderValue::from_static("trailers"))
            .body(Full::new(message))
            .map_err(|_invalid| Failure::Protocol)?;
        self.sender.ready().await.map_err(|_broken| Failure::Reset)?;
        let response = self.sender.send_request(request).await.map_err(|_broken| Failure::Reset)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status().as_u16()));
        }
        // An error without a body comes in the head, everything else in the trailers.
        let early = grpc_status(response.headers());
        let body = response.into_body().collect().await.map_err(|_broken| Failure::Reset)?;
        match early.or_else(|| body.trailers().and_then(grpc_status)) {
            Some(0) => Ok(()),
            Some(status) => Err(Failure::Status(status)),
            None => Err(Failure::Protocol),
        }
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A gRPC frame around a protobuf message whose fields 1, 2, … are these byte strings: `PutRequest` with key and
/// value, or `RangeRequest` with a key.
fn message(fields: &[&[u8]]) -> Bytes {
    let mut body = BytesMut::new();
    for (number, field) in (1_u8..).zip(fields) {
        body.put_u8(number << 3 | 2); // length-delimited
        let mut length = field.len();
        while length > 0x7f {
            body.put_u8(0x80 | low_bits(length));
            length >>= 7;
        }
        body.put_u8(low_bits(length));
        body.put_slice(field);
    }
    let mut frame = BytesMut::with_capacity(5 + body.len());
    frame.put_u8(0); // not compressed
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(&body);
    frame.freeze()
}

fn low_bits(n: usize) -> u8 {
    u8::try_from(n & 0x7f).unwrap_or(0)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(str::to_owned)
}
