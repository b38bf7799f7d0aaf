//! The log in four ids: what every record changes, and what every record must agree with.
//!
//! The same steps run in three places: at the caller (so that a contradiction is refused before it is
//! queued), in the writer (so that headers and FRONTIER tell the state of the *stream*), and at recovery
//! (so that a log that contradicts itself does not open). Law L1.
//!
//! Always true: `purged <= last`; `committed <= last` in the stream; votes and purges never go back.

use crate::codec::{Cursor, Put};
use crate::error::Contradiction;
use crate::types::{LogIdParts, VoteParts};

/// The ends of the log and the vote, at one point of the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vote: Option<VoteParts>,
    pub(crate) committed: Option<LogIdParts>,
    pub(crate) purged: Option<LogIdParts>,
    /// The last entry, or the purge frontier when there is none.
    pub(crate) last: Option<LogIdParts>,
}

impl State {
    /// The index that the next entry must have; none when any will do (an empty log never purged).
    pub(crate) fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// The first index that may hold an entry.
    pub(crate) fn first_possible(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    pub(crate) fn entry(&mut self, id: LogIdParts) -> Result<(), Contradiction> {
        refuse_last(id)?;
        if let Some(last) = self.last {
            let expected = last.index + 1;
            if id.index != expected {
                return Err(Contradiction::Index { found: id.index, expected });
            }
            if id.leader() < last.leader() {
                return Err(Contradiction::Term {
                    index: id.index,
                    found: id.term,
                    found_node: id.node,
                    last: last.term,
                    last_node: last.node,
                });
            }
        }
        self.last = Some(id);
        Ok(())
    }

    pub(crate) fn vote(&mut self, vote: VoteParts) -> Result<(), Contradiction> {
        if let Some(last) = self.vote.filter(|last| vote < *last) {
            return Err(Contradiction::Vote { found: vote.term, last: last.term });
        }
        self.vote = Some(vote);
        Ok(())
    }

    pub(crate) fn committed(&mut self, id: LogIdParts) -> Result<(), Contradiction> {
        if self.last.is_none_or(|last| id.index > last.index) {
            return Err(Contradiction::Committed { found: id.index });
        }
        self.committed = Some(id);
        Ok(())
    }

    /// Keeps entries up to `keep`, which must be in the log or be the purge frontier.
    pub(crate) fn truncate(&mut self, keep: Option<LogIdParts>) -> Result<(), Contradiction> {
        let contradiction = Contradiction::Truncate { keep: keep.map(|id| id.index) };
        let is_below = |a: Option<LogIdParts>, b: Option<LogIdParts>| {
            a.map(|id| id.index) < b.map(|id| id.index)
        };
        if is_below(keep, self.purged) || is_below(self.last, keep) {
            return Err(contradiction);
        }
        self.last = keep;
        // The protocol never truncates what is committed. Should it, then nothing beyond the end is.
        if is_below(keep, self.committed) {
            self.committed = keep;
        }
        Ok(())
    }

    pub(crate) fn purge(&mut self, id: LogIdParts) -> Result<(), Contradiction> {
        refuse_last(id)?;
        if let Some(last) = self.purged.filter(|purged| id.index < purged.index) {
            return Err(Contradiction::Purge { found: id.index, last: last.index });
        }
        self.purged = Some(id);
        if self.last.is_none_or(|last| last.index <= id.index) {
            self.last = Some(id);
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut impl Put) {
        let bits = [
            self.vote.is_some(),
            self.committed.is_some(),
            self.purged.is_some(),
            self.last.is_some(),
            self.vote.is_some_and(|vote| vote.committed),
        ];
        let flags = bits.iter().rev().fold(0, |flags, &bit| flags << 1 | u8::from(bit));
        out.put(&[flags, 0, 0, 0, 0, 0, 0, 0]);
        out.put_u64(self.vote.map_or(0, |vote| vote.term));
        out.put_u64(self.vote.map_or(0, |vote| vote.node));
        let nothing = LogIdParts { term: 0, node: 0, index: 0 };
        for id in [self.committed, self.purged, self.last] {
            out.put_log_id(id.unwrap_or(nothing));
        }
    }

    pub(crate) fn decode(from: &mut Cursor<'_>) -> Option<Self> {
        let flags = from.u8().filter(|flags| flags >> 5 == 0)?;
        from.take(7)?;
        let (term, node) = (from.u64()?, from.u64()?);
        let vote = VoteParts { term, node, committed: flags & 16 != 0 };
        let (committed, purged, last) = (from.log_id()?, from.log_id()?, from.log_id()?);
        Some(Self {
            vote: (flags & 1 != 0).then_some(vote),
            committed: (flags & 2 != 0).then_some(committed),
            purged: (flags & 4 != 0).then_some(purged),
            last: (flags & 8 != 0).then_some(last),
        })
    }
}

/// The largest index is kept free, so that "the next one" always exists.
fn refuse_last(id: LogIdParts) -> Result<(), Contradiction> {
    if id.index == u64::MAX {
        return Err(Contradiction::Exhausted { found: id.index });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogIdParts {
        LogIdParts { term, node: 1, index }
    }

    #[test]
    fn an_empty_log_starts_anywhere_and_then_has_no_gaps() {
        let mut state = State::default();
        state.entry(id(1, 7)).unwrap();
        assert_eq!(state.entry(id(1, 9)), Err(Contradiction::Index { found: 9, expected: 8 }));
        assert!(matches!(state.entry(id(0, 8)), Err(Contradiction::Term { .. })));
        state.entry(id(1, 8)).unwrap();
        assert_eq!(state.last, Some(id(1, 8)));
        assert!(state.entry(id(1, u64::MAX)).is_err());
    }

    #[test]
    fn a_purge_beyond_the_end_moves_the_end() {
        let mut state = State::default();
        state.entry(id(1, 1)).unwrap();
        state.purge(id(3, 20)).unwrap();
        assert_eq!((state.purged, state.last), (Some(id(3, 20)), Some(id(3, 20))));
        assert!(state.purge(id(3, 19)).is_err());
        assert!(state.truncate(Some(id(1, 19))).is_err());
        state.entry(id(3, 21)).unwrap();
        state.truncate(Some(id(3, 20))).unwrap();
        assert_eq!(state.last, Some(id(3, 20)));
    }

    #[test]
    fn committed_never_lies_beyond_the_end() {
        let mut state = State::default();
        assert!(state.committed(id(1, 1)).is_err());
        for index in 1..=3 {
            state.entry(id(1, index)).unwrap();
        }
        state.committed(id(1, 3)).unwrap();
        state.truncate(Some(id(1, 2))).unwrap();
        assert_eq!(state.committed, Some(id(1, 2)));
    }

    #[test]
    fn it_reads_back_as_written() {
        let vote = Some(VoteParts { term: 4, node: 2, committed: true });
        let states = [
            State::default(),
            State { vote, ..State::default() },
            State { vote, committed: Some(id(1, 2)), purged: Some(id(1, 1)), last: Some(id(3, 9)) },
        ];
        for state in states {
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            assert_eq!(bytes.len(), 96);
            assert_eq!(State::decode(&mut Cursor::new(&bytes)), Some(state));
        }
    }
}
