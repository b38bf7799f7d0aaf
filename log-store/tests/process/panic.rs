//! A bug, not a disk: a thread of the log panics in the middle of its work.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use raftmap_log_store::disk::{Disk, DiskFile, DiskLock, Found, RealDisk};
use raftmap_log_store::{Log, LogError};

use crate::model::{State, entry, id, vote};
use crate::report::{PATIENCE, check};
use crate::worker::{config, owner};

/// A disk whose n-th write or sync of a file panics, counted from when it is armed.
#[derive(Debug, Clone)]
struct PanickyDisk {
    disk: RealDisk,
    fuse: Arc<Fuse>,
}

#[derive(Debug)]
struct Fuse {
    call: Call,
    /// Calls until the panic; 0 when there is none to come.
    left: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
}

impl Fuse {
    fn burn(&self, call: Call) {
        let less = |left: u64| left.checked_sub(1);
        if call == self.call
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1)
        {
            panic!("the planted panic");
        }
    }
}

impl Disk for PanickyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path)?;
        Ok(Arc::new(PanickyFile { file, fuse: Arc::clone(&self.fuse) }))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(path)?;
        Ok(Arc::new(PanickyFile { file, fuse: Arc::clone(&self.fuse) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path, text)
    }
}

#[derive(Debug)]
struct PanickyFile {
    file: Arc<dyn DiskFile>,
    fuse: Arc<Fuse>,
}

impl DiskFile for PanickyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.fuse.burn(Call::Write);
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.fuse.burn(Call::Sync);
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.fuse.burn(Call::Sync);
        self.file.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn forget_cached(&self) -> io::Result<()> {
        self.file.forget_cached()
    }
}

#[test]
fn a_panic_of_the_writer_fails_the_log_and_leaves_nobody_waiting() {
    for (call, nth) in [(Call::Write, 1), (Call::Write, 3), (Call::Sync, 1), (Call::Sync, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let fuse = Arc::new(Fuse { call, left: AtomicU64::new(0) });
        let disk = Arc::new(PanickyDisk { disk: RealDisk, fuse: Arc::clone(&fuse) });
        // The janitor has nothing to do meanwhile: it is the writer that meets the panic.
        let config = raftmap_log_store::LogConfig {
            idle_after: Duration::from_secs(60),
            frontier_interval: Duration::from_secs(60),
            segment_bytes_max: 1 << 20,
            ..config(dir.path())
        };
        let (log, _) = Log::open(config, disk, owner(1)).unwrap();
        let (told, answers) = channel();
        let ask = |index: u64| {
            let told = told.clone();
            log.append(vec![entry(1, index)], move |result| told.send((index, result)).unwrap())
        };
        for index in 1..=20 {
            ask(index).unwrap();
            let (_, result) = answers.recv_timeout(PATIENCE).expect("an answer");
            result.unwrap();
        }

        fuse.left.store(nth, Ordering::SeqCst);
        let asked = (21..=1_020).take_while(|index| ask(*index).is_ok()).count();

        let mut told = Vec::new();
        for _ in 0..asked {
            told.push(answers.recv_timeout(PATIENCE).expect("everyone is told"));
        }
        let yes = told.iter().filter(|(_, result)| result.is_ok()).map(|(index, _)| *index).max();
        let no = told.iter().filter(|(_, result)| result.is_err()).map(|(index, _)| *index).min();
        assert!(no > yes && no.is_some(), "{call:?} {nth}: {no:?} is refused, {yes:?} is not");
        assert!(answers.try_recv().is_err(), "once");
        let failure = log.failed().expect("the log has failed");
        assert!(failure.to_string().contains("the thread panicked"), "{failure}");
        let refused = log.save_vote(vote(2), |_| panic!("never called"));
        assert!(matches!(refused, Err(LogError::Failed(_))));
        assert_eq!(log.read(1..21, usize::MAX).unwrap().len(), 20, "reads are served");
        assert!(matches!(log.close(), Err(LogError::Failed(_))));

        let acknowledged = yes.unwrap_or(20);
        let terms = |count: u64| vec![1; usize::try_from(count).unwrap()];
        let left = |count: u64| State { terms: terms(count), ..State::default() };
        let last = 20 + u64::try_from(asked).unwrap();
        let possible: Vec<_> = (acknowledged..=last).map(left).collect();
        check(dir.path(), &possible, &format!("{call:?} {nth}"));
    }
}

#[test]
fn a_panic_of_the_janitor_fails_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let fuse = Arc::new(Fuse { call: Call::Sync, left: AtomicU64::new(0) });
    let disk = Arc::new(PanickyDisk { disk: RealDisk, fuse: Arc::clone(&fuse) });
    let (log, _) = Log::open(config(dir.path()), disk, owner(1)).unwrap();
    let (told, answers) = channel();
    log.append(vec![entry(1, 1)], move |result| told.send(result).unwrap()).unwrap();
    answers.recv_timeout(PATIENCE).expect("an answer").unwrap();
    // The committed index and FRONTIER follow: the first sync of the two is the writer's, the second not.
    fuse.left.store(2, Ordering::SeqCst);
    log.save_committed(id(1, 1)).unwrap();

    let deadline = std::time::Instant::now() + PATIENCE;
    while log.failed().is_none() {
        assert!(std::time::Instant::now() < deadline, "the log does not fail");
        std::thread::yield_now();
    }

    assert!(log.append(vec![entry(1, 2)], |_| panic!("never called")).is_err());
    assert!(matches!(log.close(), Err(LogError::Failed(_))));
    let state = State { terms: vec![1], ..State::default() };
    check(dir.path(), &[state], "after the panic");
}
