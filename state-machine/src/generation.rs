//! One directory of the cold tier: a fjall database with one keyspace.
//!
//! ```text
//!   store directory
//!     LOCK        held while any generation of it is open
//!     CURRENT     names the generation that is the state
//!     gen-7/      the state
//!     gen-8/      an install in preparation, or a leftover that the next open deletes
//! ```
//! This is the only file that names fjall, and it offers only what was found to be sound there:
//! - one keyspace, so that a batch is atomic in the tables too and not through the journal alone;
//! - [`Generation::freeze`] is called on the apply thread between commits and nowhere else: a snapshot
//!   opened beside a running commit can see half of it;
//! - reads go through a [`Frozen`] state; the keyspace's own `get` would see half a batch;
//! - ingestion only into a generation that nobody uses yet.
//!
//! Dropping the last holder of a generation closes it on the reaper's thread, because closing joins
//! threads and syncs, and that holder may be a reader on an async worker.

use std::fs::{File, OpenOptions, TryLockError};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::durable;
use crate::error::StoreError;

const KEYSPACE: &str = "sm";
const PREFIX: &str = "gen-";

/// fjall's threads for flushes and compactions. With one, a long compaction holds up flushes and then
/// commits wait.
const WORKERS: usize = 2;
/// Table files kept open.
const FILES_MAX: usize = 512;
/// Tables in level 0 before they are merged down. With 8 instead of 4 a million puts wrote a quarter
/// less and took a fifth less CPU; a get that misses asks four more filters, which lie in memory. From
/// 20 on the engine slows commits down.
const L0_TABLES: u8 = 8;
/// Attempts to take LOCK, 20 ms apart: a store that was just dropped in this process may still be
/// closing on its reaper.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How long a stop waits for memtables to be written, and how often it looks.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// Sizes of a generation; they are fixed when it is created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) block_cache_bytes: u64,
    pub(crate) memtable_bytes_max: u64,
    pub(crate) journal_bytes_max: u64,
}

/// The store directory, held against other processes as long as this lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock, or says that another process (or an unclosed store of this one) has it.
    pub(crate) fn take(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let path = dir.join("LOCK");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(durable::at("open lock file", &path))?;
        for attempt in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Arc::new(Self { _file: file })),
                Err(TryLockError::WouldBlock) if attempt + 1 < LOCK_ATTEMPTS => {
                    thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => {
                    return Err(durable::at("lock file", &path)(error));
                }
            }
        }
        Err(StoreError::Locked { path })
    }
}

/// The directory of generation `number`.
pub(crate) fn dir_of(store: &Path, number: u64) -> PathBuf {
    store.join(format!("{PREFIX}{number}"))
}

/// The generation a directory name stands for.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// How far a commit reaches before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The page cache: survives the process, not a power cut.
    Written,
    /// The disk.
    Durable,
}

/// Adds a row to an ingestion.
pub(crate) type AddRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// An open generation. Shared by the Views that read it; see the module's text.
pub(crate) struct Generation {
    number: u64,
    dir: PathBuf,
    engine: Option<Engine>,
    retired: AtomicBool,
    reaper: Reaper,
}

struct Engine {
    keyspace: Keyspace,
    db: Database,
    lock: Arc<DirLock>,
}

impl Generation {
    /// Makes an empty generation. A directory of that name must not exist.
    pub(crate) fn create(
        store: &Path,
        number: u64,
        tuning: Tuning,
        lock: &Arc<DirLock>,
        reaper: &Reaper,
    ) -> Result<Arc<Self>, StoreError> {
        Self::start(store, number, tuning, lock, reaper)
    }

    /// Opens the generation that CURRENT names.
    pub(crate) fn open(
        store: &Path,
        number: u64,
        tuning: Tuning,
        lock: &Arc<DirLock>,
        reaper: &Reaper,
    ) -> Result<Arc<Self>, StoreError> {
        let dir = dir_of(store, number);
        if !dir.is_dir() {
            return Err(StoreError::Damaged { detail: format!("{} is missing", dir.display()) });
        }
        Self::start(store, number, tuning, lock, reaper)
    }

    fn start(
        store: &Path,
        number: u64,
        tuning: Tuning,
        lock: &Arc<DirLock>,
        reaper: &Reaper,
    ) -> Result<Arc<Self>, StoreError> {
        let dir = dir_of(store, number);
        // The engine asserts on some damaged journals. Where panics abort, this line is the last one
        // that the log shows, and says what was being opened.
        tracing::info!(dir = %dir.display(), "opening the cold tier");
        let engine = std::panic::catch_unwind(|| Engine::open(&dir, tuning, lock)).unwrap_or_else(
            |_panic| {
                let detail = format!("the engine panicked over {}", dir.display());
                Err(StoreError::Damaged { detail })
            },
        )?;
        reaper.born();
        Ok(Arc::new(Self {
            number,
            dir,
            engine: Some(engine),
            retired: AtomicBool::new(false),
            reaper: reaper.clone(),
        }))
    }

