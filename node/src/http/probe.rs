//! What machines ask a node: does it live, is it ready, what are its figures. Plain text, whatever
//! `Accept` says; a node that does not live or is not ready says why as any other refusal does.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use metrics::gauge;
use raftmap_client::api::Code;

use super::answer::Answer;
use super::call::Call;
use super::error::{ApiError, Result};
use super::query::{Names, Params};

/// What a Prometheus server expects.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /livez`.
pub(crate) fn live(call: &Call<'_>) -> Result<Answer> {
    Params::parse(call.query(), Names::TIMEOUT)?;
    let failed = |why: String| ApiError::new(Code::StorageFailed, why);
    call.service.live().map_err(failed).map(|()| alive())
}

/// `GET /readyz`.
pub(crate) fn ready(call: &Call<'_>) -> Result<Answer> {
    Params::parse(call.query(), Names::TIMEOUT)?;
    let service = call.service;
    let not_ready = |why: String| {
        let code = if service.live().is_err() {
            Code::StorageFailed
        } else if service.is_stopping() {
            Code::ShuttingDown
        } else {
            Code::NoLeader
        };
        ApiError::new(code, why)
    };
    service.ready().map_err(not_ready).map(|()| alive())
}

/// `GET /metrics`.
pub(crate) fn metrics(call: &Call<'_>) -> Result<Answer> {
    Params::parse(call.query(), Names::TIMEOUT)?;
    let under_way = u32::try_from(call.permit.admission().requests()).unwrap_or(u32::MAX);
    gauge!("raftmap_http_requests_under_way").set(under_way);
    let answer = Answer::plain(StatusCode::OK, call.service.metrics_text());
    Ok(answer.field(CONTENT_TYPE, HeaderValue::from_static(METRICS_TEXT)))
}

fn alive() -> Answer {
    Answer::plain(StatusCode::OK, "ok\n".to_owned())
}
