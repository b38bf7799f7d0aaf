//! Replaying the stream of records: what the log holds after all of them. Strict: what does not follow
//! from what came before is damage (L1).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::LogConfig;
use crate::damage::{Cause, Damage};
use crate::error::{Contradiction, LogError};
use crate::frontier::Frontier;
use crate::header::{HEADER_BYTES, Header};
use crate::index::{EntryPlace, SegmentIndex};
use crate::leaders::Leaders;
use crate::planted::Planted;
use crate::record::Record;
use crate::scan::{Scanned, Visited, Window, scan};
use crate::segment_file::SegmentFile;
use crate::segments::{Current, Segments};
use crate::state::State;
use crate::stats::{RecordCounts, RecoveryInfo};

/// The log so far.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) state: State,
    pub(crate) leaders: Leaders,
    pub(crate) segments: Segments,
    /// Sealed files that are longer than what counts of them.
    pub(crate) longer: Vec<(PathBuf, u64)>,
    counts: RecordCounts,
    segment_count: u64,
    verified_bytes: u64,
    /// Where the current segment was sealed.
    seal_at: Option<u32>,
    /// What FRONTIER says, until that point of the stream is reached.
    frontier: Option<Frontier>,
    frontier_path: PathBuf,
    first_seq: u64,
    config: LogConfig,
}

