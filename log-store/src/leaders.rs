//! Who proposed which entry: a run of indexes per leader, a few numbers for a whole log.
//!
//! ```text
//!   index   1 2 3 4 5 6 7 8
//!   leader  A A A B B C C C        runs: (1, A) (4, B) (6, C)
//! ```

use std::collections::VecDeque;
use std::ops::Range;

use crate::types::{EntryParts, Leader, LogIdParts};

/// Runs of entries with one leader, in order and without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leaders {
    runs: VecDeque<Run>,
}

/// The entries from `first` on are this leader's, up to the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) leader: Leader,
}

impl Leaders {
    /// Notes the entry that follows the last one.
    pub(crate) fn push(&mut self, id: LogIdParts) {
        if self.runs.back().is_none_or(|run| run.leader != id.leader()) {
            self.runs.push_back(Run { first: id.index, leader: id.leader() });
        }
    }

    /// Notes entries that follow the last one; their leaders never go back.
    pub(crate) fn extend(&mut self, entries: &[EntryParts]) {
        let is_known =
            |last: &EntryParts| self.runs.back().is_some_and(|run| run.leader == last.id.leader());
        // Then none in between has another.
        if !entries.last().is_none_or(is_known) {
            entries.iter().for_each(|entry| self.push(entry.id));
        }
    }

    /// Forgets entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self.runs.back().is_some_and(|run| run.first >= next) {
            self.runs.pop_back();
        }
    }

    /// Forgets entries before `first`; `next` is the index after the last one.
    pub(crate) fn purge(&mut self, first: u64, next: u64) {
        if first >= next {
            self.runs.clear();
            return;
        }
        while self.runs.get(1).is_some_and(|run| run.first <= first) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(first);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// The leader of the entry at `index`, which must be one of those noted.
    pub(crate) fn at(&self, index: u64) -> Option<Leader> {
        let after = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.leader)
    }

    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = Run> {
        self.runs.iter().copied()
    }

    /// The last id of each leader among the entries of `range`, all of which must be noted.
    pub(crate) fn ends(&self, range: Range<u64>) -> Vec<LogIdParts> {
        let next_firsts = self.runs.iter().skip(1).map(|run| run.first).chain([u64::MAX]);
        self.runs
            .iter()
            .zip(next_firsts)
            .filter(|(run, next)| run.first < range.end && *next > range.start)
            .map(|(run, next)| run.leader.at(next.min(range.end) - 1))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogIdParts {
        LogIdParts { term, node: 0, index }
    }

    fn leaders() -> Leaders {
        let mut leaders = Leaders::default();
        for (term, index) in [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (4, 6), (4, 7)] {
            leaders.push(id(term, index));
        }
        leaders
    }

    #[test]
    fn the_ends_are_the_last_ids_of_each_leader() {
        assert_eq!(leaders().ends(1..8), [id(1, 3), id(2, 5), id(4, 7)]);
        assert_eq!(leaders().ends(3..5), [id(1, 3), id(2, 4)]);
        assert_eq!(leaders().ends(4..4), []);
    }

    #[test]
    fn truncating_and_purging_keep_the_rest() {
        let mut leaders = leaders();
        leaders.truncate(6);
        assert_eq!(leaders.ends(1..6), [id(1, 3), id(2, 5)]);
        leaders.purge(3, 6);
        assert_eq!(leaders.at(3), Some(Leader { term: 1, node: 0 }));
        leaders.purge(4, 6);
        assert_eq!(leaders.runs().len(), 1);
        assert_eq!(leaders.at(3), None);
        leaders.purge(6, 6);
        assert_eq!(leaders.runs().len(), 0);
    }
}
