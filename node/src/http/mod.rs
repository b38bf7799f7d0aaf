//! The HTTP side of a node: one address for clients and peers, HTTP/1.1 and HTTP/2.
//!
//! ```text
//! serve ─ accept ─► conn ─ a request ─┬─ /raft/v1/… ─► the peers' own routes
//!                  (who waits?)       └─ Front ─ admission ─ route ─► kv list txn cluster probe
//!                                          ▲                                │
//!                                          └── Answer, or a problem ◄───────┘
//! ```
//!
//! Clients are routed by hand, not by a framework: a point read costs a few microseconds here, and
//! nothing between the socket and its handler copies, boxes or guesses. Peers have their routes in
//! axum and skip every bound that is there for clients.
//!
//! Always true:
//! - a request is understood whole before anything happens: parameters, conditions, body;
//! - whatever is refused is a problem with a code, and left no trace, except `timeout`;
//! - a request holds its permits until its reply is taken or given up, whichever way it ends.

mod accept;
mod answer;
mod body;
mod call;
mod cluster;
mod conn;
mod cursor;
mod error;
mod figures;
mod json;
mod kv;
mod limits;
mod list;
mod probe;
mod query;
mod serve;
mod tags;
mod txn;
mod upload;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use raftmap_client::api::Code;

pub use limits::{BODY_SMALL_BYTES, Limits};
pub use serve::serve;

use answer::{Answer, KV_LEADER, KV_NODE};
use body::{Body, Held};
use call::Call;
use conn::Conn;
use error::{ApiError, Result};
use figures::Figures;
use kv::KeyAt;
use limits::{Admission, Permit};

use crate::service::Service;

/// What answers clients, within the default [`Limits`].
#[must_use]
pub fn router(service: Service) -> Front {
    Front::new(service, Limits::default())
}

/// What answers clients. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    service: Service,
    limits: Limits,
    admission: Arc<Admission>,
    figures: Figures,
    node: HeaderValue,
}

