//! From a request to its answer: attempts, endpoints, deadlines.
//!
//! ```text
//!   call ──► pick endpoint ──► attempt ──► reply ──► final?  ──► answer or error
//!              ▲                  │                    │
//!              └──── pause ◄──────┴── may be repeated ─┘   (the rules are in retry.rs)
//! ```
//!
//! Always true:
//! - a call ends by its deadline, plus at most [`GRACE`] in which the node's own time-out may still arrive;
//! - an attempt of a write is waited for until the deadline: giving up earlier would only turn answers into unknowns;
//! - nothing below this file repeats a request that was sent: redirects, proxies and the HTTP library's retries are off.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::{
    api::{Problem, Status},
    endpoints::Endpoints,
    error::{Error, Result},
    request::Request,
    retry::{Backoff, Effect, Fate, Verdict, fate_of_status, verdict},
};

/// How long a connection may take to be made. Local networks answer in milliseconds or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections are closed before the node does it (75 s), so that no request meets a closing one.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A read is tried on another node after a third of its time, but not before this.
const READ_ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// How long after the node's time-out its answer is still waited for.
pub(crate) const GRACE: Duration = Duration::from_millis(250);
/// The longest body that is held in memory: four times the largest page in its most verbose JSON form.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long one piece of a streamed reply may take.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(30);
/// The most of a reply's body that is quoted in an error.
const QUOTE_BYTES_MAX: usize = 200;

/// A client's way to its cluster, shared by its clones.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoints: Endpoints,
    timeout: Duration,
    learning: AtomicBool,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One attempt that did not bring a final answer.
struct Miss {
    fate: Fate,
    reason: String,
    problem: Option<Box<Problem>>,
    /// The server's wish, when it is overloaded.
    pause: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(
        endpoints: Endpoints,
        timeout: Duration,
        headers: HeaderMap,
    ) -> Result<Transport> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .default_headers(headers)
            .build()
            .map_err(|e| Error::internal(format!("set up the HTTP client: {}", chain(&e))))?;
        Ok(Transport { http, endpoints, timeout, learning: AtomicBool::new(false) })
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Sends a request until there is a whole final answer.
    pub(crate) async fn call(self: &Arc<Self>, request: &Request) -> Result<Reply> {
        self.repeat(request, async |response, limit| {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = tokio::time::timeout(limit, whole_body(response)).await;
            let body =
                body.unwrap_or_else(|_late| Err("the reply's body came too slowly".to_owned()))?;
            Ok(Reply { status, headers, body })
        })
        .await
    }

    /// Sends a request until an answer begins; its body is left to the caller.
    pub(crate) async fn open(self: &Arc<Self>, request: &Request) -> Result<reqwest::Response> {
        self.repeat(request, async |response, _limit| Ok(response)).await
    }

    /// Sends a request to one node, once.
    pub(crate) async fn call_at(&self, addr: &str, request: &Request) -> Result<Reply> {
        let limit = request.timeout.unwrap_or(self.timeout);
        let failed = |reason: String| Error::Retry { reason, problem: None };
        let url = format!("http://{addr}{}", request.target);
        let sent = self.http.request(request.method.clone(), url).timeout(limit).send().await;
        let response = sent.map_err(|e| failed(format!("{addr}: {}", chain(&e))))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = whole_body(response).await.map_err(|e| failed(format!("{addr}: {e}")))?;
        Ok(Reply { status, headers, body })
    }

