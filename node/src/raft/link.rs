//! One HTTP/2 connection to one peer for one purpose, dialled when it is needed.
//!
//! ```text
//!   Append     the entries: one request that lasts            large windows
//!   Control    heartbeats, votes, read index: small, urgent   never behind the bytes of another purpose
//!   Snapshot   files                                          large windows
//!   Forward    writes on their way to the leader, admin calls
//! ```
//!
//! Always true:
//! - at most one connection per link, at most one dial at a time; who waited for a dial that failed gets its error;
//! - a dead peer is noticed within [`KEEP_ALIVE_INTERVAL`] + [`KEEP_ALIVE_TIMEOUT`], whatever TCP thinks;
//! - a request is repeated on a new connection only if the old one gave it back unsent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::PeerBody;
use super::error::PeerError;
use super::frame::{Frame, Frames};
use super::identity::PEER_HEADER;
use super::lock::Mutex;
use super::metrics::LinkMetrics;
use super::socket::{Severed, Socket};
use super::wire::Pieces;

/// How long a TCP connect may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A silent connection is asked for a sign of life this often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// A connection without the sign of life that was asked for is dead. A machine that is merely
/// overloaded answers within it.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a peer may send on one stream before it is read: snapshots' progress and replies are small,
/// replies of forwarded reads of old values may be large.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What a peer may send on a connection before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The largest HTTP/2 data frame that is accepted: fewer, larger reads.
const DATA_FRAME_BYTES: u32 = 256 * 1024;

/// What hyper may buffer per stream beyond what the peer's window lets out.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// A refusal's text is read up to here.
const REASON_BYTES_MAX: usize = 2048;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Append,
    Control,
    Snapshot,
    Forward,
}

impl Purpose {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Purpose::Append => "append",
            Purpose::Control => "control",
            Purpose::Snapshot => "snapshot",
            Purpose::Forward => "forward",
        }
    }
}

/// The connection, when there is one.
pub(crate) struct Link {
    addr: String,
    metrics: LinkMetrics,
    live: Mutex<Option<Live>>,
    dial: tokio::sync::Mutex<Option<Failed>>,
}

#[derive(Clone)]
struct Live {
    sender: http2::SendRequest<PeerBody>,
    severed: Arc<Severed>,
}

struct Failed {
    at: Instant,
    error: PeerError,
}

impl Link {
    pub(crate) fn new(addr: &str, metrics: LinkMetrics) -> Link {
        Link {
            addr: addr.to_owned(),
            metrics,
            live: Mutex::new(None),
            dial: tokio::sync::Mutex::new(None),
        }
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Drops the connection now; everything under way on it fails. The next request dials.
    pub(crate) fn sever(&self) {
        if let Some(live) = self.live.lock().take() {
            live.severed.sever();
        }
    }

    /// One frame out, one frame back, all within `limit`.
    pub(crate) async fn call(
        &self,
        path: &'static str,
        identity: Option<HeaderValue>,
        frame: Pieces,
        limit: Duration,
    ) -> Result<Frame, PeerError> {
        let exchange = async {
            let mut answer = self.open(path, identity, PeerBody::Frame(frame)).await?;
            match answer.next().await {
                Some(Ok(frame)) => Ok(frame),
                Some(Err(error)) => Err(PeerError::frame(&self.addr, error)),
                None => Err(PeerError::broken(&self.addr, "no answer in the response")),
            }
        };
        timeout(limit, exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(PeerError::timeout(&self.addr, limit)))
    }

    /// Sends a request; the frames of the response once its head is there and says 200.
    pub(crate) async fn open(
        &self,
        path: &'static str,
        identity: Option<HeaderValue>,
        body: PeerBody,
    ) -> Result<Frames<Incoming>, PeerError> {
        let response = self.send(self.request(path, identity, body)).await?;
        match response.status() {
            StatusCode::OK => Ok(Frames::new(response.into_body())),
            status => Err(self.refusal(status, response.into_body()).await),
        }
    }

    fn request(
        &self,
        path: &'static str,
        identity: Option<HeaderValue>,
        body: PeerBody,
    ) -> Request<PeerBody> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        let authority: &str = &self.addr;
        *request.uri_mut() = http::Uri::builder()
            .scheme(http::uri::Scheme::HTTP)
            .authority(authority)
            .path_and_query(path)
            .build()
            .unwrap_or_else(|_no_authority| http::Uri::from_static(path));
        if let Some(identity) = identity {
            request.headers_mut().insert(PEER_HEADER, identity);
        }
        request
    }

    async fn send(&self, request: Request<PeerBody>) -> Result<Response<Incoming>, PeerError> {
        let mut live = self.live().await?;
        let mut failed = match live.sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        // A connection that had just ended gives the request back: nothing of it was sent.
        let Some(request) = failed.take_message() else {
            return Err(PeerError::broken(&self.addr, chain(failed.error())));
        };
        self.forget(&live);
        let mut live = self.live().await?;
        live.sender.try_send_request(request).await.map_err(|mut failed| {
            match failed.take_message() {
                Some(_unsent) => PeerError::unreachable(&self.addr, chain(failed.error())),
                None => PeerError::broken(&self.addr, chain(failed.error())),
            }
        })
    }

    async fn refusal(&self, status: StatusCode, mut body: Incoming) -> PeerError {
        let mut reason = Vec::new();
        while reason.len() < REASON_BYTES_MAX
            && let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut body).await
        {
            reason.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        }
        reason.truncate(REASON_BYTES_MAX);
        let reason = format!("{status}: {}", String::from_utf8_lossy(&reason));
        let addr = self.addr.clone();
        if status.is_server_error() || status == StatusCode::CONFLICT {
            PeerError::Unavailable { addr, reason }
        } else {
            PeerError::Refused { addr, reason }
        }
    }

    async fn live(&self) -> Result<Live, PeerError> {
        if let Some(live) = self.open_connection() {
            return Ok(live);
        }
        let asked = Instant::now();
        let mut last = self.dial.lock().await;
        if let Some(live) = self.open_connection() {
            return Ok(live);
        }
        if let Some(failed) = &*last
            && failed.at >= asked
        {
            return Err(failed.error.clone());
        }
        match self.connect().await {
            Ok(live) => {
                *last = None;
                *self.live.lock() = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                self.metrics.dials_failed.increment(1);
                *last = Some(Failed { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    fn open_connection(&self) -> Option<Live> {
        self.live.lock().as_ref().filter(|live| !live.sender.is_closed()).cloned()
    }

    fn forget(&self, gone: &Live) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.severed, &gone.severed)) {
            *live = None;
        }
    }

    async fn connect(&self) -> Result<Live, PeerError> {
        let unreachable = |detail: String| PeerError::unreachable(&self.addr, detail);
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.addr))
            .await
            .map_err(|_elapsed| unreachable(format!("no connection within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (socket, severed) =
            Socket::new(tcp, self.metrics.bytes_in.clone(), self.metrics.bytes_out.clone());
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(DATA_FRAME_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| unreachable(chain(&error)))?;
        self.metrics.dials.increment(1);
        let addr = self.addr.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(addr, error = chain(&error), "the connection to a peer ended");
            }
        });
        Ok(Live { sender, severed })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.sever();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// An error with its causes: hyper's own words are "client error" without them.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
