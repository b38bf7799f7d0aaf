//! A disk in memory that forgets like a real one. For tests.
//!
//! ```text
//!   live:     what the running process sees
//!   durable:  what a power cut leaves for certain; moved up by syncs only
//!   between:  changes of 512-byte sectors, lengths and names, in the order in which they were made; each
//!             may have survived or not, on its own: `Survival` chooses
//! ```
//! It tells a watcher of each operation before it happens (`watch`), can stop at a given one
//! (`power_off_at`) and fail or shorten chosen ones (`inject`).
//!
//! - A sector that was written several times since its sync may survive as it was after any of them.
//! - Names of one directory may survive in any combination; a rename never loses both of its names.
//! - Contents, lengths and names know nothing of each other: a name may survive without its file's
//!   content, content without its length is gone.
//! - A killed process takes nothing with it: the next one sees what is live.

mod inode;
mod names;
mod ops;
mod state;
mod survival;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use inode::Inode;
use state::{State, Watcher};
pub use survival::Survival;

/// Bytes that survive a power cut together.
const SECTOR: usize = 512;

/// A simulated disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The operations that change a disk, or that a test may want to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named like the operation it stands for")]
pub enum Op {
    Read,
    Write,
    SyncData,
    SyncAll,
    SyncDir,
    CreateDir,
    Create,
    Rename,
    Remove,
    SetLen,
    Allocate,
}

/// What happens instead of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind and changes nothing. A failed sync also marks the data as clean, as
    /// Linux does: it stays readable, and a later sync that succeeds does not make it durable.
    Error(io::ErrorKind),
    /// A failed sync that also drops the data from the cache, as other file systems do: reads see what is
    /// on the disk. For any other operation the same as `Error`.
    Dropped(io::ErrorKind),
    /// A write or read takes at most this many bytes.
    Short(usize),
}

/// The disk right before an operation that changes it.
#[derive(Debug)]
pub struct Moment {
    /// Changing operations before this one.
    pub step: u64,
    /// What is about to happen.
    pub op: Op,
    /// To which file or directory.
    pub path: PathBuf,
    /// The disk of that moment, to take images from: `after_power_cut`.
    pub disk: SimDisk,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changing operations (everything but reads) so far: a clock for `power_off_at`.
    pub fn steps(&self) -> u64 {
        self.lock_state().steps
    }

    /// Lets `step` changing operations happen in all; every later operation fails. A write at the edge
    /// counts as started: its sectors may survive.
    pub fn power_off_at(&self, step: u64) {
        self.lock_state().power_off_at = Some(step);
    }

    /// Calls `watcher` before each changing operation from now on. What may be left of an operation that
    /// power failed in is what may be left before the next one: each of its parts may not have survived.
    /// For one thread: operations of others meanwhile are not told.
    pub fn watch(&self, watcher: impl FnMut(Moment) + Send + 'static) {
        self.lock_state().watcher = Some(Watcher(Box::new(watcher)));
    }

    /// Ends the watch.
    pub fn unwatch(&self) {
        self.lock_state().watcher = None;
    }

    /// A copy of the disk as it is now, with all that is not durable yet; no faults, nobody watching.
    pub fn moment(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock_state().still())) }
    }

    /// The `nth` operation of this kind from now (1 is the next), and `times - 1` after it, meet `fault`.
    pub fn inject(&self, op: Op, nth: u64, times: u64, fault: Fault) {
        self.lock_state().inject(op, nth, times, fault);
    }

    /// Takes back all that was injected.
    pub fn heal(&self) {
        self.lock_state().faults.clear();
    }

    /// How often this kind of operation was called.
    pub fn count(&self, op: Op) -> u64 {
        self.lock_state().counts.get(&op).copied().unwrap_or(0)
    }

    /// Files that are open now, and the most that ever were.
    pub fn open_files(&self) -> (usize, usize) {
        let state = self.lock_state();
        (state.open_files, state.open_files_most)
    }

    /// How many changes are not durable: as many of them as there are may survive, each on its own.
    pub fn unsure(&self) -> usize {
        self.lock_state().units().len()
    }

    /// The disk after a power cut, found by the next process. This one stays as it is.
    pub fn after_power_cut(&self, survival: Survival) -> Self {
        let left = self.lock_state().after_power_cut(survival);
        Self { state: Arc::new(Mutex::new(left)) }
    }

    /// Every file and its bytes, as the running process sees them.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.contents().into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect()
    }

    /// The same without a copy of the bytes.
    pub fn contents(&self) -> BTreeMap<PathBuf, Arc<Vec<u8>>> {
        let state = self.lock_state();
        let bytes = |&inode: &usize| Arc::clone(&state.inodes[inode].live);
        state.names.live.iter().map(|(path, inode)| (path.clone(), bytes(inode))).collect()
    }

    /// Sets a file's bytes, durably, as someone else's hand would.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock_state();
        let inode = state.add(Inode::durable(bytes));
        state.names.put(path, inode);
    }

    /// Removes a file, durably, as someone else's hand would.
    pub fn take(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.lock_state();
        let inode = state.names.take(path)?;
        state.inodes.get(inode).map(|inode| inode.live.to_vec())
    }

    /// Puts a directory there, durably, as someone else's hand would.
    pub fn put_dir(&self, path: &Path) {
        self.lock_state().names.put_dir(path);
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside the disk")
    }
}
