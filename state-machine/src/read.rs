//! Reads over any rows: a key, a key at a revision, a page of a list.
//!
//! Every function here is given a frozen set of rows and the meta that was written with them; it never looks elsewhere, so
//! a reader sees one moment.

mod list;

use bytes::Bytes;

use crate::error::{ReadError, StoreError};
use crate::history;
use crate::meta::Meta;
use crate::record::Record;
use crate::reply::Item;
use crate::rows::Rows;
use crate::schema::{self, table};
use crate::types::KeyRange;

pub use list::list;

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
    /// As of this revision; none: now. Records as of a revision show the `ttl_ms` of their event, and so do pages that
    /// begin with one; pages that begin with now go on with the `ttl_ms` of that moment.
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
    let row_key = schema::record_key(meta.epoch, key);
    match rows.get(&row_key)? {
        Some(row) => item(meta, key, &row).map(Some),
        None => Ok(None),
    }
}

/// The record of `key` that lies in `row`, as a reader sees it now.
///
/// # Errors
/// When the row is no record.
pub fn item(meta: &Meta, key: &[u8], row: &Bytes) -> Result<Item, StoreError> {
    let key = Bytes::copy_from_slice(key);
    Ok(Record::of_row(&key, row)?.into_item(key, meta.clock_ms))
}

/// The record of `key` as of `revision`. Its `ttl_ms` is what was left at the event that made it.
///
/// # Errors
/// When the revision is not kept or not reached, or a row cannot be read.
pub fn get_at(
    rows: &impl Rows,
    meta: &Meta,
    key: &[u8],
    revision: u64,
) -> Result<Option<Item>, ReadError> {
    check_revision(meta, revision)?;
    let Some(row) = history::version_at(rows, meta, key, revision)? else { return Ok(None) };
    let key = Bytes::copy_from_slice(key);
    Ok(Some(Record::of_row(&key, &row)?.into_item_at_event(key)))
}

/// The earliest deadline of a live key, in milliseconds of cluster time. It may be due already.
///
/// # Errors
/// When a row cannot be read.
pub fn first_deadline(rows: &impl Rows, meta: &Meta) -> Result<Option<u64>, StoreError> {
    if meta.deadlines == 0 {
        return Ok(None);
    }
    let from = schema::deadline_from_suffix(meta.epoch, &meta.deadlines_from);
    let to = schema::epoch_end(table::DEADLINES, meta.epoch);
    let first = rows.scan(&from, Some(&to), false).next().transpose()?;
    Ok(first.and_then(|(row_key, _)| schema::split_deadline_key(&row_key)).map(|(ms, _)| ms))
}

/// Says whether the store can be read as of `revision`.
pub(crate) fn check_revision(meta: &Meta, revision: u64) -> Result<(), ReadError> {
    if revision > meta.revision {
        return Err(ReadError::Future { revision: meta.revision });
    }
    if revision < meta.oldest_revision {
        return Err(ReadError::Compacted { oldest_revision: meta.oldest_revision });
    }
    Ok(())
}
