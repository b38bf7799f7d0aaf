//! The sending side of a snapshot: a frozen state, and the file it becomes.
//!
//! ```text
//!   FrozenView ── write_file (blocking) ──► snapshots/snap-<id>-<nth>  ──► sent as it is
//!     O(1)         rows → chunks → .tmp → sync → rename                                 resumable at any offset
//! ```
//! The frozen rows are released when the file is whole: a transfer at the speed of a network must not
//! pin what the store overwrites meanwhile. The newest file stays on the shelf for a while, because a
//! broken transfer is tried again and another follower may need the same.
//!
//! A file holds the replicated rows alone: what old epochs left behind is not part of the state.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::digest::Digest;
use crate::durable;
use crate::error::StoreError;
use crate::generation::Frozen;
use crate::meta::Meta;
use crate::schema::{self, EPOCH_TABLES, table};
use crate::snapshot_format::Writer;
use crate::store::Shared;
use crate::types::LogId;
use crate::view::View;

const DIR: &str = "snapshots";
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// Looks at the shelf (about one a second when idle, one per checkpoint otherwise) without use, after
/// which a file is deleted.
const EXPIRE_AFTER_LOOKS: u64 = 600;

/// Why a snapshot could not be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are not a snapshot that this node can take. The store is unharmed; the sender
    /// should begin anew.
    #[error("snapshot refused: {reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// Another snapshot is being received; try again later.
    #[error("another snapshot is being received")]
    Busy,
    /// This machine is broken.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The label of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMetaParts {
    /// The last entry it holds.
    pub applied: Option<LogId>,
    /// The entry that made its membership.
    pub membership_log: Option<LogId>,
    /// Its membership, as [`crate::raft::encode_membership`] writes it; empty if it has none.
    pub membership: Bytes,
}

impl SnapshotMetaParts {
    pub(crate) fn of(meta: &Meta) -> Self {
        Self {
            applied: meta.applied,
            membership_log: meta.membership_log,
            membership: meta.membership.clone(),
        }
    }

    /// The snapshot's name: equal ids mean equal states. Letters, digits and `-` only.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(self.applied)
    }
}

pub(crate) fn id_of(applied: Option<LogId>) -> String {
    match applied {
        Some(LogId { term, node, index }) => format!("{term}-{node}-{index:020}"),
        None => "empty".to_owned(),
    }
}

/// A state that is frozen, or was and lies in a file by now. Cheap.
pub struct FrozenView {
    shared: Arc<Shared>,
    source: Source,
}

enum Source {
    View(Arc<View>),
    File(SnapshotFile),
}

impl FrozenView {
    /// Exactly this View.
    pub(crate) fn of(shared: &Arc<Shared>, view: Arc<View>) -> Self {
        Self { shared: Arc::clone(shared), source: Source::View(view) }
    }

    /// The newest file if it is fresh enough to be worth sending, else this View.
    pub(crate) fn newest(shared: &Arc<Shared>, view: Arc<View>) -> Self {
        let source = match shared.shelf.fresh(view.applied()) {
            Some(file) => Source::File(file),
            None => Source::View(view),
        };
        Self { shared: Arc::clone(shared), source }
    }

    /// The label of what is frozen.
    #[must_use]
    pub fn meta_parts(&self) -> SnapshotMetaParts {
        match &self.source {
            Source::View(view) => SnapshotMetaParts::of(view.meta()),
            Source::File(file) => file.meta.clone(),
        }
    }

    /// Writes the file and releases the frozen rows, or gives the file that is there already.
    /// Blocking: reads the whole store at the speed of the disk.
    ///
    /// # Errors
    /// When a row cannot be read or the file cannot be written; no part of a file is left behind. `Damaged` when
    /// the rows are not those of the state: the node must stop.
    pub fn write_file(self) -> Result<SnapshotFile, StoreError> {
        let view = match self.source {
            Source::File(file) => return Ok(file),
            Source::View(view) => view,
        };
        // One at a time: whoever waits here for the same state finds it done.
        let _writing = self.shared.shelf.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = self.shared.shelf.exactly(view.applied()) {
            return Ok(file);
        }
        let meta = SnapshotMetaParts::of(view.meta());
        let dir = self.shared.snapshot_dir();
        durable::create_dir(dir)?;
        let id = meta.id();
        // A name of its own each time: an older file of the same state may still be sent.
        let nth = self.shared.shelf.nth.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("snap-{id}-{nth}"));
        let unfinished = durable::unfinished(&path);
        let written = write_rows(&unfinished, view.rows(), view.meta())
            .and_then(|bytes| durable::publish(&unfinished, &path).map(|()| bytes));
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                let _ = durable::remove_file(&unfinished);
                if matches!(error, StoreError::Damaged { .. }) {
                    // Found out late: this node must not go on with such a state, let alone lead.
                    self.shared.fail(&error);
                }
                return Err(error);
            }
        };
        drop(view);
        self.shared.counters.snapshot_written();
        let file = SnapshotFile { id, bytes, meta, kept: Arc::new(Kept { path }) };
        self.shared.shelf.put(file.clone());
        Ok(file)
    }
}

impl std::fmt::Debug for FrozenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrozenView({})", self.meta_parts().id())
    }
}

