//! The receiving side of a snapshot: verified as it arrives, made into a generation, then named.
//!
//! ```text
//!   Incoming::write ─► incoming/<id>.part     every frame verified before it is kept     resumable
//!   Incoming::finish ─► gen-(n+1): one ascending ingestion, meta and local rows, all synced
//!   install_snapshot ─► CURRENT names gen-(n+1)                                          commit point
//!                       the old generation goes when its last View is gone
//! ```
//!
//! | a crash                    | leaves                                                              |
//! |----------------------------|---------------------------------------------------------------------|
//! | while bytes arrive         | the old state, and a part to resume from                            |
//! | in or after `finish`       | the old state; the next open deletes gen-(n+1)                      |
//! | after CURRENT was replaced | the new state; the next open deletes the old generation             |
//!
//! Never a mixture: nothing is written into the generation that is in use.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::Digest;
use crate::durable::{self, UNFINISHED};
use crate::error::StoreError;
use crate::generation::{AddRow, Generation, Reach};
use crate::local::Swept;
use crate::meta::Meta;
use crate::raft::SnapshotData;
use crate::schema::{self, META_KEY, table};
use crate::snapshot::{FrozenView, SnapshotError, SnapshotMetaParts, id_of};
use crate::snapshot_format::{Parser, Part, rows};
use crate::store::{Shared, Store};

const DIR: &str = "incoming";
const PART: &str = ".part";
const READ_BYTES: usize = 256 << 10;
/// Names on the wire become file names: nothing longer, and nothing but letters, digits and `-`.
const ID_BYTES_MAX: usize = 128;

/// A snapshot that is being received. One at a time per store; dropping it keeps what was verified,
/// so that the same id can be resumed.
pub struct Incoming {
    shared: Arc<Shared>,
    id: String,
    path: PathBuf,
    file: File,
    parser: Parser,
    _only: OnlyOne,
}

impl Incoming {
    /// Begins to receive the snapshot that its sender calls `id`, or resumes it: ask
    /// [`Incoming::offset`] from where. Parts of other snapshots are deleted. Blocking: verifies
    /// again what is there.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while another one is received, `Refused` for an id that is no name.
    pub fn begin(store: &Store, id: &str) -> Result<Self, SnapshotError> {
        Self::begin_in(store.shared(), id)
    }

    pub(crate) fn begin_in(shared: &Arc<Shared>, id: &str) -> Result<Self, SnapshotError> {
        let named = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !named || id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(refused("its id is not a name"));
        }
        let only = OnlyOne::take(shared)?;
        let dir = shared.dir().join(DIR);
        durable::create_dir(&dir)?;
        let path = dir.join(format!("{id}{PART}"));
        keep_only(&dir, &path)?;
        let parser = verified_part(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(durable::at("open received snapshot", &path))?;
        // What is behind the last whole frame was never acknowledged to anyone.
        file.set_len(parser.verified()).map_err(durable::at("cut received snapshot", &path))?;
        let shared = Arc::clone(shared);
        Ok(Self { shared, id: id.to_owned(), path, file, parser, _only: only })
    }

