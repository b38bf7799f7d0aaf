//! A disk in memory that forgets like a real one. For tests.
//!
//! ```text
//!   live:     what the running process sees
//!   durable:  what a power cut leaves for certain; moved up by syncs only
//!   between:  every 512-byte sector, every length and every name that differs may have
//!             survived or not, each on its own: `Survival` chooses
//! ```
//! It can stop at a given operation (`power_off_at`) and fail or shorten chosen ones (`inject`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, DiskLock, Found, u64_len};

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
    /// Linux does: a later sync that succeeds does not make it durable.
    Error(io::ErrorKind),
    /// A write or read takes at most this many bytes.
    Short(usize),
}

/// Which of the unsynced changes survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// None.
    Nothing,
    /// All, as after a killed process.
    Everything,
    /// Names and lengths, no content.
    NamesOnly,
    /// Content of files whose names were durable, no new names.
    ContentOnly,
    /// Each change by its own coin; the number chooses the coins.
    Coins(u64),
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    inodes: Vec<Inode>,
    locked: BTreeSet<PathBuf>,
    /// Changing operations so far.
    steps: u64,
    power_off_at: Option<u64>,
    /// The operation at which the power went has been met.
    is_off: bool,
    counts: BTreeMap<Op, u64>,
    faults: Vec<(Op, u64, u64, Fault)>,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors whose last sync failed: clean for the kernel, so no later sync writes them.
    lost: BTreeSet<usize>,
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

    /// The `nth` operation of this kind from now (1 is the next), and `times - 1` after it, meet `fault`.
    pub fn inject(&self, op: Op, nth: u64, times: u64, fault: Fault) {
        let mut state = self.lock_state();
        let from = state.counts.get(&op).copied().unwrap_or(0) + nth;
        state.faults.push((op, from, from.saturating_add(times), fault));
    }

    /// How often this kind of operation was called.
    pub fn count(&self, op: Op) -> u64 {
        self.lock_state().counts.get(&op).copied().unwrap_or(0)
    }

    /// The disk after a power cut, found by the next process. This one stays as it is.
    pub fn after_power_cut(&self, survival: Survival) -> Self {
        let state = self.lock_state();
        let mut coins = Coins::new(survival);
        let names = state.surviving_names(&mut coins);
        let inodes = state.inodes.iter().map(|i| i.surviving(&mut coins)).collect();
        let next = State {
            durable_names: names.clone(),
            names,
            dirs: state.dirs.clone(),
            inodes,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(next)) }
    }

    /// Every file and its bytes, as the running process sees them.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        state.names.iter().map(|(path, &i)| (path.clone(), state.inodes[i].live.clone())).collect()
    }

    /// Sets a file's bytes, durably, as someone else's hand would.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock_state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { durable: bytes.clone(), live: bytes, ..Inode::default() });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    /// Removes a file, durably, as someone else's hand would.
    pub fn take(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.lock_state();
        state.durable_names.remove(path);
        let inode = state.names.remove(path)?;
        state.inodes.get(inode).map(|i| i.live.clone())
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside the disk")
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock_state().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        let state = self.lock_state();
        state.powered()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |p: &PathBuf| {
            let name = p.file_name()?.to_string_lossy().into_owned();
            (p.parent() == Some(dir)).then_some(name)
        };
        let files = state.names.keys().filter_map(inside).map(|name| Found { name, is_file: true });
        let dirs = state.dirs.iter().filter_map(inside).map(|name| Found { name, is_file: false });
        Ok(files.chain(dirs).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock_state();
        state.powered()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.step(Op::Create)?;
        let inode = match state.names.get(path) {
            Some(&inode) => inode,
            None => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(path.to_owned(), inode);
                inode
            }
        };
        state.inodes[inode].live.clear();
        drop(state);
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.step(Op::Rename)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.step(Op::Remove)?;
        state.names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.step(Op::SyncDir)?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|p, _| p.parent() != Some(dir));
        let here = names.iter().filter(|(p, _)| p.parent() == Some(dir));
        durable_names.extend(here.map(|(p, &i)| (p.clone(), i)));
        Ok(())
    }

    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        state.powered()?;
        if !state.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        if !self.lock_state().names.contains_key(path) {
            self.put(path, text.as_bytes().to_vec());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock_state();
        state.powered()?;
        Ok(u64_len(state.inodes[self.inode].live.len()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.powered()?;
        let limit = state.meet(Op::Read)?;
        let live = &state.inodes[self.inode].live;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let n = buf.len().min(live.len() - from).min(limit);
        buf[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        let was_off = state.is_off;
        let stepped = state.step(Op::Write);
        // The power went in the middle of this very write: its sectors may have arrived.
        let is_cut_off = state.is_off && !was_off;
        if stepped.is_err() && !is_cut_off {
            return stepped;
        }
        let n = bytes.len().min(*stepped.as_ref().unwrap_or(&usize::MAX));
        let inode = &mut state.inodes[self.inode];
        let from = usize::try_from(offset).expect("a simulated file fits memory");
        if inode.live.len() < from + n {
            inode.live.resize(from + n, 0);
        }
        inode.live[from..from + n].copy_from_slice(&bytes[..n]);
        let touched = from / SECTOR..=(from + n).saturating_sub(1) / SECTOR;
        inode.lost.retain(|s| !touched.contains(s));
        stepped.map(|_| n)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Op::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Op::SyncAll)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.step(Op::SetLen)?;
        let len = usize::try_from(len).expect("a simulated file fits memory");
        state.inodes[self.inode].live.resize(len, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.step(Op::Allocate)?;
        let len = usize::try_from(len).expect("a simulated file fits memory");
        let live = &mut state.inodes[self.inode].live;
        live.resize(len.max(live.len()), 0);
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.powered()?;
        let inode = &mut state.inodes[self.inode];
        for sector in std::mem::take(&mut inode.lost) {
            overwrite(&mut inode.live, sector, sector_of(&inode.durable, sector));
        }
        Ok(())
    }
}

impl SimFile {
    fn sync(&self, op: Op) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let failed = state.step(op).err();
        let is_off = state.is_off;
        let inode = &mut state.inodes[self.inode];
        if let Some(error) = failed {
            if !is_off {
                inode.lost = inode.dirty_sectors().collect();
            }
            return Err(error);
        }
        inode.make_durable();
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.state.lock() {
            state.locked.remove(&self.path);
        }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a changing operation; the most bytes it may take, or why it does not happen.
    fn step(&mut self, op: Op) -> io::Result<usize> {
        self.is_off |= self.power_off_at.is_some_and(|at| self.steps >= at);
        self.powered()?;
        self.steps += 1;
        self.meet(op)
    }

    fn meet(&mut self, op: Op) -> io::Result<usize> {
        let count = self.counts.entry(op).or_default();
        *count += 1;
        let now = *count;
        let due =
            |&&(o, from, to, _): &&(Op, u64, u64, Fault)| o == op && (from..to).contains(&now);
        match self.faults.iter().find(due) {
            Some(&(.., Fault::Error(kind))) => Err(kind.into()),
            Some(&(.., Fault::Short(n))) => Ok(n),
            None => Ok(usize::MAX),
        }
    }

    fn surviving_names(&self, coins: &mut Coins) -> BTreeMap<PathBuf, usize> {
        let all: BTreeSet<_> = self.names.keys().chain(self.durable_names.keys()).collect();
        let mut kept = BTreeMap::new();
        for path in all {
            let (new, old) = (self.names.get(path), self.durable_names.get(path));
            let survivor = if new == old || coins.name() { new } else { old };
            kept.extend(survivor.map(|&inode| (path.clone(), inode)));
        }
        self.keep_renames_whole(&mut kept);
        kept
    }

    /// A rename is one change: a file is never lost from both of its names.
    fn keep_renames_whole(&self, kept: &mut BTreeMap<PathBuf, usize>) {
        for (path, &inode) in &self.durable_names {
            let renamed = self.names.iter().find(|(_, i)| **i == inode).map(|(p, _)| p);
            if let Some(now) = renamed
                && now != path
            {
                let lost = !kept.values().any(|i| *i == inode);
                let twice = kept.get(path) == Some(&inode) && kept.get(now) == Some(&inode);
                if lost {
                    kept.insert(now.clone(), inode);
                } else if twice {
                    kept.remove(path);
                }
            }
        }
    }
}

impl Inode {
    fn dirty_sectors(&self) -> impl Iterator<Item = usize> {
        let sectors = self.live.len().max(self.durable.len()).div_ceil(SECTOR);
        (0..sectors).filter(|&s| sector_of(&self.live, s) != sector_of(&self.durable, s))
    }

    /// A sync: everything but what an earlier failed sync made the kernel forget.
    fn make_durable(&mut self) {
        let mut durable = self.live.clone();
        for &sector in &self.lost {
            overwrite(&mut durable, sector, sector_of(&self.durable, sector));
        }
        self.durable = durable;
    }

    /// What is left of the file: each changed sector and the length by the coins.
    fn surviving(&self, coins: &mut Coins) -> Self {
        let mut kept = self.durable.clone();
        kept.resize(if coins.name() { self.live.len() } else { self.durable.len() }, 0);
        for sector in self.dirty_sectors() {
            if !self.lost.contains(&sector) && coins.content() {
                overwrite(&mut kept, sector, sector_of(&self.live, sector));
            }
        }
        Self { live: kept.clone(), durable: kept, lost: BTreeSet::new() }
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    let from = (sector * SECTOR).min(bytes.len());
    &bytes[from..bytes.len().min(from + SECTOR)]
}

/// Sets a sector as far as the file goes; what `new` does not cover becomes zero.
fn overwrite(bytes: &mut [u8], sector: usize, new: &[u8]) {
    let from = (sector * SECTOR).min(bytes.len());
    let to = bytes.len().min(from + SECTOR);
    for (i, byte) in bytes[from..to].iter_mut().enumerate() {
        *byte = new.get(i).copied().unwrap_or(0);
    }
}

/// Decides what survives; splitmix64 behind the coins, so the same number always decides the same.
struct Coins {
    survival: Survival,
    state: u64,
}

impl Coins {
    fn new(survival: Survival) -> Self {
        let state = if let Survival::Coins(number) = survival { number } else { 0 };
        Self { survival, state }
    }

    fn name(&mut self) -> bool {
        match self.survival {
            Survival::Nothing | Survival::ContentOnly => false,
            Survival::Everything | Survival::NamesOnly => true,
            Survival::Coins(_) => self.flip(),
        }
    }

    fn content(&mut self) -> bool {
        match self.survival {
            Survival::Nothing | Survival::NamesOnly => false,
            Survival::Everything | Survival::ContentOnly => true,
            Survival::Coins(_) => self.flip(),
        }
    }

    fn flip(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}
