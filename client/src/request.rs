//! A request before it is sent anywhere: method, path and query, headers, body.
//!
//! Keys go into the path where every library and proxy leaves them alone, and into `key_base64` where one might
//! rewrite them (`a/../b`). Bounds go as base64 unless they are harmless text: percent-decoding happens once,
//! in the node, and base64 passes through anything.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{
    api::{Bounds, bytes::encode_base64, duration},
    endpoints::Prefer,
    error::{Error, Result},
    options::{Condition, Consistency, ReadOptions},
    retry::Effect,
};

/// The longest path and query that is sent. A request line can carry a percent-encoded key of 4 KiB and bounds.
const TARGET_BYTES_MAX: usize = 60_000;

/// Left as they are in a path.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// Left as they are in a query's value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One call, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query without `timeout`, which each attempt adds for itself.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) effect: Effect,
    pub(crate) prefer: Prefer,
    /// How long the whole call may take; `None`: the client's default.
    pub(crate) timeout: Option<Duration>,
}

impl Request {
    /// A call that changes nothing.
    pub(crate) fn read(path: &str) -> Request {
        Request {
            method: Method::GET,
            target: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            effect: Effect::Read,
            prefer: Prefer::Leader,
            timeout: None,
        }
    }

    /// A call that changes something.
    pub(crate) fn write(method: Method, path: &str) -> Request {
        Request { method, effect: Effect::Write, ..Request::read(path) }
    }

    /// A call on one key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty key.
    pub(crate) fn on_key(mut self, key: &[u8]) -> Result<Request> {
        if key.is_empty() {
            return Err(Error::invalid("a key has at least one byte"));
        }
        let rewritten = key.split(|&b| b == b'/').any(|part| matches!(part, b"." | b".."));
        if rewritten {
            self.param("key_base64", &encode_base64(key));
        } else {
            let _infallible = write!(self.target, "/{}", percent_encode(key, PATH));
        }
        Ok(self)
    }

    /// Adds one query parameter.
    pub(crate) fn param(&mut self, name: &str, value: &str) {
        let sign = if self.target.contains('?') { '&' } else { '?' };
        let value = percent_encode(value.as_bytes(), QUERY);
        let _infallible = write!(self.target, "{sign}{name}={value}");
    }

