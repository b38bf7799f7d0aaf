//! What a log must hold: a plain list, a vote, a purge frontier.
//!
//! Of every life of a log, from one open to the next, there is a list of models: the one that it began
//! with, then one for each change that was asked for, an append's entries each on their own. What a crash
//! leaves is one of `acknowledged ..= asked` of them (I1, I2).

use std::sync::Arc;

use bytes::Bytes;
use raftmap_log_store::{EntryParts, Log, LogIdParts, VoteParts};

/// The content of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pub(crate) entries: Vec<Entry>,
    pub(crate) vote: Option<VoteParts>,
    pub(crate) purged: Option<LogIdParts>,
    pub(crate) last: Option<LogIdParts>,
}

/// An entry; its payload follows from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) len: usize,
}

pub(crate) fn id(term: u64, index: u64) -> LogIdParts {
    LogIdParts { term, node: 1, index }
}

pub(crate) fn vote(term: u64) -> VoteParts {
    VoteParts { term, node: 1, committed: false }
}

impl Entry {
    /// The bytes tell whose they are, as far as there is room. Every fourth payload is all zeros: so a
    /// whole entry can look like one that was never written.
    pub(crate) fn payload(self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.len);
        let filler = match (self.term + self.index) % 4 {
            0 => 0,
            1 => b'.',
            _ => b'a' + u8::try_from(self.index % 26).expect("below 26"),
        };
        if filler != 0 {
            bytes.extend_from_slice(format!("{}/{};", self.term, self.index).as_bytes());
        }
        bytes.resize(self.len, filler);
        Bytes::from(bytes)
    }

    pub(crate) fn parts(self) -> EntryParts {
        EntryParts { id: id(self.term, self.index), kind: 1, payload: self.payload() }
    }
}

impl Model {
    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(1, |last| last.index + 1)
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.last = Some(id(entry.term, entry.index));
    }

    pub(crate) fn truncate(&mut self, keep: Option<u64>) {
        self.entries.retain(|entry| Some(entry.index) <= keep);
        self.last = self.entries.last().map(|e| id(e.term, e.index)).or(self.purged);
    }

    pub(crate) fn purge(&mut self, upto: LogIdParts) {
        self.entries.retain(|entry| entry.index > upto.index);
        self.purged = Some(upto);
        if self.entries.is_empty() {
            self.last = self.purged;
        }
    }

    /// What the log holds, or what in it contradicts itself.
    pub(crate) fn of(log: &Log) -> Result<Self, String> {
        let read = log.read(0..u64::MAX, usize::MAX).map_err(|e| format!("not readable: {e}"))?;
        let mut entries = Vec::with_capacity(read.len());
        for parts in read {
            let LogIdParts { term, index, .. } = parts.id;
            let entry = Entry { term, index, len: parts.payload.len() };
            if parts != entry.parts() {
                return Err(format!("entry {} has other bytes than were appended", parts.id));
            }
            entries.push(entry);
        }
        let ends = log.ends();
        Ok(Self { entries, vote: log.vote(), purged: ends.purged, last: ends.last })
    }

    /// In a line: entries as runs of a term.
    pub(crate) fn brief(&self) -> String {
        let mut runs: Vec<(Entry, u64)> = Vec::new();
        for entry in &self.entries {
            match runs.last_mut() {
                Some((first, last)) if first.term == entry.term => *last = entry.index,
                _ => runs.push((*entry, entry.index)),
            }
        }
        let runs: Vec<_> = runs
            .iter()
            .map(|(first, last)| format!("{}..={last} of {}", first.index, first.term))
            .collect();
        let shown = |id: Option<LogIdParts>| id.map_or("-".to_owned(), |id| id.to_string());
        format!(
            "[{}] vote {} purged {} last {}",
            runs.join(", "),
            self.vote.map_or("-".to_owned(), |vote| vote.term.to_string()),
            shown(self.purged),
            shown(self.last)
        )
    }
}

/// What an open of an image may do.
#[derive(Debug, Clone)]
pub(crate) struct Expect {
    /// The states that it may find.
    states: Arc<Vec<Model>>,
    from: usize,
    to: usize,
    pub(crate) verdict: Expected,
}

/// Whether the image must open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Expected {
    Opens,
    Refuses,
    /// It holds one of the states, or refuses.
    Either,
}

impl Expect {
    /// One of the states from the acknowledged one to the last one that was asked for.
    pub(crate) fn between(states: Arc<Vec<Model>>, acknowledged: usize, asked: usize) -> Self {
        assert!(acknowledged <= asked && asked < states.len(), "{acknowledged} of {asked}");
        Self { states, from: acknowledged, to: asked, verdict: Expected::Opens }
    }

    /// This state and no other.
    pub(crate) fn exactly(state: Model) -> Self {
        Self::between(Arc::new(vec![state]), 0, 0)
    }

    /// The same states, but it need not, or must not open.
    pub(crate) fn but(self, verdict: Expected) -> Self {
        Self { verdict, ..self }
    }

    pub(crate) fn allows(&self, state: &Model) -> bool {
        self.states[self.from..=self.to].contains(state)
    }

    /// For the reader of a violation.
    pub(crate) fn brief(&self) -> String {
        let (least, most) = (&self.states[self.from], &self.states[self.to]);
        match self.to - self.from {
            0 => least.brief(),
            n => format!("one of {} states from {} to {}", n + 1, least.brief(), most.brief()),
        }
    }

    /// Tells expectations apart that share their states.
    pub(crate) fn key(&self) -> (usize, usize, Expected) {
        (self.from, self.to, self.verdict)
    }
}
