//! Many keys: a page of them, all of them as a stream of lines, or their end.
//!
//! ```text
//!   page   { revision, items, prefixes, count, cursor? }      one moment for all pages
//!   lines  record ⏎ record ⏎ … {"end":true,…} ⏎               the whole range, page by page inside
//! ```
//!
//! A stream holds one page at a time and no view between two pages: it reads on at the revision of
//! the first, however slow its client is. If that revision is compacted meanwhile, the stream is
//! cut off before its last line.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use raftmap_state_machine::command::DeleteRange;
use raftmap_state_machine::view::View;
use raftmap_state_machine::{KeyRange, ListQuery, Op, Outcome, Page};

use super::accept::{Form, choose};
use super::answer::{Answer, KV_REVISION, KV_STALENESS_MS};
use super::body::{Body, BoxError, Pieces};
use super::call::{Call, read_options};
use super::cursor::{Cursor, Scope};
use super::error::{ApiError, Result};
use super::json::{Json, RECORD_AROUND_BYTES};
use super::kv::{staleness, unexpected, writable_without_conditions, write};
use super::limits::Full;
use super::query::{Names, Params};
use crate::service::{Consistency, ReadOptions, Service};

const GET: Names =
    Names::TIMEOUT.and(Names::READ).and(Names::REVISION).and(Names::BOUNDS).and(Names::LIST);
const DELETE: Names = Names::TIMEOUT.and(Names::BOUNDS).and(Names::PREV).and(Names::ALL);

/// A page of JSON ends before it would hold more bytes of keys and values.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// A stream takes so many bytes and records out of the state at a time.
const CHUNK_BYTES_MAX: u64 = 256 << 10;
const CHUNK_RECORDS_MAX: u32 = 1_000;

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
        Form::Lines => lines(call, point.view, query, params.limit).await?,
        Form::Json | Form::Raw => page(call, point.view, query).await?,
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

async fn page(call: &mut Call<'_>, view: Arc<View>, query: ListQuery) -> Result<Answer> {
    let page = evaluate(call.service, call.permit.admission().clone(), view, query.clone()).await?;
    let values: usize = page.items.iter().map(|item| item.key.len() + item.value.len()).sum();
    let lines = page.items.len() + page.prefixes.len() + 1;
    let mut json = Json::with_capacity(values + lines * RECORD_AROUND_BYTES);
    json.raw("{\"revision\":").number(page.revision);
    json.raw(",\"items\":").records(&page.items, !query.keys_only);
    json.raw(",\"prefixes\":").list(&page.prefixes, |json, prefix| {
        json.raw("{").bytes("prefix", prefix).raw("}");
    });
    json.raw(",\"count\":").number(page.count);
    if let Some(position) = page.next {
        let cursor = Cursor { revision: page.revision, position };
        json.raw(",\"cursor\":\"").raw(&cursor.encode(scope(&query))).raw("\"");
    }
    json.raw("}");
    Ok(Answer::json(StatusCode::OK, json))
}

/// Lists in the state, when it is this list's turn.
async fn evaluate(
    service: &Service,
    admission: Arc<super::limits::Admission>,
    view: Arc<View>,
    query: ListQuery,
) -> Result<Page> {
    let _turn = admission.lists.acquire().await.map_err(|_closed| Full)?;
    Ok(service.list(view, query).await?)
}

async fn lines(
    call: &mut Call<'_>,
    view: Arc<View>,
    mut query: ListQuery,
    limit: Option<u32>,
) -> Result<Answer> {
    call.permit.stream_list()?;
    query.bytes_max = CHUNK_BYTES_MAX;
    let left = limit.filter(|_| !query.count_only).map(u64::from);
    query.limit = chunk(left);
    let admission = call.permit.admission().clone();
    // The first page comes before the head, so that a refusal still has a status.
    let first = evaluate(call.service, admission.clone(), view, query.clone()).await?;
    let mut stream = Lines {
        service: call.service.clone(),
        admission,
        query,
        left,
        count: 0,
        ready: VecDeque::new(),
        ended: false,
    };
    stream.take(first);
    let pieces: Pieces = Box::pin(stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    }));
    Ok(Answer::new(StatusCode::OK).body(Form::Lines, Body::pieces(pieces)))
}

fn chunk(left: Option<u64>) -> u32 {
    let left = left.map_or(u32::MAX, |left| u32::try_from(left).unwrap_or(u32::MAX));
    left.min(CHUNK_RECORDS_MAX)
}

/// A range on its way out as lines.
struct Lines {
    service: Service,
    admission: Arc<super::limits::Admission>,
    /// The next page; its `at` is the revision of the first.
    query: ListQuery,
    /// Records that may still be sent.
    left: Option<u64>,
    /// Records sent, or counted.
    count: u64,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if self.ended {
                return None;
            }
            match self.page().await {
                Ok(page) => self.take(page),
                Err(error) => {
                    self.ended = true;
                    tracing::warn!(code = %error.code(), "a streamed list was cut off");
                    return Some(Err("the list was cut off".into()));
                }
            }
        }
    }

    /// The next page, from whatever state the node has by now: the revision is pinned.
    async fn page(&self) -> Result<Page> {
        let options = ReadOptions {
            consistency: Consistency::Stale { max_staleness: None },
            min_revision: None,
            timeout: Params::default().timeout(),
        };
        let view = self.service.read(&options).await?.view;
        evaluate(&self.service, self.admission.clone(), view, self.query.clone()).await
    }

    fn take(&mut self, page: Page) {
        self.query.at = Some(page.revision);
        let size: usize = page.items.iter().map(super::kv::room).sum();
        let mut json = Json::with_capacity(size + RECORD_AROUND_BYTES);
        for item in &page.items {
            json.record(item, !self.query.keys_only).raw("\n");
        }
        self.count += page.count;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(page.count);
            self.query.limit = chunk(Some(*left));
        }
        self.query.after = page.next;
        if self.query.after.is_none() || self.left == Some(0) {
            self.ended = true;
            json.raw("{\"end\":true,\"revision\":").number(page.revision);
            json.raw(",\"count\":").number(self.count).raw("}\n");
        }
        if json.len() > 0 {
            self.ready.push_back(json.into_bytes());
        }
    }
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
