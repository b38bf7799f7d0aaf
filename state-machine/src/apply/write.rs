//! How a key changes: record, history, deadline and change rows, counts and digest, always together.

use bytes::Bytes;

use super::{Group, Stop};
use crate::change::{Change, Kind, Stamp};
use crate::codec::length;
use crate::command::Deadline;
use crate::error::StoreError;
use crate::record::{self, Record};
use crate::reply::Refusal;
use crate::rows::Rows;
use crate::schema;

/// The revision that a command takes if it changes anything.
pub(super) struct Step {
    revision: u64,
    changes: u32,
}

impl Step {
    /// The stamp of the next change.
    pub(super) fn next(&mut self) -> Stamp {
        let stamp = Stamp { revision: self.revision, sub: self.changes };
        self.changes += 1;
        stamp
    }
}

/// A key, where its record lies, and the record if there is one.
pub(super) struct Place {
    pub(super) key: Bytes,
    row_key: Bytes,
    pub(super) found: Option<Found>,
}

pub(super) struct Found {
    row: Bytes,
    pub(super) record: Record,
}

/// What a put gives a key.
pub(super) struct Content {
    pub(super) value: Bytes,
    pub(super) expires_ms: Option<u64>,
}

impl<R: Rows> Group<'_, R> {
    pub(super) fn step(&self) -> Step {
        Step { revision: self.meta.revision + 1, changes: 0 }
    }

    /// Takes the revision if there was a change.
    pub(super) fn end(&mut self, step: &Step) {
        if step.changes > 0 {
            self.meta.revision = step.revision;
        }
    }

    pub(super) fn find(&mut self, key: &Bytes) -> Result<Place, StoreError> {
        schema::push_record_key(&mut self.arena, self.meta.epoch, key);
        let row_key = self.arena.split().freeze();
        let found = match self.overlay.get(&row_key)? {
            Some(row) => Some(Found { record: Record::of_row(&row_key, &row)?, row }),
            None => None,
        };
        Ok(Place { key: key.clone(), row_key, found })
    }

    /// A place that a scan came by.
    pub(super) fn place(row_key: Bytes, row: Bytes) -> Result<Place, StoreError> {
        let record = Record::of_row(&row_key, &row)?;
        let key = schema::record_user_key(&row_key);
        Ok(Place { key, row_key, found: Some(Found { row, record }) })
    }

    /// When a key with this deadline ends.
    pub(super) fn expires_ms(&self, deadline: Deadline) -> Result<Option<u64>, Refusal> {
        let after = |ttl_ms: u64| self.meta.clock_ms.saturating_add(ttl_ms);
        match deadline {
            Deadline::Default => Ok(self.meta.settings.default_ttl_ms.map(after)),
            Deadline::None => Ok(None),
            Deadline::Ttl(ms) => Ok(Some(after(ms))),
            // No command makes a lease yet, so there is none.
            Deadline::Lease(_) => Err(Refusal::LeaseNotFound),
        }
    }

    /// Sets the key.
    pub(super) fn put_record(&mut self, step: &mut Step, place: Place, content: Content) {
        let stamp = step.next();
        let Place { key, row_key, found } = place;
        let old = found.as_ref().map(|found| &found.record);
        let ttl_ms = content.expires_ms.map(|expires| expires.saturating_sub(self.meta.clock_ms));
        let record = Record {
            create_revision: old.map_or(stamp.revision, |old| old.create_revision),
            mod_revision: stamp.revision,
            mod_sub: stamp.sub,
            version: old.map_or(1, |old| old.version + 1),
            lease: 0,
            expires_ms: content.expires_ms,
            event_ttl_ms: ttl_ms,
            value: content.value,
        };
        let change = Change {
            kind: Kind::Put,
            clock_ms: self.meta.clock_ms,
            key,
            create_revision: record.create_revision,
            version: record.version,
            prev: old.map(stamp_of),
            lease: 0,
            ttl_ms,
            count: 0,
        };
        self.meta.bytes += length(record.value.len());
        self.move_deadline(&change.key, old.and_then(|old| old.expires_ms), record.expires_ms);
        if let Some(found) = &found {
            self.supersede(stamp, &change.key, found);
        } else {
            self.meta.keys += 1;
            self.meta.bytes += length(change.key.len());
        }
        self.push_change(stamp, &change);
        let row = self.record_row(&record);
        self.bytes += length(row_key.len() + row.len());
        self.overlay.set(row_key, found.map(|found| found.row), Some(row));
    }

    /// Removes the key, if there is one. Says whether there was.
    pub(super) fn remove_record(&mut self, step: &mut Step, place: Place, kind: Kind) -> bool {
        let Place { key, row_key, found: Some(found) } = place else { return false };
        let stamp = step.next();
        let change = Change {
            kind,
            clock_ms: self.meta.clock_ms,
            key,
            create_revision: found.record.create_revision,
            version: found.record.version,
            prev: Some(stamp_of(&found.record)),
            lease: 0,
            ttl_ms: None,
            count: 0,
        };
        self.move_deadline(&change.key, found.record.expires_ms, None);
        self.supersede(stamp, &change.key, &found);
        self.meta.keys -= 1;
        self.meta.bytes -= length(change.key.len());
        self.push_change(stamp, &change);
        self.bytes += length(row_key.len());
        self.overlay.set(row_key, Some(found.row), None);
        true
    }

    /// Changes when the key ends, and nothing else. The record as it is then.
    pub(super) fn touch_record(&mut self, place: Place, expires_ms: Option<u64>) -> Option<Record> {
        let Place { key, row_key, found: Some(found) } = place else { return None };
        self.move_deadline(&key, found.record.expires_ms, expires_ms);
        let record = Record { lease: 0, expires_ms, ..found.record };
        let row = self.record_row(&record);
        self.bytes += length(row_key.len() + row.len());
        self.overlay.set(row_key, Some(found.row), Some(row));
        Some(record)
    }

    /// Refuses a command that would move more old records than one may.
    pub(super) fn check_superseded(&self, before: u64) -> Result<(), Stop> {
        if self.superseded - before > super::SUPERSEDED_BYTES_MAX {
            return Err(Refusal::RangeTooLarge { limit: super::SUPERSEDED_BYTES_MAX }.into());
        }
        Ok(())
    }

    pub(super) fn superseded(&self) -> u64 {
        self.superseded
    }

    pub(super) fn push_change(&mut self, stamp: Stamp, change: &Change) {
        self.arena.extend_from_slice(&schema::change_key(stamp.revision, stamp.sub));
        let key = self.arena.split().freeze();
        self.scratch.clear();
        change.encode_into(&mut self.scratch);
        self.arena.extend_from_slice(&self.scratch);
        let row = self.arena.split().freeze();
        self.bytes += length(key.len() + row.len());
        self.changes.push((key, row));
    }

    /// The row of `record`: one allocation of its exact length, one copy of the value.
    fn record_row(&mut self, record: &Record) -> Bytes {
        self.scratch.clear();
        record.encode_header(&mut self.scratch);
        record::join(&[&self.scratch, &record.value])
    }

    /// Moves the version that ends at `stamp` into the history.
    fn supersede(&mut self, stamp: Stamp, key: &[u8], found: &Found) {
        let old = &found.record;
        let (revision, sub) = (old.mod_revision, old.mod_sub);
        schema::push_history_key(&mut self.arena, self.meta.epoch, key, revision, sub);
        let row_key = self.arena.split().freeze();
        let row = record::history_row(stamp.revision, stamp.sub, &found.row);
        self.meta.bytes -= length(old.value.len());
        self.superseded += length(row.len());
        self.bytes += length(row_key.len() + row.len());
        self.history.push((row_key, row));
    }

    /// Keeps the deadline rows in step with the record, and the digest with them.
    fn move_deadline(&mut self, key: &[u8], from_ms: Option<u64>, to_ms: Option<u64>) {
        if from_ms == to_ms {
            return;
        }
        let epoch = self.meta.epoch;
        if let Some(expires_ms) = from_ms {
            schema::push_deadline_key(&mut self.arena, epoch, expires_ms, key);
            let row_key = self.arena.split().freeze();
            self.meta.deadlines -= 1;
            self.meta.digest.remove_record(&row_key, &[]);
            self.overlay.set(row_key, Some(Bytes::new()), None);
        }
        if let Some(expires_ms) = to_ms {
            schema::push_deadline_key(&mut self.arena, epoch, expires_ms, key);
            let row_key = self.arena.split().freeze();
            self.meta.deadlines += 1;
            self.meta.digest.add_record(&row_key, &[]);
            self.bytes += length(row_key.len());
            self.overlay.set(row_key, None, Some(Bytes::new()));
        }
    }

    /// Removes a deadline row that no record stands behind.
    pub(super) fn drop_deadline(&mut self, row_key: Bytes) {
        self.meta.digest.remove_record(&row_key, &[]);
        self.overlay.set(row_key, Some(Bytes::new()), None);
    }
}

fn stamp_of(record: &Record) -> Stamp {
    Stamp { revision: record.mod_revision, sub: record.mod_sub }
}
