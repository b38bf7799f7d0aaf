//! A reply while it is put together: status, head, body.
//!
//! The numbers of a head share one small buffer: a point read costs two allocations for all of them.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use http::{Response, StatusCode};
use hyper::body::Body as _;
use raftmap_client::api::error::PROBLEM_JSON;

use super::accept::Form;
use super::body::Body;
use super::error::ApiError;
use super::json::{Json, push_number};

pub(crate) const KV_REVISION: HeaderName = HeaderName::from_static("kv-revision");
pub(crate) const KV_CREATE_REVISION: HeaderName = HeaderName::from_static("kv-create-revision");
pub(crate) const KV_VERSION: HeaderName = HeaderName::from_static("kv-version");
pub(crate) const KV_LEASE: HeaderName = HeaderName::from_static("kv-lease");
pub(crate) const KV_TTL_MS: HeaderName = HeaderName::from_static("kv-ttl-ms");
pub(crate) const KV_TIER: HeaderName = HeaderName::from_static("kv-tier");
pub(crate) const KV_STALENESS_MS: HeaderName = HeaderName::from_static("kv-staleness-ms");
pub(crate) const KV_LEADER: HeaderName = HeaderName::from_static("kv-leader");
pub(crate) const KV_NODE: HeaderName = HeaderName::from_static("kv-node");

/// Room for the digits of a usual head.
const DIGITS_BYTES: usize = 96;

/// Room for the fields of a usual head, ours and the protocol's.
const HEAD_FIELDS: usize = 16;

/// A reply that is put together.
pub(crate) struct Answer {
    status: StatusCode,
    head: HeaderMap,
    digits: BytesMut,
    body: Body,
}

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        Answer {
            status,
            head: HeaderMap::with_capacity(HEAD_FIELDS),
            digits: BytesMut::with_capacity(DIGITS_BYTES),
            body: Body::whole(Bytes::new()),
        }
    }

    pub(crate) fn json(status: StatusCode, json: Json) -> Self {
        Answer::new(status).content(Form::Json, json.into_bytes())
    }

    /// A wire type as JSON.
    pub(crate) fn serialized(status: StatusCode, value: &impl serde::Serialize) -> Self {
        let text = serde_json::to_vec(value).expect("wire types have no key that is not a string");
        Answer::new(status).content(Form::Json, Bytes::from(text))
    }

    pub(crate) fn plain(status: StatusCode, text: String) -> Self {
        let mut answer = Answer::new(status);
        answer.body = Body::whole(Bytes::from(text));
        answer.field(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
    }

    pub(crate) fn refusal(error: &ApiError) -> Self {
        let refused = error.parts();
        let status = StatusCode::from_u16(refused.problem.status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_vec(&refused.problem).expect("a problem is plain members");
        let mut answer = Answer::new(status);
        answer.body = Body::whole(Bytes::from(text));
        answer = answer.field(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        for (name, number) in &refused.numbers {
            answer = answer.number(name.clone(), *number);
        }
        if let Some(revision) = refused.problem.mod_revision.filter(|revision| *revision > 0) {
            answer.set_etag(revision);
        }
        if let Some(seconds) = error.retry_after() {
            answer = answer.number(RETRY_AFTER, seconds);
        }
        if let Some(methods) = refused.allow {
            answer = answer.field(ALLOW, HeaderValue::from_static(methods));
        }
        if refused.close {
            answer = answer.field(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    pub(crate) fn content(mut self, form: Form, bytes: Bytes) -> Self {
        self.set_content(form, bytes);
        self
    }

    pub(crate) fn set_content(&mut self, form: Form, bytes: Bytes) {
        self.body = Body::whole(bytes);
        self.set(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    }

    pub(crate) fn body(mut self, form: Form, body: Body) -> Self {
        self.body = body;
        self.field(CONTENT_TYPE, HeaderValue::from_static(form.media_type()))
    }

    pub(crate) fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn number(mut self, name: HeaderName, number: u64) -> Self {
        self.set_number(name, number);
        self
    }

    /// As [`Answer::field`], in place: on the hot path moving an answer about is measurable.
    pub(crate) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.head.insert(name, value);
    }

    pub(crate) fn set_number(&mut self, name: HeaderName, number: u64) {
        push_number(&mut self.digits, number);
        let value = self.take_digits();
        self.set(name, value);
    }

    pub(crate) fn set_etag(&mut self, mod_revision: u64) {
        self.digits.put_u8(b'"');
        push_number(&mut self.digits, mod_revision);
        self.digits.put_u8(b'"');
        let value = self.take_digits();
        self.set(ETAG, value);
    }

    pub(crate) fn body_len(&self) -> u64 {
        self.body.len()
    }

    /// The reply to the same request with HEAD: its head says how long the body would be.
    pub(crate) fn without_body(mut self) -> Self {
        let length = self.body.size_hint().exact();
        self.body = self.body.head_only();
        match length {
            Some(length) => self.number(CONTENT_LENGTH, length),
            None => self,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self, wrap: impl FnOnce(Body) -> Body) -> Response<Body> {
        let mut response = Response::new(wrap(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.head;
        response
    }

    fn take_digits(&mut self) -> HeaderValue {
        let text = self.digits.split().freeze();
        HeaderValue::from_maybe_shared(text).expect("digits and quotes are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use raftmap_client::api::Code;

    use super::*;

    #[test]
    fn a_refusal_has_its_head_and_its_problem() {
        let error = ApiError::precondition_failed(7).at_revision(9);
        let response = Answer::refusal(&error).into_response(|body| body);
        assert_eq!(response.status(), 412);
        assert_eq!(response.headers()["etag"], "\"7\"");
        assert_eq!(response.headers()["kv-revision"], "9");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(!response.headers().contains_key("retry-after"));

        let error = ApiError::new(Code::MethodNotAllowed, "").allow("GET, HEAD").closing();
        let response = Answer::refusal(&error).into_response(|body| body);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_eq!(response.headers()["connection"], "close");
        let error = ApiError::new(Code::NoLeader, "");
        let response = Answer::refusal(&error).into_response(|body| body);
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[test]
    fn a_reply_to_head_says_how_long_it_would_be() {
        let answer = Answer::new(StatusCode::OK).content(Form::Raw, Bytes::from_static(b"abc"));
        let response = answer.without_body().into_response(|body| body);
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["content-length"], "3");
    }
}
