//! How long the writer waits for more to come before it commits.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use super::{Inner, Shared};

/// The writer waits for more to come at most this part of what a sync takes, and never longer than this.
const GATHER_SHARE: u32 = 8;
const GATHER_MAX: Duration = Duration::from_micros(200);

impl Shared {
    /// Those who were told by the last commit are about to ask again. Taking the first of them alone would
    /// give him a sync of his own, and have all others wait for it: so they get a moment, until half as many
    /// have come. With nothing but single callers there is nothing to wait for.
    pub(super) fn gather<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let is_worth_it = |inner: &Inner| {
            (1..inner.last_urgent / 2).contains(&inner.urgent)
                && !inner.closing
                && inner.failed.is_none()
        };
        if !is_worth_it(&inner) {
            return inner;
        }
        let until = Instant::now() + (inner.last_sync / GATHER_SHARE).min(GATHER_MAX);
        while is_worth_it(&inner) && Instant::now() < until {
            drop(inner);
            std::thread::yield_now();
            inner = self.lock();
        }
        inner
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;
    use crate::config::LogConfig;
    use crate::disk::SimDisk;
    use crate::log::Log;
    use crate::queue::{Change, Completion, Op};
    use crate::shared::Next;
    use crate::types::{Owner, VoteParts};

    fn vote(term: u64) -> Op {
        let vote = VoteParts { term, node: 1, committed: false };
        Op::new(Change::Vote(vote), Some(Completion::new(|_| {})))
    }

    /// Whoever is alone where many were waits no longer than the bound; enough of them do not wait at all.
    #[test]
    fn gathering_ends() {
        let owner = Owner { node_id: 1, new_uuid: 7 };
        let disk = Arc::new(SimDisk::new());
        let (log, _hands, _) = Log::open_by_hand(LogConfig::new("/wal"), disk, owner).unwrap();
        let shared = log.shared();
        for (last_urgent, ops) in [(1000, 1), (4, 2), (0, 1)] {
            let mut inner = shared.lock();
            (inner.last_urgent, inner.last_sync) = (last_urgent, Duration::from_secs(3600));
            (1..=ops).for_each(|term| inner.push(vote(term)));
            drop(inner);
            let mut taken = VecDeque::new();
            assert_eq!(shared.next(&mut taken, false), Next::Commit);
            assert_eq!(taken.len() as u64, ops);
            assert_eq!(
                shared.lock().last_urgent as u64,
                ops,
                "what the next commit is measured by"
            );
        }
    }
}
