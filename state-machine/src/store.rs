//! The store of one node: how it is opened, what readers hold, how it is closed.
//!
//! ```text
//!                 ┌── StateMachine  for openraft: apply, checkpoint, install ──► apply thread
//!   open(config) ─┤                                                               │ publishes
//!                 └── Store  for everyone else: view(), applied(), stats() ◄──────┘
//! ```
//! At open, in this order: take LOCK; read CURRENT; delete what it does not name; open the generation;
//! check whose it is and that nothing is missing (S7); sync it once; only then is anything reported.
//!
//! A store that does not pass is left as it is and reported as [`StoreError::Damaged`], `Corrupt` or
//! `Foreign`: it is replaced from a peer, never patched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::checkpoint::{Schedule, now};
use crate::current::{Current, CurrentFile};
use crate::durable;
use crate::error::StoreError;
use crate::generation::{self, DirLock, Frozen, Generation, Reach, Reaper, Tuning};
use crate::hot::{HotCounters, HotTier};
use crate::install;
pub use crate::local::LocalIdentity;
use crate::local::Swept;
use crate::machine::{Job, Machine};
use crate::meta::Meta;
use crate::raft::StateMachine;
use crate::schema::{self, META_KEY, table};
use crate::snapshot::{self, Shelf};
use crate::stats::{Counters, Found, Recovery, StoreStats};
use crate::sweep::Sweep;
use crate::types::LogId;
use crate::view::View;

/// The engine's bounds.
const BLOCK_CACHE_BYTES_MIN: u64 = 1 << 20;
const MEMTABLE_BYTES_MIN: u64 = 1 << 20;
const JOURNAL_BYTES_MIN: u64 = 64 << 20;

/// How long a close waits for the engine's threads; after it they are left to finish alone, which
/// loses nothing, because everything was synced before.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Where a store lies and how much it may use. `hot_bytes_max`, `checkpoint_*` and
/// `snapshot_reuse_entries_max` may differ from one start to the next; the engine keeps the sizes of
/// memtables that a generation was created with.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store's directory; created if it is not there. Nothing else may lie in it.
    pub dir: PathBuf,
    /// Bytes of the hot tier: whole records, overheads included. Default 64 MiB. Below 64 KiB it is
    /// off and every read goes to the cold tier.
    pub hot_bytes_max: u64,
    /// Bytes of table blocks in memory. Default 64 MiB, at least 1 MiB.
    pub block_cache_bytes: u64,
    /// A memtable is written out when it holds this much. Default 64 MiB, at least 1 MiB. Smaller:
    /// less memory and a faster open, but more bytes written. Up to four exist at a time.
    pub memtable_bytes_max: u64,
    /// Bytes of journals after which memtables are written out early. Default 256 MiB, at least
    /// 64 MiB and twice a memtable. It bounds what an open has to replay.
    pub journal_bytes_max: u64,
    /// A checkpoint is due when this many bytes of rows were applied since the last. Default 64 MiB.
    /// Larger: fewer syncs, but more log to re-apply after a power cut.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due after this long if anything was applied. Default 60 s.
    pub checkpoint_interval: Duration,
    /// A snapshot file is sent again while it lies at most this many entries behind. Default 50 000:
    /// well below the entries that the log keeps.
    pub snapshot_reuse_entries_max: u64,
}

