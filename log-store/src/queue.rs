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

    /// An append as parts of at most `bytes_max`, or of one entry; a part is written as a whole. Whoever
    /// waits is told when the last one is durable.
    pub(crate) fn split(self, bytes_max: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let mut op = rest.take()?;
            if let Change::Append { entries, era } = &mut op.change
                && op.weight > bytes_max
                && let cut = first_part(entries, bytes_max)
                && cut < entries.len()
            {
                let later = Change::Append { entries: entries.split_off(cut), era: *era };
                rest = Some(Self::new(later, op.done.take()));
                op = Self::new(op.change, None);
            }
            Some(op)
        })
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

/// How many of the entries fit into a part: at least one.
fn first_part(entries: &[EntryParts], bytes_max: usize) -> usize {
    let mut bytes = OP_OVERHEAD;
    let fits = |entry: &&EntryParts| {
        bytes += entry.weight();
        bytes <= bytes_max
    };
    entries.iter().take_while(fits).count().max(1)
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
    fn a_large_append_is_split_and_its_last_part_answers() {
        let sizes = [10, 10, 500, 10, 10, 10];
        let entries = (1..).zip(sizes).map(|(index, len)| EntryParts {
            id: LogIdParts { term: 1, node: 1, index },
            kind: 0,
            payload: vec![0; len].into(),
        });
        let change = Change::Append { entries: entries.collect(), era: 3 };
        let op = Op::new(change, Some(Completion::new(|_| {})));
        let weight = op.weight();
        let parts: Vec<_> = op.split(64 + 3 * 74).collect();
        let shape = parts.iter().map(|op| match &op.change {
            Change::Append { entries, era: 3 } => (entries.len(), op.done.is_some()),
            other => panic!("{other:?}"),
        });
        assert_eq!(shape.collect::<Vec<_>>(), [(2, false), (1, false), (3, true)]);
        assert_eq!(parts.iter().map(Op::weight).sum::<usize>(), weight + 2 * OP_OVERHEAD);
    }

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