    /// Bytes received and verified: where the sender has to go on after a break.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.parser.verified()
    }

    /// Takes the next bytes, in pieces of any size. Blocking. Memory: what was given and one frame.
    ///
    /// # Errors
    /// `Refused` when a frame does not verify. What was verified before goes as well: it need not be of the file that
    /// the sender has now, and then every attempt to go on from it would fail again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.parser.feed(bytes);
        loop {
            let next = self.parser.next();
            if let Err(SnapshotError::Refused { .. }) = next {
                durable::remove_file(&self.path)?;
            }
            let Some((_, frame)) = next? else { return Ok(()) };
            self.file
                .write_all(&frame)
                .map_err(durable::at("write received snapshot", &self.path))?;
        }
    }

    /// Makes a generation of it that only waits to be named by `install_snapshot`. Blocking: writes
    /// the whole store once more. Deletes the received file, whatever the outcome.
    ///
    /// # Errors
    /// `Refused` when the snapshot is not whole, is not what its id says, or its rows are not a state.
    pub fn finish(self) -> Result<(SnapshotMetaParts, SnapshotData), SnapshotError> {
        if !self.parser.is_complete() {
            return Err(refused("it is not whole"));
        }
        let prepared = prepare(&self.shared, &self.path);
        durable::remove_file(&self.path)?;
        let prepared = prepared?;
        if prepared.id() != self.id {
            return Err(refused("it is not the state that its id names"));
        }
        Ok((prepared.meta_parts(), SnapshotData::Prepared(prepared)))
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("id", &self.id)
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

/// Held while a snapshot is received.
struct OnlyOne(Arc<AtomicBool>);

impl OnlyOne {
    fn take(shared: &Shared) -> Result<Self, SnapshotError> {
        let busy = Arc::clone(&shared.receiving);
        if busy.swap(true, Ordering::AcqRel) { Err(SnapshotError::Busy) } else { Ok(Self(busy)) }
    }
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Deletes what was received of other snapshots.
fn keep_only(dir: &Path, kept: &Path) -> Result<(), StoreError> {
    for file in fs::read_dir(dir).map_err(durable::at("list directory", dir))? {
        let path = file.map_err(durable::at("list directory", dir))?.path();
        if path != kept {
            durable::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A parser that has seen every whole frame of the file, and nothing behind.
fn verified_part(path: &Path) -> Result<Parser, SnapshotError> {
    if !path.exists() {
        return Ok(Parser::new());
    }
    let mut reader = Reader::open(path)?;
    loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(reader.parser.rewound()),
            // Not what was verified once, or cut by a crash: begin anew.
            Err(SnapshotError::Refused { .. }) => {
                durable::remove_file(path)?;
                return Ok(Parser::new());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads verified parts from a file.
struct Reader<'a> {
    path: &'a Path,
    file: File,
    buffer: Vec<u8>,
    parser: Parser,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(durable::at("open snapshot", path))?;
        Ok(Self { path, file, buffer: vec![0; READ_BYTES], parser: Parser::new() })
    }

    /// The next part; `None` at the end of the file, which may lie within a part.
    fn next(&mut self) -> Result<Option<Part>, SnapshotError> {
        loop {
            if let Some((part, _)) = self.parser.next()? {
                return Ok(Some(part));
            }
            let read = self
                .file
                .read(&mut self.buffer)
                .map_err(durable::at("read snapshot", self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.parser.feed(&self.buffer[..read]);
        }
    }
}

/// A generation that holds a snapshot, synced, and that CURRENT does not name yet. Dropping it
/// deletes its directory.
#[derive(Debug)]
pub struct PreparedGeneration {
    inner: Option<Box<(Arc<Generation>, Meta)>>,
}

impl PreparedGeneration {
    /// The label of what it holds.
    #[must_use]
    pub fn meta_parts(&self) -> SnapshotMetaParts {
        SnapshotMetaParts::of(self.meta())
    }

    /// The name of what it holds.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(self.meta().applied)
    }

    pub(crate) fn into_parts(mut self) -> (Arc<Generation>, Meta) {
        *self.inner.take().expect("taken only here")
    }

    fn meta(&self) -> &Meta {
        let (_, meta) = &**self.inner.as_ref().expect("taken only by into_parts");
        meta
    }
}

impl Drop for PreparedGeneration {
    fn drop(&mut self) {
        if let Some(prepared) = &self.inner {
            prepared.0.retire();
        }
    }
}

/// Makes a generation of a frozen state of another store of this process (or of this one).
pub(crate) fn prepare_from(
    shared: &Arc<Shared>,
    frozen: FrozenView,
) -> Result<PreparedGeneration, SnapshotError> {
    let file = frozen.write_file()?;
    prepare(shared, file.path())
}

/// Makes a generation of a snapshot file, verifying it once more.
fn prepare(shared: &Arc<Shared>, path: &Path) -> Result<PreparedGeneration, SnapshotError> {
    let generation = shared.create_generation()?;
    let filled = fill(shared, &generation, path).inspect_err(|_| generation.retire())?;
    Ok(PreparedGeneration { inner: Some(Box::new((generation, filled))) })
}

fn fill(shared: &Shared, generation: &Generation, path: &Path) -> Result<Meta, SnapshotError> {
    let mut reader = Reader::open(path)?;
    let Some(Part::Header(header)) = reader.next()? else {
        return Err(refused("it has no header"));
    };
    let meta = Meta::decode(&header)
        .map_err(|error| SnapshotError::Refused { reason: format!("its header: {error}") })?;
    let (records, digest) = generation.ingest(|write| ingest(&mut reader, write))?;
    if records != meta.keys {
        return Err(refused("it holds another number of keys than it says"));
    }
    // Its sender may be damaged without knowing: a full scan must give the digest that it carries (S1).
    if digest.records != meta.digest.records {
        return Err(refused("its rows are not those of its digest"));
    }
    let swept = Swept { epoch: meta.epoch, oldest_revision: meta.oldest_revision };
    let (identity, swept) = (shared.identity.row(), swept.row());
    let rows = [
        (&META_KEY[..], Some(&header[..])),
        (&identity.0, Some(&identity.1)),
        (&swept.0, Some(&swept.1)),
    ];
    generation.commit(rows.into_iter(), Reach::Durable)?;
    // The directory's own name; the rows above were synced by the engine.
    durable::sync_dir(shared.dir())?;
    Ok(meta)
}

/// Writes the rows; gives the number of records among them, and the digest of those that have one.
fn ingest(reader: &mut Reader<'_>, write: &mut AddRow<'_>) -> Result<(u64, Digest), SnapshotError> {
    let mut records = 0;
    let mut digest = Digest::default();
    let mut last = Vec::new();
    while let Some(part) = reader.next()? {
        let Part::Chunk(raw) = part else { continue };
        for row in rows(&raw) {
            let (key, row) = row?;
            if key <= last.as_slice() || !schema::is_replicated(key) || key == META_KEY {
                return Err(refused("its rows are not those of a state"));
            }
            write(key, row)?;
            let table = key.first();
            records += u64::from(table == Some(&table::RECORDS));
            if matches!(table, Some(&(table::RECORDS | table::DEADLINES))) {
                digest.add_record(key, row);
            }
            last.clear();
            last.extend_from_slice(key);
        }
    }
    if reader.parser.is_complete() {
        Ok((records, digest))
    } else {
        Err(refused("it is not whole"))
    }
}

fn refused(reason: &str) -> SnapshotError {
    SnapshotError::Refused { reason: reason.to_owned() }
}

/// Deletes what an earlier process left unfinished in `dir`.
pub(crate) fn clean(dir: &Path) -> Result<(), StoreError> {
    for file in fs::read_dir(dir).map_err(durable::at("list directory", dir))? {
        let file = file.map_err(durable::at("list directory", dir))?;
        if file.file_name().to_string_lossy().ends_with(UNFINISHED) {
            durable::remove_file(&file.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::local::LocalIdentity;
    use crate::snapshot_format::Writer;
    use crate::store::{StoreConfig, open};
    use crate::types::LogId;

    /// A snapshot of one record whose digest is off by `error`.
    fn snapshot(error: u128) -> (Meta, Vec<u8>) {
        let (key, row) = (schema::record_key(0, b"k"), Bytes::from_static(b"any row"));
        let mut digest = Digest::default();
        digest.add_record(&key, &row);
        digest.records = digest.records.wrapping_add(error);
        let applied = Some(LogId { term: 1, node: 1, index: 9 });
        let meta = Meta { applied, keys: 1, digest, ..Meta::default() };
        let mut writer = Writer::begin(Vec::new(), &meta.encode()).expect("memory takes it");
        writer.row(&key, &row).expect("memory takes it");
        (meta, writer.finish().expect("memory takes it"))
    }

    #[test]
    fn rows_that_are_not_those_of_their_digest_are_refused() {
        for error in [0, 1] {
            let dir = tempfile::tempdir().unwrap();
            let id = LocalIdentity { node_id: 1, wal_uuid: 1 };
            let (_machine, store) = open(StoreConfig::new(dir.path()), id).unwrap();
            let (meta, bytes) = snapshot(error);
            let mut incoming = Incoming::begin(&store, &id_of(meta.applied)).unwrap();
            incoming.write(&bytes).unwrap();

            let finished = incoming.finish();

            match finished {
                Ok(_) => assert_eq!(error, 0),
                Err(SnapshotError::Refused { reason }) => {
                    assert_eq!((error, reason.contains("digest")), (1, true), "{reason}");
                    assert_eq!(store.view().applied(), None, "the old state stays");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
