//! Replies of the calls on keys: records, pages of them, and what a write changed.

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::bytes::{read_required, write};

/// The most records that one page of a list, or one range of a transaction, may hold.
pub const LIST_LIMIT_MAX: u32 = 10_000;

/// What a page holds at most when no limit is named.
pub const LIST_LIMIT_DEFAULT: u32 = 1_000;

/// One stored key as a reply shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RecordIn")]
pub struct Record {
    /// The key's bytes.
    pub key: Bytes,
    /// The value's bytes; `None` where only keys were asked for.
    pub value: Option<Bytes>,
    /// Revision at which the key came to be.
    pub create_revision: u64,
    /// Revision of its last change; its `ETag`.
    pub mod_revision: u64,
    /// 1 at creation, one more with every change.
    pub version: u64,
    /// The lease that the key belongs to, if any.
    pub lease: Option<u64>,
    /// What is left of the key's own TTL, in milliseconds of cluster time.
    pub ttl_ms: Option<u64>,
}

/// Answer to a PUT of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// The store's revision after the write.
    pub revision: u64,
    /// Whether the key was absent before.
    pub created: bool,
    /// The record before, when it was asked for and there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Record>,
}

/// Answer to a DELETE of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReply {
    /// The store's revision after the call.
    pub revision: u64,
    /// 1, or 0 when the key was absent.
    pub deleted: u64,
    /// The record before, when it was asked for and there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Record>,
}

/// Answer to a DELETE of a range, or of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeReply {
    /// The store's revision after the call.
    pub revision: u64,
    /// How many keys went.
    pub deleted: u64,
    /// The records before, when they were asked for and there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prev: Vec<Record>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReply {
    /// The revision that all pages of this list show.
    pub revision: u64,
    /// Records in the order of the list.
    pub items: Vec<Record>,
    /// Groups below the next separator, in the order of the list.
    #[serde(default)]
    pub prefixes: Vec<Prefix>,
    /// Items and prefixes on this page; the whole range's when only the count was asked for.
    pub count: u64,
    /// Where the next page begins; absent at the end. To be sent back with the same bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A group of keys that share everything up to a separator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PrefixIn")]
pub struct Prefix {
    /// The whole prefix, with the separator at its end.
    pub prefix: Bytes,
}

/// The last line of a streamed list. A stream without it was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLine {
    /// Always true; a record's line has no such member.
    pub end: bool,
    /// The revision that the whole stream shows.
    pub revision: u64,
    /// Lines before this one.
    pub count: u64,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Record", 7)?;
        write(&mut object, "key", "key_base64", &self.key)?;
        if let Some(value) = &self.value {
            write(&mut object, "value", "value_base64", value)?;
        }
        object.serialize_field("create_revision", &self.create_revision)?;
        object.serialize_field("mod_revision", &self.mod_revision)?;
        object.serialize_field("version", &self.version)?;
        if let Some(lease) = self.lease {
            object.serialize_field("lease", &lease)?;
        }
        if let Some(ttl_ms) = self.ttl_ms {
            object.serialize_field("ttl_ms", &ttl_ms)?;
        }
        object.end()
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Prefix", 1)?;
        write(&mut object, "prefix", "prefix_base64", &self.prefix)?;
        object.end()
    }
}

#[derive(Deserialize)]
struct RecordIn {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    lease: Option<u64>,
    ttl_ms: Option<u64>,
}

impl TryFrom<RecordIn> for Record {
    type Error = String;

    fn try_from(raw: RecordIn) -> Result<Self, String> {
        Ok(Record {
            key: read_required("key", raw.key, raw.key_base64)?,
            value: super::bytes::read("value", raw.value, raw.value_base64)?,
            create_revision: raw.create_revision,
            mod_revision: raw.mod_revision,
            version: raw.version,
            lease: raw.lease,
            ttl_ms: raw.ttl_ms,
        })
    }
}

#[derive(Deserialize)]
struct PrefixIn {
    prefix: Option<String>,
    prefix_base64: Option<String>,
}

impl TryFrom<PrefixIn> for Prefix {
    type Error = String;

    fn try_from(raw: PrefixIn) -> Result<Self, String> {
        Ok(Prefix { prefix: read_required("prefix", raw.prefix, raw.prefix_base64)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static [u8], value: Option<&'static [u8]>) -> Record {
        Record {
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: None,
            ttl_ms: Some(1500),
        }
    }

    #[test]
    fn a_record_is_text_where_it_can_be_and_base64_where_it_must() {
        let text = serde_json::to_string(&record(b"a\"b", Some(b"\xff"))).unwrap();
        assert_eq!(
            text,
            r#"{"key":"a\"b","value_base64":"/w==","create_revision":2,"mod_revision":3,"version":2,"ttl_ms":1500}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record(b"a\"b", Some(b"\xff")));
    }

    #[test]
    fn a_reply_of_a_newer_node_is_still_read() {
        let text = r#"{"revision":3,"created":true,"colour":"red"}"#;
        let reply: PutReply = serde_json::from_str(text).unwrap();
        assert_eq!(reply, PutReply { revision: 3, created: true, prev: None });
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"revision":3,"created":true}"#);
    }

    #[test]
    fn a_prefix_that_is_not_text_is_base64() {
        let prefix = Prefix { prefix: Bytes::from_static(b"\xfe/") };
        let text = serde_json::to_string(&prefix).unwrap();
        assert_eq!(text, r#"{"prefix_base64":"/i8="}"#);
        assert_eq!(serde_json::from_str::<Prefix>(&text).unwrap(), prefix);
    }
}
