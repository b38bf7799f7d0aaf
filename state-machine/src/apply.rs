//! Commands in order become effects: a pure function of (rows, meta, command, log id).

use bytes::Bytes;

use crate::command::Command;
use crate::error::StoreError;
use crate::meta::Meta;
use crate::reply::Reply;
use crate::rows::Rows;
use crate::types::LogId;

/// One apply group: evaluates commands in order over an overlay of `base`, and never fails for bad input.
pub struct Group<'a, R: Rows> {
    base: &'a R,
    meta: Meta,
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
    /// the new epoch alone.
    pub records: Vec<(Bytes, Option<Bytes>)>,
    /// The store was cleared within the group: whatever was cached of it before is void.
    pub cleared: bool,
    /// The number of change rows.
    pub events: u64,
}

impl<'a, R: Rows> Group<'a, R> {
    /// An empty group over the state that `base` and `meta` are.
    pub fn new(base: &'a R, meta: Meta) -> Self {
        Self { base, meta }
    }

    /// Applies one command. Bad input is a refusal in the reply.
    ///
    /// # Errors
    /// When a row cannot be read: the group must be dropped.
    pub fn apply(&mut self, log_id: LogId, command: &Command) -> Result<Reply, StoreError> {
        let _ = (log_id, command, self.base);
        todo!()
    }

    /// Passes an entry that says nothing.
    pub fn blank(&mut self, log_id: LogId) -> Reply {
        self.meta.applied = Some(log_id);
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
        todo!()
    }

    /// About how many bytes of rows there are to write.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// What the group changed.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn finish(self) -> Result<Effects, StoreError> {
        todo!()
    }
}
