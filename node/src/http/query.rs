//! A request's parameters: every name once, every value well formed, nothing unknown.
//!
//! ```text
//!   prefix=a%2F&limit=10&reverse=true   ->   Params { prefix: "a/", limit: 10, reverse: true, .. }
//! ```
//!
//! The text is walked once. In it `+` is a space, but in `*_base64` it stays `+`; decoded bytes
//! need not be UTF-8. Which names a call knows is a [`Names`] set; all others are refused.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use raftmap_client::api::bytes::decode_base64;
use raftmap_client::api::kv::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use raftmap_client::api::{Ttl, duration};

use super::error::{ApiError, Result};

/// How long a call waits when it does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest that a call may wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// What the parameters of one request say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) key: Option<Bytes>,
    pub(crate) prefix: Option<Bytes>,
    pub(crate) start: Option<Bytes>,
    pub(crate) end: Option<Bytes>,
    pub(crate) separator: Option<Bytes>,
    pub(crate) cursor: Option<Bytes>,
    pub(crate) limit: Option<u32>,
    pub(crate) revision: Option<u64>,
    pub(crate) min_revision: Option<u64>,
    pub(crate) lease: Option<u64>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_staleness: Option<Duration>,
    /// `consistency=stale`.
    pub(crate) stale: Option<bool>,
    pub(crate) prev: Option<bool>,
    pub(crate) all: Option<bool>,
    pub(crate) reverse: Option<bool>,
    pub(crate) keys_only: Option<bool>,
    pub(crate) count_only: Option<bool>,
}

/// A set of parameter names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names(u32);

impl Names {
    pub(crate) const TIMEOUT: Names = Names(1);
    pub(crate) const KEY: Names = Names(1 << 1);
    pub(crate) const BOUNDS: Names = Names(1 << 2);
    pub(crate) const READ: Names = Names(1 << 3);
    pub(crate) const REVISION: Names = Names(1 << 4);
    pub(crate) const DEADLINE: Names = Names(1 << 5);
    pub(crate) const PREV: Names = Names(1 << 6);
    pub(crate) const LIST: Names = Names(1 << 7);
    pub(crate) const ALL: Names = Names(1 << 8);

    pub(crate) const fn and(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    const fn has(self, other: Names) -> bool {
        self.0 & other.0 != 0
    }
}

impl Params {
    /// Reads the text behind `?`.
    pub(crate) fn parse(query: Option<&str>, known: Names) -> Result<Params> {
        let mut params = Params::default();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, Plus::IsSpace)
                .and_then(|name| match name {
                    Cow::Borrowed(name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
                    Cow::Owned(name) => String::from_utf8(name).ok().map(Cow::Owned),
                })
                .ok_or_else(|| ApiError::invalid("query", "a parameter's name is not text"))?;
            params.take(Value { name: &name, text: value }, known)?;
        }
        Ok(params)
    }

    fn take(&mut self, value: Value<'_>, known: Names) -> Result<()> {
        let group = match value.name {
            "timeout" => Names::TIMEOUT,
            "key_base64" => Names::KEY,
            "prefix" | "prefix_base64" | "start" | "start_base64" | "end" | "end_base64" => {
                Names::BOUNDS
            }
            "consistency" | "max_staleness" | "min_revision" => Names::READ,
            "revision" => Names::REVISION,
            "ttl" | "lease" => Names::DEADLINE,
            "prev" => Names::PREV,
            "limit" | "reverse" | "keys_only" | "count_only" | "separator" | "cursor" => {
                Names::LIST
            }
            "all" => Names::ALL,
            _ => return Err(value.unknown()),
        };
        if !known.has(group) {
            return Err(value.unknown());
        }
        match value.name {
            "timeout" => value.once(&mut self.timeout, Value::timeout),
            "key_base64" => value.once(&mut self.key, Value::base64),
            "prefix" => value.once(&mut self.prefix, Value::bytes),
            "prefix_base64" => value.once(&mut self.prefix, Value::base64),
            "start" => value.once(&mut self.start, Value::bytes),
            "start_base64" => value.once(&mut self.start, Value::base64),
            "end" => value.once(&mut self.end, Value::bytes),
            "end_base64" => value.once(&mut self.end, Value::base64),
            "consistency" => value.once(&mut self.stale, Value::consistency),
            "max_staleness" => value.once(&mut self.max_staleness, Value::duration),
            "min_revision" => value.once(&mut self.min_revision, Value::number),
            "revision" => value.once(&mut self.revision, Value::positive),
            "ttl" => value.once(&mut self.ttl, Value::ttl),
            "lease" => value.once(&mut self.lease, Value::positive),
            "prev" => value.once(&mut self.prev, Value::flag),
            "limit" => value.once(&mut self.limit, Value::limit),
            "reverse" => value.once(&mut self.reverse, Value::flag),
            "keys_only" => value.once(&mut self.keys_only, Value::flag),
            "count_only" => value.once(&mut self.count_only, Value::flag),
            "separator" => value.once(&mut self.separator, Value::filled),
            "cursor" => value.once(&mut self.cursor, Value::filled),
            "all" => value.once(&mut self.all, Value::flag),
            _ => Err(value.unknown()),
        }
    }

