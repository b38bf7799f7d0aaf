//! Transactions: compare, then one of two lists of operations, all in one revision.
//!
//! ```text
//!   {"compare":[…], "success":[{"put":…},{"delete":…},{"get":…},{"range":…}], "failure":[…]}
//!   {"succeeded":true, "revision":14, "results":[…]}       one result per operation, in order
//! ```

use std::fmt;

use bytes::Bytes;
use serde::de::Visitor;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Ttl;
use super::bytes::{given, read, read_required, write};
use super::kv::Record;

/// Body of `POST /v1/txn`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TxnRequest {
    /// All must hold for `success`; none: an atomic batch.
    #[serde(default)]
    pub compare: Vec<Compare>,
    /// Runs when every comparison holds.
    #[serde(default)]
    pub success: Vec<TxnOp>,
    /// Runs when one does not.
    #[serde(default)]
    pub failure: Vec<TxnOp>,
}

/// One comparison of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CompareIn")]
pub struct Compare {
    /// Of which key.
    pub key: Bytes,
    /// What of it, with what.
    pub target: Target,
    /// How; `exists` knows only `=` and `!=`.
    pub op: CompareOp,
}

/// What is compared, and the value on the right-hand side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The value's bytes; false for an absent key.
    Value(Bytes),
    /// The record's version, 0 when absent.
    Version(u64),
    /// The revision of its creation, 0 when absent.
    CreateRevision(u64),
    /// The revision of its last change, 0 when absent.
    ModRevision(u64),
    /// Its lease, 0 for none.
    Lease(u64),
    /// Whether the key is there.
    Exists(bool),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// Equal.
    #[serde(rename = "=")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// The store's side is less.
    #[serde(rename = "<")]
    Less,
    /// The store's side is greater.
    #[serde(rename = ">")]
    Greater,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxnOp {
    /// Writes one key.
    Put(TxnPut),
    /// Deletes one key or a range.
    Delete(TxnDelete),
    /// Reads one key.
    Get(TxnGet),
    /// Reads a range.
    Range(TxnRange),
}

/// Writes one key. `ttl` and `lease` exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TxnPutIn")]
pub struct TxnPut {
    /// The key.
    pub key: Bytes,
    /// The value, possibly empty.
    pub value: Bytes,
    /// The key's own TTL.
    pub ttl: Option<Ttl>,
    /// The lease that it shall belong to.
    pub lease: Option<u64>,
    /// Whether the result shows the record before.
    pub prev: bool,
}

/// Deletes one key or a range.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TxnDeleteIn")]
pub struct TxnDelete {
    /// What to delete; never [`Bounds::All`].
    pub bounds: Bounds,
    /// Whether the result shows the records before.
    pub prev: bool,
}

/// Reads one key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TxnGetIn")]
pub struct TxnGet {
    /// The key.
    pub key: Bytes,
}

/// Reads a range.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TxnRangeIn")]
pub struct TxnRange {
    /// What to read; never [`Bounds::Key`].
    pub bounds: Bounds,
    /// At most so many records, 1 to 10000; `None`: 1000.
    pub limit: Option<u32>,
    /// From the last key to the first.
    pub reverse: bool,
    /// Without values.
    pub keys_only: bool,
    /// Only the number of keys in the whole range.
    pub count_only: bool,
}

/// A part of the key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bounds {
    /// Every key.
    All,
    /// One key.
    Key(Bytes),
    /// Every key that begins so.
    Prefix(Bytes),
    /// From `start` (inclusive, `None`: the first) to `end` (exclusive, `None`: after the last).
    Range {
        /// The first key.
        start: Option<Bytes>,
        /// The key after the last.
        end: Option<Bytes>,
    },
}

/// Answer to `POST /v1/txn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReply {
    /// Which branch ran.
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: u64,
    /// One result per operation of that branch, in order.
    pub results: Vec<TxnResult>,
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxnResult {
    /// A key was written.
    Put {
        /// Whether it was absent before.
        created: bool,
        /// The record before, when asked for and there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<Record>,
    },
    /// Keys were deleted.
    Delete {
        /// How many.
        deleted: u64,
        /// The records before, when asked for and there were any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev: Vec<Record>,
    },
    /// A key was read; `None`: it is absent.
    Get(Option<Record>),
    /// A range was read.
    Range {
        /// The records.
        items: Vec<Record>,
        /// How many; the whole range's when only the count was asked for.
        count: u64,
    },
}

impl Target {
    fn name(&self) -> &'static str {
        match self {
            Target::Value(_) => "value",
            Target::Version(_) => "version",
            Target::CreateRevision(_) => "create_revision",
            Target::ModRevision(_) => "mod_revision",
            Target::Lease(_) => "lease",
            Target::Exists(_) => "exists",
        }
    }
}