    /// The number in its directory's name.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Writes all rows in one atomic batch (`None` removes the key). `Err` means that this machine's
    /// store is broken: it is never retried.
    pub(crate) fn commit<'a>(
        &self,
        rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        reach: Reach,
    ) -> Result<(), StoreError> {
        let engine = self.engine();
        let durability = match reach {
            Reach::Written => PersistMode::Buffer,
            Reach::Durable => PersistMode::SyncAll,
        };
        let mut batch =
            fjall::OwnedWriteBatch::with_capacity(engine.db.clone(), rows.size_hint().0)
                // Without one the batch stays in this process's memory.
                .durability(Some(durability));
        for (key, row) in rows {
            match row {
                Some(row) => batch.insert(&engine.keyspace, key, row),
                None => batch.remove(&engine.keyspace, key),
            }
        }
        batch.commit().map_err(engine_error("commit"))
    }

    /// Everything committed before this call survives a power cut when it returns.
    pub(crate) fn persist(&self) -> Result<(), StoreError> {
        self.engine().db.persist(PersistMode::SyncAll).map_err(engine_error("persist"))
    }

    /// Whether the engine still works: an error once one of its threads failed. Syncs nothing, but takes the lock that
    /// a commit holds.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.engine().db.persist(PersistMode::Buffer).map_err(engine_error("check"))
    }

    /// Writes the memtables out, so that the next open has nothing to replay. A convenience: it gives
    /// up when the engine's threads take longer than `FLUSH_PATIENCE`, as they do for ever after a
    /// failure.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let keyspace = &self.engine().keyspace;
        keyspace.rotate_memtable().map_err(engine_error("rotate memtable"))?;
        let mut waited = Duration::ZERO;
        while keyspace.sealed_memtable_count() > 0 && waited < FLUSH_PATIENCE {
            thread::sleep(FLUSH_PAUSE);
            waited += FLUSH_PAUSE;
        }
        Ok(())
    }

    /// The state of this moment. On the apply thread between commits only.
    pub(crate) fn freeze(self: &Arc<Self>) -> Frozen {
        Frozen { snapshot: self.engine().db.snapshot(), generation: Arc::clone(self) }
    }

    /// Fills a generation that nobody uses yet in one ascending pass: `fill` gets a function that adds
    /// a row. It sees to it that keys ascend strictly, because the engine panics otherwise. The rows
    /// are durable when this returns.
    pub(crate) fn ingest<T, E: From<StoreError>>(
        &self,
        fill: impl FnOnce(&mut AddRow<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut ingestion =
            self.engine().keyspace.start_ingestion().map_err(engine_error("begin ingestion"))?;
        let filled =
            fill(&mut |key, row| ingestion.write(key, row).map_err(engine_error("ingest")))?;
        ingestion.finish().map_err(engine_error("finish ingestion"))?;
        Ok(filled)
    }

    /// Has the directory deleted when the last holder is gone.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Sizes and queues of this moment.
    pub(crate) fn stats(&self) -> ColdStats {
        let Engine { db, keyspace, .. } = self.engine();
        ColdStats {
            generation: self.number,
            tables: keyspace.table_count() as u64,
            l0_tables: keyspace.l0_table_count() as u64,
            table_bytes: keyspace.disk_space(),
            memtable_bytes: db.write_buffer_size(),
            sealed_memtables: keyspace.sealed_memtable_count() as u64,
            outstanding_flushes: db.outstanding_flushes() as u64,
            active_compactions: db.active_compactions() as u64,
            compactions: db.compactions_completed() as u64,
            journals: db.journal_count() as u64,
            block_cache_bytes: db.cache_size(),
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("taken only by drop")
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            let remove = self.retired.load(Ordering::Acquire).then(|| self.dir.clone());
            self.reaper.bury(Dead { engine, remove });
        }
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Engine {
    fn open(dir: &Path, tuning: Tuning, lock: &Arc<DirLock>) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(tuning.block_cache_bytes)
            .worker_threads(WORKERS)
            .max_cached_files(Some(FILES_MAX))
            .max_journaling_size(tuning.journal_bytes_max)
            // Recovery would compress again and compare: it would depend on the encoder's version.
            .journal_compression(CompressionType::None)
            // `true` would keep the last batches in this process's memory, lost with it.
            .manual_journal_persist(false)
            .open()
            .map_err(engine_error("open"))?;
        let keyspace =
            db.keyspace(KEYSPACE, || options(tuning)).map_err(engine_error("open keyspace"))?;
        Ok(Self { keyspace, db, lock: Arc::clone(lock) })
    }
}

fn options(tuning: Tuning) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(tuning.memtable_bytes_max)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .compaction_strategy(Arc::new(
            fjall::compaction::Leveled::default().with_l0_threshold(L0_TABLES),
        ))
}

