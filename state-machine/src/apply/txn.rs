//! Transactions: compare, then run one of two lists, all or nothing.
//!
//! The list runs straight on the overlay, so each operation sees the ones before it, ranges included. What was done is
//! taken back if a later operation is refused.

use bytes::Bytes;

use super::single::Growth;
use super::write::{Content, Step};
use super::{Group, Stop};
use crate::change::Kind;
use crate::codec::length;
use crate::command::{Compare, CompareOp, Deadline, KeyRange, RangeOp, Target, Txn, TxnOp};
use crate::error::StoreError;
use crate::record::Record;
use crate::reply::{Item, Outcome, Refusal, TxnResult};
use crate::rows::Rows;
use crate::schema;

impl<R: Rows> Group<'_, R> {
    pub(super) fn txn(&mut self, txn: Txn) -> Result<Outcome, Stop> {
        let succeeded = self.all_hold(&txn.compare)?;
        let ops = if succeeded { txn.success } else { txn.failure };
        let saved = (self.meta.clone(), self.history.len(), self.changes.len(), self.bytes);
        self.overlay.begin();
        match self.run_all(ops) {
            Ok(results) => {
                self.overlay.keep();
                Ok(Outcome::Txn { succeeded, results })
            }
            Err(stop) => {
                self.overlay.take_back();
                let (meta, history, changes, bytes) = saved;
                self.meta = meta;
                self.history.truncate(history);
                self.changes.truncate(changes);
                self.bytes = bytes;
                Err(stop)
            }
        }
    }

    fn all_hold(&mut self, compares: &[Compare]) -> Result<bool, StoreError> {
        for compare in compares {
            let place = self.find(&compare.key)?;
            if !holds(compare, place.found.as_ref().map(|found| &found.record)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn run_all(&mut self, ops: Vec<TxnOp>) -> Result<Vec<TxnResult>, Stop> {
        let before = self.meta.clone();
        let superseded = self.superseded();
        let mut budget = Budget::new(&before.settings);
        let mut step = self.step();
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(self.run(&mut step, &mut budget, op)?);
            self.check_superseded(superseded)?;
        }
        // The quota is judged by what the whole transaction leaves, not by its steps.
        Growth::check_between(&before, &self.meta)?;
        self.end(&step);
        Ok(results)
    }

    fn run(&mut self, step: &mut Step, budget: &mut Budget, op: TxnOp) -> Result<TxnResult, Stop> {
        match op {
            TxnOp::Put { key, value, deadline, prev } => {
                self.txn_put(step, budget, (key, value, deadline), prev)
            }
            TxnOp::Delete { range, prev } => self.txn_delete(step, budget, &range, prev),
            TxnOp::Get { key } => {
                let place = self.find(&key)?;
                let item = self.item(&place);
                item.iter().try_for_each(|item| budget.reply(item))?;
                Ok(TxnResult::Got(item))
            }
            TxnOp::Range(read) => self.txn_range(budget, &read),
        }
    }

    fn txn_put(
        &mut self,
        step: &mut Step,
        budget: &mut Budget,
        (key, value, deadline): (Bytes, Bytes, Deadline),
        prev: bool,
    ) -> Result<TxnResult, Stop> {
        let expires_ms = self.expires_ms(deadline)?;
        let place = self.find(&key)?;
        let created = place.found.is_none();
        let prev = if prev { self.item(&place) } else { None };
        prev.iter().try_for_each(|item| budget.reply(item))?;
        self.put_record(step, place, Content { value, expires_ms });
        Ok(TxnResult::Put { created, prev })
    }

    fn txn_delete(
        &mut self,
        step: &mut Step,
        budget: &mut Budget,
        range: &KeyRange,
        prev: bool,
    ) -> Result<TxnResult, Stop> {
        let places = match range.as_single() {
            Some(key) => {
                let place = self.find(&key)?;
                budget.visit(u64::from(place.found.is_some()))?;
                Vec::from_iter(place.found.is_some().then_some(place))
            }
            None => {
                let places = self.places(range, budget.keys_left())?;
                budget.visit(length(places.len()))?;
                places
            }
        };
        let mut items = Vec::new();
        if prev {
            items.extend(places.iter().filter_map(|place| self.item(place)));
            items.iter().try_for_each(|item| budget.reply(item))?;
        }
        let deleted = length(places.len());
        for place in places {
            self.remove_record(step, place, Kind::Delete);
        }
        Ok(TxnResult::Deleted { deleted, prev: items })
    }

    fn txn_range(&self, budget: &mut Budget, read: &RangeOp) -> Result<TxnResult, Stop> {
        if read.count_only && read.range == KeyRange::all() {
            return Ok(TxnResult::Range { items: Vec::new(), count: self.meta.keys });
        }
        let (from, to) = schema::record_bounds(self.meta.epoch, &read.range);
        let limit =
            if read.limit == 0 || read.count_only { u64::MAX } else { u64::from(read.limit) };
        let (mut items, mut count) = (Vec::new(), 0);
        for row in self.overlay.scan(&from, Some(&to), read.reverse) {
            let (row_key, row) = row?;
            if count == limit {
                break;
            }
            count += 1;
            if read.count_only {
                budget.visit(1)?;
                continue;
            }
            let record = Record::of_row(&row_key, &row)?;
            let key = schema::record_user_key(&row_key);
            let mut item = record.into_item(key, self.meta.clock_ms);
            if read.keys_only {
                item.value = Bytes::new();
            }
            budget.reply(&item)?;
            items.push(item);
        }
        Ok(TxnResult::Range { items, count })
    }
}

/// What is left of a transaction's bounds.
struct Budget {
    reply_bytes: u64,
    reply_bytes_max: u64,
    keys: u64,
    keys_max: u64,
}

impl Budget {
    fn new(settings: &crate::settings::Settings) -> Self {
        Self {
            reply_bytes: settings.reply_bytes_max,
            reply_bytes_max: settings.reply_bytes_max,
            keys: settings.range_delete_max,
            keys_max: settings.range_delete_max,
        }
    }

    /// Takes room in the reply.
    fn reply(&mut self, item: &Item) -> Result<(), Refusal> {
        let limit = self.reply_bytes_max;
        let left = self.reply_bytes.checked_sub(item.charge());
        self.reply_bytes = left.ok_or(Refusal::RangeTooLarge { limit })?;
        Ok(())
    }

    /// Takes keys to delete or to count.
    fn visit(&mut self, keys: u64) -> Result<(), Refusal> {
        let limit = self.keys_max;
        self.keys = self.keys.checked_sub(keys).ok_or(Refusal::RangeTooLarge { limit })?;
        Ok(())
    }

    fn keys_left(&self) -> u64 {
        self.keys
    }
}

fn holds(compare: &Compare, record: Option<&Record>) -> bool {
    let number =
        |of: fn(&Record) -> u64, operand: &u64| ordered(compare.op, &record.map_or(0, of), operand);
    match &compare.target {
        Target::Value(operand) => {
            record.is_some_and(|record| ordered(compare.op, &record.value, operand))
        }
        Target::Version(operand) => number(|record| record.version, operand),
        Target::CreateRevision(operand) => number(|record| record.create_revision, operand),
        Target::ModRevision(operand) => number(|record| record.mod_revision, operand),
        Target::Lease(operand) => number(|record| record.lease, operand),
        Target::Exists(operand) => ordered(compare.op, &record.is_some(), operand),
    }
}

fn ordered<T: Ord>(op: CompareOp, left: &T, right: &T) -> bool {
    match op {
        CompareOp::Eq => left == right,
        CompareOp::Ne => left != right,
        CompareOp::Lt => left < right,
        CompareOp::Gt => left > right,
    }
}
