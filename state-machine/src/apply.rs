//! Commands in order become effects: a pure function of (rows, meta, command, log id).
//!
//! ```text
//!   Group::new(base, meta) ─► apply ─► apply ─► … ─► finish ─► Effects ─► one atomic batch
//!                               │        │
//!                             Reply    Reply      known at once, told only after the batch is published
//! ```
//!
//! Always true:
//! - how commands are grouped changes neither replies nor rows nor the digest;
//! - a command that changes at least one key takes the next revision; any other takes none;
//! - a refused command leaves no trace but the applied log id and the clock;
//! - what a command costs is bounded by the settings (S6), whatever is in the store.

mod limits;
mod range;
mod single;
mod txn;
mod write;

use bytes::{Bytes, BytesMut};

use crate::change::{Change, Kind};
use crate::command::{Command, Form, Op};
use crate::error::StoreError;
use crate::meta::Meta;
use crate::overlay::Overlay;
use crate::reply::{Outcome, Refusal, Reply};
use crate::rows::{Row, Rows};
use crate::schema::{self, table};
use crate::types::LogId;

/// Most bytes of records that one command may supersede: they are copied into the history. Part of what a command means,
/// so it never changes without a new command format.
pub const SUPERSEDED_BYTES_MAX: u64 = 256 << 20;

/// The room that a group takes at first for its keys and small rows.
const ARENA_BYTES: usize = 8192;

/// One apply group: evaluates commands in order over an overlay of `base`, and never fails for bad input.
pub struct Group<'a, R: Rows> {
    overlay: Overlay<'a, R>,
    meta: Meta,
    /// New history rows; no command reads them, so they need no overlay.
    history: Vec<Row>,
    /// New change rows, in order.
    changes: Vec<Row>,
    cleared: bool,
    entries: usize,
    bytes: u64,
    /// Bytes of records superseded so far.
    superseded: u64,
    /// Row keys and change rows lie in here one after another: they live no longer than the batch.
    arena: BytesMut,
    /// Where headers are put together.
    scratch: Vec<u8>,
}

/// Everything that one group changed.
#[derive(Debug)]
pub struct Effects {
    /// The rows to write in one batch, in key order, each key once: its final bytes, or none where it goes. The meta row
    /// is among them.
    pub rows: Vec<(Bytes, Option<Bytes>)>,
    /// Where the store is after the group.
    pub meta: Meta,
    /// The user keys whose records changed, in key order, with their final record rows. After a clear they are those of
    /// the new epoch alone. A key may pin the memory of the whole group: copy it to keep it. A row pins only itself.
    pub records: Vec<(Bytes, Option<Bytes>)>,
    /// The store was cleared within the group: whatever was cached of it before is void.
    pub cleared: bool,
    /// The number of change rows.
    pub events: u64,
}

