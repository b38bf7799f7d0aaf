//! Commands on many keys: a range goes, due keys go. All keys of one command have one revision.

use bytes::Bytes;

use super::write::Place;
use super::{Group, SUPERSEDED_BYTES_MAX, Stop};
use crate::change::Kind;
use crate::codec::length;
use crate::command::{DeleteRange, KeyRange};
use crate::error::StoreError;
use crate::record::Record;
use crate::reply::{Outcome, Refusal};
use crate::rows::{Row, Rows};
use crate::schema::{self, table};

impl<R: Rows> Group<'_, R> {
    pub(super) fn delete_range(&mut self, delete: &DeleteRange) -> Result<Outcome, Stop> {
        let places = self.places(&delete.range, self.meta.settings.range_delete_max)?;
        let mut prev = Vec::new();
        if delete.prev {
            prev.extend(places.iter().filter_map(|place| self.item(place)));
            let limit = self.meta.settings.reply_bytes_max;
            if prev.iter().map(crate::reply::Item::charge).sum::<u64>() > limit {
                return Err(Refusal::RangeTooLarge { limit }.into());
            }
        }
        let deleted = length(places.len());
        let mut step = self.step();
        for place in places {
            self.remove_record(&mut step, place, Kind::Delete);
        }
        self.end(&step);
        Ok(Outcome::Deleted { deleted, prev })
    }

    /// The live keys of `range`, or a refusal if they are more than `max` or weigh more than one command may move.
    pub(super) fn places(&self, range: &KeyRange, max: u64) -> Result<Vec<Place>, Stop> {
        let (from, to) = schema::record_bounds(self.meta.epoch, range);
        let mut places = Vec::new();
        let mut bytes = 0;
        for row in self.overlay.scan(&from, Some(&to), false) {
            let (row_key, row) = row?;
            if length(places.len()) == max {
                let limit = self.meta.settings.range_delete_max;
                return Err(Refusal::RangeTooLarge { limit }.into());
            }
            bytes += length(row.len());
            if bytes > SUPERSEDED_BYTES_MAX {
                return Err(Refusal::RangeTooLarge { limit: SUPERSEDED_BYTES_MAX }.into());
            }
            places.push(Self::place(row_key, row)?);
        }
        Ok(places)
    }

    /// Removes what is due, at most `max` keys and never more than a range delete may.
    pub(super) fn expire_due(&mut self, max: u32) -> Result<Outcome, Stop> {
        let max = u64::from(max).min(self.meta.settings.range_delete_max);
        let Due { places, orphans, rest } = self.due(max)?;
        let deleted = length(places.len());
        let mut step = self.step();
        for place in places {
            self.remove_record(&mut step, place, Kind::Expire);
        }
        self.end(&step);
        for row_key in orphans {
            self.drop_deadline(row_key);
        }
        let more = rest.is_some();
        self.meta.deadlines_from = rest.unwrap_or_else(|| self.after_clock());
        Ok(Outcome::Expired { deleted, more })
    }

    /// Moves the low mark of the deadlines over what was removed since: where keys are touched all the time and none is
    /// ever due, nothing else does.
    pub(super) fn tick(&mut self) -> Result<Outcome, Stop> {
        let first =
            if self.meta.deadlines == 0 { None } else { self.deadlines()?.next().transpose()? };
        let after_clock = self.after_clock();
        let mark = match first {
            Some((row_key, _)) => schema::deadline_suffix(&row_key).min(after_clock),
            None => after_clock,
        };
        // It may be the slice of a larger buffer, and stays.
        self.meta.deadlines_from = Bytes::copy_from_slice(&mark);
        Ok(Outcome::Nothing)
    }

    /// The deadline rows that are due, in order, as far as one command may go.
    fn due(&self, max: u64) -> Result<Due, StoreError> {
        let mut due = Due { places: Vec::new(), orphans: Vec::new(), rest: None };
        let (mut rows, mut bytes) = (0, 0);
        for row in self.deadlines()? {
            let (row_key, _) = row?;
            let (expires_ms, key) = schema::split_deadline_key(&row_key)
                .ok_or_else(|| StoreError::corrupt("deadline", &row_key, "short key"))?;
            if expires_ms > self.meta.clock_ms {
                break;
            }
            if rows == max || bytes > SUPERSEDED_BYTES_MAX {
                due.rest = Some(Bytes::copy_from_slice(&schema::deadline_suffix(&row_key)));
                break;
            }
            rows += 1;
            match self.holder(&key, expires_ms)? {
                Some((record_key, record_row)) => {
                    bytes += length(record_row.len());
                    due.places.push(Self::place(record_key, record_row)?);
                }
                None => due.orphans.push(row_key),
            }
        }
        Ok(due)
    }

    /// The record that ends at `expires_ms`, if the key has one.
    fn holder(&self, key: &[u8], expires_ms: u64) -> Result<Option<Row>, StoreError> {
        let row_key = Bytes::from(schema::record_key(self.meta.epoch, key));
        let Some(row) = self.overlay.get(&row_key)? else { return Ok(None) };
        let record = Record::of_row(&row_key, &row)?;
        Ok((record.expires_ms == Some(expires_ms)).then_some((row_key, row)))
    }

    fn deadlines(&self) -> Result<crate::rows::RowIter<'_>, StoreError> {
        let epoch = self.meta.epoch;
        let from = schema::deadline_from_suffix(epoch, &self.meta.deadlines_from);
        let to = schema::epoch_end(table::DEADLINES, epoch);
        Ok(self.overlay.scan(&from, Some(&to), false))
    }

    /// The mark behind everything that is due. Every later deadline lies behind it: a TTL is at least 1 ms.
    fn after_clock(&self) -> Bytes {
        Bytes::copy_from_slice(&self.meta.clock_ms.saturating_add(1).to_be_bytes())
    }
}

/// What one command takes of the due deadlines.
struct Due {
    /// The keys that end.
    places: Vec<Place>,
    /// Rows whose record ends at another time. None exist, since both change together; one that did must not stay in
    /// front for ever.
    orphans: Vec<Bytes>,
    /// The first row that has to wait for the next command.
    rest: Option<Bytes>,
}
