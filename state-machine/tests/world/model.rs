//! The rules said once more, as plainly as possible: whole copies of a small map, no rows, no groups.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftmap_state_machine::change::Kind;
use raftmap_state_machine::command::{
    CompareOp, Condition, Deadline, KeyRange, Op, TagMatch, Target, Txn, TxnOp,
};
use raftmap_state_machine::reply::{Item, Outcome, Refusal, TxnResult};
use raftmap_state_machine::settings::Settings;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) version: u64,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) event_ttl_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) kind: Kind,
    pub(crate) key: Bytes,
    pub(crate) record: Option<Item>,
    pub(crate) prev: Option<Item>,
}

pub(crate) type Keys = BTreeMap<Bytes, Entry>;

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) keys: Keys,
    pub(crate) revision: u64,
    pub(crate) oldest_revision: u64,
    pub(crate) clock_ms: u64,
    pub(crate) settings: Settings,
    /// The keys at each revision that can be read.
    pub(crate) at: BTreeMap<u64, Keys>,
    pub(crate) events: Vec<Seen>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            keys: Keys::new(),
            revision: 1,
            oldest_revision: 1,
            clock_ms: 0,
            settings: Settings::default(),
            at: BTreeMap::from([(1, Keys::new())]),
            events: Vec::new(),
        }
    }
}

pub(crate) fn item(key: &Bytes, entry: &Entry, ttl_ms: Option<u64>) -> Item {
    Item {
        key: key.clone(),
        value: entry.value.clone(),
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
        version: entry.version,
        lease: 0,
        ttl_ms,
    }
}

impl Model {
    pub(crate) fn apply(&mut self, op: &Op, at_ms: u64) -> Outcome {
        self.clock_ms = self.clock_ms.max(at_ms);
        let before = self.clone();
        match self.run(op) {
            Ok(outcome) => {
                let changed = self.events.last().is_some_and(|last| last.revision > self.revision);
                if changed {
                    self.revision += 1;
                    if matches!(op, Op::Clear) {
                        self.at.clear();
                        self.oldest_revision = self.revision;
                    }
                    self.at.insert(self.revision, self.keys.clone());
                } else if !matches!(op, Op::Touch(_)) {
                    assert_eq!(self.keys, before.keys, "no event, no change");
                }
                outcome
            }
            Err(refusal) => {
                *self = before;
                Outcome::Refused(refusal)
            }
        }
    }

    fn run(&mut self, op: &Op) -> Result<Outcome, Refusal> {
        Ok(match op {
            Op::Put(put) => {
                check_deadline(put.deadline)?;
                let expires_ms = self.expires(put.deadline)?;
                self.condition(&put.key, &put.condition)?;
                self.quota(&put.key, put.value.len())?;
                let (created, prev) = self.put(&put.key, &put.value, expires_ms);
                Outcome::Put { created, prev: prev.filter(|_| put.prev) }
            }
            Op::Touch(touch) => {
                check_deadline(touch.deadline)?;
                let Some(found) = self.keys.get(&touch.key) else { return Err(Refusal::NotFound) };
                let mut entry = found.clone();
                entry.expires_ms = self.expires(touch.deadline)?;
                self.condition(&touch.key, &touch.condition)?;
                self.keys.insert(touch.key.clone(), entry);
                Outcome::Touched { item: self.item(&touch.key).ok_or(Refusal::NotFound)? }
            }
            Op::Delete(delete) => {
                self.condition(&delete.key, &delete.condition)?;
                let prev = self.remove(&delete.key, Kind::Delete);
                let deleted = u64::from(prev.is_some());
                Outcome::Deleted {
                    deleted,
                    prev: prev.filter(|_| delete.prev).into_iter().collect(),
                }
            }
            Op::DeleteRange(delete) => {
                let prev = self.remove_range(&delete.range, self.settings.range_delete_max)?;
                let deleted = u64::try_from(prev.len()).unwrap();
                Outcome::Deleted { deleted, prev: if delete.prev { prev } else { Vec::new() } }
            }
            Op::Clear => {
                let deleted = u64::try_from(self.keys.len()).unwrap();
                if deleted > 0 {
                    self.keys.clear();
                    self.events.clear();
                    self.see(Kind::Clear, &Bytes::new(), None, None);
                }
                Outcome::Cleared { deleted }
            }
            Op::Txn(txn) => self.txn(txn)?,
            Op::ExpireDue { max } => {
                let mut due: Vec<_> = self
                    .keys
                    .iter()
                    .filter_map(|(key, entry)| Some((entry.expires_ms?, key.clone())))
                    .filter(|(expires_ms, _)| *expires_ms <= self.clock_ms)
                    .collect();
                due.sort();
                let taken = due.len().min(usize::try_from(*max).unwrap());
                for (_, key) in &due[..taken] {
                    self.remove(key, Kind::Expire);
                }
                let deleted = u64::try_from(taken).unwrap();
                Outcome::Expired { deleted, more: due.len() > taken }
            }
            Op::Tick => Outcome::Nothing,
            Op::Form(form) => {
                self.settings = form.settings.clone();
                Outcome::Formed
            }
        })
    }

