//! One key: read it, set it, change its deadline, delete it. The hot path of the node.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;
use raftmap_client::api::Code;
use raftmap_state_machine::command::{Condition, Delete, Put, TagMatch, Touch};
use raftmap_state_machine::view::Tier;
use raftmap_state_machine::{Item, Op, Outcome, Reply};

use super::accept::{Form, choose};
use super::answer::{
    Answer, KV_CREATE_REVISION, KV_LEASE, KV_REVISION, KV_STALENESS_MS, KV_TIER, KV_TTL_MS,
    KV_VERSION,
};
use super::call::{Call, check_key, deadline, millis, read_options};
use super::error::{ApiError, Result};
use super::json::{Json, RECORD_AROUND_BYTES};
use super::query::{Names, Params};
use super::tags;
use crate::service::ReadPoint;

const GET: Names = Names::TIMEOUT.and(Names::READ).and(Names::REVISION);
const PUT: Names = Names::TIMEOUT.and(Names::DEADLINE).and(Names::PREV);
const PATCH: Names = Names::TIMEOUT.and(Names::DEADLINE);
const DELETE: Names = Names::TIMEOUT.and(Names::PREV);

/// A key, and the parameters that came with it.
pub(crate) struct Point {
    key: Bytes,
    params: Params,
}

/// Where a request names its key.
#[derive(Clone, Copy)]
pub(crate) enum KeyAt<'a> {
    Path(&'a str),
    Query,
}

impl KeyAt<'_> {
    fn point(self, call: &Call<'_>, known: Names) -> Result<Point> {
        let known = match self {
            // A key in the path and one in the query contradict each other: the latter is unknown.
            KeyAt::Path(_) => known,
            KeyAt::Query => known.and(Names::KEY),
        };
        let mut params = Params::parse(call.query(), known)?;
        let (key, field) = match self {
            KeyAt::Path(raw) => (super::call::key_in_path(raw)?, "key"),
            KeyAt::Query => (params.key.take().unwrap_or_default(), "key_base64"),
        };
        check_key(&key, call.service.store().view().settings(), field)?;
        Ok(Point { key, params })
    }
}

/// `GET` and `HEAD` of one key.
pub(crate) async fn get(call: &mut Call<'_>, at: KeyAt<'_>) -> Result<Answer> {
    let Point { key, params } = at.point(call, GET)?;
    let form = choose(&call.head.headers, &[Form::Raw, Form::Json])?;
    let condition = tags::condition(&call.head.headers)?;
    let point = call.service.read(&read_options(&params)?).await?;
    let now = point.view.revision();
    let staleness = staleness(&params, &point);
    let (item, tier) = match params.revision {
        None => call.service.get(&point.view, &key).await?,
        Some(revision) => (call.service.get_at(&point.view, &key, revision).await?, Tier::Cold),
    };
    let Some(item) = item else {
        let absent = ApiError::new(Code::NotFound, "the key does not exist").at_revision(now);
        return Err(staleness.into_iter().fold(absent, |e, age| e.number(KV_STALENESS_MS, age)));
    };
    if condition.if_match.is_some_and(|wanted| !tags::matches(&wanted, item.mod_revision)) {
        return Err(ApiError::precondition_failed(item.mod_revision).at_revision(now));
    }
    let known =
        condition.if_none_match.is_some_and(|known| tags::matches(&known, item.mod_revision));
    let mut answer = if known { Answer::new(StatusCode::NOT_MODIFIED) } else { found(&item, form) };
    answer.set_etag(item.mod_revision);
    answer.set_number(KV_REVISION, now);
    answer.set(KV_TIER, HeaderValue::from_static(tier_name(tier)));
    if let Some(age) = staleness {
        answer.set_number(KV_STALENESS_MS, age);
    }
    Ok(answer)
}

/// The age of a stale read's state in milliseconds; the highest number for one that never heard
/// from a leader.
pub(crate) fn staleness(params: &Params, point: &ReadPoint) -> Option<u64> {
    (params.stale == Some(true)).then(|| point.staleness.map_or(u64::MAX, millis))
}

fn found(item: &Item, form: Form) -> Answer {
    let mut answer = Answer::new(StatusCode::OK);
    match form {
        Form::Raw => answer.set_content(Form::Raw, item.value.clone()),
        Form::Json | Form::Lines => {
            let mut json = Json::with_capacity(room(item));
            json.record(item, true);
            answer.set_content(Form::Json, json.into_bytes());
        }
    }
    answer.set_number(KV_CREATE_REVISION, item.create_revision);
    answer.set_number(KV_VERSION, item.version);
    if item.lease > 0 {
        answer.set_number(KV_LEASE, item.lease);
    }
    if let Some(ttl_ms) = item.ttl_ms {
        answer.set_number(KV_TTL_MS, ttl_ms);
    }
    answer
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Hot => "hot",
        Tier::Cold => "cold",
    }
}

