//! The log as openraft wants it. The only file that names openraft or tokio.
//!
//! Of the calls below, the core of openraft awaits every one but the reads. So only `save_vote` and
//! `truncate_after` wait for the disk; `append`, `purge` and `save_committed` leave their record in the
//! writer's queue and return. Reads are answered from memory where they can be, else on a blocking thread.

use std::fmt::Debug;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};

use futures_util::Stream;
use futures_util::stream;
use openraft::alias::{LogIdOf, VoteOf};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftTypeConfig};
use tokio::sync::oneshot;

use crate::error::LogError;
use crate::log::Log;
pub use crate::types::{EntryParts, LogIdParts, VoteParts};

/// Bytes of entries in one answer to a replication stream, and in one step of an entries stream.
const READ_BYTES_MAX: usize = 1 << 20;

/// How the entries, votes and ids of a type config become numbers and bytes, and back.
///
/// `entry_from_parts(entry_to_parts(e))` is `e`, for ever: what an older version wrote must be readable.
pub trait EntryCodec<C: RaftTypeConfig>: Send + Sync + 'static {
    /// An entry as parts. The payload shares the entry's bytes.
    fn entry_to_parts(entry: &C::Entry) -> EntryParts;
    /// An entry from its parts. An error when the payload is not one that this version knows.
    fn entry_from_parts(parts: EntryParts) -> io::Result<C::Entry>;
    /// A vote as parts.
    fn vote_to_parts(vote: &VoteOf<C>) -> VoteParts;
    /// A vote from its parts.
    fn vote_from_parts(parts: VoteParts) -> VoteOf<C>;
    /// A log id as parts.
    fn log_id_to_parts(id: &LogIdOf<C>) -> LogIdParts;
    /// A log id from its parts.
    fn log_id_from_parts(parts: LogIdParts) -> LogIdOf<C>;
}

/// The log of one node, for openraft to write.
#[derive(Debug)]
pub struct LogStore<C, K> {
    log: Log,
    _types: PhantomData<fn() -> (C, K)>,
}

/// A reader of the log; openraft makes one for each peer and for applying.
#[derive(Debug)]
pub struct LogReader<C, K> {
    log: Log,
    _types: PhantomData<fn() -> (C, K)>,
}

impl<C, K> LogStore<C, K> {
    /// Serves this log. Keep a clone of `log` for its statistics and to close it.
    pub fn new(log: Log) -> Self {
        Self { log, _types: PhantomData }
    }

    /// The log behind it.
    pub fn handle(&self) -> &Log {
        &self.log
    }
}

impl<C, K> RaftLogStorage<C> for LogStore<C, K>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    type LogReader = LogReader<C, K>;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let ends = self.log.ends();
        Ok(LogState {
            last_purged_log_id: ends.purged.map(K::log_id_from_parts),
            last_log_id: ends.last.map(K::log_id_from_parts),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        LogReader { log: self.log.clone(), _types: PhantomData }
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.log.save_vote(K::vote_to_parts(vote), |result| {
            // Nobody waits any more: the node is stopping, and the vote is saved all the same.
            let _ = done.send(result);
        })?;
        wait(durable).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        // None is what a node says that has never committed anything; there is nothing to save.
        match committed {
            Some(id) => Ok(self.log.save_committed(K::log_id_to_parts(&id))?),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.log.committed().map(K::log_id_from_parts))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let parts = entries.into_iter().map(|entry| K::entry_to_parts(&entry)).collect();
        poll_fn(|cx| self.log.poll_room(cx)).await?;
        let done = move |result: Result<(), LogError>| {
            callback.io_completed(result.map_err(io::Error::from));
        };
        Ok(self.log.append(parts, done)?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<C>>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let keep = last_log_id.map(|id| K::log_id_to_parts(&id).index);
        self.log.truncate_after(keep, |result| {
            let _ = done.send(result);
        })?;
        wait(durable).await
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> io::Result<()> {
        Ok(self.log.purge_upto(K::log_id_to_parts(&log_id))?)
    }
}

impl<C, K> RaftLogReader<C> for LogReader<C, K>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<C::Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        decode::<C, K>(read(&self.log, indexes(&range), usize::MAX).await?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        let parts = read(&self.log, start..end, READ_BYTES_MAX).await?;
        // Purged meanwhile: only a replication that is about to end can meet that. Nothing is sent as
        // a heartbeat; an error would end the node.
        if begins_at(start, &parts).is_err() {
            return Ok(Vec::new());
        }
        decode::<C, K>(parts)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<C::Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.log.clone();
        let due = due(&log, &range);
        let chunks = stream::try_unfold((log, due), |(log, left)| async move {
            if left.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let parts = read(&log, left.clone(), READ_BYTES_MAX).await?;
            begins_at(left.start, &parts)?;
            let Some(last) = parts.last() else { return Err(not_there(left.start)) };
            let left = last.id.index.saturating_add(1)..left.end;
            Ok(Some((stream::iter(parts.into_iter().map(Ok)), (log, left))))
        });
        use futures_util::{StreamExt, TryStreamExt};
        chunks.try_flatten().map(|part| part.and_then(K::entry_from_parts)).boxed()
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<C>>> {
        Ok(self.log.vote().map(K::vote_from_parts))
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogIdOf<C>>,
    ) -> io::Result<Vec<LogIdOf<C>>> {
        // Openraft's document says the first id of each leader, its code and its suite say the last.
        let first = K::log_id_to_parts(range.start()).index;
        let last = K::log_id_to_parts(range.end()).index;
        let ends = self.log.leader_ends(first..last.saturating_add(1));
        Ok(ends.into_iter().map(K::log_id_from_parts).collect())
    }
}

/// Waits for the writer's answer. A dropped sender cannot happen: a completion is called exactly once.
async fn wait(durable: oneshot::Receiver<Result<(), LogError>>) -> io::Result<()> {
    Ok(durable.await.map_err(io::Error::other)??)
}

/// Reads from memory at once, from disk on a blocking thread.
async fn read(log: &Log, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<EntryParts>> {
    if let Some(entries) = log.read_cached(range.clone(), bytes_max) {
        return Ok(entries);
    }
    let log = log.clone();
    let read = tokio::task::spawn_blocking(move || log.read(range, bytes_max));
    Ok(read.await.map_err(io::Error::other)??)
}

/// The entries that a stream owes: it may be asked beyond the end of the log, and ends there.
fn due(log: &Log, range: &impl RangeBounds<u64>) -> Range<u64> {
    let Range { start, end } = indexes(range);
    let ends = log.ends();
    let first = match range.start_bound() {
        Bound::Unbounded => ends.purged.map_or(0, |id| id.index + 1),
        Bound::Included(_) | Bound::Excluded(_) => start,
    };
    first..end.min(ends.last.map_or(0, |id| id.index + 1))
}

/// A read that begins later would be taken for a log with a hole: the entries were purged meanwhile.
fn begins_at(start: u64, parts: &[EntryParts]) -> io::Result<()> {
    match parts.first() {
        Some(first) if first.id.index != start => Err(not_there(start)),
        _ => Ok(()),
    }
}

fn not_there(index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("entry {index} is not in the log any more"))
}

fn decode<C, K>(parts: Vec<EntryParts>) -> io::Result<Vec<C::Entry>>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    parts.into_iter().map(K::entry_from_parts).collect()
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&i) => i.saturating_add(1),
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