impl Bounds {
    fn write<S: SerializeStruct>(&self, object: &mut S) -> Result<(), S::Error> {
        match self {
            Bounds::All => Ok(()),
            Bounds::Key(key) => write(object, "key", "key_base64", key),
            Bounds::Prefix(prefix) => write(object, "prefix", "prefix_base64", prefix),
            Bounds::Range { start, end } => {
                if let Some(start) = start {
                    write(object, "start", "start_base64", start)?;
                }
                end.iter().try_for_each(|end| write(object, "end", "end_base64", end))
            }
        }
    }
}

impl Serialize for Compare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Compare", 4)?;
        write(&mut object, "key", "key_base64", &self.key)?;
        object.serialize_field("target", self.target.name())?;
        object.serialize_field("op", &self.op)?;
        match &self.target {
            Target::Value(value) => write(&mut object, "value", "value_base64", value)?,
            Target::Version(number)
            | Target::CreateRevision(number)
            | Target::ModRevision(number)
            | Target::Lease(number) => object.serialize_field("value", number)?,
            Target::Exists(exists) => object.serialize_field("value", exists)?,
        }
        object.end()
    }
}

impl Serialize for TxnPut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("TxnPut", 5)?;
        write(&mut object, "key", "key_base64", &self.key)?;
        write(&mut object, "value", "value_base64", &self.value)?;
        if let Some(ttl) = &self.ttl {
            object.serialize_field("ttl", ttl)?;
        }
        if let Some(lease) = &self.lease {
            object.serialize_field("lease", lease)?;
        }
        write_flag(&mut object, "prev", self.prev)?;
        object.end()
    }
}

impl Serialize for TxnDelete {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("TxnDelete", 3)?;
        self.bounds.write(&mut object)?;
        write_flag(&mut object, "prev", self.prev)?;
        object.end()
    }
}

impl Serialize for TxnGet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("TxnGet", 1)?;
        write(&mut object, "key", "key_base64", &self.key)?;
        object.end()
    }
}

impl Serialize for TxnRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("TxnRange", 6)?;
        self.bounds.write(&mut object)?;
        if let Some(limit) = &self.limit {
            object.serialize_field("limit", limit)?;
        }
        write_flag(&mut object, "reverse", self.reverse)?;
        write_flag(&mut object, "keys_only", self.keys_only)?;
        write_flag(&mut object, "count_only", self.count_only)?;
        object.end()
    }
}

