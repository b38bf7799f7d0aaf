//! Lists, a page at a time.
//!
//! A page ends with a position: the last key or group shown. The next page begins behind it, at the same revision, so all
//! pages together show one moment. A group is passed by a seek; the keys in it are not read.

use bytes::Bytes;

use super::{ListQuery, Page, check_revision};
use crate::codec::{Decoder, Encode, length};
use crate::error::{Malformed, ReadError, StoreError};
use crate::history::Walk;
use crate::meta::Meta;
use crate::record::Record;
use crate::reply::ITEM_BYTES_FLAT;
use crate::rows::Rows;
use crate::schema;
use crate::types::KeyRange;

/// A page of a list.
///
/// # Errors
/// When the revision is not kept or not reached, the position is none of ours, or a row cannot be read.
pub fn list(rows: &impl Rows, meta: &Meta, query: &ListQuery) -> Result<Page, ReadError> {
    if let Some(revision) = query.at {
        check_revision(meta, revision)?;
    }
    if query.count_only {
        return count(rows, meta, query);
    }
    let mut ttl = Ttl::of(meta, query);
    let mut range = query.range.clone();
    if let Some(after) = &query.after {
        let position = Position::decode(after).map_err(|_malformed| ReadError::BadCursor)?;
        ttl = position.ttl;
        position.narrow(&mut range, query.reverse);
    }
    let mut walk = Walk::open(rows, meta, range, query.reverse, query.at);
    let mut filling = Filling::new(query, ttl, query.at.unwrap_or(meta.revision));
    while let Some((key, row)) = walk.next()? {
        let more = match filling.group(&key) {
            Some(group) => {
                walk.pass(&group)?;
                filling.push_prefix(group)
            }
            None => filling.push_item(key, &row)?,
        };
        if !more {
            break;
        }
    }
    Ok(filling.page)
}

fn count(rows: &impl Rows, meta: &Meta, query: &ListQuery) -> Result<Page, ReadError> {
    let revision = query.at.unwrap_or(meta.revision);
    let mut page = Page { revision, ..Page::default() };
    if revision == meta.revision && query.range == KeyRange::all() {
        page.count = meta.keys;
        return Ok(page);
    }
    let mut walk = Walk::open(rows, meta, query.range.clone(), query.reverse, query.at);
    while walk.next()?.is_some() {
        page.count += 1;
    }
    Ok(page)
}

/// A page in the making.
struct Filling<'q> {
    query: &'q ListQuery,
    /// Where in a key the search for the separator begins: behind the range's prefix.
    group_from: usize,
    ttl: Ttl,
    bytes: u64,
    page: Page,
    /// The last thing shown.
    last: Option<(Shown, Bytes)>,
}

impl<'q> Filling<'q> {
    fn new(query: &'q ListQuery, ttl: Ttl, revision: u64) -> Self {
        let group_from = query.range.as_prefix().map_or(0, Bytes::len);
        let page = Page { revision, ..Page::default() };
        Self { query, group_from, ttl, bytes: 0, page, last: None }
    }

    /// The group that `key` belongs to, if it does.
    fn group(&self, key: &Bytes) -> Option<Bytes> {
        let separator = self.query.separator.as_ref().filter(|separator| !separator.is_empty())?;
        let behind = key.get(self.group_from..)?;
        let at = behind.windows(separator.len()).position(|window| window == &separator[..])?;
        Some(key.slice(..self.group_from + at + separator.len()))
    }

    /// Shows an item, if there is room. Says whether the page goes on.
    fn push_item(&mut self, key: Bytes, row: &Bytes) -> Result<bool, StoreError> {
        if self.is_full() {
            self.end();
            return Ok(false);
        }
        let record = Record::of_row(&key, row)?;
        let mut item = match self.ttl {
            Ttl::AtEvent => record.into_item_at_event(key),
            Ttl::LeftAt(clock_ms) => record.into_item(key, clock_ms),
        };
        if self.query.keys_only {
            item.value = Bytes::new();
        }
        if !self.take(item.charge()) {
            return Ok(false);
        }
        self.last = Some((Shown::Key, item.key.clone()));
        self.page.items.push(item);
        Ok(true)
    }

    fn push_prefix(&mut self, group: Bytes) -> bool {
        if self.is_full() {
            self.end();
            return false;
        }
        if !self.take(length(group.len()) + ITEM_BYTES_FLAT) {
            return false;
        }
        self.last = Some((Shown::Group, group.clone()));
        self.page.prefixes.push(group);
        true
    }

    fn is_full(&self) -> bool {
        self.query.limit > 0 && self.page.count == u64::from(self.query.limit)
    }

    /// Takes room for one more thing, or ends the page. The first always has room.
    fn take(&mut self, bytes: u64) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        if self.query.bytes_max > 0 && bytes > self.query.bytes_max && self.page.count > 0 {
            self.end();
            return false;
        }
        self.bytes = bytes;
        self.page.count += 1;
        true
    }

    /// There is more than this page shows.
    fn end(&mut self) {
        let ttl = self.ttl;
        let last = self.last.take();
        self.page.next = last.map(|(shown, bytes)| Position { shown, bytes, ttl }.encode());
    }
}

/// Which `ttl_ms` the records of a list show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ttl {
    /// What was left at the event that made the record.
    AtEvent,
    /// What is left at this cluster time.
    LeftAt(u64),
}

impl Ttl {
    fn of(meta: &Meta, query: &ListQuery) -> Self {
        if query.at.is_some() { Self::AtEvent } else { Self::LeftAt(meta.clock_ms) }
    }
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    shown: Shown,
    bytes: Bytes,
    /// All pages of a list show the same.
    ttl: Ttl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Key,
    Group,
}

impl Position {
    fn encode(&self) -> Bytes {
        let mut to = Vec::with_capacity(16 + self.bytes.len());
        to.push(match self.shown {
            Shown::Key => 1,
            Shown::Group => 2,
        });
        to.put_optional(match self.ttl {
            Ttl::AtEvent => None,
            Ttl::LeftAt(clock_ms) => Some(clock_ms),
        });
        to.extend_from_slice(&self.bytes);
        to.into()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes, "cursor");
        let shown = match from.u8()? {
            1 => Shown::Key,
            2 => Shown::Group,
            _ => return from.malformed(),
        };
        let ttl = from.optional()?.map_or(Ttl::AtEvent, Ttl::LeftAt);
        let bytes = from.tail();
        if bytes.is_empty() { from.malformed() } else { Ok(Self { shown, bytes, ttl }) }
    }

    /// Leaves what lies behind the position.
    fn narrow(&self, range: &mut KeyRange, reverse: bool) {
        if reverse {
            let end = range
                .end
                .take()
                .map_or_else(|| self.bytes.clone(), |end| end.min(self.bytes.clone()));
            range.end = Some(end);
            return;
        }
        let behind = match self.shown {
            Shown::Key => Some(schema::key_after(&self.bytes)),
            Shown::Group => schema::prefix_end(&self.bytes),
        };
        match behind {
            Some(behind) => range.start = Bytes::from(behind).max(range.start.clone()),
            None => range.end = Some(range.start.clone()),
        }
    }
}
