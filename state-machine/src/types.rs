//! The small nouns that everything else is said with.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::schema;

/// The place of an entry in the replicated log: the term and node that proposed it, and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The leader's node id.
    pub node: u64,
    /// The index, from 0.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-N{}.{}", self.term, self.node, self.index)
    }
}

/// What the membership says of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// `host:port` where clients reach it, and peers unless `peer_addr` is set.
    pub addr: String,
    /// `host:port` for peers alone.
    pub peer_addr: Option<String>,
    /// Free words of its operator, as `zone` → `a`.
    pub labels: BTreeMap<String, String>,
    /// The identity of its log: an emptied directory under a known id has another one.
    pub log_uuid: u128,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}

/// Keys from `start` to before `end`, in byte order. An inverted range is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// The first key, inclusive; empty means the first of all.
    pub start: Bytes,
    /// The bound behind the last key, exclusive; none means to the end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let end = schema::prefix_end(&prefix).map(Bytes::from);
        Self { start: prefix, end }
    }

    /// One key.
    #[must_use]
    pub fn single(key: &Bytes) -> Self {
        Self { start: key.clone(), end: Some(Bytes::from(schema::key_after(key))) }
    }

    /// Whether `key` lies inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether no key can lie inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    /// The key whose range this is, when it holds exactly one.
    #[must_use]
    pub fn as_single(&self) -> Option<Bytes> {
        let (last, key) = self.end.as_ref()?.split_last()?;
        (*last == 0 && key == &self.start[..] && !key.is_empty()).then(|| self.start.clone())
    }

    /// The prefix whose keys these are, when the bounds are exactly those of a prefix.
    #[must_use]
    pub fn as_prefix(&self) -> Option<&Bytes> {
        (self.end.as_deref() == schema::prefix_end(&self.start).as_deref()).then_some(&self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_holds_the_keys_with_that_prefix_alone() {
        let range = KeyRange::prefix(Bytes::from_static(b"a\xFF"));
        assert!(range.contains(b"a\xFF") && range.contains(b"a\xFF\xFF\xFF"));
        assert!(!range.contains(b"a\xFE\xFF") && !range.contains(b"b"));
        assert_eq!(range.as_prefix(), Some(&range.start));
        assert_eq!(KeyRange::prefix(Bytes::from_static(b"\xFF\xFF")).end, None);
    }

    #[test]
    fn a_single_range_holds_one_key() {
        let range = KeyRange::single(&Bytes::from_static(b"a"));
        assert!(range.contains(b"a") && !range.contains(b"a\x00") && !range.contains(b"b"));
        assert_eq!(range.as_prefix(), None);
        assert_eq!(range.as_single(), Some(range.start.clone()));
        assert_eq!(KeyRange::all().as_single(), None);
    }

    #[test]
    fn an_inverted_range_is_empty() {
        let range =
            KeyRange { start: Bytes::from_static(b"b"), end: Some(Bytes::from_static(b"a")) };
        assert!(range.is_empty() && !range.contains(b"a") && !range.contains(b"b"));
        assert!(!KeyRange::all().is_empty());
    }
}