fn write_flag<S: SerializeStruct>(
    object: &mut S,
    name: &'static str,
    set: bool,
) -> Result<(), S::Error> {
    if set { object.serialize_field(name, &true) } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareIn {
    #[serde(default, deserialize_with = "given")]
    key: Option<String>,
    #[serde(default, deserialize_with = "given")]
    key_base64: Option<String>,
    target: TargetName,
    op: CompareOp,
    #[serde(default, deserialize_with = "given")]
    value: Option<Scalar>,
    #[serde(default, deserialize_with = "given")]
    value_base64: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetName {
    Value,
    Version,
    CreateRevision,
    ModRevision,
    Lease,
    Exists,
}

impl TryFrom<CompareIn> for Compare {
    type Error = String;

    fn try_from(raw: CompareIn) -> Result<Self, String> {
        let key = read_required("key", raw.key, raw.key_base64)?;
        let target = target(raw.target, raw.value, raw.value_base64)?;
        let ordered = matches!(raw.op, CompareOp::Less | CompareOp::Greater);
        if ordered && matches!(target, Target::Exists(_)) {
            return Err("`exists` has no order: `op` must be `=` or `!=`".to_owned());
        }
        Ok(Compare { key, target, op: raw.op })
    }
}

fn target(
    name: TargetName,
    value: Option<Scalar>,
    coded: Option<String>,
) -> Result<Target, String> {
    if name == TargetName::Value {
        let plain = match value {
            None => None,
            Some(Scalar::Text(text)) => Some(text),
            Some(_) => return Err("`value` must be a string for this target".to_owned()),
        };
        return read_required("value", plain, coded).map(Target::Value);
    }
    if coded.is_some() {
        return Err("`value_base64` is only for the target `value`".to_owned());
    }
    match (name, value) {
        (_, None) => Err("missing member `value`".to_owned()),
        (TargetName::Exists, Some(Scalar::Flag(exists))) => Ok(Target::Exists(exists)),
        (TargetName::Exists, Some(_)) => Err("`value` must be true or false".to_owned()),
        (TargetName::Version, Some(Scalar::Number(number))) => Ok(Target::Version(number)),
        (TargetName::CreateRevision, Some(Scalar::Number(number))) => {
            Ok(Target::CreateRevision(number))
        }
        (TargetName::ModRevision, Some(Scalar::Number(number))) => Ok(Target::ModRevision(number)),
        (TargetName::Lease, Some(Scalar::Number(number))) => Ok(Target::Lease(number)),
        (_, Some(_)) => Err("`value` must be an unsigned 64-bit number".to_owned()),
    }
}

/// A comparison's right-hand side before its target says what it must be.
enum Scalar {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an unsigned 64-bit number, true or false")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(text))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnPutIn {
    #[serde(default, deserialize_with = "given")]
    key: Option<String>,
    #[serde(default, deserialize_with = "given")]
    key_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    value: Option<String>,
    #[serde(default, deserialize_with = "given")]
    value_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    ttl: Option<Ttl>,
    #[serde(default, deserialize_with = "given")]
    lease: Option<u64>,
    #[serde(default)]
    prev: bool,
}

impl TryFrom<TxnPutIn> for TxnPut {
    type Error = String;

    fn try_from(raw: TxnPutIn) -> Result<Self, String> {
        if raw.ttl.is_some() && raw.lease.is_some() {
            return Err("`ttl` and `lease` exclude each other".to_owned());
        }
        Ok(TxnPut {
            key: read_required("key", raw.key, raw.key_base64)?,
            value: read_required("value", raw.value, raw.value_base64)?,
            ttl: raw.ttl,
            lease: raw.lease,
            prev: raw.prev,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnGetIn {
    #[serde(default, deserialize_with = "given")]
    key: Option<String>,
    #[serde(default, deserialize_with = "given")]
    key_base64: Option<String>,
}

impl TryFrom<TxnGetIn> for TxnGet {
    type Error = String;

    fn try_from(raw: TxnGetIn) -> Result<Self, String> {
        Ok(TxnGet { key: read_required("key", raw.key, raw.key_base64)? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnDeleteIn {
    #[serde(default, deserialize_with = "given")]
    key: Option<String>,
    #[serde(default, deserialize_with = "given")]
    key_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "given")]
    prefix_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    start: Option<String>,
    #[serde(default, deserialize_with = "given")]
    start_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    end: Option<String>,
    #[serde(default, deserialize_with = "given")]
    end_base64: Option<String>,
    #[serde(default)]
    prev: bool,
}

impl TryFrom<TxnDeleteIn> for TxnDelete {
    type Error = String;

    fn try_from(raw: TxnDeleteIn) -> Result<Self, String> {
        let key = read("key", raw.key, raw.key_base64)?;
        let prefix = read("prefix", raw.prefix, raw.prefix_base64)?;
        let start = read("start", raw.start, raw.start_base64)?;
        let end = read("end", raw.end, raw.end_base64)?;
        match Bounds::of(key, prefix, start, end)? {
            Bounds::All => Err("one of `key`, `prefix`, `start`, `end` must be given".to_owned()),
            Bounds::Prefix(prefix) if prefix.is_empty() => Err("an empty `prefix`".to_owned()),
            bounds => Ok(TxnDelete { bounds, prev: raw.prev }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnRangeIn {
    #[serde(default, deserialize_with = "given")]
    prefix: Option<String>,
    #[serde(default, deserialize_with = "given")]
    prefix_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    start: Option<String>,
    #[serde(default, deserialize_with = "given")]
    start_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    end: Option<String>,
    #[serde(default, deserialize_with = "given")]
    end_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    limit: Option<u32>,
    #[serde(default)]
    reverse: bool,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
}

impl TryFrom<TxnRangeIn> for TxnRange {
    type Error = String;

    fn try_from(raw: TxnRangeIn) -> Result<Self, String> {
        let prefix = read("prefix", raw.prefix, raw.prefix_base64)?;
        let start = read("start", raw.start, raw.start_base64)?;
        let end = read("end", raw.end, raw.end_base64)?;
        if raw.limit.is_some_and(|limit| !(1..=super::kv::LIST_LIMIT_MAX).contains(&limit)) {
            return Err("`limit` must be 1 to 10000".to_owned());
        }
        Ok(TxnRange {
            bounds: Bounds::of(None, prefix, start, end)?,
            limit: raw.limit,
            reverse: raw.reverse,
            keys_only: raw.keys_only,
            count_only: raw.count_only,
        })
    }
}

impl Bounds {
    /// The bounds that these members name together.
    ///
    /// # Errors
    /// A text for people when they exclude each other.
    pub fn of(
        key: Option<Bytes>,
        prefix: Option<Bytes>,
        start: Option<Bytes>,
        end: Option<Bytes>,
    ) -> Result<Bounds, String> {
        let ranged = start.is_some() || end.is_some();
        match (key, prefix, ranged) {
            (None, None, false) => Ok(Bounds::All),
            (Some(key), None, false) => Ok(Bounds::Key(key)),
            (None, Some(prefix), false) => Ok(Bounds::Prefix(prefix)),
            (None, None, true) => Ok(Bounds::Range { start, end }),
            (Some(_), Some(_), _) => Err("`key` and `prefix` exclude each other".to_owned()),
            (Some(_), _, true) => Err("`key` excludes `start` and `end`".to_owned()),
            (_, Some(_), true) => Err("`prefix` excludes `start` and `end`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"compare":[{"key":"a","target":"mod_revision","op":"=","value":12}],
        "success":[{"put":{"key":"a","value":"x","ttl":"30s"}},{"delete":{"key":"b"}},
                   {"get":{"key_base64":"/w=="}},{"range":{"prefix":"d/","limit":10}}],
        "failure":[{"get":{"key":"a"}}]}"#;

    #[test]
    fn a_request_is_read_and_written_back_the_same() {
        let request: TxnRequest = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(request.compare[0].target, Target::ModRevision(12));
        assert_eq!(request.success.len(), 4);
        assert_eq!(request.success[2], TxnOp::Get(TxnGet { key: Bytes::from_static(b"\xff") }));

        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<TxnRequest>(&text).unwrap(), request);
        assert!(text.contains(r#"{"put":{"key":"a","value":"x","ttl":"30s"}}"#), "{text}");
    }

    #[test]
    fn a_request_with_anything_unknown_doubled_or_contradicting_is_refused() {
        for text in [
            r#"{"compare":[],"compare":[]}"#,
            r#"{"then":[]}"#,
            r#"{"success":[{"put":{"key":"a"}}]}"#,
            r#"{"success":[{"put":{"key":"a","value":"x","value_base64":"eA=="}}]}"#,
            r#"{"success":[{"put":{"key":"a","key":"b","value":"x"}}]}"#,
            r#"{"success":[{"put":{"key":"a","value":"x","ttl":"30s","lease":7}}]}"#,
            r#"{"success":[{"put":{"key":"a","value":"x","ttl":30}}]}"#,
            r#"{"success":[{"put":{"key":"a","value":null}}]}"#,
            r#"{"success":[{"put":{"key":"a","value":"x"},"get":{"key":"a"}}]}"#,
            r#"{"success":[{"drop":{"key":"a"}}]}"#,
            r#"{"success":[{"delete":{}}]}"#,
            r#"{"success":[{"delete":{"prefix":""}}]}"#,
            r#"{"success":[{"delete":{"key":"a","prefix":"b"}}]}"#,
            r#"{"success":[{"range":{"prefix":"a","start":"b"}}]}"#,
            r#"{"success":[{"range":{"limit":0}}]}"#,
            r#"{"success":[{"range":{"limit":10001}}]}"#,
            r#"{"success":[{"get":{}}]}"#,
            r#"{"compare":[{"key":"a","target":"version","value":1}]}"#,
            r#"{"compare":[{"key":"a","target":"version","op":"=","value":1.5}]}"#,
            r#"{"compare":[{"key":"a","target":"version","op":"=","value":-1}]}"#,
            r#"{"compare":[{"key":"a","target":"version","op":"=","value":18446744073709551616}]}"#,
            r#"{"compare":[{"key":"a","target":"version","op":"=","value":"1"}]}"#,
            r#"{"compare":[{"key":"a","target":"exists","op":"<","value":true}]}"#,
            r#"{"compare":[{"key":"a","target":"exists","op":"=","value":1}]}"#,
            r#"{"compare":[{"key":"a","target":"value","op":"=","value":1}]}"#,
            r#"{"compare":[{"key":"a","target":"value","op":"="}]}"#,
            r#"{"compare":[{"key":"a","target":"colour","op":"=","value":1}]}"#,
            r#"{"compare":[{"key":"a","target":"version","op":"==","value":1}]}"#,
        ] {
            assert!(serde_json::from_str::<TxnRequest>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn results_mirror_the_operations() {
        let reply = TxnReply {
            succeeded: true,
            revision: 14,
            results: vec![
                TxnResult::Put { created: true, prev: None },
                TxnResult::Delete { deleted: 0, prev: vec![] },
                TxnResult::Get(None),
                TxnResult::Range { items: vec![], count: 3 },
            ],
        };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            text,
            r#"{"succeeded":true,"revision":14,"results":[{"put":{"created":true}},{"delete":{"deleted":0}},{"get":null},{"range":{"items":[],"count":3}}]}"#
        );
        assert_eq!(serde_json::from_str::<TxnReply>(&text).unwrap(), reply);
    }
}
