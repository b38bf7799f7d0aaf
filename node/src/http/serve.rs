//! The accept loop: sockets in, connections with their bounds out.
//!
//! ```text
//!   accepted    0 ……………… connections_max ……… + peer_connections_reserve ………
//!   client      answered  │  429, closed      │  closed at once
//!   peer        answered  │  answered         │  closed at once
//! ```
//!
//! Both versions of HTTP are spoken on one port: HTTP/2 with prior knowledge, else HTTP/1.1. When
//! the order to stop comes, nothing more is accepted, what is under way may end, and what has not
//! ended after [`Limits::drain`] is dropped. Peers are served until the last client is, and no longer.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use raftmap_client::api::Code;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::answer::Answer;
use super::body::{Body, Held};
use super::conn::{Conn, Verdict, Watched};
use super::error::ApiError;
use super::figures::Connections;
use super::{Front, Limits};

/// Under which paths peers speak to each other.
const PEER_PATHS: &str = "/raft/v1/";

/// The bytes of a head that hyper reads before it gives up; our own bounds are below it.
const HEAD_BUFFER_BYTES: usize = 64 << 10;

/// What a peer or a client may send on one HTTP/2 stream, and on one connection, before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How often an HTTP/2 connection is asked whether the other side is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it waits after the system refused to give it a socket (no descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long an idle connection may take to close.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What has been ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Drain,
    Drop,
}

/// A connection's ear for orders. While it holds `drain` it is waited for.
struct Orders {
    drain: Option<watch::Receiver<Order>>,
    drop: watch::Receiver<Order>,
}

impl Orders {
    async fn next(&mut self) -> Order {
        let drained = async {
            match &mut self.drain {
                Some(drain) => drain.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.drop.changed() => Order::Drop,
            ordered = drained => if ordered.is_ok() { Order::Drain } else { Order::Drop },
        }
    }
}

/// Serves clients with `front` and peers with `peers` on `listener` until `stopping` holds true,
/// then until what is under way has ended, at most [`Limits::drain`] longer.
///
/// Without `front` every path that is not a peer's is unknown, without `peers` every one that is.
pub async fn serve(
    listener: TcpListener,
    front: Option<Front>,
    peers: Option<axum::Router>,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = front.as_ref().map_or_else(Limits::default, |front| front.limits().clone());
    let drain = limits.drain;
    let server = Arc::new(Server {
        builder: builder(&limits),
        limits,
        front,
        peers: peers.map(TowerToHyperService::new),
        open: AtomicUsize::new(0),
        figures: Connections::new(),
    });
    let (drains, drain_order) = watch::channel(Order::Run);
    let (drops, drop_order) = watch::channel(Order::Run);
    let mut stop = pin!(async move { stopping.wait_for(|stop| *stop).await.map(drop) });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        match accepted {
            Ok((socket, _)) => {
                let drain = Some(drain_order.clone());
                server.admit(socket, Orders { drain, drop: drop_order.clone() });
            }
            Err(error) => wait_out(&error).await,
        }
    }
    drop(listener);
    drop((drain_order, drop_order));
    let _ = drains.send(Order::Drain);
    if timeout(drain, drains.closed()).await.is_err() {
        tracing::info!(connections = drains.receiver_count(), "dropping what is still under way");
    }
    let _ = drops.send(Order::Drop);
    drops.closed().await;
}

/// An accept that failed concerns one connection, or the whole process for a while.
async fn wait_out(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "cannot accept connections at the moment");
        sleep(ACCEPT_PAUSE).await;
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Time-outs of heads and of idle connections are ours (see `conn`): hyper's arms a timer for
    // each request and counts the idle time as part of the next head.
    builder.http1().max_buf_size(HEAD_BUFFER_BYTES).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(limits.resets_max)
        .max_local_error_reset_streams(limits.resets_max)
        .max_header_list_size(u32::try_from(HEAD_BUFFER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    limits: Limits,
    front: Option<Front>,
    peers: Option<TowerToHyperService<axum::Router>>,
    open: AtomicUsize,
    figures: Connections,
}

impl Server {
    fn admit(self: &Arc<Self>, socket: TcpStream, orders: Orders) {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(self.clone());
        self.figures.open.increment(1);
        let most = self.limits.connections_max;
        if before >= most.saturating_add(self.limits.peer_connections_reserve) {
            self.figures.refused.increment(1);
            return;
        }
        self.figures.accepted.increment(1);
        let conn = Conn::new(before >= most);
        let server = self.clone();
        tokio::spawn(async move {
            // A socket that cannot be set up is gone; its first read will tell.
            let _ = socket.set_nodelay(true);
            server.run(socket, conn, orders).await;
            drop(open);
        });
    }

    /// One connection, from its first byte to its last.
    async fn run(self: &Arc<Self>, socket: TcpStream, conn: Arc<Conn>, mut orders: Orders) {
        let io = TokioIo::new(Watched::new(socket, conn.clone()));
        let service = service_fn(|request| {
            // A stream of HTTP/2 is a task of its own.
            let (server, conn) = (self.clone(), conn.clone());
            async move { server.answer(request, &conn).await }
        });
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut tick = interval(Conn::tick(&self.limits));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        loop {
            tokio::select! {
                // Errors of a connection are its client's affair.
                _ended = connection.as_mut() => return,
                _ = tick.tick() => match conn.verdict(&self.limits) {
                    Verdict::Keep => {}
                    Verdict::Idle => {
                        connection.as_mut().graceful_shutdown();
                        let _ = timeout(CLOSE_GRACE, connection.as_mut()).await;
                        return;
                    }
                    Verdict::GiveUp(why) => {
                        tracing::debug!(why, "gave a connection up");
                        self.figures.given_up.increment(1);
                        return;
                    }
                },
                order = orders.next() => match order {
                    Order::Run => {}
                    Order::Drain => {
                        connection.as_mut().graceful_shutdown();
                        // What peers send has no end, and clients may wait for what it brings.
                        if conn.is_peer() {
                            orders.drain = None;
                        }
                    }
                    Order::Drop => return,
                },
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        conn: &Arc<Conn>,
    ) -> Result<Response<Body>, Infallible> {
        let of_peer = request.uri().path().starts_with(PEER_PATHS);
        Ok(match (of_peer, &self.front, &self.peers) {
            (false, Some(front), _) => front.answer(request, conn).await,
            (true, _, Some(peers)) => {
                conn.note_peer();
                let held = Held::by_peer(conn.begin());
                let Ok(response) = peers.call(request).await;
                response.map(|body| Body::peer(body).holding(held))
            }
            _ => {
                let unknown = ApiError::new(Code::RouteNotFound, "not served on this address");
                let held = Held::by_peer(conn.begin());
                Answer::refusal(&unknown).into_response(|body| body.holding(held))
            }
        })
    }
}

/// One connection that counts towards the bound.
struct Open(Arc<Server>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.figures.open.decrement(1);
    }
}
