//! The operations of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Disk, DiskFile, DiskLock, Found, u64_len};
use super::inode::Inode;
use super::{Fault, Moment, Op, SimDisk};

impl SimDisk {
    /// Tells the watcher what is about to happen.
    fn announce(&self, op: Op, path: impl FnOnce() -> PathBuf) {
        let mut state = self.lock_state();
        let Some(mut watcher) = state.watcher.take() else { return };
        let step = state.steps;
        let disk = Self { state: Arc::new(std::sync::Mutex::new(state.still())) };
        // The watcher may look at this disk.
        drop(state);
        watcher.0(Moment { step, op, path: path(), disk });
        self.lock_state().watcher.get_or_insert(watcher);
    }

    fn handle(&self, inode: usize) -> Arc<dyn DiskFile> {
        let mut state = self.lock_state();
        state.open_files += 1;
        state.open_files_most = state.open_files_most.max(state.open_files);
        drop(state);
        Arc::new(SimFile { disk: self.clone(), inode })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if !self.lock_state().names.dirs.contains(dir) {
            self.announce(Op::CreateDir, || dir.to_owned());
            let mut state = self.lock_state();
            state.step(Op::CreateDir)?;
            let state = &mut *state;
            state.names.create_dir(dir, &mut state.stamps);
        }
        // Also of one that is there: the process that made it may have been killed before this.
        self.sync_dir(dir.parent().unwrap_or(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        let state = self.lock_state();
        state.powered()?;
        if !state.names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |p: &PathBuf| {
            let name = p.file_name()?.to_string_lossy().into_owned();
            (p.parent() == Some(dir)).then_some(name)
        };
        let files = state.names.live.keys().filter_map(inside);
        let files = files.map(|name| Found { name, is_file: true });
        let dirs = state.names.dirs.iter().filter_map(inside);
        Ok(files.chain(dirs.map(|name| Found { name, is_file: false })).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock_state();
        state.powered()?;
        let inode = *state.names.live.get(path).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(self.handle(inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.announce(Op::Create, || path.to_owned());
        let mut state = self.lock_state();
        state.step(Op::Create)?;
        let state_ref = &mut *state;
        let inode = match state_ref.names.live.get(path) {
            Some(&inode) => inode,
            None => {
                let inode = state_ref.add(Inode::default());
                state_ref.names.link(path, inode, &mut state_ref.stamps);
                inode
            }
        };
        state_ref.inodes[inode].set_len(0, &mut state_ref.stamps);
        drop(state);
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.announce(Op::Rename, || from.to_owned());
        let mut state = self.lock_state();
        state.step(Op::Rename)?;
        let state = &mut *state;
        let is_there = state.names.rename(from, to, &mut state.stamps);
        is_there.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.announce(Op::Remove, || path.to_owned());
        let mut state = self.lock_state();
        state.step(Op::Remove)?;
        let state = &mut *state;
        let was_there = state.names.unlink(path, &mut state.stamps);
        was_there.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.announce(Op::SyncDir, || dir.to_owned());
        let mut state = self.lock_state();
        state.step(Op::SyncDir)?;
        state.names.sync(dir);
        Ok(())
    }

    fn move_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.announce(Op::Rename, || from.to_owned());
        let mut state = self.lock_state();
        state.step(Op::Rename)?;
        let state = &mut *state;
        let is_done = state.names.move_dir(from, to, &mut state.stamps);
        is_done.then_some(()).ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }

    fn exchange_dirs(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.announce(Op::Rename, || a.to_owned());
        let mut state = self.lock_state();
        state.step(Op::Rename)?;
        let state = &mut *state;
        let is_done = state.names.exchange_dirs(a, b, &mut state.stamps);
        is_done.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(self.lock_state().locked.contains(path))
    }

    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        state.powered()?;
        if !state.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Nothing depends on whether the file or its text survives.
        if !state.names.live.contains_key(path) {
            let inode = state.add(Inode::durable(text.as_bytes().to_vec()));
            let state = &mut *state;
            state.names.link(path, inode, &mut state.stamps);
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
        self.announce(Op::Write);
        let mut state = self.disk.lock_state();
        let was_off = state.is_off;
        let stepped = state.step(Op::Write);
        // The power went in the middle of this very write: its sectors may have arrived.
        let is_cut_off = state.is_off && !was_off;
        if stepped.is_err() && !is_cut_off {
            return stepped;
        }
        let n = bytes.len().min(*stepped.as_ref().unwrap_or(&usize::MAX));
        let from = usize::try_from(offset).expect("a simulated file fits memory");
        let state = &mut *state;
        state.inodes[self.inode].write(from, &bytes[..n], &mut state.stamps);
        stepped.map(|_| n)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Op::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Op::SyncAll)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resize(Op::SetLen, |_| len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.resize(Op::Allocate, |now| len.max(now))
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.powered()?;
        state.inodes[self.inode].forget();
        Ok(())
    }
}

impl SimFile {
    fn announce(&self, op: Op) {
        self.disk.announce(op, || self.disk.lock_state().names.of(self.inode));
    }

    fn resize(&self, op: Op, len: impl FnOnce(u64) -> u64) -> io::Result<()> {
        self.announce(op);
        let mut state = self.disk.lock_state();
        state.step(op)?;
        let state = &mut *state;
        let inode = &mut state.inodes[self.inode];
        let len = len(u64_len(inode.live.len()));
        inode.set_len(usize::try_from(len).expect("it fits memory"), &mut state.stamps);
        Ok(())
    }

    fn sync(&self, op: Op) -> io::Result<()> {
        self.announce(op);
        let mut state = self.disk.lock_state();
        let stepped = state.step(op);
        let is_off = state.is_off;
        let is_dropped = matches!(state.met(op), Some(Fault::Dropped(_)));
        let inode = &mut state.inodes[self.inode];
        if let Err(error) = stepped {
            if !is_off {
                inode.fail_sync();
                if is_dropped {
                    inode.forget();
                }
            }
            return Err(error);
        }
        inode.sync();
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.state.lock() {
            state.open_files -= 1;
        }
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
