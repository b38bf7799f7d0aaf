//! What an entry costs beside the disk: a log worked by hand, on segments that forget what is written.
//!
//! Nanoseconds an entry (least of many rounds, so what the machine does beside counts little), for the one
//! who appends and for the writer, with N entries a commit: as one append, and as N appends.
//! `cargo bench -p raftmap-log-store --bench cost`

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftmap_log_store::disk::{Disk, DiskFile, DiskLock, Found, RealDisk};
use raftmap_log_store::{EntryParts, Hands, Log, LogConfig, LogIdParts, Owner};

const ENTRIES_A_SIZE: u64 = 400_000;

fn main() {
    println!("entries a commit | one append: append, commit ns | N appends: append, commit ns");
    for size in [1, 16, 64, 256, 1000] {
        let [one, many] = [size, 1].map(|an_append| measure(size, an_append));
        println!(
            "{size:>16} | {:>15.1} {:>13.1} | {:>14.1} {:>13.1}",
            one.0, one.1, many.0, many.1
        );
    }
}

/// Nanoseconds an entry of the caller and of the writer.
fn measure(a_commit: u64, an_append: u64) -> (f64, f64) {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let config = LogConfig::new(dir.path().join("wal"));
    let owner = Owner { node_id: 1, new_uuid: 1 };
    let (log, mut hands, _) =
        Log::open_by_hand(config, Arc::new(Forgetful), owner).expect("a new log");
    let payload = Bytes::from(vec![7; 256]);
    let mut next = 1;
    let mut least = [Duration::MAX; 2];
    for _ in 0..ENTRIES_A_SIZE / a_commit {
        let mut took = [Duration::ZERO; 2];
        for _ in 0..a_commit / an_append {
            let began = Instant::now();
            let entries = next..next + an_append;
            let entries = entries.map(|index| EntryParts {
                id: LogIdParts { term: 1, node: 1, index },
                kind: 1,
                payload: payload.clone(),
            });
            log.append(entries.collect(), |result| result.expect("durable")).expect("taken");
            took[0] += began.elapsed();
            next += an_append;
        }
        took[1] = commit(&mut hands);
        least = [least[0].min(took[0]), least[1].min(took[1])];
        if next % 50_000 < a_commit {
            log.purge_upto(log.ends().last.expect("entries")).expect("purged");
            while hands.tidy() {}
        }
    }
    let entries = f64::from(u32::try_from(a_commit).expect("few"));
    let [append, commit] = least.map(|took| took.as_secs_f64() * 1e9 / entries);
    (append, commit)
}

fn commit(hands: &mut Hands) -> Duration {
    let began = Instant::now();
    assert!(hands.commit(), "someone waits");
    began.elapsed()
}

/// The real disk, but for the bytes of segments.
#[derive(Debug)]
struct Forgetful;

/// A file that is as long as it was made, and takes everything without keeping it.
#[derive(Debug)]
struct Segment(Arc<dyn DiskFile>);

impl Disk for Forgetful {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        let is_segment = path.ends_with("spare.tmp") || path.ends_with("segment.tmp");
        Ok(if is_segment { Arc::new(Segment(file)) } else { file })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, text: &str) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path, text)
    }
}

impl DiskFile for Segment {
    fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }
}
