//! Background removal of rows that nothing refers to any more, in bounded steps.
//!
//! ```text
//!   01 swept      ── how far the last complete pass got
//!   02 group      ── rows of groups that a checkpoint covers
//!   10 11 20      ── rows of epochs before the present one (a clear took a new epoch)
//!   30            ── changes before the oldest revision that is kept
//! ```
//! All of this is outside the digest and local to the node. A step decides which keys go; the apply
//! thread commits them between groups, so it never delays a group by more than one step. The cursor
//! stays in memory: after a restart a pass begins again, and finds the removed part empty.

use crate::error::StoreError;
use crate::generation::Frozen;
use crate::local::Swept;
use crate::meta::Meta;
use crate::schema::{self, table};

/// Rows removed in one step: about a millisecond.
pub(crate) const STEP_ROWS: usize = 512;

/// What still has to go.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The first group row that may still be there.
    next_group: u64,
    /// The last group that a checkpoint covers.
    floor: u64,
    done: Swept,
    pass: Option<Pass>,
}

/// One walk over the tables, for what was old when it began.
#[derive(Debug)]
struct Pass {
    target: Swept,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The keys of one step, and the row that ends a pass.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) remove: Vec<Vec<u8>>,
    pub(crate) write: Option<(Vec<u8>, Vec<u8>)>,
}

impl Step {
    /// Whether there was nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.write.is_none()
    }
}

impl Sweep {
    /// For a store whose first remaining group row is `next_group` and whose checkpoint covers `floor`.
    pub(crate) fn new(next_group: u64, floor: u64, done: Swept) -> Self {
        Self { next_group, floor, done, pass: None }
    }

    /// A checkpoint covers every group up to `floor`.
    pub(crate) fn covered(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Whether a step would find something, or has to look.
    pub(crate) fn is_due(&self, meta: &Meta) -> bool {
        self.next_group <= self.floor || self.pass.is_some() || self.done != target(meta)
    }

    /// The next step; `rows` is the newest frozen state.
    pub(crate) fn step(&mut self, rows: &Frozen, meta: &Meta) -> Result<Step, StoreError> {
        let mut step = Step::default();
        while self.next_group <= self.floor && step.remove.len() < STEP_ROWS {
            step.remove.push(schema::group_key(self.next_group).to_vec());
            self.next_group += 1;
        }
        if self.pass.is_none() && self.done != target(meta) {
            self.pass = Some(Pass::new(self.done, target(meta)));
        }
        let Some(pass) = &mut self.pass else { return Ok(step) };
        pass.collect(rows, &mut step.remove)?;
        if pass.ranges.is_empty() {
            self.done = pass.target;
            step.write = Some(pass.target.row());
            self.pass = None;
        }
        Ok(step)
    }
}

fn target(meta: &Meta) -> Swept {
    Swept { epoch: meta.epoch, oldest_revision: meta.oldest_revision }
}

impl Pass {
    fn new(from: Swept, target: Swept) -> Self {
        let mut ranges = Vec::new();
        if from.oldest_revision < target.oldest_revision {
            let first = schema::change_key(from.oldest_revision, 0).to_vec();
            ranges.push((first, schema::change_key(target.oldest_revision, 0).to_vec()));
        }
        if from.epoch < target.epoch {
            ranges.extend([table::RECORDS, table::HISTORY, table::DEADLINES].map(|table| {
                let first = schema::epoch_start(table, from.epoch).to_vec();
                (first, schema::epoch_start(table, target.epoch).to_vec())
            }));
        }
        Self { target, ranges }
    }

    /// Adds keys up to a step's bound and moves behind them.
    fn collect(&mut self, rows: &Frozen, remove: &mut Vec<Vec<u8>>) -> Result<(), StoreError> {
        while let Some((from, to)) = self.ranges.last_mut() {
            for row in rows.raw_scan(from, Some(to)) {
                let (key, _) = row?;
                if remove.len() >= STEP_ROWS {
                    *from = key.to_vec();
                    return Ok(());
                }
                remove.push(key.to_vec());
            }
            self.ranges.pop();
        }
        Ok(())
    }
}