/// `PUT` of one key.
pub(crate) async fn put(call: &mut Call<'_>, at: KeyAt<'_>) -> Result<Answer> {
    let Point { key, params } = at.point(call, PUT)?;
    let condition = writable(call)?;
    let deadline = deadline(params.ttl, params.lease)?;
    let value_bytes_max = call.service.store().view().settings().value_bytes_max;
    let value = call.body(value_bytes_max, Code::ValueTooLarge).await?;
    let prev = params.prev.unwrap_or(false);
    let op = Op::Put(Put { key, value, deadline, condition, prev });
    let reply = write(call, op, &params).await?;
    let Outcome::Put { created, prev } = reply.outcome else { return Err(unexpected(&reply)) };
    let mut json = Json::with_capacity(64 + prev.as_ref().map_or(0, room));
    json.raw("{\"revision\":").number(reply.revision);
    json.raw(",\"created\":").flag(created).prev(prev.as_ref()).raw("}");
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut answer = Answer::json(status, json);
    answer.set_etag(reply.revision);
    answer.set_number(KV_REVISION, reply.revision);
    Ok(answer)
}

/// `PATCH` of one key: its deadline alone.
pub(crate) async fn patch(call: &mut Call<'_>, at: KeyAt<'_>) -> Result<Answer> {
    let Point { key, params } = at.point(call, PATCH)?;
    let condition = writable(call)?;
    if params.ttl.is_none() && params.lease.is_none() {
        return Err(ApiError::invalid("ttl", "`ttl` or `lease` must be given"));
    }
    let deadline = deadline(params.ttl, params.lease)?;
    let reply = write(call, Op::Touch(Touch { key, deadline, condition }), &params).await?;
    let Outcome::Touched { item } = &reply.outcome else { return Err(unexpected(&reply)) };
    let mut json = Json::with_capacity(room(item));
    json.record(item, true);
    let mut answer = Answer::json(StatusCode::OK, json);
    answer.set_etag(item.mod_revision);
    answer.set_number(KV_REVISION, reply.revision);
    Ok(answer)
}

/// `DELETE` of one key.
pub(crate) async fn delete(call: &mut Call<'_>, at: KeyAt<'_>) -> Result<Answer> {
    let Point { key, params } = at.point(call, DELETE)?;
    let condition = writable(call)?;
    let prev = params.prev.unwrap_or(false);
    let reply = write(call, Op::Delete(Delete { key, condition, prev }), &params).await?;
    let Outcome::Deleted { deleted, prev } = &reply.outcome else { return Err(unexpected(&reply)) };
    let mut json = Json::with_capacity(64 + prev.first().map_or(0, room));
    json.raw("{\"revision\":").number(reply.revision);
    json.raw(",\"deleted\":").number(*deleted).prev(prev.first()).raw("}");
    Ok(Answer::json(StatusCode::OK, json).number(KV_REVISION, reply.revision))
}

/// What a write must be before it is proposed, and the conditions it carries.
pub(crate) fn writable(call: &Call<'_>) -> Result<Condition> {
    choose(&call.head.headers, &[Form::Json])?;
    let condition = tags::condition(&call.head.headers)?;
    call.check_promises()?;
    Ok(condition)
}

/// As [`writable`], for a write that has no one record to compare with.
pub(crate) fn writable_without_conditions(call: &Call<'_>) -> Result<()> {
    let Condition { if_match, if_none_match } = writable(call)?;
    let given = |tags: Option<TagMatch>, field: &'static str| match tags {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(field, "only for a call on one key")),
    };
    given(if_match, "If-Match")?;
    given(if_none_match, "If-None-Match")
}

/// Proposes a write; what the state refused becomes an error.
pub(crate) async fn write(call: &Call<'_>, op: Op, params: &Params) -> Result<Reply> {
    let reply = call.service.write(op, params.timeout()).await?;
    match reply.outcome {
        Outcome::Refused(refusal) => Err(ApiError::refused(refusal, reply.revision)),
        _ => Ok(reply),
    }
}

/// Room for a record in JSON.
pub(crate) fn room(item: &Item) -> usize {
    item.key.len() + item.value.len() + RECORD_AROUND_BYTES
}

pub(crate) fn unexpected(reply: &Reply) -> ApiError {
    ApiError::internal(format_args!("the state gave another reply than was asked for: {reply:?}"))
}

/// Whether a call on `/v1/kv` means one key.
pub(crate) fn names_a_key(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(n, _)| n));
        names.any(|name| {
            super::query::decode(name, super::query::Plus::IsSpace)
                .is_some_and(|name| *name == *b"key_base64")
        })
    })
}