/// What ends a scan early.
enum Stop {
    Io(io::Error),
    Contradiction(Contradiction, u32),
    Frontier,
    BehindSeal(u32),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Replay {
    pub(crate) fn new(
        config: &LogConfig,
        first: Option<&Header>,
        frontier: Frontier,
        frontier_path: PathBuf,
    ) -> Self {
        // An older FRONTIER than the first segment tells of a state that is no longer here to compare.
        let start_lsn = first.map_or(0, |header| header.start_lsn);
        Self {
            state: first.map_or_else(State::default, |header| header.state),
            leaders: Leaders::default(),
            segments: Segments::default(),
            longer: Vec::new(),
            counts: RecordCounts::default(),
            segment_count: 0,
            verified_bytes: 0,
            seal_at: None,
            frontier: (frontier.durable_lsn >= start_lsn).then_some(frontier),
            frontier_path,
            first_seq: first.map_or(0, |header| header.seq),
            config: config.clone(),
        }
    }

    /// Replays a segment that has a successor: every byte up to the end that the successor names must
    /// verify.
    pub(crate) fn sealed_segment(
        &mut self,
        segment: SegmentFile,
        next: &SegmentFile,
    ) -> Result<(), LogError> {
        let link = next
            .header
            .predecessor
            .filter(|link| link.seq == segment.header.seq && link.end_lsn == next.header.start_lsn);
        let end = link.and_then(|link| link.end_lsn.checked_sub(segment.header.start_lsn));
        let (Some(link), Some(end)) = (link, end.filter(|&end| end >= HEADER_BYTES)) else {
            return Err(Damage::refuse(
                Cause::Contradiction,
                &next.path,
                72,
                "it does not follow the segment before it",
            ));
        };
        let mut window = Window::new(Arc::clone(&segment.file), segment.file_len);
        if self.config.has(Planted::IgnorePredecessor) {
            let (scanned, is_sealed) = self.last_segment(&segment, &mut window)?;
            if !is_sealed {
                self.segments.seal(0, scanned.end);
            }
            return Ok(());
        }
        let scanned = self.segment(&segment, &mut window, Some(end))?;
        let last = next.header.state.last.map(|id| id.index);
        if let Some(reason) = scanned.stop {
            return Err(self.damaged(Cause::Rotten, &segment, scanned.end, last, reason));
        }
        let Some(seal_at) = self.seal_at.filter(|_| scanned.end == end) else {
            return Err(self.damaged(
                Cause::Contradiction,
                &segment,
                scanned.end,
                last,
                "it has no seal",
            ));
        };
        if scanned.chain != link.chain || self.state != next.header.state {
            let reason = "its end is not what the next segment says";
            return Err(self.damaged(Cause::Contradiction, &segment, scanned.end, last, reason));
        }
        self.segments.seal(seal_at, end);
        self.segments.seal_is_on_disk();
        self.segments.trim(self.config.index_bytes_max, self.config.files_max);
        if segment.file_len > end {
            self.longer.push((segment.path, end));
        }
        Ok(())
    }

    /// Replays the last segment as far as it is valid; whether it is sealed. If it is not, it stays the
    /// current one.
    pub(crate) fn last_segment(
        &mut self,
        segment: &SegmentFile,
        window: &mut Window,
    ) -> Result<(Scanned, bool), LogError> {
        let scanned = self.segment(segment, window, None)?;
        if let Some(seal_at) = self.seal_at {
            self.segments.seal(seal_at, scanned.end);
            self.segments.seal_is_on_disk();
        }
        Ok((scanned, self.seal_at.is_some()))
    }

    fn segment(
        &mut self,
        segment: &SegmentFile,
        window: &mut Window,
        limit: Option<u64>,
    ) -> Result<Scanned, LogError> {
        self.seal_at = None;
        self.segment_count += 1;
        self.segments.begin(Current {
            seq: segment.header.seq,
            path: segment.path.clone(),
            file: Arc::clone(&segment.file),
            capacity: segment.header.capacity,
            index: SegmentIndex::default(),
        });
        let visit = |lsn, visited: Visited<'_>| self.visit(lsn, &visited);
        let scanned = scan(window, &segment.header, segment.chain, limit, visit);
        let scanned = scanned.map_err(|stop| self.stopped(segment, stop))?;
        self.verified_bytes += scanned.end;
        Ok(scanned)
    }

    fn visit(&mut self, lsn: u64, visited: &Visited<'_>) -> Result<(), Stop> {
        if self.seal_at.is_some() {
            return Err(Stop::BehindSeal(visited.offset));
        }
        if self.frontier.is_some_and(|frontier| lsn >= frontier.durable_lsn) {
            self.check_frontier()?;
        }
        self.step(visited).map_err(|found| Stop::Contradiction(found, visited.offset))
    }

    /// At the point of the stream that FRONTIER describes: does it describe this log?
    fn check_frontier(&mut self) -> Result<(), Stop> {
        match self.frontier.take() {
            Some(frontier) if frontier.state != self.state => Err(Stop::Frontier),
            _ => Ok(()),
        }
    }

    fn step(&mut self, visited: &Visited<'_>) -> Result<(), Contradiction> {
        let Visited { decoded, offset } = *visited;
        let counts = &mut self.counts;
        match decoded.record {
            Record::Entry { id, .. } => {
                counts.entries += 1;
                self.state.entry(id)?;
                self.leaders.push(id);
                let end = offset + u32::try_from(decoded.padded).expect("segments are below 4 GiB");
                if let Some(current) = self.segments.current_mut() {
                    current.index.push(id, EntryPlace { offset, crc: decoded.crc, end });
                }
            }
            Record::Vote(vote) => {
                counts.votes += 1;
                self.state.vote(vote)?;
            }
            Record::Committed(id) => {
                counts.committed += 1;
                self.state.committed(id)?;
            }
            Record::TruncateAfter(keep) => {
                counts.truncations += 1;
                let known = keep.and_then(|id| Some((self.leaders.at(id.index)?, id.leader())));
                if known.is_some_and(|(ours, theirs)| ours != theirs) {
                    return Err(Contradiction::Truncate { keep: keep.map(|id| id.index) });
                }
                self.state.truncate(keep)?;
                let next = keep.map_or(0, |id| id.index + 1);
                self.leaders.truncate(next);
                self.segments.truncate(next);
            }
            Record::PurgeUpto(id) => {
                counts.purges += 1;
                self.state.purge(id)?;
                let next = self.state.next_index().unwrap_or(0);
                self.leaders.purge(self.state.first_possible(), next);
            }
            Record::Seal(footer) => {
                counts.seals += 1;
                let index = self.segments.current_mut().map(|current| &current.index);
                let listed = SegmentIndex::decode_footer(footer, index.map_or(0, |i| i.end));
                if index.zip(listed.as_ref()).is_none_or(|(ours, listed)| !ours.agrees(listed)) {
                    return Err(Contradiction::Seal);
                }
                self.seal_at = Some(offset);
            }
        }
        Ok(())
    }

    /// All segments were replayed: are all entries that should be here really here?
    pub(crate) fn finish(&mut self, last_path: Option<&Path>) -> Result<(), LogError> {
        if self.check_frontier().is_err() {
            return Err(self.frontier_damage());
        }
        let Some(path) = last_path else { return Ok(()) };
        let first = self.state.first_possible();
        let has_entries = self.state.last.is_some_and(|last| last.index >= first);
        let is_complete = match self.state.purged {
            // Nothing was ever purged, so nothing was ever removed.
            None => self.first_seq == 1,
            Some(_) => {
                !has_entries || self.segments.first_located().is_some_and(|have| have <= first)
            }
        };
        if is_complete {
            return Ok(());
        }
        let have = self.segments.first_located();
        Err(LogError::corrupt(Damage {
            cause: Cause::Missing,
            file: path.to_owned(),
            offset: 0,
            first_index: Some(first),
            last_index: have.map_or(self.state.last.map(|id| id.index), |have| have.checked_sub(1)),
            reason: "segments at the beginning of the log are missing".to_owned(),
        }))
    }

    fn stopped(&self, segment: &SegmentFile, stop: Stop) -> LogError {
        match stop {
            Stop::Io(error) => LogError::io("read", &segment.path)(error),
            Stop::Contradiction(found, offset) => {
                let at = u64::from(offset);
                self.damaged(Cause::Contradiction, segment, at, None, found.to_string())
            }
            Stop::BehindSeal(offset) => {
                let reason = "there are frames behind the seal";
                self.damaged(Cause::Contradiction, segment, u64::from(offset), None, reason)
            }
            Stop::Frontier => self.frontier_damage(),
        }
    }

    fn frontier_damage(&self) -> LogError {
        let reason = "its state is not that of the log at the same place";
        Damage::refuse(Cause::Contradiction, &self.frontier_path, 48, reason)
    }

    /// Damage in a segment, with the entries that it may affect.
    pub(crate) fn damaged(
        &self,
        cause: Cause,
        segment: &SegmentFile,
        offset: u64,
        last_index: Option<u64>,
        reason: impl Into<String>,
    ) -> LogError {
        let first_index = self.state.next_index();
        LogError::corrupt(Damage {
            cause,
            file: segment.path.clone(),
            offset,
            first_index,
            last_index: last_index.filter(|&last| first_index.is_none_or(|first| first <= last)),
            reason: reason.into(),
        })
    }

    /// What was found, as far as it is known here.
    pub(crate) fn info(&self) -> RecoveryInfo {
        let first = self.state.last.and_then(|_| self.leaders.runs().next()).map(|run| run.first);
        RecoveryInfo {
            segments: self.segment_count,
            records: self.counts,
            first_index: first,
            last_index: first.and(self.state.last).map(|id| id.index),
            last: self.state.last,
            purged: self.state.purged,
            committed: self.state.committed,
            vote: self.state.vote,
            verified_bytes: self.verified_bytes,
            ..RecoveryInfo::default()
        }
    }
}
