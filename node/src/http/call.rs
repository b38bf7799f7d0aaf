//! One request while it is answered, and what nearly every call does with it first.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, EXPECT, HeaderName};
use http::request::Parts;
use hyper::body::{Body as _, Incoming};
use raftmap_client::api::{Code, Ttl};
use raftmap_state_machine::Settings;
use raftmap_state_machine::command::Deadline;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Result};
use super::limits::{Limits, Permit};
use super::query::{Params, Plus, decode};
use super::upload::{self, Most};
use crate::service::{Consistency, ReadOptions, Service};

const KV_GUARD: HeaderName = HeaderName::from_static("kv-guard");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// JSON beyond this length is read and written where nobody waits for it: it takes milliseconds.
pub(crate) const INLINE_BYTES_MAX: usize = 256 << 10;

/// One request under way.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a Service,
    pub(crate) limits: &'a Limits,
    pub(crate) head: &'a Parts,
    pub(crate) body: &'a mut Incoming,
    pub(crate) permit: &'a mut Permit,
}

impl Call<'_> {
    pub(crate) fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// Reads the body, at most `bytes` of it; more is refused as `code`.
    pub(crate) async fn body(&mut self, bytes: u64, code: Code) -> Result<Bytes> {
        self.decodable()?;
        upload::read(self.body, Most { bytes, code }, self.permit, self.limits).await
    }

    /// Reads the body as JSON. Its media type does not matter, its bytes do.
    pub(crate) async fn json<T>(&mut self, bytes: u64) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let body = self.body(bytes, Code::RequestTooLarge).await?;
        if body.len() <= INLINE_BYTES_MAX {
            return from_json(&body);
        }
        let read = tokio::task::spawn_blocking(move || from_json(&body));
        read.await.unwrap_or_else(|panic| Err(ApiError::internal(panic)))
    }

    /// As [`Call::json`]; an empty body is the default.
    pub(crate) async fn json_or_default<T>(&mut self, bytes: u64) -> Result<T>
    where
        T: DeserializeOwned + Default,
    {
        let body = self.body(bytes, Code::RequestTooLarge).await?;
        if body.is_empty() { Ok(T::default()) } else { from_json(&body) }
    }

    /// Refuses a body in a coding that is not understood.
    fn decodable(&self) -> Result<()> {
        let mut codings = self.head.headers.get_all(CONTENT_ENCODING).iter();
        if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Ok(());
        }
        Err(ApiError::new(Code::UnsupportedMediaType, "send the body without a content coding"))
    }

    /// Refuses a write that relies on what this node cannot give: a lock or a kept reply.
    pub(crate) fn check_promises(&self) -> Result<()> {
        if self.head.headers.contains_key(IDEMPOTENCY_KEY) {
            let detail = "this version keeps no replies: a repeat would be applied again";
            return Err(ApiError::invalid("Idempotency-Key", detail));
        }
        let mut guards = self.head.headers.get_all(KV_GUARD).iter();
        let Some(guard) = guards.next() else { return Ok(()) };
        let well_formed = guards.next().is_none() && is_guard(guard.as_bytes());
        if !well_formed {
            return Err(ApiError::invalid("KV-Guard", "must be <name>@<token>"));
        }
        // No lock exists in this version, so none is held.
        Err(ApiError::guard_failed(0))
    }

    /// Whether what the request still sends is worth listening to.
    pub(crate) fn leaves_body(head: &Parts, body: &Incoming) -> bool {
        !body.is_end_stream() && !head.headers.contains_key(EXPECT)
    }
}

/// `<name>@<token>`: the name percent-encoded as in a path, the last `@` counts.
fn is_guard(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Some((name, token)) = text.rsplit_once('@') else { return false };
    let named = decode(name, Plus::IsPlus).is_some_and(|name| !name.is_empty());
    named && token.bytes().all(|digit| digit.is_ascii_digit()) && token.parse::<u64>().is_ok()
}

