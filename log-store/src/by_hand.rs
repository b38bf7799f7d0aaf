//! A log without threads: whoever holds the hands decides when the writer and the janitor work.
//!
//! It is the same code as behind the threads, a turn at a time. Dropping the hands without `close` is what a
//! killed process does.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::DiskLock;
use crate::error::LogError;
use crate::janitor::Janitor;
use crate::recovery::Recovered;
use crate::shared::{Next, Shared};
use crate::threads::staff;
use crate::types::Owner;
use crate::writer::Writer;

/// The writer and the janitor of a log opened by `Log::open_by_hand`, and the lock of its directory.
#[derive(Debug)]
pub struct Hands {
    shared: Arc<Shared>,
    writer: Writer,
    janitor: Janitor,
    _lock: Box<dyn DiskLock>,
}

impl Hands {
    pub(crate) fn new(shared: &Arc<Shared>, mut recovered: Recovered, owner: Owner) -> Self {
        let (_, writer, janitor) = staff(shared, &mut recovered, owner);
        Self { shared: Arc::clone(shared), writer, janitor, _lock: recovered.lock }
    }

    /// Writes one batch of what someone waits for, with everything before it, and tells them. False when
    /// nobody waits, or the log has failed.
    pub fn commit(&mut self) -> bool {
        let mut ops = VecDeque::new();
        match self.shared.next_at_once(&mut ops, false) {
            Next::Commit => self.writer.turn(Next::Commit, &mut ops),
            Next::Idle | Next::Close | Next::Failed => false,
        }
    }

    /// What the writer does when nothing came for a while: writes what nobody waits for, and has FRONTIER
    /// written by the next `tidy`. False when the log has failed.
    pub fn rest(&mut self) -> bool {
        let mut ops = VecDeque::new();
        loop {
            let next = self.shared.next_at_once(&mut ops, true);
            match (next, self.writer.turn(next, &mut ops)) {
                (_, false) => return false,
                (Next::Commit, true) => {}
                (Next::Idle | Next::Close | Next::Failed, true) => return true,
            }
        }
    }

    /// Does one piece of the janitor's work; false when there is none, or the log has failed.
    pub fn tidy(&mut self) -> bool {
        self.janitor.turn()
    }

    /// A clean stop: writes what waits, seals, does all that is left to tidy.
    ///
    /// # Errors
    /// `Failed` when not everything became durable.
    pub fn close(mut self) -> Result<(), LogError> {
        self.shared.close();
        self.rest();
        while self.janitor.turn() {}
        match self.shared.lock().failed.clone() {
            Some(failure) => Err(LogError::Failed(failure)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogConfig;
    use crate::disk::SimDisk;
    use crate::log::Log;
    use crate::types::{EntryParts, LogIdParts};

    fn open(disk: &SimDisk) -> (Log, Hands) {
        let config = LogConfig {
            segment_bytes_max: 16 << 10,
            batch_bytes_max: 4 << 10,
            ..LogConfig::new("/wal")
        };
        let owner = Owner { node_id: 1, new_uuid: 7 };
        let (log, hands, _) = Log::open_by_hand(config, Arc::new(disk.clone()), owner).unwrap();
        (log, hands)
    }

    fn append(log: &Log, index: u64, told: &Arc<AtomicU64>) {
        let id = LogIdParts { term: 1, node: 1, index };
        let entry = EntryParts { id, kind: 0, payload: vec![7; 100].into() };
        let told = Arc::clone(told);
        log.append(vec![entry], move |r| {
            r.unwrap();
            told.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }

    #[test]
    fn nothing_happens_but_by_the_hands() {
        let disk = SimDisk::new();
        let (log, mut hands) = open(&disk);
        let told = Arc::new(AtomicU64::new(0));
        let before = disk.steps();
        (1..=3).for_each(|index| append(&log, index, &told));
        assert_eq!((disk.steps(), told.load(Ordering::Relaxed)), (before, 0));

        assert!(hands.commit());
        assert_eq!(told.load(Ordering::Relaxed), 3, "one batch");
        assert!(!hands.commit(), "nobody waits");
        assert!(hands.rest() && hands.tidy());
        hands.close().unwrap();

        let (log, _hands) = open(&disk);
        assert_eq!(log.ends().last.map(|id| id.index), Some(3));
    }

    #[test]
    fn hands_that_go_without_closing_leave_nobody_waiting() {
        let (log, hands) = open(&SimDisk::new());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&answers);
        let id = LogIdParts { term: 1, node: 1, index: 1 };
        let entry = EntryParts { id, kind: 0, payload: Vec::new().into() };
        log.append(vec![entry], move |r| sink.lock().unwrap().push(r.is_ok())).unwrap();
        drop((hands, log));
        assert_eq!(*answers.lock().unwrap(), [false]);
    }
}
