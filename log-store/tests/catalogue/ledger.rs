//! Who asked, and what they were told: each exactly once, commits in order, no "done" after the first
//! error (I7, I8).

use std::collections::BTreeSet;

use raftmap_log_store::LogError;

/// The answers of one life of a log.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// How many of the changes are acknowledged.
    pub(crate) acknowledged: usize,
    /// How many were asked for.
    pub(crate) asked: usize,
    next: u64,
    waiting: BTreeSet<u64>,
    /// The numbers of those who were told "done", in that order.
    done: Vec<u64>,
    /// The first who was told an error.
    error: Option<(u64, String)>,
    trouble: Vec<String>,
}

impl Ledger {
    /// Someone will wait for so many changes more: their number, and how many are asked for then.
    pub(crate) fn expect_answer(&mut self, changes: usize) -> (u64, usize) {
        self.next += 1;
        self.waiting.insert(self.next);
        (self.next, self.asked + changes)
    }

    /// It was refused at once; then nobody must call.
    pub(crate) fn refused(&mut self, number: u64) {
        if !self.waiting.remove(&number) {
            self.trouble.push(format!("change {number} was refused, and answered as well"));
        }
    }

    pub(crate) fn answer(&mut self, number: u64, asked: usize, result: &Result<(), LogError>) {
        if !self.waiting.remove(&number) {
            self.trouble.push(format!("change {number} was answered twice"));
        }
        match result {
            Ok(()) => {
                if let Some((first, error)) = &self.error {
                    let what = format!("change {number} is done after {first} failed: {error}");
                    self.trouble.push(what);
                }
                self.done.push(number);
                self.acknowledged = self.acknowledged.max(asked);
            }
            Err(error @ (LogError::Failed(_) | LogError::Closed)) => {
                self.error.get_or_insert_with(|| (number, error.to_string()));
            }
            Err(other) => self.trouble.push(format!("change {number} ended with {other}")),
        }
    }

    /// Acknowledged and asked.
    pub(crate) fn range(&self) -> (usize, usize) {
        // An answer may come before its question is noted as asked.
        (self.acknowledged, self.asked.max(self.acknowledged))
    }

    /// Everything that was wrong; the life is over, so everyone was told.
    pub(crate) fn trouble(mut self) -> Vec<String> {
        if !self.waiting.is_empty() {
            self.trouble.push(format!("never answered: {:?}", self.waiting));
        }
        // Within a commit the newest first: falling runs, each above the one before it.
        let runs: Vec<&[u64]> = self.done.chunk_by(|a, b| a > b).collect();
        let is_rising = runs.windows(2).all(|pair| pair[0].first() < pair[1].last());
        if !is_rising {
            self.trouble.push(format!("answered out of order: {:?}", self.done));
        }
        self.trouble
    }
}