/// Writes and syncs a whole snapshot; gives its length.
fn write_rows(path: &Path, rows: &Frozen, meta: &Meta) -> Result<u64, StoreError> {
    let at = |op| durable::at(op, path);
    let file = File::create(path).map_err(at("create snapshot"))?;
    let out = BufWriter::with_capacity(FILE_BUFFER_BYTES, file);
    let mut writer = Writer::begin(out, &meta.encode()).map_err(at("write snapshot"))?;
    let mut digest = Digest::default();
    for (from, to) in tables(meta) {
        for row in rows.raw_scan(&from, to.as_deref()) {
            let (key, row) = row?;
            if matches!(key.first(), Some(&(table::RECORDS | table::DEADLINES))) {
                digest.add_record(&key, &row);
            }
            writer.row(&key, &row).map_err(at("write snapshot"))?;
        }
    }
    // This was a full scan: it must give the digest that was kept row by row (S1).
    if digest.records != meta.digest.records {
        let detail = "its rows are not those of its digest".to_owned();
        return Err(StoreError::Damaged { detail });
    }
    let out = writer.finish().map_err(at("write snapshot"))?;
    let file = out.into_inner().map_err(|error| at("write snapshot")(error.into_error()))?;
    file.sync_all().map_err(at("sync snapshot"))?;
    Ok(file.metadata().map_err(at("look at snapshot"))?.len())
}

/// The ranges of rows that make the state, ascending: this epoch of the tables that have one, and
/// the kept part of the others. The meta row is in the header.
fn tables(meta: &Meta) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut ranges: Vec<_> = EPOCH_TABLES
        .iter()
        .map(|table| {
            let from = schema::epoch_start(*table, meta.epoch).to_vec();
            (from, Some(schema::epoch_end(*table, meta.epoch)))
        })
        .collect();
    ranges.push((schema::change_key(meta.oldest_revision, 0).to_vec(), None));
    ranges
}

/// A whole, synced snapshot file. It stays as long as one of these does.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    id: String,
    bytes: u64,
    meta: SnapshotMetaParts,
    kept: Arc<Kept>,
}

impl SnapshotFile {
    /// Where it lies. Send its bytes as they are, from any offset.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.kept.path
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its name on the wire.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its label.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMetaParts {
        &self.meta
    }
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = durable::remove_file(&self.path) {
            // The next open deletes it.
            tracing::warn!(path = %self.path.display(), %error, "an old snapshot could not be removed");
        }
    }
}

/// The newest snapshot file.
pub(crate) struct Shelf {
    newest: Mutex<Option<KeptFile>>,
    writing: Mutex<()>,
    nth: AtomicU64,
    /// Entries that a file may lie behind the state and still be sent.
    reuse_entries_max: u64,
    /// Up to where the log is purged: a snapshot below is of no use to anyone.
    purged: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

#[derive(Debug)]
struct KeptFile {
    file: SnapshotFile,
    looks: u64,
}

impl Shelf {
    pub(crate) fn new(reuse_entries_max: u64) -> Self {
        Self {
            newest: Mutex::new(None),
            writing: Mutex::new(()),
            nth: AtomicU64::new(0),
            reuse_entries_max,
            purged: OnceLock::new(),
        }
    }

    /// Where to ask up to which index the log is purged.
    pub(crate) fn follow_log(&self, purged: Box<dyn Fn() -> u64 + Send + Sync>) {
        let _ = self.purged.set(purged);
    }

    /// The newest file, if the log still continues it and it is not far behind `applied`.
    fn fresh(&self, applied: Option<LogId>) -> Option<SnapshotFile> {
        let purged = self.purged.get().map_or(0, |purged| purged());
        self.taken(|at| {
            applied.is_some_and(|applied| {
                applied.index.saturating_sub(at.index) <= self.reuse_entries_max
                    && at.index >= purged
            })
        })
    }

    fn exactly(&self, applied: Option<LogId>) -> Option<SnapshotFile> {
        self.taken(|at| Some(at) == applied)
    }

    fn taken(&self, wanted: impl Fn(LogId) -> bool) -> Option<SnapshotFile> {
        let mut newest = self.newest();
        let kept = newest.as_mut()?;
        if !wanted(kept.file.meta.applied?) {
            return None;
        }
        kept.looks = 0;
        Some(kept.file.clone())
    }

    fn put(&self, file: SnapshotFile) {
        let mut newest = self.newest();
        if newest.as_ref().is_none_or(|kept| kept.file.meta.applied <= file.meta.applied) {
            // The replaced one is deleted with its last transfer.
            *newest = Some(KeptFile { file, looks: 0 });
        }
    }

    /// Called now and then: lets go of a file that nobody asked for.
    pub(crate) fn expire(&self) {
        let mut newest = self.newest();
        if let Some(kept) = newest.as_mut() {
            let in_use = Arc::strong_count(&kept.file.kept) > 1;
            kept.looks = if in_use { 0 } else { kept.looks + 1 };
            if kept.looks > EXPIRE_AFTER_LOOKS {
                *newest = None;
            }
        }
    }

    fn newest(&self) -> MutexGuard<'_, Option<KeptFile>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the files of a store lie.
pub(crate) fn dir(store: &Path) -> PathBuf {
    store.join(DIR)
}

/// Deletes every file: those of an earlier process are of no use.
pub(crate) fn clean(store: &Path) -> Result<(), StoreError> {
    let dir = dir(store);
    if dir.is_dir() {
        fs::remove_dir_all(&dir).map_err(durable::at("remove snapshots", &dir))
    } else {
        Ok(())
    }
}
