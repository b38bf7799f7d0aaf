//! Reads over any rows: a key, a key at a revision, a page of a list.

use bytes::Bytes;

use crate::error::{ReadError, StoreError};
use crate::meta::Meta;
use crate::reply::Item;
use crate::rows::Rows;
use crate::types::KeyRange;

/// What a page of a list is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// The keys.
    pub range: KeyRange,
    /// At most so many items and prefixes; 0 means no limit but `bytes_max`.
    pub limit: u32,
    /// The page ends before the item that would take it beyond so many bytes, but has at least one; 0 means no bound.
    pub bytes_max: u64,
    /// From the end.
    pub reverse: bool,
    /// Without values.
    pub keys_only: bool,
    /// Only the number of keys in the whole range.
    pub count_only: bool,
    /// Keys with this behind the range's prefix are grouped into one prefix, up to and with the separator. If the range
    /// is not that of a prefix, the separator is looked for from the key's beginning.
    pub separator: Option<Bytes>,
    /// As of this revision; none: now.
    pub at: Option<u64>,
    /// Where the page before ended: its `next`.
    pub after: Option<Bytes>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The records, in the order asked for.
    pub items: Vec<Item>,
    /// The groups, in the order asked for.
    pub prefixes: Vec<Bytes>,
    /// Items and prefixes on this page; all keys in the range with `count_only`.
    pub count: u64,
    /// There is more: pass it as `after`. Opaque.
    pub next: Option<Bytes>,
    /// The revision that the page shows: pass it as `at`.
    pub revision: u64,
}

/// The record of `key` now.
///
/// # Errors
/// When the row cannot be read.
pub fn get(rows: &impl Rows, meta: &Meta, key: &[u8]) -> Result<Option<Item>, StoreError> {
    let _ = (rows, meta, key);
    todo!()
}

/// The record of `key` as of `revision`.
///
/// # Errors
/// When the revision is not kept or not reached, or a row cannot be read.
pub fn get_at(
    rows: &impl Rows,
    meta: &Meta,
    key: &[u8],
    revision: u64,
) -> Result<Option<Item>, ReadError> {
    let _ = (rows, meta, key, revision);
    todo!()
}

/// A page of a list.
///
/// # Errors
/// When the revision is not kept or not reached, the cursor is none of ours, or a row cannot be read.
pub fn list(rows: &impl Rows, meta: &Meta, query: &ListQuery) -> Result<Page, ReadError> {
    let _ = (rows, meta, query);
    todo!()
}

/// The earliest deadline of a live key, in cluster time.
///
/// # Errors
/// When a row cannot be read.
pub fn first_deadline(rows: &impl Rows, meta: &Meta) -> Result<Option<u64>, StoreError> {
    let _ = (rows, meta);
    todo!()
}