    /// How long the call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// How many lines a page may have.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIST_LIMIT_DEFAULT)
    }
}

/// What `+` means in a text.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Plus {
    IsSpace,
    IsPlus,
}

/// Percent-decodes to bytes. `None`: a `%` without two hexadecimal digits.
pub(crate) fn decode(text: &str, plus: Plus) -> Option<Cow<'_, [u8]>> {
    let raw = text.as_bytes();
    if !raw.iter().any(|byte| *byte == b'%' || (*byte == b'+' && plus == Plus::IsSpace)) {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(*rest.next()?)? << 4 | hex(*rest.next()?)?,
            b'+' if plus == Plus::IsSpace => b' ',
            byte => *byte,
        });
    }
    Some(Cow::Owned(bytes))
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// One parameter before it is understood.
struct Value<'a> {
    name: &'a str,
    text: &'a str,
}

impl Value<'_> {
    fn invalid(&self, detail: impl Into<String>) -> ApiError {
        ApiError::invalid(self.name.to_owned(), detail)
    }

    fn unknown(&self) -> ApiError {
        self.invalid("this call has no such parameter")
    }

    fn once<T>(&self, slot: &mut Option<T>, read: fn(&Self) -> Result<T>) -> Result<()> {
        if slot.is_some() {
            return Err(self.invalid("given twice"));
        }
        *slot = Some(read(self)?);
        Ok(())
    }

    fn decoded(&self, plus: Plus) -> Result<Cow<'_, [u8]>> {
        decode(self.text, plus).ok_or_else(|| self.invalid("broken percent-encoding"))
    }

    fn bytes(&self) -> Result<Bytes> {
        Ok(match self.decoded(Plus::IsSpace)? {
            Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        })
    }

    fn filled(&self) -> Result<Bytes> {
        let bytes = self.bytes()?;
        if bytes.is_empty() { Err(self.invalid("must not be empty")) } else { Ok(bytes) }
    }

    fn base64(&self) -> Result<Bytes> {
        let text = self.decoded(Plus::IsPlus)?;
        decode_base64(&text).map(Bytes::from).map_err(|reason| self.invalid(reason))
    }

    fn text(&self) -> Result<String> {
        let bytes = self.decoded(Plus::IsSpace)?.into_owned();
        String::from_utf8(bytes).map_err(|_not_utf8| self.invalid("not text"))
    }

    fn flag(&self) -> Result<bool> {
        match self.text()?.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.invalid("must be true or false")),
        }
    }

    fn number(&self) -> Result<u64> {
        let text = self.text()?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.ok_or_else(|| self.invalid("must be an unsigned 64-bit number"))
    }

    fn positive(&self) -> Result<u64> {
        match self.number()? {
            0 => Err(self.invalid("must be at least 1")),
            number => Ok(number),
        }
    }

    fn limit(&self) -> Result<u32> {
        let limit = u32::try_from(self.number()?).unwrap_or(u32::MAX);
        if (1..=LIST_LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(self.invalid(format!("must be 1 to {LIST_LIMIT_MAX}")))
    }

    fn duration(&self) -> Result<Duration> {
        duration::parse(&self.text()?).map_err(|reason| self.invalid(reason))
    }

    fn timeout(&self) -> Result<Duration> {
        let timeout = self.duration()?;
        if timeout > TIMEOUT_MAX { Err(self.invalid("longer than 10m")) } else { Ok(timeout) }
    }

    fn ttl(&self) -> Result<Ttl> {
        Ttl::parse(&self.text()?).map_err(|reason| self.invalid(reason))
    }

    fn consistency(&self) -> Result<bool> {
        match self.text()?.as_str() {
            "linearizable" => Ok(false),
            "stale" => Ok(true),
            _ => Err(self.invalid("must be linearizable or stale")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Names = Names(u32::MAX);

    fn parse(query: &str) -> Result<Params> {
        Params::parse(Some(query), EVERY)
    }

    fn refused_field(query: &str) -> String {
        let error = parse(query).expect_err(query);
        error.parts().problem.field.clone().expect("a field")
    }

    #[test]
    fn every_parameter_is_read() {
        let params =
            parse("prefix=a%2F&limit=10&reverse=true&timeout=1s&consistency=stale&ttl=30s")
                .unwrap();
        assert_eq!(params.prefix.as_deref(), Some(&b"a/"[..]));
        assert_eq!(params.limit(), 10);
        assert_eq!(params.reverse, Some(true));
        assert_eq!(params.timeout(), Duration::from_secs(1));
        assert_eq!(params.stale, Some(true));
        assert_eq!(params.ttl, Some(Ttl::After(Duration::from_secs(30))));
        assert_eq!(Params::parse(None, EVERY).unwrap(), Params::default());
        assert_eq!(parse("&").unwrap(), Params::default());
    }

    #[test]
    fn plus_is_a_space_in_text_and_itself_in_base64() {
        assert_eq!(parse("prefix=a+b").unwrap().prefix.as_deref(), Some(&b"a b"[..]));
        assert_eq!(parse("prefix=a%2Bb").unwrap().prefix.as_deref(), Some(&b"a+b"[..]));
        assert_eq!(parse("prefix_base64=+/8=").unwrap().prefix.as_deref(), Some(&b"\xfb\xff"[..]));
        assert_eq!(
            parse("prefix_base64=%2B%2f8").unwrap().prefix.as_deref(),
            Some(&b"\xfb\xff"[..])
        );
        assert_eq!(parse("prefix=%ff%00").unwrap().prefix.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(parse("pre%66ix=a").unwrap().prefix.as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn anything_doubled_unknown_empty_or_malformed_is_refused_by_its_name() {
        for (query, field) in [
            ("colour=red", "colour"),
            ("prefix=a&prefix=b", "prefix"),
            ("prefix=a&prefix_base64=YQ", "prefix_base64"),
            ("prefix=%4", "prefix"),
            ("prefix=%zz", "prefix"),
            ("prefix=%", "prefix"),
            ("key_base64=a", "key_base64"),
            ("prev", "prev"),
            ("prev=", "prev"),
            ("prev=1", "prev"),
            ("prev=TRUE", "prev"),
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
            ("limit=99999999999", "limit"),
            ("limit=+5", "limit"),
            ("limit=-1", "limit"),
            ("revision=0", "revision"),
            ("revision=18446744073709551616", "revision"),
            ("min_revision=", "min_revision"),
            ("lease=0", "lease"),
            ("ttl=0s", "ttl"),
            ("ttl=30", "ttl"),
            ("timeout=5", "timeout"),
            ("timeout=11m", "timeout"),
            ("consistency=eventual", "consistency"),
            ("cursor=", "cursor"),
            ("separator=", "separator"),
            ("%ff=1", "query"),
            ("%4=1", "query"),
        ] {
            assert_eq!(refused_field(query), field, "{query}");
        }
        assert_eq!(parse("min_revision=0").unwrap().min_revision, Some(0));
    }

    #[test]
    fn a_parameter_of_another_call_is_unknown() {
        let error = Params::parse(Some("limit=3"), Names::TIMEOUT.and(Names::PREV)).unwrap_err();
        assert_eq!(error.parts().problem.field.as_deref(), Some("limit"));
    }
}
