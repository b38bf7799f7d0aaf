//! Many keys: a page of them, or their end.
//!
//! ```text
//!   { revision, items, prefixes, count, cursor? }      one moment for all pages
//! ```
//!
//! The cursor carries the revision of the first page; the node keeps nothing between two pages. A
//! whole range as a stream is in `lines`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use raftmap_state_machine::command::DeleteRange;
use raftmap_state_machine::view::View;
use raftmap_state_machine::{KeyRange, ListQuery, Op, Outcome, Page};
use tokio::time::timeout;

use super::accept::{Form, choose};
use super::answer::{Answer, KV_REVISION, KV_STALENESS_MS};
use super::call::{Call, INLINE_BYTES_MAX, read_options};
use super::cursor::{Cursor, Scope};
use super::error::{ApiError, Result};
use super::json::{Json, RECORD_AROUND_BYTES};
use super::kv::{staleness, unexpected, writable_without_conditions, write};
use super::limits::{Admission, Full};
use super::lines;
use super::query::{Names, Params};
use crate::service::Service;

const GET: Names =
    Names::TIMEOUT.and(Names::READ).and(Names::REVISION).and(Names::BOUNDS).and(Names::LIST);
const DELETE: Names = Names::TIMEOUT.and(Names::BOUNDS).and(Names::PREV).and(Names::ALL);

/// A page of JSON ends before it would hold more bytes of keys and values.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// `GET /v1/kv?…`.
pub(crate) async fn get(call: &mut Call<'_>) -> Result<Answer> {
    let params = Params::parse(call.query(), GET)?;
    let form = choose(&call.head.headers, &[Form::Json, Form::Lines])?;
    let mut query = query(&params)?;
    if form == Form::Lines && query.separator.is_some() {
        return Err(ApiError::invalid("separator", "not with a stream of lines"));
    }
    let mut options = read_options(&params)?;
    if let Some(cursor) = cursor(&params, &query)? {
        // Another node may be behind the one that began the list.
        options.min_revision = options.min_revision.max(Some(cursor.revision));
        query.at = Some(cursor.revision);
        query.after = Some(cursor.position);
    }
    let point = call.service.read(&options).await?;
    let now = point.view.revision();
    let age = staleness(&params, &point);
    let answer = match form {
        Form::Lines => lines::get(call, point.view, query, &params).await?,
        Form::Json | Form::Raw => page(call, point.view, query, params.timeout()).await?,
    };
    let answer = answer.number(KV_REVISION, now);
    Ok(age.into_iter().fold(answer, |answer, age| answer.number(KV_STALENESS_MS, age)))
}

/// `DELETE /v1/kv?…`: a range, or everything.
pub(crate) async fn delete(call: &mut Call<'_>) -> Result<Answer> {
    let params = Params::parse(call.query(), DELETE)?;
    writable_without_conditions(call)?;
    let reply = write(call, removal(&params)?, &params).await?;
    let (deleted, prev) = match &reply.outcome {
        Outcome::Deleted { deleted, prev } => (*deleted, prev.as_slice()),
        Outcome::Cleared { deleted } => (*deleted, &[][..]),
        _ => return Err(unexpected(&reply)),
    };
    let mut json = Json::with_capacity(64 + prev.iter().map(super::kv::room).sum::<usize>());
    json.raw("{\"revision\":").number(reply.revision);
    json.raw(",\"deleted\":").number(deleted).prevs(prev).raw("}");
    Ok(Answer::json(StatusCode::OK, json).number(KV_REVISION, reply.revision))
}

/// What a DELETE without a key takes away; never by accident everything.
fn removal(params: &Params) -> Result<Op> {
    let prev = params.prev.unwrap_or(false);
    if params.all.unwrap_or(false) {
        return match (bounded(params), prev) {
            (Some(field), _) => Err(ApiError::invalid(field, "excludes `all`")),
            (None, true) => Err(ApiError::invalid("prev", "not with `all`")),
            (None, false) => Ok(Op::Clear),
        };
    }
    if bounded(params).is_none() {
        let detail = "one of `prefix`, `start`, `end`, or `all=true` must be given";
        return Err(ApiError::invalid("prefix", detail));
    }
    if params.prefix.as_ref().is_some_and(Bytes::is_empty) {
        return Err(ApiError::invalid("prefix", "empty: `all=true` clears the store"));
    }
    let range = range(params)?;
    if range.start.is_empty() && range.end.is_none() {
        return Err(ApiError::invalid("start", "empty: `all=true` clears the store"));
    }
    Ok(Op::DeleteRange(DeleteRange { range, prev }))
}

fn bounded(params: &Params) -> Option<&'static str> {
    let given = [("prefix", &params.prefix), ("start", &params.start), ("end", &params.end)];
    given.into_iter().find(|(_, bound)| bound.is_some()).map(|(name, _)| name)
}

fn range(params: &Params) -> Result<KeyRange> {
    match (&params.prefix, &params.start, &params.end) {
        (Some(prefix), None, None) => Ok(KeyRange::prefix(prefix.clone())),
        (None, start, end) => {
            Ok(KeyRange { start: start.clone().unwrap_or_default(), end: end.clone() })
        }
        (Some(_), _, _) => Err(ApiError::invalid("prefix", "excludes `start` and `end`")),
    }
}

