//! A frozen, ordered set of rows: what the pure half reads from.
//!
//! The cold side of a view is one, a `BTreeMap` is another (tests, tools).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::StoreError;

/// One row: its key and its bytes.
pub type Row = (Bytes, Bytes);

/// Rows in order, each of which may be the one that cannot be read.
pub type RowIter<'a> = Box<dyn Iterator<Item = Result<Row, StoreError>> + 'a>;

/// A frozen, ordered set of rows. Two reads of the same set never differ.
pub trait Rows {
    /// The row under `key`.
    ///
    /// # Errors
    /// When the row cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The rows from `from` (inclusive) to `to` (exclusive, none: to the end), ascending, or descending if `reverse`.
    /// An inverted range is empty.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_>;
}

impl Rows for BTreeMap<Bytes, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        if to.is_some_and(|to| to <= from) {
            return Box::new(std::iter::empty());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self
            .range::<[u8], _>((Bound::Included(from), upper))
            .map(|(key, row)| Ok((key.clone(), row.clone())));
        if reverse { Box::new(rows.rev()) } else { Box::new(rows) }
    }
}

impl<R: Rows + ?Sized> Rows for &R {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).get(key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        (**self).scan(from, to, reverse)
    }
}
