//! A whole range as a stream of lines.
//!
//! ```text
//!   record ⏎ record ⏎ … {"end":true,"revision":13,"count":n} ⏎
//! ```
//!
//! A stream holds one page at a time and no view between two pages: it reads on at the revision of
//! the first, however slow its client is, and only as fast as its client takes the lines. If that
//! revision is compacted meanwhile, the stream is cut off before its last line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use raftmap_state_machine::view::View;
use raftmap_state_machine::{ListQuery, Page};

use super::accept::Form;
use super::answer::Answer;
use super::body::{Body, BoxError, Pieces};
use super::call::Call;
use super::error::Result;
use super::json::{Json, RECORD_AROUND_BYTES};
use super::limits::Admission;
use super::list::evaluate;
use super::query::Params;
use crate::service::{Consistency, ReadOptions, Service};

/// A stream takes so many bytes and records out of the state at a time.
const CHUNK_BYTES_MAX: u64 = 256 << 10;
const CHUNK_RECORDS_MAX: u32 = 1_000;

/// How long a stream that has begun waits for its turn before it is cut off.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);

/// `GET /v1/kv?…` with `Accept: application/x-ndjson`.
pub(crate) async fn get(
    call: &mut Call<'_>,
    view: Arc<View>,
    mut query: ListQuery,
    params: &Params,
) -> Result<Answer> {
    call.permit.stream_list()?;
    query.bytes_max = CHUNK_BYTES_MAX;
    let left = params.limit.filter(|_| !query.count_only).map(u64::from);
    query.limit = chunk(left);
    let admission = call.permit.admission().clone();
    // The first page comes before the head, so that a refusal still has a status.
    let first = evaluate(call.service, &admission, view, query.clone(), params.timeout()).await?;
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
    admission: Arc<Admission>,
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
            timeout: STREAM_PATIENCE,
        };
        let view = self.service.read(&options).await?.view;
        let query = self.query.clone();
        evaluate(&self.service, &self.admission, view, query, STREAM_PATIENCE).await
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