/// Reads JSON strictly; `field` names the member that is wrong.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    if !objects_are_objects(body) {
        return Err(ApiError::invalid("body", "a list stands where an object must"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let detail = inner.to_string();
        if inner.is_syntax() || inner.is_eof() {
            return ApiError::invalid("body", detail);
        }
        let field = match (path.as_str(), member_in(&detail)) {
            (".", None) => "body",
            (".", Some(member)) => member,
            (_, None) => &path,
            (_, Some(member)) => &format!("{path}.{member}"),
        };
        ApiError::invalid(field.to_owned(), detail)
    })?;
    reader.end().map_err(|error| ApiError::invalid("body", error.to_string()))?;
    Ok(value)
}

/// The member that a complaint is about which has no place of its own yet: one given twice, or not
/// at all.
fn member_in(detail: &str) -> Option<&str> {
    let quoted =
        detail.strip_prefix("duplicate field `").or(detail.strip_prefix("missing field `"));
    quoted?.split('`').next()
}

/// In every request lists stand directly in the outermost object and nowhere else. Looked at apart,
/// because derived readers take a list of the members' values for an object.
fn objects_are_objects(body: &[u8]) -> bool {
    let (mut depth, mut in_text) = (0_u32, false);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_text => drop(bytes.next()),
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' if depth != 1 => return false,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The key that a path names: everything behind `/v1/kv/`, decoded, nothing else changed.
pub(crate) fn key_in_path(raw: &str) -> Result<Bytes> {
    match decode(raw, Plus::IsPlus) {
        Some(Cow::Borrowed(key)) => Ok(Bytes::copy_from_slice(key)),
        Some(Cow::Owned(key)) => Ok(Bytes::from(key)),
        None => Err(ApiError::invalid("key", "broken percent-encoding")),
    }
}

/// Refuses a key that the store would not take.
pub(crate) fn check_key(key: &Bytes, settings: &Settings, field: &'static str) -> Result<()> {
    if key.is_empty() {
        return Err(ApiError::invalid(field, "a key has at least one byte"));
    }
    if u64::try_from(key.len()).is_ok_and(|bytes| bytes <= settings.key_bytes_max) {
        return Ok(());
    }
    Err(ApiError::too_large(Code::KeyTooLarge, settings.key_bytes_max))
}

/// Refuses a value that the store would not take.
pub(crate) fn check_value(value: &Bytes, settings: &Settings) -> Result<()> {
    if u64::try_from(value.len()).is_ok_and(|bytes| bytes <= settings.value_bytes_max) {
        return Ok(());
    }
    Err(ApiError::too_large(Code::ValueTooLarge, settings.value_bytes_max))
}

/// What a write says about the key's end.
pub(crate) fn deadline(ttl: Option<Ttl>, lease: Option<u64>) -> Result<Deadline> {
    match (ttl, lease) {
        (None, None) => Ok(Deadline::Default),
        (Some(Ttl::Never), None) => Ok(Deadline::None),
        (Some(Ttl::After(ttl)), None) => Ok(Deadline::Ttl(millis(ttl))),
        (None, Some(lease)) => Ok(Deadline::Lease(lease)),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("lease", "`ttl` and `lease` exclude each other"))
        }
    }
}

/// What a read asks of the state.
pub(crate) fn read_options(params: &Params) -> Result<ReadOptions> {
    let consistency = match (params.stale.unwrap_or(false), params.max_staleness) {
        (true, max_staleness) => Consistency::Stale { max_staleness },
        (false, None) => Consistency::Linearizable,
        (false, Some(_)) => {
            return Err(ApiError::invalid("max_staleness", "only with consistency=stale"));
        }
    };
    let min_revision = params.min_revision.filter(|revision| *revision > 0);
    Ok(ReadOptions { consistency, min_revision, timeout: params.timeout() })
}

