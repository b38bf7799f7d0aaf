//! A store of plain rows for tests: commands go in, and after each group everything that must always be true is checked.

#![expect(dead_code, reason = "each test binary uses its own part")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

pub(crate) mod model;
pub(crate) mod ops;

use std::collections::BTreeMap;

use bytes::Bytes;
use raftmap_state_machine::apply::{Effects, Group};
use raftmap_state_machine::command::{
    Command, Condition, Deadline, Delete, DeleteRange, Op, Put, Touch, Txn, TxnOp,
};
use raftmap_state_machine::digest::Digest;
use raftmap_state_machine::meta::Meta;
use raftmap_state_machine::read::{self, ListQuery, Page};
use raftmap_state_machine::record::Record;
use raftmap_state_machine::reply::{Item, Reply};
use raftmap_state_machine::schema::{self, table};
use raftmap_state_machine::{KeyRange, LogId, ReadError};

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
    pub(crate) meta: Meta,
    /// Time stamped on the next commands.
    pub(crate) now_ms: u64,
    pub(crate) applied: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { now_ms: 1_000, ..Self::default() }
    }

    /// Applies one command in a group of its own.
    pub(crate) fn apply(&mut self, op: &Op) -> Reply {
        let command = Command::encode(op, self.now_ms);
        self.apply_all(&[command]).remove(0)
    }

    /// Applies one group.
    pub(crate) fn apply_all(&mut self, commands: &[Command]) -> Vec<Reply> {
        let mut group = Group::new(&self.rows, self.meta.clone());
        let mut replies = Vec::new();
        for command in commands {
            self.applied += 1;
            let log_id = LogId { term: 1, node: 1, index: self.applied };
            replies.push(group.apply(log_id, command).unwrap());
        }
        assert_eq!(group.entries(), commands.len());
        let effects = group.finish().unwrap();
        self.take(effects);
        replies
    }

    /// Writes what a group changed, and checks that it is coherent.
    pub(crate) fn take(&mut self, effects: Effects) {
        assert!(effects.rows.is_sorted_by(|(one, _), (other, _)| one < other), "in order, once");
        for (key, row) in &effects.rows {
            match row {
                Some(row) => self.rows.insert(key.clone(), row.clone()),
                None => self.rows.remove(key),
            };
        }
        self.meta = effects.meta;
        assert_eq!(self.rows.get(&schema::META_KEY[..]), Some(&self.meta.encode()));
        for (key, row) in &effects.records {
            let row_key = schema::record_key(self.meta.epoch, key);
            assert_eq!(self.rows.get(&row_key[..]), row.as_ref(), "records are those of the rows");
        }
        self.check();
    }

    /// Recounts everything that is kept incrementally.
    pub(crate) fn check(&self) {
        assert_eq!(Digest::scan(&self.rows, &self.meta).unwrap(), self.meta.digest);
        let (mut keys, mut size, mut deadlines) = (0, 0, Vec::new());
        for (row_key, row) in self.table(table::RECORDS) {
            let record = Record::decode(&row).unwrap();
            let key = schema::record_user_key(&row_key);
            keys += 1;
            size += key.len() + record.value.len();
            deadlines.extend(
                record
                    .expires_ms
                    .map(|ms| Bytes::from(schema::deadline_key(self.meta.epoch, ms, &key))),
            );
        }
        deadlines.sort();
        let rows: Vec<_> = self.table(table::DEADLINES).into_iter().map(|(key, _)| key).collect();
        assert_eq!(rows, deadlines, "one deadline row per record that ends");
        let first = schema::deadline_from_suffix(self.meta.epoch, &self.meta.deadlines_from);
        assert!(
            rows.first().is_none_or(|row_key| row_key[..] >= first[..]),
            "none before the mark"
        );
        assert_eq!(self.meta.keys, keys);
        assert_eq!(self.meta.bytes, u64::try_from(size).unwrap());
        assert_eq!(self.meta.deadlines, u64::try_from(rows.len()).unwrap());
    }

    /// The rows of the present epoch in a table.
    pub(crate) fn table(&self, table: u8) -> Vec<(Bytes, Bytes)> {
        let start = schema::epoch_start(table, self.meta.epoch);
        let start = if table == table::CHANGES { vec![table] } else { start.to_vec() };
        self.rows
            .iter()
            .filter(|(key, _)| key.starts_with(&start))
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Item> {
        read::get(&self.rows, &self.meta, key.as_bytes()).unwrap()
    }

    pub(crate) fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|item| String::from_utf8(item.value.to_vec()).unwrap())
    }

    pub(crate) fn get_at(&self, key: &str, revision: u64) -> Result<Option<Item>, ReadError> {
        read::get_at(&self.rows, &self.meta, key.as_bytes(), revision)
    }

    pub(crate) fn list(&self, query: &ListQuery) -> Page {
        read::list(&self.rows, &self.meta, query).unwrap()
    }

    /// All pages of a list, pinned to the first page's revision.
    pub(crate) fn list_all(&self, query: &ListQuery) -> Vec<Page> {
        let mut query = query.clone();
        let mut pages = Vec::new();
        loop {
            let page = self.list(&query);
            query.at = Some(page.revision);
            query.after.clone_from(&page.next);
            pages.push(page);
            if query.after.is_none() {
                return pages;
            }
            assert!(pages.len() < 10_000, "the list ends");
        }
    }
}

pub(crate) fn put(key: &str, value: &str) -> Op {
    put_with(key, value, Deadline::Default, Condition::none())
}

pub(crate) fn put_ttl(key: &str, value: &str, ttl_ms: u64) -> Op {
    put_with(key, value, Deadline::Ttl(ttl_ms), Condition::none())
}

pub(crate) fn put_with(key: &str, value: &str, deadline: Deadline, condition: Condition) -> Op {
    Op::Put(Put { key: bytes(key), value: bytes(value), deadline, condition, prev: true })
}

pub(crate) fn delete(key: &str) -> Op {
    delete_with(key, Condition::none())
}

pub(crate) fn delete_with(key: &str, condition: Condition) -> Op {
    Op::Delete(Delete { key: bytes(key), condition, prev: true })
}

pub(crate) fn touch(key: &str, deadline: Deadline) -> Op {
    Op::Touch(Touch { key: bytes(key), deadline, condition: Condition::none() })
}

pub(crate) fn delete_prefix(prefix: &str) -> Op {
    Op::DeleteRange(DeleteRange { range: KeyRange::prefix(bytes(prefix)), prev: true })
}

pub(crate) fn batch(success: Vec<TxnOp>) -> Op {
    Op::Txn(Txn { success, ..Txn::default() })
}

pub(crate) fn txn_put(key: &str, value: &str) -> TxnOp {
    TxnOp::Put { key: bytes(key), value: bytes(value), deadline: Deadline::Default, prev: true }
}

pub(crate) fn txn_delete(key: &str) -> TxnOp {
    TxnOp::Delete { range: KeyRange::single(&bytes(key)), prev: true }
}
