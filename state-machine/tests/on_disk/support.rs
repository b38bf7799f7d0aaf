//! One node's store, driven as openraft drives it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use openraft::storage::RaftStateMachine;
use openraft::{Entry, EntryPayload};
use raftmap_state_machine::command::{Condition, Deadline, Delete, Put, Txn, TxnOp};
use raftmap_state_machine::raft::{log_id_to_raft, snapshot_meta};
use raftmap_state_machine::{
    Command, FrozenView, KeyRange, ListQuery, LocalIdentity, LogId, Op, SnapshotData,
    SnapshotMetaParts, StateMachine, Store, StoreConfig, StoreError, TypeConfig, View,
};
use tempfile::TempDir;

pub(crate) const ID: LocalIdentity = LocalIdentity { node_id: 1, wal_uuid: 77 };

type RaftEntry = <TypeConfig as openraft::RaftTypeConfig>::Entry;

/// Small enough that a few thousand puts flush memtables and push records out of the hot tier.
pub(crate) fn small(dir: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(dir);
    config.memtable_bytes_max = 1 << 20;
    config.block_cache_bytes = 1 << 20;
    config.hot_bytes_max = 1 << 20;
    config
}

pub(crate) struct Node {
    pub(crate) machine: StateMachine,
    pub(crate) store: Store,
    runtime: tokio::runtime::Runtime,
    next: u64,
}

impl Node {
    pub(crate) fn open(dir: &Path) -> Self {
        Self::try_open(small(dir)).expect("a store")
    }

    pub(crate) fn try_open(config: StoreConfig) -> Result<Self, StoreError> {
        let (machine, store) = raftmap_state_machine::open(config, ID)?;
        let next = store.view().applied().map_or(1, |id| id.index + 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Ok(Self { machine, store, runtime, next })
    }

    /// Applies operations as one call; gives the index of the last.
    pub(crate) fn apply(&mut self, ops: impl IntoIterator<Item = Op>) -> u64 {
        let first = self.next;
        let entries: Vec<_> =
            ops.into_iter().zip(first..).map(|(op, index)| entry(index, &op)).collect();
        self.next += entries.len() as u64;
        self.apply_entries(entries);
        self.next - 1
    }

    pub(crate) fn apply_entries(&mut self, entries: Vec<RaftEntry>) {
        let entries = stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.runtime.block_on(self.machine.apply(entries)).expect("applied entries");
    }

    pub(crate) fn block_on<T>(&mut self, work: impl AsyncFnOnce(&mut StateMachine) -> T) -> T {
        self.runtime.block_on(work(&mut self.machine))
    }

    /// The current snapshot, as openraft would hand it to a transfer.
    pub(crate) fn frozen(&mut self) -> FrozenView {
        let snapshot = self.block_on(async |machine| machine.get_current_snapshot().await);
        match snapshot.unwrap().expect("something was applied").snapshot {
            SnapshotData::Frozen(frozen) => frozen,
            SnapshotData::Prepared(_) => panic!("a prepared generation is not current"),
        }
    }

    pub(crate) fn install(
        &mut self,
        meta: &SnapshotMetaParts,
        data: SnapshotData,
    ) -> Result<(), std::io::Error> {
        let meta = snapshot_meta(meta).unwrap();
        let installed = self.block_on(async |machine| machine.install_snapshot(&meta, data).await);
        self.next = self.store.view().applied().map_or(1, |id| id.index + 1);
        installed
    }

    pub(crate) fn view(&self) -> std::sync::Arc<View> {
        self.store.view()
    }

    /// Ends as a process does that has time to.
    pub(crate) fn close(self) {
        drop(self.machine);
        self.store.close().expect("a clean close");
    }
}

pub(crate) fn entry(index: u64, op: &Op) -> RaftEntry {
    Entry { log_id: at(index), payload: EntryPayload::Normal(Command::encode(op, index)) }
}

pub(crate) fn at(index: u64) -> openraft::alias::LogIdOf<TypeConfig> {
    log_id_to_raft(LogId { term: 1, node: 1, index })
}

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub(crate) fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Op {
    Op::Put(Put {
        key: bytes(key),
        value: bytes(value),
        deadline: Deadline::None,
        condition: Condition::none(),
        prev: false,
    })
}

pub(crate) fn delete(key: impl AsRef<[u8]>) -> Op {
    Op::Delete(Delete { key: bytes(key), condition: Condition::none(), prev: false })
}

/// All keys to one value, at once.
pub(crate) fn put_all(keys: impl IntoIterator<Item = String>, value: &str) -> Op {
    let set = |key| TxnOp::Put {
        key: bytes(key),
        value: bytes(value),
        deadline: Deadline::None,
        prev: false,
    };
    let success = keys.into_iter().map(set).collect();
    Op::Txn(Txn { compare: Vec::new(), success, failure: Vec::new() })
}

/// `count` puts of 256 bytes under `<prefix>00000` and so on.
pub(crate) fn puts(prefix: &str, count: u32) -> impl Iterator<Item = Op> {
    (0..count).map(move |n| {
        let value: Vec<u8> = n.wrapping_mul(2_654_435_761).to_le_bytes().repeat(64);
        put(format!("{prefix}{n:05}"), value)
    })
}

pub(crate) fn value(view: &View, key: impl AsRef<[u8]>) -> Option<Bytes> {
    view.get(key.as_ref()).unwrap().0.map(|item| item.value)
}

pub(crate) fn count(view: &View) -> u64 {
    let query = ListQuery { range: KeyRange::all(), count_only: true, ..ListQuery::default() };
    view.list(&query).unwrap().count
}

/// The state is what its own digest says.
pub(crate) fn assert_sound(view: &View) {
    assert_eq!(view.scan_digest().unwrap(), view.digest());
    assert_eq!(count(view), view.meta().keys);
}

/// Waits until `holds`, which must happen within 30 s.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::yield_now();
    }
}

/// A copy of a store's directory as a crash at this moment would leave it.
pub(crate) fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(dir, copy.path());
    copy
}

pub(crate) fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            copy_file(&entry.path(), &target);
        }
    }
}

pub(crate) const PAGE: usize = 4096;

/// Whether nothing was ever written to a page.
pub(crate) fn is_empty(page: &[u8]) -> bool {
    [0; PAGE].starts_with(page)
}

/// Leaves the unused end of a preallocated journal a hole, as it is in the original.
fn copy_file(from: &Path, to: &Path) {
    let bytes = std::fs::read(from).unwrap();
    let mut pages = bytes.chunks(PAGE);
    let used = PAGE * pages.rposition(|page| !is_empty(page)).map_or(0, |last| last + 1);
    std::fs::write(to, &bytes[..used.min(bytes.len())]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(to).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// The generation directories, by name.
pub(crate) fn generations(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("gen-"))
        .collect();
    names.sort();
    names
}

/// Opens the engine below a closed store and changes its rows.
pub(crate) fn with_rows<T>(
    dir: &Path,
    generation: &str,
    work: impl FnOnce(&fjall::Keyspace) -> T,
) -> T {
    let db = fjall::Database::builder(dir.join(generation)).open().unwrap();
    let keyspace = db.keyspace("sm", fjall::KeyspaceCreateOptions::default).unwrap();
    let result = work(&keyspace);
    db.persist(fjall::PersistMode::SyncAll).unwrap();
    result
}

pub(crate) fn part_files(dir: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(dir.join("incoming")) {
        Ok(files) => files.map(|file| file.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}