    fn txn(&mut self, txn: &Txn) -> Result<Outcome, Refusal> {
        for compare in &txn.compare {
            let ordered = matches!(compare.op, CompareOp::Lt | CompareOp::Gt);
            if ordered && matches!(compare.target, Target::Exists(_)) {
                let detail = "`exists` has no order".to_owned();
                return Err(Refusal::Invalid { field: "op".to_owned(), detail });
            }
        }
        for op in txn.success.iter().chain(&txn.failure) {
            if let TxnOp::Put { deadline, .. } = op {
                check_deadline(*deadline)?;
            }
        }
        let succeeded = txn.compare.iter().all(|compare| {
            let entry = self.keys.get(&compare.key);
            let number = |of: fn(&Entry) -> u64| entry.map_or(0, of);
            let order = match &compare.target {
                Target::Value(operand) => {
                    let Some(entry) = entry else { return false };
                    entry.value.cmp(operand)
                }
                Target::Version(operand) => number(|entry| entry.version).cmp(operand),
                Target::CreateRevision(operand) => {
                    number(|entry| entry.create_revision).cmp(operand)
                }
                Target::ModRevision(operand) => number(|entry| entry.mod_revision).cmp(operand),
                Target::Lease(operand) => 0.cmp(operand),
                Target::Exists(operand) => entry.is_some().cmp(operand),
            };
            match compare.op {
                CompareOp::Eq => order.is_eq(),
                CompareOp::Ne => order.is_ne(),
                CompareOp::Lt => order.is_lt(),
                CompareOp::Gt => order.is_gt(),
            }
        });
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let before = (self.keys.len(), self.bytes());
        let mut left = self.settings.range_delete_max;
        let mut results = Vec::new();
        for op in ops {
            results.push(self.txn_op(op, &mut left)?);
        }
        let after = (self.keys.len(), self.bytes());
        if let Some(limit) = self.settings.keys_max
            && after.0 > before.0
            && u64::try_from(after.0).unwrap() > limit
        {
            return Err(Refusal::QuotaExceeded { limit });
        }
        if let Some(limit) = self.settings.quota_bytes
            && after.1 > before.1
            && after.1 > limit
        {
            return Err(Refusal::QuotaExceeded { limit });
        }
        Ok(Outcome::Txn { succeeded, results })
    }

    fn txn_op(&mut self, op: &TxnOp, left: &mut u64) -> Result<TxnResult, Refusal> {
        Ok(match op {
            TxnOp::Put { key, value, deadline, prev: wanted } => {
                let expires_ms = self.expires(*deadline)?;
                let (created, prev) = self.put(key, value, expires_ms);
                TxnResult::Put { created, prev: prev.filter(|_| *wanted) }
            }
            TxnOp::Delete { range, prev: wanted } => {
                let prev = self.remove_range(range, *left)?;
                let deleted = u64::try_from(prev.len()).unwrap();
                *left -= deleted;
                TxnResult::Deleted { deleted, prev: if *wanted { prev } else { Vec::new() } }
            }
            TxnOp::Get { key } => TxnResult::Got(self.item(key)),
            TxnOp::Range(read) => {
                let mut items: Vec<_> = self.in_range(&read.range);
                let total = u64::try_from(items.len()).unwrap();
                if read.count_only {
                    if read.range != KeyRange::all() {
                        let limit = self.settings.range_delete_max;
                        *left = left.checked_sub(total).ok_or(Refusal::RangeTooLarge { limit })?;
                    }
                    return Ok(TxnResult::Range { items: Vec::new(), count: total });
                }
                if read.reverse {
                    items.reverse();
                }
                if read.limit > 0 {
                    items.truncate(usize::try_from(read.limit).unwrap());
                }
                if read.keys_only {
                    items.iter_mut().for_each(|item| item.value = Bytes::new());
                }
                TxnResult::Range { count: u64::try_from(items.len()).unwrap(), items }
            }
        })
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, expires_ms: Option<u64>) -> (bool, Option<Item>) {
        let prev = self.item(key);
        let old = self.keys.get(key);
        let revision = self.revision + 1;
        let entry = Entry {
            value: value.clone(),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
            expires_ms,
            event_ttl_ms: expires_ms.map(|expires_ms| expires_ms - self.clock_ms),
        };
        let record = item(key, &entry, entry.event_ttl_ms);
        self.keys.insert(key.clone(), entry);
        self.see(Kind::Put, key, Some(record), prev.clone());
        (prev.is_none(), prev)
    }