impl StoreConfig {
    /// The defaults for a store in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            hot_bytes_max: 64 << 20,
            block_cache_bytes: 64 << 20,
            memtable_bytes_max: 64 << 20,
            journal_bytes_max: 256 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(60),
            snapshot_reuse_entries_max: 50_000,
        }
    }

    /// Everything that is wrong with it; empty when nothing is.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut at_least = |name: &str, value: u64, min: u64| {
            if value < min {
                problems.push(format!("{name} is {value}, at least {min}"));
            }
        };
        at_least("block_cache_bytes", self.block_cache_bytes, BLOCK_CACHE_BYTES_MIN);
        at_least("memtable_bytes_max", self.memtable_bytes_max, MEMTABLE_BYTES_MIN);
        at_least("journal_bytes_max", self.journal_bytes_max, JOURNAL_BYTES_MIN);
        let two_memtables = self.memtable_bytes_max.saturating_mul(2);
        at_least("journal_bytes_max (two memtables)", self.journal_bytes_max, two_memtables);
        at_least("checkpoint_bytes", self.checkpoint_bytes, 1);
        problems
    }

    fn tuning(&self) -> Tuning {
        Tuning {
            block_cache_bytes: self.block_cache_bytes.max(BLOCK_CACHE_BYTES_MIN),
            memtable_bytes_max: self.memtable_bytes_max.max(MEMTABLE_BYTES_MIN),
            journal_bytes_max: self.journal_bytes_max.max(JOURNAL_BYTES_MIN),
        }
    }
}

/// Tells how far the node's log is durable, in the log's own positions.
struct LogProbe(Box<dyn Fn() -> u64 + Send + Sync>);

/// What the apply thread, the adapter and the readers share.
pub(crate) struct Shared {
    view: ArcSwap<View>,
    applied: watch::Sender<u64>,
    pub(crate) current: CurrentFile,
    /// Where to ask how far the node's log is durable.
    log_durable: OnceLock<LogProbe>,
    jobs: mpsc::Sender<Job>,
    pub(crate) schedule: Schedule,
    pub(crate) counters: Counters,
    pub(crate) shelf: Shelf,
    pub(crate) receiving: Arc<AtomicBool>,
    pub(crate) identity: LocalIdentity,
    failed: OnceLock<String>,
    recovery: Recovery,
    tuning: Tuning,
    dir: PathBuf,
    snapshot_dir: PathBuf,
    next_generation: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    reaper: Reaper,
    lock: Arc<DirLock>,
}

impl Shared {
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Shows a View to everyone, then tells those who wait for its applied index.
    pub(crate) fn publish(&self, view: &Arc<View>) {
        self.view.store(Arc::clone(view));
        let index = view.applied().map_or(0, |id| id.index);
        self.applied.send_if_modified(|applied| std::mem::replace(applied, index) != index);
    }

    /// Queues a job. When the apply thread is gone the job is dropped, and with it whoever waits
    /// learns that the store is closed.
    pub(crate) fn submit(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Remembers the first error.
    pub(crate) fn fail(&self, error: &StoreError) {
        let text = chain(error);
        if self.failed.set(text.clone()).is_ok() {
            tracing::error!(error = text, "the store failed");
        }
    }

    /// How far the node's log is durable now, or was when this store was last told.
    pub(crate) fn log_position(&self) -> u64 {
        let known = self.current.says().log_position;
        self.log_durable.get().map_or(known, |probe| known.max((probe.0)()))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn snapshot_dir(&self) -> &Path {
        &self.snapshot_dir
    }

    /// An empty generation with a number that was never used.
    pub(crate) fn create_generation(&self) -> Result<Arc<Generation>, StoreError> {
        let number = self.next_generation.fetch_add(1, Ordering::Relaxed);
        Generation::create(&self.dir, number, self.tuning, &self.lock, &self.reaper)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.dir)
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The store as everyone but openraft sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// The newest frozen state. Hold it for one request: it pins what is overwritten meanwhile.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    /// The index of the last entry applied (0 before the first), told after its View is published.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Counters and sizes of this moment.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let view = shared.view();
        let meta = view.meta();
        let mut stats = StoreStats {
            applied: meta.applied,
            checkpointed: shared.checkpointed(),
            revision: meta.revision,
            oldest_revision: meta.oldest_revision,
            keys: meta.keys,
            bytes: meta.bytes,
            groups: 0,
            entries: 0,
            applied_bytes: 0,
            swept_rows: 0,
            checkpoints: shared.schedule.taken(),
            installs: 0,
            snapshots_written: 0,
            hot: view.hot().stats(),
            cold: view.rows().generation().stats(),
            recovery: shared.recovery,
            failed: shared.failed.get().cloned(),
        };
        shared.counters.fill(&mut stats);
        stats
    }

    /// The last entry that certainly survives a power cut of this node.
    #[must_use]
    pub fn checkpointed(&self) -> Option<LogId> {
        self.shared.checkpointed()
    }

    /// Whether a checkpoint should be taken now. Cheap: ask it often.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        self.shared.checkpoint_due()
    }

