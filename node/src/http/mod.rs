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
#[cfg(test)]
mod garbage;
mod json;
mod kv;
mod limits;
mod lines;
mod list;
mod probe;
mod query;
mod route;
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
use limits::{Admission, Permit};
use route::{Route, Verb};

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
        let goes_on = !result.as_ref().is_err_and(|error| error.parts().close);
        let reads = Verb::of(&head.method) == Verb::Get;
        let (answer, permit) = self.finish(result, permit, reads);
        let permit = match permit {
            Some(permit) if goes_on && Call::leaves_body(&head, &body) => {
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
        let (mut answer, permit) = match permit {
            Some(mut permit) => match permit.hold(answer.body_len()) {
                Ok(()) => (answer, Some(permit)),
                Err(full) if reads => (Answer::refusal(&ApiError::from(full)), Some(permit)),
                // What a write did must be told, whatever it costs.
                Err(_full) => (answer, Some(permit)),
            },
            None => (answer, None),
        };
        answer.set(KV_NODE, self.0.node.clone());
        if let Some(leader) = self.0.service.leader() {
            answer.set_number(KV_LEADER, leader);
        }
        (answer, permit)
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

#[cfg(test)]
mod tests {
    use super::*;

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
