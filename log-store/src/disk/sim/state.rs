//! What the handles of one simulated disk share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::inode::Inode;
use super::names::Names;
use super::survival::{Survival, Unit};
use super::{Fault, Moment, Op};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) inodes: Vec<Inode>,
    /// Numbers the changes in the order in which they are made.
    pub(super) stamps: u64,
    pub(super) locked: BTreeSet<PathBuf>,
    pub(super) open_files: usize,
    pub(super) open_files_most: usize,
    /// Changing operations so far.
    pub(super) steps: u64,
    pub(super) power_off_at: Option<u64>,
    /// The operation at which the power went has been met.
    pub(super) is_off: bool,
    pub(super) counts: BTreeMap<Op, u64>,
    pub(super) faults: Vec<Injected>,
    pub(super) watcher: Option<Watcher>,
}

/// Operations of one kind, by their number, that meet a fault.
#[derive(Debug)]
pub(super) struct Injected {
    op: Op,
    from: u64,
    to: u64,
    fault: Fault,
}

/// Who is told of each operation.
pub(super) struct Watcher(pub(super) Box<dyn FnMut(Moment) + Send>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl State {
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a changing operation; the most bytes it may take, or why it does not happen.
    pub(super) fn step(&mut self, op: Op) -> io::Result<usize> {
        self.is_off |= self.power_off_at.is_some_and(|at| self.steps >= at);
        self.powered()?;
        self.steps += 1;
        self.meet(op)
    }

    /// Counts an operation; the most bytes it may take, or how it fails.
    pub(super) fn meet(&mut self, op: Op) -> io::Result<usize> {
        match self.fault(op) {
            Some(Fault::Error(kind) | Fault::Dropped(kind)) => Err(kind.into()),
            Some(Fault::Short(n)) => Ok(n),
            None => Ok(usize::MAX),
        }
    }

    fn fault(&mut self, op: Op) -> Option<Fault> {
        let count = self.counts.entry(op).or_default();
        *count += 1;
        self.met(op)
    }

    /// The fault that the last operation of this kind met.
    pub(super) fn met(&self, op: Op) -> Option<Fault> {
        let now = self.counts.get(&op).copied().unwrap_or(0);
        let is_due = |i: &&Injected| i.op == op && (i.from..i.to).contains(&now);
        self.faults.iter().find(is_due).map(|injected| injected.fault)
    }

    pub(super) fn inject(&mut self, op: Op, nth: u64, times: u64, fault: Fault) {
        let from = self.counts.get(&op).copied().unwrap_or(0) + nth;
        self.faults.push(Injected { op, from, to: from.saturating_add(times), fault });
    }

    pub(super) fn add(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// The same disk, at rest.
    pub(super) fn still(&self) -> Self {
        Self {
            names: self.names.clone(),
            inodes: self.inodes.clone(),
            stamps: self.stamps,
            steps: self.steps,
            ..Self::default()
        }
    }

    /// Everything that is not durable, in the order in which it was done.
    pub(super) fn units(&self) -> Vec<Unit> {
        let contents = self.inodes.iter().flat_map(Inode::units);
        let mut units: Vec<_> = self.names.units().chain(contents).collect();
        units.sort_unstable();
        units
    }

    pub(super) fn after_power_cut(&self, survival: Survival) -> Self {
        let survivors = survival.of(&self.units());
        let mut names = self.names.surviving(&survivors);
        let kept: BTreeSet<usize> = names.live.values().copied().collect();
        let kept: Vec<usize> = kept.into_iter().collect();
        names.renumber(|inode| kept.binary_search(&inode).expect("only those are named"));
        let inodes = kept.iter().map(|&inode| self.inodes[inode].surviving(&survivors)).collect();
        Self { names, inodes, ..Self::default() }
    }
}