    /// Makes everything applied so far durable and gives the last entry of it. Blocking. openraft's
    /// snapshot trigger does the same and tells openraft.
    ///
    /// # Errors
    /// When a sync failed: the node must stop.
    pub fn checkpoint(&self) -> Result<Option<LogId>, StoreError> {
        self.shared.checkpoint()
    }

    /// Says where to ask up to which index the log is purged: a snapshot file below that is not sent again, because
    /// no log continues it. Asked before each transfer; only the first call counts.
    pub fn follow_log(&self, purged: impl Fn() -> u64 + Send + Sync + 'static) {
        self.shared.shelf.follow_log(Box::new(purged));
    }

    /// Meets the node's log. `found` is where it ended when it was found: before this process wrote anything to it,
    /// which must not pass for what was there. `durable` tells how far it is durable, in positions that never go back:
    /// from now on each checkpoint writes that down, and so does this call. To be called before anything is made of
    /// the log. Blocking.
    ///
    /// # Errors
    /// [`StoreError::LogBehind`] when the log ended before what this store has seen of it: it is an older copy, or
    /// its end is lost. Nothing is changed then.
    pub fn meet_log(
        &self,
        found: u64,
        durable: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        let seen = self.log_seen();
        if found < seen {
            return Err(StoreError::LogBehind { ends: found, seen });
        }
        let log_position = durable();
        let shared = &self.shared;
        let _ = shared.log_durable.set(LogProbe(Box::new(durable)));
        let named = shared.current.replace(|says| Current { log_position, ..says });
        named.map(drop).inspect_err(|error| shared.fail(error))
    }

    /// How far the node's log certainly was durable; 0 when nothing was written down yet.
    #[must_use]
    pub fn log_seen(&self) -> u64 {
        self.shared.current.says().log_position
    }