/// Why a command stopped.
enum Stop {
    /// It is refused, the same on every node.
    Refused(Refusal),
    /// This machine is broken.
    Broken(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

impl<'a, R: Rows> Group<'a, R> {
    /// An empty group over the state that `base` and `meta` are.
    pub fn new(base: &'a R, meta: Meta) -> Self {
        Self {
            overlay: Overlay::new(base),
            meta,
            history: Vec::new(),
            changes: Vec::new(),
            cleared: false,
            entries: 0,
            bytes: 0,
            superseded: 0,
            arena: BytesMut::with_capacity(ARENA_BYTES),
            scratch: Vec::with_capacity(128),
        }
    }

    /// Applies one command. Bad input is a refusal in the reply.
    ///
    /// # Errors
    /// When a row cannot be read: the group must be dropped.
    pub fn apply(&mut self, log_id: LogId, command: &Command) -> Result<Reply, StoreError> {
        let outcome = match self.evaluate(command) {
            Ok(outcome) => outcome,
            Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
            Err(Stop::Broken(error)) => return Err(error),
        };
        let Reply { revision, .. } = self.blank(log_id);
        Ok(Reply { revision, outcome })
    }

    /// Passes an entry that says nothing.
    pub fn blank(&mut self, log_id: LogId) -> Reply {
        self.meta.applied = Some(log_id);
        self.entries += 1;
        Reply::nothing(self.meta.revision)
    }

    /// Takes a membership over, in the bytes of the Raft adapter.
    pub fn membership(&mut self, log_id: LogId, encoded: Bytes) -> Reply {
        self.meta.membership_log = Some(log_id);
        self.meta.membership = encoded;
        self.blank(log_id)
    }

    /// The entries so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// About how many bytes of rows there are to write.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn evaluate(&mut self, command: &Command) -> Result<Outcome, Stop> {
        let (at_ms, op) = command.decode().map_err(|_malformed| Refusal::Malformed)?;
        self.meta.clock_ms = self.meta.clock_ms.max(at_ms);
        limits::check(&self.meta.settings, command.as_bytes().len(), &op)?;
        match op {
            Op::Put(put) => self.put(put),
            Op::Touch(touch) => self.touch(&touch),
            Op::Delete(delete) => self.delete(&delete),
            Op::DeleteRange(delete) => self.delete_range(&delete),
            Op::Clear => Ok(self.clear()),
            Op::Txn(txn) => self.txn(txn),
            Op::ExpireDue { max } => self.expire_due(max),
            Op::Form(form) => self.form(form),
            Op::Tick => self.tick(),
        }
    }

    fn form(&mut self, form: Form) -> Result<Outcome, Stop> {
        // Formed again with the same name: the first command was retried.
        if self.meta.cluster_id == form.cluster_id {
            return Ok(Outcome::Formed);
        }
        if self.meta.cluster_id != 0 {
            let detail = "the cluster is formed under another identity".to_owned();
            return Err(Refusal::Invalid { field: "cluster_id".to_owned(), detail }.into());
        }
        self.meta.cluster_id = form.cluster_id;
        self.meta.settings = form.settings;
        Ok(Outcome::Formed)
    }

    /// Takes the next epoch; the rows of the old one go in the background.
    fn clear(&mut self) -> Outcome {
        let deleted = self.meta.keys;
        if deleted == 0 {
            return Outcome::Cleared { deleted };
        }
        let mut step = self.step();
        let stamp = step.next();
        self.push_change(
            stamp,
            &Change {
                kind: Kind::Clear,
                clock_ms: self.meta.clock_ms,
                key: Bytes::new(),
                create_revision: 0,
                version: 0,
                prev: None,
                lease: 0,
                ttl_ms: None,
                count: deleted,
            },
        );
        self.end(&step);
        self.meta.oldest_revision = self.meta.revision;
        self.meta.epoch = self.meta.epoch.wrapping_add(1);
        self.meta.keys = 0;
        self.meta.bytes = 0;
        self.meta.deadlines = 0;
        self.meta.deadlines_from = Bytes::new();
        self.meta.digest.records = 0;
        self.cleared = true;
        Outcome::Cleared { deleted }
    }

    /// What the group changed.
    ///
    /// # Errors
    /// None today; a group that reads ahead may fail to.
    pub fn finish(self) -> Result<Effects, StoreError> {
        let Self { overlay, mut meta, mut history, changes, cleared, .. } = self;
        let slots = overlay.into_slots();
        let mut rows = Vec::with_capacity(1 + slots.len() + history.len() + changes.len());
        let mut records = Vec::with_capacity(slots.len());
        let mut deadlines = Vec::new();
        let present = schema::epoch_start(table::RECORDS, meta.epoch);

        // The meta row has the smallest key; its bytes are known last.
        rows.push((Bytes::from_static(&schema::META_KEY), None));
        for (key, slot) in slots {
            if key.starts_with(&present) {
                // Deadlines went into the digest when they changed, records only now: first and last version count.
                if let Some(before) = &slot.before {
                    meta.digest.remove_record(&key, before);
                }
                if let Some(now) = &slot.now {
                    meta.digest.add_record(&key, now);
                }
                records.push((schema::record_user_key(&key), slot.now.clone()));
            }
            if slot.before.is_none() && slot.now.is_none() {
                continue;
            }
            let is_record = key.first() == Some(&table::RECORDS);
            if is_record { &mut rows } else { &mut deadlines }.push((key, slot.now));
        }
        history.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        rows.extend(history.into_iter().map(|(key, row)| (key, Some(row))));
        rows.append(&mut deadlines);
        let events = crate::codec::length(changes.len());
        for (key, row) in changes {
            meta.digest.link_change(&key, &row);
            rows.push((key, Some(row)));
        }
        if let Some((_, row)) = rows.first_mut() {
            *row = Some(meta.encode());
        }
        Ok(Effects { rows, meta, records, cleared, events })
    }
}
