//! What waits for the writer, in the order in which it was asked for.

use std::fmt;

use crate::error::LogError;
use crate::types::{EntryParts, LogIdParts, VoteParts};

/// One change on its way to the disk.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) change: Change,
    done: Option<Completion>,
    weight: usize,
}

/// What changes.
#[derive(Debug)]
pub(crate) enum Change {
    /// `era` is the number of truncations before it.
    Append {
        entries: Vec<EntryParts>,
        era: u64,
    },
    Vote(VoteParts),
    Committed(LogIdParts),
    Truncate {
        keep: Option<LogIdParts>,
        era: u64,
    },
    Purge(LogIdParts),
}

impl Op {
    pub(crate) fn new(change: Change, done: Option<Completion>) -> Self {
        let entries = match &change {
            Change::Append { entries, .. } => entries.iter().map(EntryParts::weight).sum(),
            Change::Vote(_) | Change::Committed(_) | Change::Truncate { .. } | Change::Purge(_) => {
                0
            }
        };
        Self { change, done, weight: OP_OVERHEAD + entries }
    }

    /// Whether someone waits for it. What nobody waits for rides on the next sync.
    pub(crate) fn is_urgent(&self) -> bool {
        !matches!(self.change, Change::Committed(_) | Change::Purge(_))
    }

    /// What it costs in the queue, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn complete(&mut self, result: Result<(), LogError>) {
        if let Some(done) = self.done.take() {
            done.complete(result);
        }
    }
}

/// Bytes that each op is charged beside its entries.
const OP_OVERHEAD: usize = 64;

/// Tells a caller how it ended: exactly once. One that is dropped unused says that the log is closed,
/// because a caller that is never told waits for ever.
pub(crate) struct Completion(Option<Done>);

type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

impl Completion {
    pub(crate) fn new(done: impl FnOnce(Result<(), LogError>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    pub(crate) fn complete(mut self, result: Result<(), LogError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(LogError::Closed));
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_completion_is_called_once_even_when_it_is_forgotten() {
        let (told, answers) = mpsc::channel();
        let completion = || {
            let told = told.clone();
            Completion::new(move |result| told.send(result.is_ok()).unwrap())
        };
        completion().complete(Ok(()));
        drop(completion());
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [true, false]);
    }
}
