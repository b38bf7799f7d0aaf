//! What a peer has promised: how far it acknowledged this leadership's entries. A peer that later lacks one
//! of them has forgotten, and its vote and its acks are worth nothing any more.
//!
//! A log finds the loss of its own bytes when it opens. What it cannot see alone is the loss of its very last
//! commit as a whole, before its FRONTIER told of it, or an older copy of everything. The leader that counted
//! the acknowledgement can.
//!
//! - Only an ack of entries counts, for only that is given after a sync.
//! - Within one leadership of one log nothing acknowledged is ever truncated: whatever conflicts at or below
//!   it is loss. Another leadership may have truncated, so a promise ends with its own.
//! - Once found, it stays found for as long as this process knows the peer under the same log: the member is
//!   to be removed, emptied and joined under a new id.

use std::sync::atomic::{AtomicBool, Ordering};

use super::lock::Mutex;
use super::types::{LogId, Vote};

/// The peer's memory, as this node knows it.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    given: Mutex<Option<(Vote, LogId)>>,
    is_broken: AtomicBool,
}

/// The peer has lost an entry that it had acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has lost entries up to {acknowledged} that it had acknowledged (it lacks {lacks}): remove \
     this member, empty its directory and join it under a new id"
)]
pub(crate) struct Broken {
    acknowledged: LogId,
    lacks: LogId,
}

impl Promise {
    /// The peer acknowledged entries up to `upto` to the leader of this vote.
    pub(crate) fn given(&self, vote: Vote, upto: LogId) {
        let mut given = self.given.lock();
        match &mut *given {
            Some((known, last)) if *known == vote => *last = (*last).max(upto),
            _ => *given = Some((vote, upto)),
        }
    }

    /// The peer says that it does not have the entry `lacks`.
    pub(crate) fn check(&self, vote: Vote, lacks: LogId) -> Result<(), Broken> {
        let given = *self.given.lock();
        match given {
            Some((known, acknowledged)) if known == vote && lacks.index <= acknowledged.index => {
                self.is_broken.store(true, Ordering::Relaxed);
                Err(Broken { acknowledged, lacks })
            }
            _ => Ok(()),
        }
    }

    /// Whether it was ever broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_adv::LeaderId;

    use super::*;

    fn vote(term: u64) -> Vote {
        Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
    }

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId { term: 1, node_id: 1 }, index)
    }

    #[test]
    fn lacking_what_was_acknowledged_breaks_it_for_good() {
        let promise = Promise::default();
        assert_eq!(promise.check(vote(1), id(3)), Ok(()), "nothing was promised");
        promise.given(vote(1), id(5));
        promise.given(vote(1), id(4));
        assert_eq!(promise.check(vote(1), id(6)), Ok(()));
        assert!(!promise.is_broken());
        assert!(promise.check(vote(1), id(5)).is_err());
        promise.given(vote(2), id(9));
        assert!(promise.is_broken());
    }

    #[test]
    fn another_leadership_may_have_truncated() {
        let promise = Promise::default();
        promise.given(vote(1), id(5));
        assert_eq!(promise.check(vote(2), id(5)), Ok(()));
        promise.given(vote(3), id(2));
        assert_eq!(promise.check(vote(3), id(3)), Ok(()));
    }
}