    async fn repeat<T>(
        self: &Arc<Self>,
        request: &Request,
        mut receive: impl AsyncFnMut(reqwest::Response, Duration) -> Result<T, String>,
    ) -> Result<T> {
        self.learn_leader();
        let mut backoff = Backoff::until(Instant::now() + request.timeout.unwrap_or(self.timeout));
        let mut avoid: Option<Arc<str>> = None;
        loop {
            let now = Instant::now();
            let addr = self.endpoints.pick(request.prefer, avoid.as_deref(), now);
            let limit = attempt_limit(request.effect, backoff.left(now));
            let miss = match self.attempt(&addr, request, limit).await? {
                Ok(response) => match receive(response, limit + GRACE).await {
                    Ok(reply) => return Ok(reply),
                    Err(reason) => Miss { fate: Fate::Open, reason, problem: None, pause: None },
                },
                Err(miss) => miss,
            };
            tracing::debug!(%addr, reason = %miss.reason, "attempt failed");
            let reason = format!("{addr}: {}", miss.reason);
            if verdict(request.effect, miss.fate) == Verdict::Unknown {
                return Err(Error::Unknown { reason });
            }
            let Some(pause) = backoff.pause(Instant::now(), miss.pause, rand_unit()) else {
                return Err(Error::Retry { reason, problem: miss.problem });
            };
            avoid = Some(addr);
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt at one endpoint. `Err` outside is final, `Err` inside may be repeated.
    async fn attempt(
        &self,
        addr: &str,
        request: &Request,
        limit: Duration,
    ) -> Result<Result<reqwest::Response, Miss>> {
        let url = format!("http://{addr}{}", request.target_within(limit)?);
        let sent = self
            .http
            .request(request.method.clone(), url)
            .headers(request.headers.clone())
            .body(request.body.clone())
            .send();
        let response = match tokio::time::timeout(limit + GRACE, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) if e.is_builder() => return Err(Error::invalid(chain(&e))),
            Ok(Err(e)) => {
                self.endpoints.failed(addr, Instant::now());
                let fate = if e.is_connect() { Fate::NotApplied } else { Fate::Open };
                return Ok(Err(Miss { fate, reason: chain(&e), problem: None, pause: None }));
            }
            Err(_late) => {
                self.endpoints.failed(addr, Instant::now());
                let reason = format!("no answer within {limit:?}");
                return Ok(Err(Miss { fate: Fate::Open, reason, problem: None, pause: None }));
            }
        };
        let header = |name| number_header(response.headers(), name);
        self.endpoints.answered(addr, header("kv-node"), header("kv-leader"));
        match fate_of_status(response.status().as_u16()) {
            Fate::Answered => Ok(Ok(response)),
            fate => Ok(Err(self.refusal(addr, fate, response).await)),
        }
    }

    /// A reply that asks to come again, or that leaves the outcome open.
    async fn refusal(&self, addr: &str, fate: Fate, response: reqwest::Response) -> Miss {
        let status = response.status().as_u16();
        let overloaded = status == 429;
        let pause = number_header(response.headers(), "retry-after")
            .filter(|_| overloaded)
            .map(Duration::from_secs);
        let read = tokio::time::timeout(GRACE, whole_body(response)).await;
        let problem = read
            .ok()
            .and_then(Result::ok)
            .and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        if !overloaded {
            self.endpoints.failed(addr, Instant::now());
        }
        let reason =
            problem.as_ref().map_or_else(|| format!("status {status}"), ToString::to_string);
        Miss { fate, reason, problem: problem.map(Box::new), pause }
    }

    /// Asks for the members in the background when the leader's address is not known.
    fn learn_leader(self: &Arc<Self>) {
        let wanted = self.endpoints.leader_needs_address();
        if !wanted || self.learning.swap(true, Ordering::Relaxed) {
            return;
        }
        let transport = Arc::clone(self);
        tokio::spawn(async move {
            for addr in transport.endpoints.all() {
                let mut request = Request::read("/v1/status");
                request.timeout = Some(READ_ATTEMPT_MIN);
                let reply = transport.call_at(&addr, &request).await;
                let status = reply.ok().and_then(|r| serde_json::from_slice(&r.body).ok());
                if let Some(status) = status {
                    transport.learn(&status);
                    break;
                }
            }
            transport.learning.store(false, Ordering::Relaxed);
        });
    }

    /// Takes over the members and the leader of a status.
    pub(crate) fn learn(&self, status: &Status) {
        let members: BTreeMap<u64, String> =
            status.members.iter().map(|m| (m.id, m.addr.clone())).collect();
        if !members.is_empty() {
            self.endpoints.learn(members, status.leader);
        }
    }
}

impl Reply {
    /// The body of a success as `T`, or the refusal as an error.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        self.success()?;
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::internal(format!("read the reply: {e} in {}", quote(&self.body))))
    }

    /// An error if the node refused.
    pub(crate) fn success(&self) -> Result<()> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        Err(problem_of(self.status, &self.body))
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        number_header(&self.headers, name)
    }
}

/// The error that a refusal's body describes.
pub(crate) fn problem_of(status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Error::refused(problem),
        Err(_) => Error::internal(format!("status {status}: {}", quote(body))),
    }
}

/// A whole body, if it is not longer than [`REPLY_BYTES_MAX`].
pub(crate) async fn whole_body(mut response: reqwest::Response) -> Result<Bytes, String> {
    let first = next_piece(&mut response).await?.unwrap_or_default();
    let Some(second) = next_piece(&mut response).await? else {
        return Ok(first);
    };
    let mut body = BytesMut::from(first);
    body.extend_from_slice(&second);
    while let Some(piece) = next_piece(&mut response).await? {
        if body.len() + piece.len() > REPLY_BYTES_MAX {
            return Err(format!("the reply is longer than {REPLY_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// The next piece of a body, `None` at its end.
pub(crate) async fn next_piece(response: &mut reqwest::Response) -> Result<Option<Bytes>, String> {
    match tokio::time::timeout(STREAM_IDLE_MAX, response.chunk()).await {
        Ok(piece) => piece.map_err(|e| format!("read the reply: {}", chain(&e))),
        Err(_late) => Err(format!("the reply stopped for {STREAM_IDLE_MAX:?}")),
    }
}

fn attempt_limit(effect: Effect, left: Duration) -> Duration {
    match effect {
        Effect::Write => left,
        Effect::Read => (left / 3).max(READ_ATTEMPT_MIN).min(left),
    }
}

fn number_header(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(QUOTE_BYTES_MAX)]).into_owned()
}

/// An error with its causes, once each: the library names only the outermost.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            let sign = if text.is_empty() { "" } else { ": " };
            text.push_str(sign);
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// A number from 0 to 1 that differs between clients; that is all a pause needs of randomness.
fn rand_unit() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let draw = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(draw).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_keeps_time_for_another_node_and_a_write_takes_all() {
        let ten = Duration::from_secs(10);
        assert_eq!(attempt_limit(Effect::Write, ten), ten);
        assert_eq!(attempt_limit(Effect::Read, ten), ten / 3);
        let short = Duration::from_millis(400);
        assert_eq!(attempt_limit(Effect::Read, short), short);
    }

    #[test]
    fn a_refusal_that_is_no_problem_document_is_quoted() {
        let error = problem_of(418, b"short and stout");
        assert!(matches!(error, Error::Internal { .. }));
        assert!(error.to_string().contains("418: short and stout"));
    }

    #[test]
    fn a_draw_is_between_0_and_1() {
        for _ in 0..100 {
            assert!((0.0..=1.0).contains(&rand_unit()));
        }
    }
}
