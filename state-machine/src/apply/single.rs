//! Commands on one key.

use super::write::{Content, Place};
use super::{Group, Stop};
use crate::change::Kind;
use crate::command::{Condition, Delete, Put, TagMatch, Touch};
use crate::meta::Meta;
use crate::record::Record;
use crate::reply::{Item, Outcome, Refusal};
use crate::rows::Rows;

impl<R: Rows> Group<'_, R> {
    pub(super) fn put(&mut self, put: Put) -> Result<Outcome, Stop> {
        let place = self.find(&put.key)?;
        let expires_ms = self.expires_ms(put.deadline)?;
        check_condition(&put.condition, &place)?;
        let growth = Growth::of_put(&place, put.value.len());
        growth.check(&self.meta)?;
        let created = place.found.is_none();
        let prev = if put.prev { self.item(&place) } else { None };
        let mut step = self.step();
        self.put_record(&mut step, place, Content { value: put.value, expires_ms });
        self.end(&step);
        Ok(Outcome::Put { created, prev })
    }

    pub(super) fn touch(&mut self, touch: &Touch) -> Result<Outcome, Stop> {
        let place = self.find(&touch.key)?;
        if place.found.is_none() {
            return Err(Refusal::NotFound.into());
        }
        let expires_ms = self.expires_ms(touch.deadline)?;
        check_condition(&touch.condition, &place)?;
        let record = self.touch_record(place, expires_ms).ok_or(Refusal::NotFound)?;
        let item = record.into_item(touch.key.clone(), self.meta.clock_ms);
        Ok(Outcome::Touched { item })
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Outcome, Stop> {
        let place = self.find(&delete.key)?;
        check_condition(&delete.condition, &place)?;
        let prev = if delete.prev { self.item(&place) } else { None };
        let mut step = self.step();
        let deleted = self.remove_record(&mut step, place, Kind::Delete);
        self.end(&step);
        Ok(Outcome::Deleted { deleted: u64::from(deleted), prev: prev.into_iter().collect() })
    }

    /// The record at a place as a reader sees it now.
    pub(super) fn item(&self, place: &Place) -> Option<Item> {
        let record: Record = place.found.as_ref()?.record.clone();
        Some(record.into_item(place.key.clone(), self.meta.clock_ms))
    }
}

/// Says whether the condition holds of what is at the place, as RFC 9110 reads it.
fn check_condition(condition: &Condition, place: &Place) -> Result<(), Refusal> {
    let mod_revision = place.found.as_ref().map(|found| found.record.mod_revision);
    let matches = |tags: &TagMatch| match (tags, mod_revision) {
        (_, None) => false,
        (TagMatch::Any, Some(_)) => true,
        (TagMatch::Revisions(revisions), Some(revision)) => revisions.contains(&revision),
    };
    let holds = condition.if_match.as_ref().is_none_or(matches)
        && !condition.if_none_match.as_ref().is_some_and(matches);
    if holds {
        return Ok(());
    }
    Err(Refusal::PreconditionFailed { mod_revision: mod_revision.unwrap_or(0) })
}

/// By how much a change fills the store. What does not fill it further is never refused for its quota.
pub(super) struct Growth {
    keys: u64,
    bytes: u64,
}

impl Growth {
    fn of_put(place: &Place, value_bytes: usize) -> Self {
        let value = crate::codec::length(value_bytes);
        let key = crate::codec::length(place.key.len());
        match &place.found {
            Some(found) => {
                let old = crate::codec::length(found.record.value.len());
                Self { keys: 0, bytes: value.saturating_sub(old) }
            }
            None => Self { keys: 1, bytes: key + value },
        }
    }

    /// From one state to another that is already made.
    pub(super) fn check_between(before: &Meta, after: &Meta) -> Result<(), Refusal> {
        let growth = Self {
            keys: after.keys.saturating_sub(before.keys),
            bytes: after.bytes.saturating_sub(before.bytes),
        };
        growth.check(before)
    }

    /// Whether the store, as it is before the change, has room for it.
    fn check(&self, before: &Meta) -> Result<(), Refusal> {
        let beyond = |max: Option<u64>, held: u64, growth: u64| {
            max.filter(|max| growth > 0 && held.saturating_add(growth) > *max)
        };
        let settings = &before.settings;
        let limit = beyond(settings.keys_max, before.keys, self.keys)
            .or_else(|| beyond(settings.quota_bytes, before.bytes, self.bytes));
        limit.map_or(Ok(()), |limit| Err(Refusal::QuotaExceeded { limit }))
    }
}
