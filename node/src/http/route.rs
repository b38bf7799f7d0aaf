//! Which call a path and a method name.

use http::Method;
use raftmap_client::api::Code;

use super::answer::Answer;
use super::call::Call;
use super::error::{ApiError, Result};
use super::figures::Kind;
use super::kv::{self, KeyAt};
use super::{cluster, list, probe, txn};

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
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
    pub(crate) fn of(path: &'a str) -> Self {
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
    pub(crate) fn figure(self, method: &Method) -> Kind {
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

    pub(crate) async fn answer(self, call: &mut Call<'_>) -> Result<Answer> {
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
pub(crate) enum Verb {
    Get,
    Put,
    Patch,
    Delete,
    Post,
    Other,
}

impl Verb {
    pub(crate) fn of(method: &Method) -> Self {
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
}