impl Front {
    /// Answers clients of `service` within `limits`.
    #[must_use]
    pub fn new(service: Service, limits: Limits) -> Self {
        let admission = Admission::new(&limits);
        let node = HeaderValue::from(service.node_id());
        Front(Arc::new(Inner { service, limits, admission, figures: Figures::new(), node }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Answers one request of a client.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        conn: &Arc<Conn>,
    ) -> Response<Body> {
        let busy = conn.begin();
        let (head, mut body) = request.into_parts();
        let route = Route::of(head.uri.path());
        let admitted = if conn.surplus { Err(limits::Full) } else { self.0.admission.request() };
        let (result, permit) = match admitted {
            Ok(mut permit) => (self.call(route, &head, &mut body, &mut permit).await, Some(permit)),
            Err(full) => (Err(ApiError::from(full)), None),
        };
        let result = result.map_err(|error| if conn.surplus { error.closing() } else { error });
        let reads = Verb::of(&head.method) == Verb::Get;
        let (answer, permit) = self.finish(result, permit, reads);
        let permit = match permit {
            Some(permit) if Call::leaves_body(&head, &body) => {
                // Whoever still sends shall be able to hear the answer before the end.
                tokio::spawn(async move {
                    upload::discard(body).await;
                    drop(permit);
                });
                None
            }
            permit => permit,
        };
        self.0.figures.count(route.figure(&head.method), answer.status());
        let held = Held::by_client(permit, conn.reply(), busy);
        let head_only = head.method == Method::HEAD;
        let answer = if head_only { answer.without_body() } else { answer };
        answer.into_response(|body| body.holding(held))
    }

    async fn call(
        &self,
        route: Route<'_>,
        head: &Parts,
        body: &mut Incoming,
        permit: &mut Permit,
    ) -> Result<Answer> {
        check_head(head, &self.0.limits)?;
        let Inner { service, limits, .. } = &*self.0;
        let mut call = Call { service, limits, head, body, permit };
        route.answer(&mut call).await
    }

    /// The answer with the fields that every reply has, and what is held until it is taken.
    fn finish(
        &self,
        result: Result<Answer>,
        permit: Option<Permit>,
        reads: bool,
    ) -> (Answer, Option<Permit>) {
        let answer = result.unwrap_or_else(|error| Answer::refusal(&error));
        let (answer, permit) = match permit {
            Some(mut permit) => match permit.hold(answer.body_len()) {
                Ok(()) => (answer, Some(permit)),
                Err(full) if reads => (Answer::refusal(&ApiError::from(full)), Some(permit)),
                // What a write did must be told, whatever it costs.
                Err(_full) => (answer, Some(permit)),
            },
            None => (answer, None),
        };
        let answer = answer.field(KV_NODE, self.0.node.clone());
        match self.0.service.leader() {
            Some(leader) => (answer.number(KV_LEADER, leader), permit),
            None => (answer, permit),
        }
    }
}

/// Refuses a head that is longer than it need be.
fn check_head(head: &Parts, limits: &Limits) -> Result<()> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes_max {
        let limit = u64::try_from(limits.target_bytes_max).unwrap_or(u64::MAX);
        return Err(ApiError::too_large(Code::KeyTooLarge, limit));
    }
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if fields.sum::<usize>() > limits.header_bytes_max {
        let limit = u64::try_from(limits.header_bytes_max).unwrap_or(u64::MAX);
        return Err(ApiError::too_large(Code::RequestTooLarge, limit));
    }
    Ok(())
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    /// `/v1/kv/…`: one key, still encoded.
    Key(&'a str),
    Keys,
    Txn,
    Status,
    Init,
    Members,
    Member(&'a str),
    Leader,
    Snapshot,
    Live,
    Ready,
    Metrics,
    Unknown,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        if let Some(key) = path.strip_prefix("/v1/kv/") {
            return Route::Key(key);
        }
        if let Some(id) = path.strip_prefix("/v1/cluster/members/") {
            return Route::Member(id);
        }
        match path {
            "/v1/kv" => Route::Keys,
            "/v1/txn" => Route::Txn,
            "/v1/status" => Route::Status,
            "/v1/cluster/init" => Route::Init,
            "/v1/cluster/members" => Route::Members,
            "/v1/cluster/leader" => Route::Leader,
            "/v1/cluster/snapshot" => Route::Snapshot,
            "/livez" => Route::Live,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            _ => Route::Unknown,
        }
    }

    /// The methods that it knows, for `Allow`.
    fn methods(self) -> &'static str {
        match self {
            Route::Key(_) | Route::Keys => "GET, HEAD, PUT, PATCH, DELETE",
            Route::Txn | Route::Init | Route::Leader | Route::Snapshot => "POST",
            Route::Members => "GET, HEAD, POST",
            Route::Member(_) => "PUT, DELETE",
            Route::Status | Route::Live | Route::Ready | Route::Metrics => "GET, HEAD",
            Route::Unknown => "",
        }
    }

    /// Under which name its requests are counted.
    fn figure(self, method: &Method) -> figures::Kind {
        use figures::Kind;
        match self {
            Route::Key(_) | Route::Keys if *method == Method::PUT => Kind::Put,
            Route::Key(_) | Route::Keys if *method == Method::PATCH => Kind::Touch,
            Route::Key(_) | Route::Keys if *method == Method::DELETE => Kind::Delete,
            Route::Key(_) => Kind::Get,
            Route::Keys => Kind::List,
            Route::Txn => Kind::Txn,
            Route::Live | Route::Ready | Route::Metrics => Kind::Probe,
            Route::Status
            | Route::Init
            | Route::Members
            | Route::Member(_)
            | Route::Leader
            | Route::Snapshot => Kind::Cluster,
            Route::Unknown => Kind::Other,
        }
    }

    async fn answer(self, call: &mut Call<'_>) -> Result<Answer> {
        let head = call.head;
        match (self, Verb::of(&head.method)) {
            (Route::Key(raw), Verb::Get) => kv::get(call, KeyAt::Path(raw)).await,
            (Route::Key(raw), Verb::Put) => kv::put(call, KeyAt::Path(raw)).await,
            (Route::Key(raw), Verb::Patch) => kv::patch(call, KeyAt::Path(raw)).await,
            (Route::Key(raw), Verb::Delete) => kv::delete(call, KeyAt::Path(raw)).await,
            // The rest is rarer or larger: boxed, so that a point call stays small.
            (Route::Unknown, _) => {
                Err(ApiError::new(Code::RouteNotFound, "nothing is served under this path"))
            }
            (route, verb) => Box::pin(route.answer_others(verb, call)).await,
        }
    }

    async fn answer_others(self, verb: Verb, call: &mut Call<'_>) -> Result<Answer> {
        let one_key = kv::names_a_key(call.query());
        match (self, verb) {
            (Route::Keys, Verb::Get) if one_key => kv::get(call, KeyAt::Query).await,
            (Route::Keys, Verb::Get) => list::get(call).await,
            (Route::Keys, Verb::Put) => kv::put(call, KeyAt::Query).await,
            (Route::Keys, Verb::Patch) => kv::patch(call, KeyAt::Query).await,
            (Route::Keys, Verb::Delete) if one_key => kv::delete(call, KeyAt::Query).await,
            (Route::Keys, Verb::Delete) => list::delete(call).await,
            (Route::Txn, Verb::Post) => txn::post(call).await,
            (Route::Status, Verb::Get) => cluster::status(call),
            (Route::Init, Verb::Post) => cluster::init(call).await,
            (Route::Members, Verb::Get) => cluster::members(call).await,
            (Route::Members, Verb::Post) => cluster::add_member(call).await,
            (Route::Member(id), Verb::Put) => cluster::set_role(call, id).await,
            (Route::Member(id), Verb::Delete) => cluster::remove_member(call, id).await,
            (Route::Leader, Verb::Post) => cluster::transfer_leader(call).await,
            (Route::Snapshot, Verb::Post) => cluster::snapshot(call).await,
            (Route::Live, Verb::Get) => probe::live(call),
            (Route::Ready, Verb::Get) => probe::ready(call),
            (Route::Metrics, Verb::Get) => probe::metrics(call),
            (route, _) => {
                let methods = route.methods();
                let detail = format!("this path knows {methods}");
                Err(ApiError::new(Code::MethodNotAllowed, detail).allow(methods))
            }
        }
    }
}

/// What a method asks for; HEAD is a GET whose body is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Put,
    Patch,
    Delete,
    Post,
    Other,
}

