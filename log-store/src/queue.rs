//! What waits for the writer, in the order in which it was asked for.

use std::fmt;
use std::sync::Arc;

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
        entries: Arc<[EntryParts]>,
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
    /// A change that is no append.
    pub(crate) fn new(change: Change, done: Option<Completion>) -> Self {
        Self { change, done, weight: OP_OVERHEAD }
    }

    /// An append, or a part of one.
    pub(crate) fn append(part: Part, era: u64, done: Option<Completion>) -> Self {
        let Part { entries, weight } = part;
        Self { change: Change::Append { entries, era }, done, weight }
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

/// Entries that are written as a whole: an append, or a part of a large one.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) entries: Arc<[EntryParts]>,
    /// What they cost in the queue and in memory, in bytes.
    pub(crate) weight: usize,
}

impl Part {
    /// An append as parts of at most `bytes_max` each, or of one entry: those before the last, which is the
    /// one that answers, and the last. `bytes` is what all entries weigh.
    pub(crate) fn split(
        mut entries: Vec<EntryParts>,
        mut bytes: usize,
        bytes_max: usize,
    ) -> (Vec<Self>, Self) {
        let mut before = Vec::new();
        while OP_OVERHEAD + bytes > bytes_max
            && let (count, part_bytes) = first_part(&entries, bytes_max)
            && count < entries.len()
        {
            let later = entries.split_off(count);
            before.push(Self::new(entries, part_bytes));
            bytes -= part_bytes;
            entries = later;
        }
        (before, Self::new(entries, bytes))
    }

    fn new(entries: Vec<EntryParts>, bytes: usize) -> Self {
        Self { entries: entries.into(), weight: OP_OVERHEAD + bytes }
    }
}

/// How many of the entries fit into a part, at least one, and what they weigh.
fn first_part(entries: &[EntryParts], bytes_max: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for entry in entries {
        if count > 0 && OP_OVERHEAD + bytes + entry.weight() > bytes_max {
            break;
        }
        count += 1;
        bytes += entry.weight();
    }
    (count, bytes)
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

    /// The change was refused: whoever asked knows by the refusal.
    pub(crate) fn forget(mut self) {
        self.0 = None;
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
        let entries: Vec<_> = entries.collect();
        let bytes = entries.iter().map(EntryParts::weight).sum();
        let (before, last) = Part::split(entries, bytes, 64 + 3 * 74);
        let parts = before.iter().chain([&last]);
        let shape: Vec<_> = parts.clone().map(|part| part.entries.len()).collect();
        assert_eq!(shape, [2, 1, 3]);
        assert_eq!(parts.map(|part| part.weight).sum::<usize>(), bytes + 3 * OP_OVERHEAD);

        let done = Completion::new(|_| {});
        let ops = before.into_iter().map(|part| Op::append(part, 3, None));
        let ops: Vec<_> = ops.chain([Op::append(last, 3, Some(done))]).collect();
        assert_eq!(
            ops.iter().map(|op| op.done.is_some()).collect::<Vec<_>>(),
            [false, false, true]
        );
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
        completion().forget();
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [true, false]);
    }
}