    fn remove(&mut self, key: &Bytes, kind: Kind) -> Option<Item> {
        let prev = self.item(key)?;
        self.keys.remove(key);
        self.see(kind, key, None, Some(prev.clone()));
        Some(prev)
    }

    fn remove_range(&mut self, range: &KeyRange, max: u64) -> Result<Vec<Item>, Refusal> {
        let items = self.in_range(range);
        if u64::try_from(items.len()).unwrap() > max {
            return Err(Refusal::RangeTooLarge { limit: self.settings.range_delete_max });
        }
        items.iter().for_each(|item| drop(self.remove(&item.key, Kind::Delete)));
        Ok(items)
    }

    fn see(&mut self, kind: Kind, key: &Bytes, record: Option<Item>, prev: Option<Item>) {
        self.events.push(Seen {
            revision: self.revision + 1,
            kind,
            key: key.clone(),
            record,
            prev,
        });
    }

    fn item(&self, key: &Bytes) -> Option<Item> {
        let entry = self.keys.get(key)?;
        let ttl_ms = entry.expires_ms.map(|expires_ms| expires_ms.saturating_sub(self.clock_ms));
        Some(item(key, entry, ttl_ms))
    }

    pub(crate) fn in_range(&self, range: &KeyRange) -> Vec<Item> {
        let keys = self.keys.keys().filter(|key| range.contains(key));
        keys.filter_map(|key| self.item(key)).collect()
    }

    fn expires(&self, deadline: Deadline) -> Result<Option<u64>, Refusal> {
        match deadline {
            Deadline::Default => Ok(self.settings.default_ttl_ms.map(|ms| self.clock_ms + ms)),
            Deadline::None => Ok(None),
            Deadline::Ttl(ms) => Ok(Some(self.clock_ms + ms)),
            Deadline::Lease(_) => Err(Refusal::LeaseNotFound),
        }
    }

    fn condition(&self, key: &Bytes, condition: &Condition) -> Result<(), Refusal> {
        let mod_revision = self.keys.get(key).map_or(0, |entry| entry.mod_revision);
        let matches = |tags: &TagMatch| match tags {
            TagMatch::Any => mod_revision > 0,
            TagMatch::Revisions(revisions) => mod_revision > 0 && revisions.contains(&mod_revision),
        };
        let fails = condition.if_match.as_ref().is_some_and(|tags| !matches(tags))
            || condition.if_none_match.as_ref().is_some_and(matches);
        if fails { Err(Refusal::PreconditionFailed { mod_revision }) } else { Ok(()) }
    }

    fn quota(&self, key: &Bytes, value_bytes: usize) -> Result<(), Refusal> {
        let held = self.keys.get(key);
        if let Some(limit) = self.settings.keys_max
            && held.is_none()
            && u64::try_from(self.keys.len()).unwrap() >= limit
        {
            return Err(Refusal::QuotaExceeded { limit });
        }
        if let Some(limit) = self.settings.quota_bytes {
            let before = held.map_or(0, |entry| key.len() + entry.value.len());
            let after = self.bytes() - u64::try_from(before).unwrap()
                + u64::try_from(key.len() + value_bytes).unwrap();
            if after > self.bytes() && after > limit {
                return Err(Refusal::QuotaExceeded { limit });
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let bytes: usize = self.keys.iter().map(|(key, entry)| key.len() + entry.value.len()).sum();
        u64::try_from(bytes).unwrap()
    }
}

fn check_deadline(deadline: Deadline) -> Result<(), Refusal> {
    let (field, detail) = match deadline {
        Deadline::Ttl(0) => ("ttl", "a TTL is more than 0"),
        Deadline::Lease(0) => ("lease", "0 is no lease"),
        Deadline::Default | Deadline::None | Deadline::Ttl(_) | Deadline::Lease(_) => return Ok(()),
    };
    Err(Refusal::Invalid { field: field.to_owned(), detail: detail.to_owned() })
}