    /// Adds a byte string as text or as base64.
    pub(crate) fn bytes_param(&mut self, name: &str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(text) => self.param(name, text),
            Err(_) => self.param(&format!("{name}_base64"), &encode_base64(value)),
        }
    }

    /// Adds a flag if it is set.
    pub(crate) fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.param(name, "true");
        }
    }

    /// Adds the bounds of a range.
    ///
    /// # Errors
    /// [`Error::Invalid`] for [`Bounds::Key`], which is a call on one key.
    pub(crate) fn bounds(&mut self, bounds: &Bounds) -> Result<()> {
        match bounds {
            Bounds::All => {}
            Bounds::Key(_) => {
                return Err(Error::invalid("bounds of one key: use the call on a key"));
            }
            Bounds::Prefix(prefix) => self.bytes_param("prefix", prefix),
            Bounds::Range { start, end } => {
                if let Some(start) = start {
                    self.bytes_param("start", start);
                }
                if let Some(end) = end {
                    self.bytes_param("end", end);
                }
            }
        }
        Ok(())
    }

    /// Adds how fresh the read must be and sends stale reads to any node.
    pub(crate) fn read_options(&mut self, options: &ReadOptions) {
        if let Consistency::Stale { max_staleness } = options.consistency {
            self.param("consistency", "stale");
            self.prefer = Prefer::Any;
            if let Some(max) = max_staleness {
                self.param("max_staleness", &duration::format(max));
            }
        }
        if let Some(revision) = options.min_revision {
            self.param("min_revision", &revision.to_string());
        }
        if let Some(revision) = options.revision {
            self.param("revision", &revision.to_string());
        }
        self.timeout = options.timeout;
    }

    /// Adds what must hold for a write.
    pub(crate) fn condition(&mut self, condition: Condition) {
        let any = HeaderValue::from_static("*");
        match condition {
            Condition::None => {}
            Condition::Revision(n) => {
                let tag = HeaderValue::try_from(format!("\"{n}\""))
                    .expect("digits in quotes are a header value");
                self.headers.insert(http::header::IF_MATCH, tag);
            }
            Condition::Exists => drop(self.headers.insert(http::header::IF_MATCH, any)),
            Condition::Absent => drop(self.headers.insert(http::header::IF_NONE_MATCH, any)),
        }
    }

    /// Sets a header of a fixed value.
    pub(crate) fn header(mut self, name: HeaderName, value: &'static str) -> Request {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Sets a JSON body.
    ///
    /// # Errors
    /// [`Error::Internal`] if the body cannot be written, which no wire type allows.
    pub(crate) fn json<T: serde::Serialize>(mut self, body: &T) -> Result<Request> {
        let bytes = serde_json::to_vec(body)
            .map_err(|e| Error::internal(format!("write the request's body: {e}")))?;
        self.body = bytes.into();
        Ok(self.header(http::header::CONTENT_TYPE, "application/json"))
    }

    /// Path and query of one attempt, which the node shall answer within `timeout`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is longer than a request line can be.
    pub(crate) fn target_within(&self, timeout: Duration) -> Result<String> {
        let mut attempt = Request { target: self.target.clone(), ..Request::read("") };
        attempt.param("timeout", &duration::format(timeout.max(Duration::from_millis(1))));
        if attempt.target.len() > TARGET_BYTES_MAX {
            return Err(Error::invalid("the key or bounds are longer than a request can carry"));
        }
        Ok(attempt.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: &[u8]) -> String {
        Request::read("/v1/kv").on_key(key).unwrap().target
    }

    #[test]
    fn keys_go_into_the_path_byte_by_byte() {
        assert_eq!(target(b"a/b"), "/v1/kv/a/b");
        assert_eq!(target(b"a//b/"), "/v1/kv/a//b/");
        assert_eq!(target(b"a b?\xff%"), "/v1/kv/a%20b%3F%FF%25");
    }

    #[test]
    fn keys_that_a_library_would_rewrite_go_as_base64() {
        assert_eq!(target(b"a/../b"), "/v1/kv?key_base64=YS8uLi9i");
        assert_eq!(target(b"."), "/v1/kv?key_base64=Lg%3D%3D");
        assert_eq!(target(b"a/..b"), "/v1/kv/a/..b");
    }

    #[test]
    fn the_empty_key_is_refused_before_anything_is_sent() {
        assert!(matches!(Request::read("/v1/kv").on_key(b""), Err(Error::Invalid { .. })));
    }

    #[test]
    fn bounds_are_text_or_base64() {
        let mut request = Request::read("/v1/kv");
        let end = Some(Bytes::from_static(b"\xff"));
        request.bounds(&Bounds::Range { start: Some("a+ b".into()), end }).unwrap();
        assert_eq!(request.target, "/v1/kv?start=a%2B%20b&end_base64=%2Fw%3D%3D");
    }

    #[test]
    fn a_stale_read_may_go_anywhere() {
        let mut request = Request::read("/v1/kv");
        let max_staleness = Some(Duration::from_secs(2));
        request.read_options(&ReadOptions {
            consistency: Consistency::Stale { max_staleness },
            min_revision: Some(7),
            ..ReadOptions::default()
        });
        assert_eq!(request.target, "/v1/kv?consistency=stale&max_staleness=2s&min_revision=7");
        assert_eq!(request.prefer, Prefer::Any);
    }

    #[test]
    fn an_attempt_tells_the_node_how_long_it_waits() {
        let request = Request::read("/v1/kv/a");
        let within = |ms| request.target_within(Duration::from_millis(ms)).unwrap();
        assert_eq!(within(1500), "/v1/kv/a?timeout=1500ms");
        assert_eq!(within(0), "/v1/kv/a?timeout=1ms");
    }

    #[test]
    fn a_target_that_fits_no_request_line_is_refused() {
        let request = Request::read("/v1/kv").on_key(&[b'a'; TARGET_BYTES_MAX]).unwrap();
        assert!(matches!(request.target_within(Duration::ZERO), Err(Error::Invalid { .. })));
    }
}
