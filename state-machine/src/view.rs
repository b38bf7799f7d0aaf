//! A frozen state that reads are answered from.
//!
//! ```text
//!   View = frozen rows of the cold tier + the meta of the same moment + the hot tier they belong to
//!
//!   get      hot, else the frozen rows (and then the record is hot)
//!   list …   the frozen rows alone: a scan would push every hot record out
//! ```
//! The apply thread publishes a new one after each group, so a View is always between two groups:
//! nobody sees half a batch, or a record newer than the revision that is told with it. Holding one
//! pins what is overwritten meanwhile, in memory and on disk: hold it for one request.

use std::sync::Arc;

use bytes::Bytes;

use crate::changes::{self, Event};
use crate::digest::Digest;
use crate::error::{ReadError, StoreError};
use crate::generation::Frozen;
use crate::hot::{Found, HotTier};
use crate::meta::Meta;
use crate::read::{self, ListQuery, Page};
use crate::record::Record;
use crate::reply::Item;
use crate::rows::{RowIter, Rows};
use crate::schema::{self, table};
use crate::settings::Settings;
use crate::types::LogId;

/// Where a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In memory, as a record.
    Hot,
    /// In fjall.
    Cold,
}

/// One frozen state; see the module's text.
pub struct View {
    rows: Frozen,
    hot: Arc<HotTier>,
    /// The group after which it was published: what the hot tier's stamps are compared with.
    stamp: u64,
    meta: Arc<Meta>,
}

impl View {
    pub(crate) fn new(rows: Frozen, hot: Arc<HotTier>, stamp: u64, meta: Arc<Meta>) -> Self {
        Self { rows, hot, stamp, meta }
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.meta.revision
    }

    /// The oldest revision that can still be read.
    #[must_use]
    pub fn oldest_revision(&self) -> u64 {
        self.meta.oldest_revision
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> Option<LogId> {
        self.meta.applied
    }

    /// Cluster time in milliseconds.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        self.meta.clock_ms
    }

    /// The cluster's identity, 0 before it is formed.
    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.meta.cluster_id
    }

    /// The replicated settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.meta.settings
    }

    /// Everything the meta row says.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The hash of the whole replicated state, kept incrementally: equal on all nodes at an equal
    /// applied index.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.meta.digest.state_hash(self.meta.revision)
    }

    /// The same hash from the rows themselves. Reads the whole store: minutes on a large one.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn scan_digest(&self) -> Result<u128, StoreError> {
        Ok(Digest::scan(&self.rows, &self.meta)?.state_hash(self.meta.revision))
    }

    /// The record, if the hot tier knows at this View whether there is one (`Some(None)`: there is
    /// none). Never reads a disk and never waits.
    ///
    /// A row that does not decode counts as unknown: [`View::get`] reports it.
    #[must_use]
    pub fn get_hot(&self, key: &[u8]) -> Option<Option<Item>> {
        match self.hot.get(key, self.stamp)? {
            Found::Absent => Some(None),
            Found::Row(row) => self.item(key, &row).ok().map(Some),
        }
    }

    /// The record, and where it was found. May read a disk, or wait for another reader of the same
    /// key: on a blocking thread after a miss of [`View::get_hot`].
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<(Option<Item>, Tier), ReadError> {
        let row_key = schema::record_key(self.meta.epoch, key);
        let (row, held) = self.hot.get_or_load(key, self.stamp, || self.rows.get(&row_key))?;
        let item = row.map(|row| self.item(key, &row)).transpose()?;
        Ok((item, if held { Tier::Hot } else { Tier::Cold }))
    }

    /// The record as it was at `revision`. May read a disk.
    ///
    /// # Errors
    /// When that revision is no longer kept or not reached yet, or a row cannot be read.
    pub fn get_at(&self, key: &[u8], revision: u64) -> Result<Option<Item>, ReadError> {
        read::get_at(&self.rows, &self.meta, key, revision)
    }

    /// One page of records. Reads a disk; promotes nothing.
    ///
    /// # Errors
    /// As [`View::get_at`], and for a cursor position that no list gave.
    pub fn list(&self, query: &ListQuery) -> Result<Page, ReadError> {
        read::list(&self.rows, &self.meta, query)
    }

    /// The earliest deadline, in milliseconds of cluster time. May read a disk.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn first_deadline(&self) -> Result<Option<u64>, StoreError> {
        read::first_deadline(&self.rows, &self.meta)
    }

    /// The events after revision `since`, whole revisions, until there are `limit` of them. Reads a
    /// disk.
    ///
    /// # Errors
    /// When `since` is no longer kept, or a row cannot be read.
    pub fn changes(&self, since: u64, limit: u32) -> Result<Vec<Event>, ReadError> {
        changes::changes(&self.rows, &self.meta, since, limit)
    }

    /// The record that an event left behind, if it left one. Reads a disk.
    ///
    /// # Errors
    /// When the event is no longer kept, or a row cannot be read.
    pub fn event_record(&self, event: &Event) -> Result<Option<Item>, ReadError> {
        changes::record(&self.rows, &self.meta, event)
    }

    /// The record that an event replaced, if there was one. Reads a disk.
    ///
    /// # Errors
    /// When it is no longer kept, or a row cannot be read.
    pub fn event_prev(&self, event: &Event) -> Result<Option<Item>, ReadError> {
        changes::prev(&self.rows, &self.meta, event)
    }

    pub(crate) fn rows(&self) -> &Frozen {
        &self.rows
    }

    pub(crate) fn shared_meta(&self) -> &Arc<Meta> {
        &self.meta
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    pub(crate) fn hot(&self) -> &Arc<HotTier> {
        &self.hot
    }

    fn item(&self, key: &[u8], row: &Bytes) -> Result<Item, StoreError> {
        let record = Record::decode(row)
            .map_err(|malformed| StoreError::corrupt("record row", key, malformed))?;
        Ok(record.into_item(Bytes::copy_from_slice(key), self.meta.clock_ms))
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("applied", &self.meta.applied)
            .field("revision", &self.meta.revision)
            .finish_non_exhaustive()
    }
}

impl Rows for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Frozen::get(self, key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        let rows = self.raw_scan(from, to).map(|row| {
            let (key, row) = row?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&row)))
        });
        if reverse { Box::new(rows.rev()) } else { Box::new(rows) }
    }
}

/// What apply reads: records from the hot tier where it knows them, all else from the frozen rows.
impl Rows for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let start = schema::epoch_start(table::RECORDS, self.meta.epoch);
        let held = key.strip_prefix(&*start).and_then(|key| self.hot.peek(key, self.stamp));
        match held {
            Some(Found::Row(row)) => Ok(Some(row)),
            Some(Found::Absent) => Ok(None),
            None => self.rows.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, reverse: bool) -> RowIter<'_> {
        Rows::scan(&self.rows, from, to, reverse)
    }
}
