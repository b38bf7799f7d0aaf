//! What is known of the part of a log that cannot be kept: which entries it held, whether a vote may be lost.
//!
//! ```text
//!   frame frame | X ??? frame frame | header: state | frame …        FRONTIER: state at lsn F
//!   kept        | the end of what is kept; behind it, each witness in the order of the log
//! ```
//! Nothing here is believed for what the log *is*, only for what is to be told as lost. Witnesses are states (of
//! headers and of FRONTIER), which say everything up to their place, and records, which say what changes. FRONTIER is
//! a lower bound: the log may have gone on behind it.

use crate::record::Record;
use crate::state::State;
use crate::tools::walk::RecordView;
use crate::types::VoteParts;

/// Entries that were in the log and cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The index of the first; where nothing is left of the log's beginning, the smallest that it can have.
    pub first: u64,
    /// The index of the last that is known of.
    pub last: u64,
    /// There may have been more: bytes behind them cannot be read, or nothing tells where the log ended.
    pub at_least: bool,
}

/// What the witnesses say, so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    kept: State,
    /// The last entry, by what is known.
    last: Option<u64>,
    /// The smallest index of which something was dropped or replaced.
    lost_first: Option<u64>,
    /// Nothing told of the first entry, so the smallest possible index was taken.
    is_guessed: bool,
    /// The index that the log began with.
    begins: Option<u64>,
    /// The largest vote that anything tells of.
    pub(crate) vote: Option<VoteParts>,
    /// Up to here something tells of the log.
    pub(crate) known_lsn: u64,
    /// Up to here it is told which entries there were.
    entries_told_lsn: u64,
    /// Up to here a state tells everything.
    state_lsn: u64,
    /// Up to here there are bytes that tell nothing.
    blind_lsn: u64,
}

impl Evidence {
    /// Nothing is known behind `end_lsn`, where the log was in state `kept`.
    pub(crate) fn new(kept: State, end_lsn: u64) -> Self {
        Self {
            kept,
            last: kept.last.map(|id| id.index),
            lost_first: None,
            is_guessed: false,
            begins: None,
            vote: kept.vote,
            known_lsn: end_lsn,
            entries_told_lsn: end_lsn,
            state_lsn: end_lsn,
            blind_lsn: 0,
        }
    }

    /// The log was in this state at `lsn`.
    pub(crate) fn state(&mut self, lsn: u64, state: &State) {
        self.vote = self.vote.max(state.vote);
        self.held(state.last.map(|id| id.index), state.first_possible());
        self.ends_at(state.last.map(|id| id.index));
        self.known_lsn = self.known_lsn.max(lsn);
        self.entries_told_lsn = self.entries_told_lsn.max(lsn);
        self.state_lsn = self.state_lsn.max(lsn);
    }

    /// This record was in the log and ended at `lsn`.
    pub(crate) fn record(&mut self, found: &RecordView<'_>, lsn: u64) {
        self.known_lsn = self.known_lsn.max(lsn);
        let Ok(decoded) = found.record else { return self.unreadable(found, lsn) };
        match decoded.record {
            Record::Entry { id, .. } => {
                self.entry(id.index);
                self.entries_told_lsn = self.entries_told_lsn.max(lsn);
            }
            Record::Vote(vote) => self.vote = self.vote.max(Some(vote)),
            Record::TruncateAfter(keep) => {
                let last = keep.map(|id| id.index);
                self.held(last, self.kept.first_possible());
                self.ends_at(last);
                self.entries_told_lsn = self.entries_told_lsn.max(lsn);
            }
            Record::PurgeUpto(id) => self.last = self.last.max(Some(id.index)),
            Record::Committed(id) => self.held(Some(id.index), self.kept.first_possible()),
            Record::Seal(_) => {}
        }
    }

    /// A record that does not verify counts as the entry that it says it is, when that is the next one. It may
    /// have been anything else all the same.
    fn unreadable(&mut self, found: &RecordView<'_>, lsn: u64) {
        let next = self.last.and_then(|last| last.checked_add(1));
        if let Some(index) = found.claims.and_then(|claim| claim.index)
            && next == Some(index)
        {
            self.entry(index);
        }
        self.blind(lsn);
    }

    fn entry(&mut self, index: u64) {
        match self.last {
            // Those between them are lost as well, or there was a truncation.
            Some(last) => self.lose(index.min(last.saturating_add(1))),
            None if self.blind_lsn > 0 => {
                self.is_guessed = true;
                self.lose(self.kept.first_possible());
            }
            None => self.lose(index),
        }
        self.last = Some(index);
    }

    /// The log held entries up to `last`, whether anything else told of them or not.
    fn held(&mut self, last: Option<u64>, first_possible: u64) {
        let next = self.last.map_or(0, |last| last.saturating_add(1));
        let first = next.max(first_possible);
        if last >= Some(first) {
            self.is_guessed |= self.last.is_none();
            self.lose(first);
            self.last = last;
        }
    }

    /// The log began with this entry.
    pub(crate) fn begins(&mut self, index: u64) {
        self.begins = Some(index);
    }

    /// The log ends with `last` from here on: what is kept behind it was dropped.
    fn ends_at(&mut self, last: Option<u64>) {
        if last < self.kept.last.map(|id| id.index) {
            self.lose(last.map_or(0, |last| last.saturating_add(1)));
        }
        self.last = last;
    }

    /// A frame says that everything below `lsn` was durable.
    pub(crate) fn claims_durable(&mut self, lsn: u64) {
        self.known_lsn = self.known_lsn.max(lsn);
    }

    /// There are bytes up to `lsn` that tell nothing.
    pub(crate) fn blind(&mut self, lsn: u64) {
        self.blind_lsn = self.blind_lsn.max(lsn);
    }

    fn lose(&mut self, index: u64) {
        self.lost_first = Some(self.lost_first.map_or(index, |first| first.min(index)));
    }

    /// The entries that are lost. `has_end` tells whether FRONTIER says anything of how far the log was durable.
    pub(crate) fn lost(&self, has_end: bool) -> Option<Lost> {
        let first = self.lost_first?;
        let begins = self.begins.filter(|_| self.is_guessed && self.kept.last.is_none());
        let first = first.max(begins.unwrap_or(0));
        let last = self.last.filter(|&last| last >= first)?;
        Some(Lost { first, last, at_least: self.is_open(has_end) })
    }

    /// Whether something may have followed of which nothing tells.
    pub(crate) fn is_open(&self, has_end: bool) -> bool {
        self.blind_lsn > self.entries_told_lsn || !has_end
    }

    /// Kept entries from here on were dropped or replaced later, by what could not be kept.
    pub(crate) fn outdated_from(&self) -> Option<u64> {
        let last = self.kept.last?.index;
        self.lost_first.filter(|&first| first <= last)
    }

    /// Whether a vote may have been given of which nothing tells any more.
    pub(crate) fn votes_may_be_lost(&self, has_end: bool) -> bool {
        self.blind_lsn > self.state_lsn || !has_end
    }
}