impl Verb {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Verb::Get,
            Method::PUT => Verb::Put,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            Method::POST => Verb::Post,
            _ => Verb::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are() {
        for (path, route) in [
            ("/v1/kv", Route::Keys),
            ("/v1/kv/", Route::Key("")),
            ("/v1/kv//", Route::Key("/")),
            ("/v1/kv/a/../b", Route::Key("a/../b")),
            ("/v1/kv/%2F", Route::Key("%2F")),
            ("/v1/cluster/members", Route::Members),
            ("/v1/cluster/members/4", Route::Member("4")),
            ("/v1/kvx", Route::Unknown),
            ("/v1//kv/a", Route::Unknown),
            ("/V1/kv/a", Route::Unknown),
            ("/v1/watch", Route::Unknown),
            ("/", Route::Unknown),
            ("*", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_head_has_its_bounds() {
        let limits = Limits { target_bytes_max: 20, header_bytes_max: 20, ..Limits::default() };
        let check = |uri: &str, value: &str| {
            let request = Request::get(uri).header("a", value).body(()).unwrap();
            check_head(&request.into_parts().0, &limits).map_err(|error| error.code())
        };
        assert_eq!(check("/v1/kv/0123456789", "0123456789"), Ok(()));
        assert_eq!(check("/v1/kv/0123456789abcdef", ""), Err(Code::KeyTooLarge));
        assert_eq!(check("/", "01234567890123456789"), Err(Code::RequestTooLarge));
    }
}