/// Whole milliseconds of a duration that was read from text.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use raftmap_client::api::{InitRequest, TxnRequest};

    use super::*;

    fn field<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let error = from_json::<T>(text.as_bytes()).expect_err(text);
        error.parts().problem.field.clone().unwrap()
    }

    #[test]
    fn a_wrong_member_is_named_and_a_broken_body_is_the_body() {
        for broken in ["", "{", "{} x", "[1", "{\"compare\":[}", "\u{0}", "{'a':1}"] {
            assert_eq!(field::<TxnRequest>(broken), "body", "{broken}");
        }
        for odd in [
            "7",
            "[]",
            "[[],[],[]]",
            r#"{"success":[["get"]]}"#,
            r#"{"success":[{"get":["a"]}]}"#,
            r#"{"success":[{"get":{"key":["a"]}}]}"#,
        ] {
            assert_eq!(field::<TxnRequest>(odd), "body", "{odd}");
        }
        let brackets = r#"{"success":[{"get":{"key":"[\"[{\\"}}]}"#;
        assert!(from_json::<TxnRequest>(brackets.as_bytes()).is_ok());
        for (text, name) in [
            (r#"{"then":[]}"#, "then"),
            (r#"{"success":[],"success":[]}"#, "success"),
            (r#"{"compare":[{"key":"a","op":"=","value":1}]}"#, "compare[0].target"),
            (r#"{"success":[{"get":{"key":"a","key":"b"}}]}"#, "success[0].get.key"),
            (r#"{"success":[{"put":{"key":"a","value":7}}]}"#, "success[0].put.value"),
            (
                r#"{"success":[{"put":{"key":"a","value":"x","colour":1}}]}"#,
                "success[0].put.colour",
            ),
            (r#"{"success":[{"get":{"key":"a"}},{"put":{"key":"a"}}]}"#, "success[1].put"),
            (
                r#"{"compare":[{"key":"a","target":"version","op":"==","value":1}]}"#,
                "compare[0].op",
            ),
        ] {
            assert_eq!(field::<TxnRequest>(text), name, "{text}");
        }
        assert_eq!(field::<InitRequest>("{}"), "members");
        assert_eq!(field::<InitRequest>(r#"{"members":[{"id":"1","addr":"a"}]}"#), "members[0].id");
        let deep = "[".repeat(100_000);
        assert_eq!(field::<TxnRequest>(&format!("{{\"compare\":{deep}")), "body");
    }

    #[test]
    fn a_key_in_a_path_is_decoded_and_nothing_else() {
        assert_eq!(key_in_path("a%2Fb").unwrap(), "a/b");
        assert_eq!(key_in_path("a/b").unwrap(), "a/b");
        assert_eq!(key_in_path("a//b/../c").unwrap(), "a//b/../c");
        assert_eq!(key_in_path("a+b%20c").unwrap(), "a+b c");
        assert_eq!(key_in_path("%ff%00").unwrap(), &b"\xff\x00"[..]);
        for broken in ["%", "%4", "%zz", "a%2"] {
            assert!(key_in_path(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn keys_and_values_have_their_bounds() {
        let settings = Settings { key_bytes_max: 2, value_bytes_max: 3, ..Settings::default() };
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(check_key(&bytes("ab"), &settings, "key").is_ok());
        assert_eq!(
            check_key(&bytes("abc"), &settings, "key").unwrap_err().code(),
            Code::KeyTooLarge
        );
        assert_eq!(
            check_key(&bytes(""), &settings, "key").unwrap_err().code(),
            Code::InvalidArgument
        );
        assert!(check_value(&bytes("abc"), &settings).is_ok());
        assert_eq!(check_value(&bytes("abcd"), &settings).unwrap_err().code(), Code::ValueTooLarge);
    }

    #[test]
    fn a_guard_is_a_name_and_a_token() {
        for text in ["a@1", "a@b@18446744073709551615", "a%20b@0"] {
            assert!(is_guard(text.as_bytes()), "{text}");
        }
        for text in ["", "a", "@1", "a@", "a@x", "a@-1", "a@+1", "%zz@1", "a@18446744073709551616"]
        {
            assert!(!is_guard(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn staleness_is_bounded_only_where_it_is_allowed() {
        let bounded = Params { max_staleness: Some(Duration::ZERO), ..Params::default() };
        assert!(read_options(&bounded).is_err());
        let stale = Params { stale: Some(true), min_revision: Some(0), ..bounded };
        let options = read_options(&stale).unwrap();
        assert_eq!(options.consistency, Consistency::Stale { max_staleness: Some(Duration::ZERO) });
        assert_eq!(options.min_revision, None);
    }
}