fn query(params: &Params) -> Result<ListQuery> {
    let count_only = params.count_only.unwrap_or(false);
    for (given, field) in
        [(params.cursor.is_some(), "cursor"), (params.separator.is_some(), "separator")]
    {
        if count_only && given {
            return Err(ApiError::invalid(field, "not with `count_only`"));
        }
    }
    Ok(ListQuery {
        range: range(params)?,
        limit: params.limit(),
        bytes_max: PAGE_BYTES_MAX,
        reverse: params.reverse.unwrap_or(false),
        keys_only: params.keys_only.unwrap_or(false),
        count_only,
        separator: params.separator.clone(),
        at: params.revision,
        after: None,
    })
}

fn scope(query: &ListQuery) -> Scope<'_> {
    Scope {
        start: &query.range.start,
        end: query.range.end.as_deref(),
        separator: query.separator.as_deref(),
        reverse: query.reverse,
    }
}

fn cursor(params: &Params, query: &ListQuery) -> Result<Option<Cursor>> {
    let Some(text) = &params.cursor else { return Ok(None) };
    let cursor = Cursor::decode(text, scope(query))?;
    match params.revision {
        Some(revision) if revision != cursor.revision => {
            Err(ApiError::invalid("revision", "not the one that the cursor goes on at"))
        }
        _ => Ok(Some(cursor)),
    }
}

async fn page(
    call: &mut Call<'_>,
    view: Arc<View>,
    query: ListQuery,
    patience: Duration,
) -> Result<Answer> {
    let admission = call.permit.admission();
    let page = evaluate(call.service, admission, view, query.clone(), patience).await?;
    let values: usize = page.items.iter().map(|item| item.key.len() + item.value.len()).sum();
    let json = if values <= INLINE_BYTES_MAX {
        render(&page, &query, values)
    } else {
        let rendered = tokio::task::spawn_blocking(move || render(&page, &query, values));
        rendered.await.map_err(ApiError::internal)?
    };
    Ok(Answer::json(StatusCode::OK, json))
}

fn render(page: &Page, query: &ListQuery, values: usize) -> Json {
    let lines = page.items.len() + page.prefixes.len() + 1;
    let mut json = Json::with_capacity(values + lines * RECORD_AROUND_BYTES);
    json.raw("{\"revision\":").number(page.revision);
    json.raw(",\"items\":").records(&page.items, !query.keys_only);
    json.raw(",\"prefixes\":").list(&page.prefixes, |json, prefix| {
        json.raw("{").bytes("prefix", prefix).raw("}");
    });
    json.raw(",\"count\":").number(page.count);
    if let Some(position) = &page.next {
        let cursor = Cursor { revision: page.revision, position: position.clone() };
        json.raw(",\"cursor\":\"").raw(&cursor.encode(scope(query))).raw("\"");
    }
    json.raw("}");
    json
}

/// Lists in the state, when it is this list's turn.
pub(crate) async fn evaluate(
    service: &Service,
    admission: &Admission,
    view: Arc<View>,
    query: ListQuery,
    patience: Duration,
) -> Result<Page> {
    let Ok(Ok(_turn)) = timeout(patience, admission.lists.acquire()).await else {
        return Err(Full.into());
    };
    Ok(service.list(view, query).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn field(refused: Result<impl std::fmt::Debug>) -> String {
        refused.unwrap_err().parts().problem.field.clone().unwrap()
    }

    #[test]
    fn nothing_is_deleted_by_accident() {
        let none = Params::default;
        assert_eq!(field(removal(&none())), "prefix");
        assert_eq!(field(removal(&Params { all: Some(false), ..none() })), "prefix");
        assert_eq!(field(removal(&Params { prefix: bytes(""), ..none() })), "prefix");
        assert_eq!(field(removal(&Params { start: bytes(""), ..none() })), "start");
        let both = Params { prefix: bytes("a"), end: bytes("b"), ..none() };
        assert_eq!(field(removal(&both)), "prefix");
        let both = Params { all: Some(true), start: bytes("a"), ..none() };
        assert_eq!(field(removal(&both)), "start");
        let both = Params { all: Some(true), prev: Some(true), ..none() };
        assert_eq!(field(removal(&both)), "prev");

        assert_eq!(removal(&Params { all: Some(true), ..none() }).unwrap(), Op::Clear);
        let range = KeyRange { start: Bytes::new(), end: bytes("b") };
        assert_eq!(
            removal(&Params { end: bytes("b"), ..none() }).unwrap(),
            Op::DeleteRange(DeleteRange { range, prev: false })
        );
    }

    #[test]
    fn a_cursor_goes_on_at_its_own_revision_alone() {
        let params = Params { prefix: bytes("a"), ..Params::default() };
        let asked = query(&params).unwrap();
        let text =
            Cursor { revision: 7, position: Bytes::from_static(b"ab") }.encode(scope(&asked));
        let with = |revision| Params {
            cursor: Some(Bytes::from(text.clone())),
            revision,
            ..Params { prefix: bytes("a"), ..Params::default() }
        };
        assert_eq!(cursor(&with(None), &asked).unwrap().unwrap().revision, 7);
        assert_eq!(cursor(&with(Some(7)), &asked).unwrap().unwrap().position, "ab");
        assert_eq!(field(cursor(&with(Some(8)), &asked)), "revision");
        assert_eq!(field(query(&Params { count_only: Some(true), ..with(None) })), "cursor");
    }
}
