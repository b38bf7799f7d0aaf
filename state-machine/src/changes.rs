//! The change log read back: whole revisions, in order.

use crate::change::{Change, Stamp};
use crate::error::ReadError;
use crate::meta::Meta;
use crate::reply::Item;
use crate::rows::Rows;

/// One event: a change and its place. Values are fetched when they are wanted, with [`record`] and [`prev`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub stamp: Stamp,
    /// What happened.
    pub change: Change,
}

/// The events after revision `since`, whole revisions until `limit` events are reached. `since` 0 begins with the oldest
/// kept.
///
/// # Errors
/// When `since` is no longer kept or not reached, or a row cannot be read.
pub fn changes(
    rows: &impl Rows,
    meta: &Meta,
    since: u64,
    limit: u32,
) -> Result<Vec<Event>, ReadError> {
    let _ = (rows, meta, since, limit);
    todo!()
}

/// The record after a put; none for other events.
///
/// # Errors
/// When the event is no longer kept, or a row cannot be read.
pub fn record(rows: &impl Rows, meta: &Meta, event: &Event) -> Result<Option<Item>, ReadError> {
    let _ = (rows, meta, event);
    todo!()
}

/// The record before the event, if there was one.
///
/// # Errors
/// When it is no longer kept, or a row cannot be read.
pub fn prev(rows: &impl Rows, meta: &Meta, event: &Event) -> Result<Option<Item>, ReadError> {
    let _ = (rows, meta, event);
    todo!()
}