fn engine_error(op: &'static str) -> impl FnOnce(fjall::Error) -> StoreError {
    move |source| match source {
        fjall::Error::Locked => StoreError::Locked { path: PathBuf::from(op) },
        source => StoreError::Engine { op, source: Box::new(source) },
    }
}

/// The rows of one moment. Pins what is overwritten meanwhile: hold it for seconds.
#[derive(Clone)]
pub(crate) struct Frozen {
    // Before the generation: its drop must find the database open.
    snapshot: fjall::Snapshot,
    generation: Arc<Generation>,
}

/// A key and its row, borrowed from a table block where possible.
pub(crate) type RawRow = (fjall::Slice, fjall::Slice);

impl Frozen {
    /// The generation it belongs to.
    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// One row, copied out of its block: a slice would keep 4 KiB alive for it.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.snapshot.get(self.keyspace(), key).map_err(engine_error("get"))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// Rows in `from..to` (all from `from` on without `to`), uncopied.
    pub(crate) fn raw_scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = Result<RawRow, StoreError>> + use<> {
        let start = Bound::Included(from);
        // An inverted range is an empty one.
        let end = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(from)));
        self.snapshot
            .range::<&[u8], _>(self.keyspace(), (start, end))
            .map(|guard| guard.into_inner().map_err(engine_error("scan")))
    }

    fn keyspace(&self) -> &Keyspace {
        &self.generation.engine().keyspace
    }
}

/// What fjall says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColdStats {
    /// Number of the generation that is the state.
    pub generation: u64,
    /// Table files.
    pub tables: u64,
    /// Table files in level 0; from 20 on commits are slowed down.
    pub l0_tables: u64,
    /// Bytes in table files.
    pub table_bytes: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait to be written; from 4 on commits wait.
    pub sealed_memtables: u64,
    /// Flushes queued.
    pub outstanding_flushes: u64,
    /// Compactions running.
    pub active_compactions: u64,
    /// Compactions finished since the store was opened.
    pub compactions: u64,
    /// Journal files.
    pub journals: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
}

/// Closes generations on a thread of its own.
#[derive(Clone)]
pub(crate) struct Reaper {
    dead: mpsc::Sender<Dead>,
    alive: Arc<(Mutex<usize>, Condvar)>,
}

struct Dead {
    engine: Engine,
    remove: Option<PathBuf>,
}

impl Reaper {
    /// Starts the thread; it ends with the last holder of this handle.
    pub(crate) fn start() -> Result<Self, StoreError> {
        let (dead, graves) = mpsc::channel::<Dead>();
        let alive = Arc::new((Mutex::new(0), Condvar::new()));
        let seen = Arc::clone(&alive);
        thread::Builder::new()
            .name("store-reaper".to_owned())
            .spawn(move || {
                for dead in graves {
                    dead.close();
                    let (count, changed) = &*seen;
                    *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
                    changed.notify_all();
                }
            })
            .map_err(durable::at("start thread", Path::new("store-reaper")))?;
        Ok(Self { dead, alive })
    }

    /// Waits until every generation is closed, at most `patience`. Says whether that was reached.
    pub(crate) fn wait_closed(&self, patience: Duration) -> bool {
        let (count, changed) = &*self.alive;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = changed
            .wait_timeout_while(count, patience, |count| *count > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }

    fn born(&self) {
        *self.alive.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn bury(&self, dead: Dead) {
        if let Err(mpsc::SendError(dead)) = self.dead.send(dead) {
            dead.close();
        }
    }
}

impl Dead {
    fn close(self) {
        let Engine { keyspace, db, lock: _held_until_removed } = self.engine;
        let remove = self.remove;
        // fjall's own lock goes with its last handle.
        drop((keyspace, db));
        if let Some(dir) = remove
            && let Err(error) = durable::remove_dir(&dir)
        {
            // The next open deletes it.
            tracing::warn!(dir = %dir.display(), %error, "an old generation could not be removed");
        }
    }
}
