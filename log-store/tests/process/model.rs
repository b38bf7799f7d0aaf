//! What a log holds, as a value: the model that workers work on and recovered logs are compared with.
//!
//! A step changes a state in small parts, one per record, because a crash may come between any two.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use raftmap_log_store::{EntryParts, Log, LogError, LogIdParts, VoteParts};

/// One call of the log, as it is told to the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Append { term: u64, first: u64, count: u64 },
    Vote(u64),
    Committed { term: u64, index: u64 },
    Truncate(u64),
    Purge { term: u64, index: u64 },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { term, first, count } => write!(f, "append {term} {first} {count}"),
            Self::Vote(term) => write!(f, "vote {term}"),
            Self::Committed { term, index } => write!(f, "committed {term} {index}"),
            Self::Truncate(keep) => write!(f, "truncate {keep}"),
            Self::Purge { term, index } => write!(f, "purge {term} {index}"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("append", &[term, first, count]) => Ok(Self::Append { term, first, count }),
            ("vote", &[term]) => Ok(Self::Vote(term)),
            ("committed", &[term, index]) => Ok(Self::Committed { term, index }),
            ("truncate", &[keep]) => Ok(Self::Truncate(keep)),
            ("purge", &[term, index]) => Ok(Self::Purge { term, index }),
            _ => Err(format!("no step: {text}")),
        }
    }
}

/// The content of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The purge frontier, as (term, index).
    pub(crate) purged: Option<(u64, u64)>,
    /// The terms of the entries; the first one follows the purge frontier.
    pub(crate) terms: Vec<u64>,
    pub(crate) vote: Option<u64>,
}

impl State {
    /// What this log holds. Every payload must be the one that belongs to its entry.
    pub(crate) fn of(log: &Log) -> Self {
        Self::read(log).expect("the log is readable")
    }

    /// The same for a disk that may fail.
    pub(crate) fn read(log: &Log) -> Result<Self, LogError> {
        let entries = log.read(0..u64::MAX, usize::MAX)?;
        let purged = log.ends().purged.map(|id| (id.term, id.index));
        let first = purged.map_or(1, |(_, index)| index + 1);
        for (index, entry) in (first..).zip(&entries) {
            assert_eq!(*entry, self::entry(entry.id.term, index), "the entry as it was asked for");
        }
        let terms = entries.iter().map(|entry| entry.id.term).collect();
        Ok(Self { purged, terms, vote: log.vote().map(|vote| vote.term) })
    }

    /// The next entry's index.
    pub(crate) fn next(&self) -> u64 {
        self.first() + u64::try_from(self.terms.len()).expect("few entries")
    }

    /// The first entry's index, where there is one.
    pub(crate) fn first(&self) -> u64 {
        self.purged.map_or(1, |(_, index)| index + 1)
    }

    /// The largest term in it.
    pub(crate) fn term(&self) -> u64 {
        let entry = self.terms.last().copied();
        entry.max(self.purged.map(|(term, _)| term)).max(self.vote).unwrap_or(1)
    }

    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        let at = index.checked_sub(self.first())?;
        self.terms.get(usize::try_from(at).expect("few entries")).copied()
    }

    /// The states that the log goes through, the last one is that after the step.
    pub(crate) fn after(&self, step: Step) -> Vec<Self> {
        let mut state = self.clone();
        match step {
            Step::Append { term, first, count } => {
                assert_eq!(first, self.next(), "the worker appends where the log ends");
                return (0..count)
                    .map(|_| {
                        state.terms.push(term);
                        state.clone()
                    })
                    .collect();
            }
            Step::Vote(term) => state.vote = Some(term),
            Step::Committed { .. } => {}
            Step::Truncate(keep) => state.terms.truncate(self.count_upto(keep)),
            Step::Purge { term, index } => {
                state.terms.drain(..self.count_upto(index));
                state.purged = Some((term, index));
            }
        }
        vec![state]
    }

    fn count_upto(&self, index: u64) -> usize {
        let count = (index + 1).saturating_sub(self.first());
        usize::try_from(count).expect("few entries").min(self.terms.len())
    }
}

/// One line: the terms as runs.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.purged {
            Some((term, index)) => write!(f, "purged {term}.{index}")?,
            None => write!(f, "purged -")?,
        }
        write!(f, " entries {}..{} terms", self.first(), self.next())?;
        for run in self.terms.chunk_by(|a, b| a == b) {
            write!(f, " {}x{}", run[0], run.len())?;
        }
        write!(f, " vote {}", self.vote.unwrap_or(0))
    }
}

pub(crate) fn id(term: u64, index: u64) -> LogIdParts {
    LogIdParts { term, node: 1, index }
}

pub(crate) fn vote(term: u64) -> VoteParts {
    VoteParts { term, node: 1, committed: false }
}

/// The entry of this term and index: its payload tells both. One in seven is large.
pub(crate) fn entry(term: u64, index: u64) -> EntryParts {
    let mut payload = format!("<{term}/{index}>").into_bytes();
    let len = if (term + index).is_multiple_of(7) { 3000 } else { 40 + index % 100 };
    payload.resize(usize::try_from(len).expect("small"), b'.');
    EntryParts { id: id(term, index), kind: 1, payload: Bytes::from(payload) }
}
