//! The change log read back: whole revisions, in order. The basis of watches and of the log's export.

use bytes::Bytes;

use crate::change::{Change, Kind, Stamp};
use crate::error::{ReadError, StoreError};
use crate::history;
use crate::meta::Meta;
use crate::record::Record;
use crate::reply::Item;
use crate::rows::Rows;
use crate::schema::{self, table};

/// One event: a change and its place. Values are fetched when they are wanted, with [`record`] and [`prev`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub stamp: Stamp,
    /// What happened.
    pub change: Change,
}

/// The events after revision `since`: whole revisions until at least `limit` events are reached, and at least one
/// revision if there is one. `since` 0 begins with the oldest kept.
///
/// # Errors
/// When events after `since` are no longer kept, when `since` is not reached, or when a row cannot be read.
pub fn changes(
    rows: &impl Rows,
    meta: &Meta,
    since: u64,
    limit: u32,
) -> Result<Vec<Event>, ReadError> {
    if since > meta.revision {
        return Err(ReadError::Future { revision: meta.revision });
    }
    let first = since.saturating_add(1);
    if since > 0 && first < meta.oldest_revision {
        return Err(ReadError::Compacted { oldest_revision: meta.oldest_revision });
    }
    let from = schema::change_key(first.max(meta.oldest_revision), 0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut events: Vec<Event> = Vec::new();
    for row in rows.scan(&from, Some(&[table::CHANGES + 1]), false) {
        let (row_key, row) = row?;
        let event = event(&row_key, &row)?;
        let another = events.last().is_some_and(|last| last.stamp.revision < event.stamp.revision);
        if another && events.len() >= limit {
            break;
        }
        events.push(event);
    }
    Ok(events)
}

fn event(row_key: &[u8], row: &Bytes) -> Result<Event, StoreError> {
    let (revision, sub) = schema::split_change_key(row_key)
        .ok_or_else(|| StoreError::corrupt("change", row_key, "short key"))?;
    let change =
        Change::decode(row).map_err(|error| StoreError::corrupt("change", row_key, error))?;
    Ok(Event { stamp: Stamp { revision, sub }, change })
}

/// The record after a put, as it was then; none for other events.
///
/// # Errors
/// When the event is no longer kept, or a row cannot be read.
pub fn record(rows: &impl Rows, meta: &Meta, event: &Event) -> Result<Option<Item>, ReadError> {
    let change = &event.change;
    if change.kind != Kind::Put {
        return Ok(None);
    }
    check_kept(meta, event)?;
    let row_key = schema::record_key(meta.epoch, &change.key);
    let live = match rows.get(&row_key)? {
        Some(row) => Some(Record::of_row(&row_key, &row)?),
        None => None,
    };
    let at_stamp = |record: &Record| {
        (record.mod_revision, record.mod_sub) == (event.stamp.revision, event.stamp.sub)
    };
    let record = match live.filter(at_stamp) {
        Some(record) => record,
        None => superseded(rows, meta, &change.key, event.stamp)?,
    };
    let item = record.into_item_at_event(change.key.clone());
    Ok(Some(Item { lease: change.lease, ttl_ms: change.ttl_ms, ..item }))
}

/// The record before the event, if there was one, with the `ttl_ms` that was left at the event.
///
/// # Errors
/// When the event is no longer kept, or a row cannot be read.
pub fn prev(rows: &impl Rows, meta: &Meta, event: &Event) -> Result<Option<Item>, ReadError> {
    let change = &event.change;
    let Some(stamp) = change.prev else { return Ok(None) };
    check_kept(meta, event)?;
    let record = superseded(rows, meta, &change.key, stamp)?;
    Ok(Some(record.into_item(change.key.clone(), change.clock_ms)))
}

fn check_kept(meta: &Meta, event: &Event) -> Result<(), ReadError> {
    if event.stamp.revision < meta.oldest_revision {
        return Err(ReadError::Compacted { oldest_revision: meta.oldest_revision });
    }
    Ok(())
}

/// The version that `key` got at `stamp`. A kept event points at it, so it must be there.
fn superseded(
    rows: &impl Rows,
    meta: &Meta,
    key: &[u8],
    stamp: Stamp,
) -> Result<Record, StoreError> {
    let row = history::version_of(rows, meta, key, stamp)?.ok_or_else(|| {
        let detail = format!("no version of revision {} sub {}", stamp.revision, stamp.sub);
        StoreError::corrupt("history", key, detail)
    })?;
    Record::of_row(key, &row)
}