    /// How the store was found when it was opened.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.shared.recovery
    }

    /// Asks the cold tier whether it still works, and remembers if it does not. Blocking, and as long as a commit that
    /// hangs: apply may wait for threads of the engine that are gone, and then nothing else notices.
    ///
    /// # Errors
    /// The engine failed: the node must stop.
    pub fn check(&self) -> Result<(), StoreError> {
        let view = self.shared.view();
        view.rows().generation().check().inspect_err(|error| self.shared.fail(error))
    }

    /// The first error, with its causes; the node must stop.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }

    /// Where snapshot files are written.
    #[must_use]
    pub fn snapshot_dir(&self) -> &Path {
        self.shared.snapshot_dir()
    }

    /// Ends the apply thread after what is queued, takes a last checkpoint and closes the engine.
    /// Blocking; call it when openraft has shut down. Other clones keep the engine open until they
    /// are dropped; nothing is lost either way.
    ///
    /// # Errors
    /// When the last checkpoint failed.
    pub fn close(self) -> Result<(), StoreError> {
        let Self { shared } = self;
        if shared.failed.get().is_some() {
            // The apply thread may wait for an engine that will never answer.
            return Err(StoreError::Closed);
        }
        shared.submit(Job::Stop);
        let thread = shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            return Err(StoreError::Closed);
        }
        if shared.failed.get().is_some() {
            return Err(StoreError::Closed);
        }
        shared.view().rows().generation().flush().inspect_err(|error| shared.fail(error))?;
        shared.checkpoint()?;
        let reaper = shared.reaper.clone();
        if let Some(shared) = Arc::into_inner(shared) {
            drop(shared);
            if !reaper.wait_closed(CLOSE_PATIENCE) {
                tracing::warn!("the store is still read from, or closing takes long");
            }
        }
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Opens the store in `config.dir`, or creates it. Blocking.
///
/// # Errors
/// `Locked` when it is open elsewhere, `Foreign` when it is another node's, `Damaged` or `Corrupt`
/// when something that had been written is missing or does not verify. Nothing is changed then.
pub fn open(config: StoreConfig, id: LocalIdentity) -> Result<(StateMachine, Store), StoreError> {
    let begun = now();
    durable::create_dir(&config.dir)?;
    let lock = DirLock::take(&config.dir)?;
    let reaper = Reaper::start()?;
    let place = Place { config: &config, id, lock: &lock, reaper: &reaper };
    let opened = place.open()?;

    let hot = HotTier::new(config.hot_bytes_max, opened.group, Arc::new(HotCounters::default()));
    let recovery = Recovery {
        found: opened.found,
        applied: opened.meta.applied,
        keys: opened.meta.keys,
        groups_checked: opened.groups_checked,
        ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let sweep = opened.sweep;
    let meta = Arc::new(opened.meta);
    let view = Arc::new(View::new(opened.rows, Arc::new(hot), opened.group, meta));
    let (jobs, queue) = mpsc::channel();
    let shared = Arc::new(Shared {
        applied: watch::Sender::new(view.applied().map_or(0, |id| id.index)),
        view: ArcSwap::new(view),
        current: CurrentFile::new(config.dir.clone(), opened.current),
        log_durable: OnceLock::new(),
        jobs,
        schedule: Schedule::new(config.checkpoint_bytes, config.checkpoint_interval),
        counters: Counters::default(),
        shelf: Shelf::new(config.snapshot_reuse_entries_max),
        receiving: Arc::default(),
        identity: id,
        failed: OnceLock::new(),
        recovery,
        tuning: config.tuning(),
        snapshot_dir: snapshot::dir(&config.dir),
        next_generation: AtomicU64::new(opened.current.generation + 1),
        thread: Mutex::new(None),
        reaper,
        lock,
        dir: config.dir,
    });
    start_apply_thread(&shared, queue, opened.group, sweep)?;
    Ok((StateMachine::new(Arc::clone(&shared)), Store { shared }))
}

fn start_apply_thread(
    shared: &Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    group: u64,
    sweep: Sweep,
) -> Result<(), StoreError> {
    let machine = Machine::new(shared, group, sweep);
    let handle = thread::Builder::new()
        .name("apply".to_owned())
        .spawn(move || machine.run(&queue))
        .map_err(durable::at("start thread", Path::new("apply")))?;
    *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    Ok(())
}

/// What an open needs to find the state.
struct Place<'a> {
    config: &'a StoreConfig,
    id: LocalIdentity,
    lock: &'a Arc<DirLock>,
    reaper: &'a Reaper,
}

/// The state that was found or made, checked and synced.
struct Opened {
    rows: Frozen,
    meta: Meta,
    current: Current,
    group: u64,
    groups_checked: u64,
    sweep: Sweep,
    found: Found,
}

impl Place<'_> {
    fn open(&self) -> Result<Opened, StoreError> {
        match Current::read(self.dir())? {
            Some(current) if current.generation > 0 => self.recover(current),
            Some(_unfinished) => self.create(),
            None if self.generations()?.is_empty() => self.create(),
            None => Err(StoreError::Damaged {
                detail: format!("CURRENT is missing in {}", self.dir().display()),
            }),
        }
    }

    fn create(&self) -> Result<Opened, StoreError> {
        let none = Current { generation: 0, group: 0, applied: None, log_position: 0 };
        none.write(self.dir())?;
        self.clean(0)?;
        let generation =
            Generation::create(self.dir(), 1, self.config.tuning(), self.lock, self.reaper)?;
        let meta = Meta::default();
        let (identity, encoded) = (self.id.row(), meta.encode());
        let rows = [(&META_KEY[..], Some(&encoded[..])), (&identity.0, Some(&identity.1))];
        generation.commit(rows.into_iter(), Reach::Durable)?;
        durable::sync_dir(self.dir())?;
        let current = Current { generation: 1, ..none };
        current.write(self.dir())?;
        Ok(Opened {
            rows: generation.freeze(),
            meta,
            current,
            group: 0,
            groups_checked: 0,
            sweep: Sweep::new(1, 0, Swept { epoch: 0, oldest_revision: 0 }),
            found: Found::Nothing,
        })
    }

    fn recover(&self, named: Current) -> Result<Opened, StoreError> {
        let tuning = self.config.tuning();
        let generation =
            Generation::open(self.dir(), named.generation, tuning, self.lock, self.reaper)?;
        let rows = generation.freeze();
        self.id.check(&rows)?;
        let meta = read_meta(&rows)?;
        if meta.applied < named.applied {
            return Err(StoreError::Damaged {
                detail: format!(
                    "it was synced at {:?} and ends at {:?}",
                    named.applied, meta.applied
                ),
            });
        }
        let (first, last) = check_groups(&rows, named.group)?;
        self.clean(named.generation)?;
        // Before openraft hears of anything in it.
        generation.persist()?;
        let current = Current { group: last, applied: meta.applied, ..named };
        // Not on a disk that may be full, if it says nothing new.
        if current != named {
            current.write(self.dir())?;
        }
        Ok(Opened {
            sweep: Sweep::new(first, last, Swept::read(&rows)?),
            found: if last == named.group { Found::Clean } else { Found::Unclean },
            groups_checked: last - named.group,
            group: last,
            rows,
            meta,
            current,
        })
    }

    /// Deletes what an earlier process left behind; `kept` is the state.
    fn clean(&self, kept: u64) -> Result<(), StoreError> {
        for number in self.generations()? {
            if number != kept {
                durable::remove_dir(&generation::dir_of(self.dir(), number))?;
            }
        }
        snapshot::clean(self.dir())?;
        install::clean(self.dir())
    }

    fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let listed = durable::at("list directory", self.dir());
        let entries = fs::read_dir(self.dir()).map_err(listed)?;
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(durable::at("list directory", self.dir()))?;
            numbers.extend(generation::number_of(&entry.file_name().to_string_lossy()));
        }
        Ok(numbers)
    }

    fn dir(&self) -> &Path {
        &self.config.dir
    }
}

fn read_meta(rows: &Frozen) -> Result<Meta, StoreError> {
    let row = rows
        .get(&META_KEY)?
        .ok_or_else(|| StoreError::Damaged { detail: "the meta row is missing".to_owned() })?;
    Meta::decode(&row).map_err(|error| StoreError::corrupt("meta row", &META_KEY, error))
}

/// Looks whether every group after the checkpoint at `floor` left its row (S7): a journal that was
/// cut in its middle leaves a gap. Gives the first row there is (it may lie below the floor, where
/// rows are removed in the background) and the last.
fn check_groups(rows: &Frozen, floor: u64) -> Result<(u64, u64), StoreError> {
    let mut first = None;
    let mut last = floor;
    for row in rows.raw_scan(&[table::GROUPS], Some(&[table::GROUPS + 1])) {
        let (key, _) = row?;
        let group = schema::group_of(&key)
            .ok_or_else(|| StoreError::corrupt("group row", &key, "not a group"))?;
        first.get_or_insert(group);
        if group > last + 1 {
            return Err(StoreError::Damaged {
                detail: format!(
                    "groups {} to {} are missing, later ones are there",
                    last + 1,
                    group - 1
                ),
            });
        }
        last = last.max(group);
    }
    Ok((first.unwrap_or(last + 1), last))
}
