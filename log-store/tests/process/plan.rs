//! What a worker asks for next: random, and the same for the same seed and log.

use crate::model::{State, Step};

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// The steps of one worker.
#[derive(Debug)]
pub(crate) struct Plan {
    dice: Dice,
    /// The term of what is appended. Begins anew after each truncation: what was dropped and what replaces
    /// it must not look the same.
    term: u64,
    votes: bool,
}

/// Entries that a worker lets gather before it purges.
const ENTRIES_MAX: u64 = 120;

impl Plan {
    pub(crate) fn new(seed: u64, state: &State) -> Self {
        // A new process, a new term.
        Self { dice: Dice::new(seed), term: state.term() + 1, votes: true }
    }

    /// What comes next, for a log in this state.
    pub(crate) fn next(&mut self, state: &State) -> Step {
        let (first, next) = (state.first(), state.next());
        if std::mem::take(&mut self.votes) {
            return Step::Vote(self.term);
        }
        if next - first > ENTRIES_MAX {
            return purge(state, next - 1 - self.dice.below(20));
        }
        match self.dice.below(20) {
            0 => {
                self.term += 1;
                Step::Vote(self.term)
            }
            1 if next - first > 2 => {
                self.term += 1;
                self.votes = true;
                Step::Truncate(next - 2 - self.dice.below((next - first).min(30)))
            }
            2 if next > first => purge(state, first + self.dice.below(next - first)),
            // Beyond the end, as after a snapshot from the leader.
            3 if self.dice.below(4) == 0 => {
                Step::Purge { term: self.term, index: next + self.dice.below(5) }
            }
            4 | 5 if next > first => {
                let index = first + self.dice.below(next - first);
                Step::Committed { term: state.term_of(index).expect("it is there"), index }
            }
            _ => Step::Append { term: self.term, first: next, count: 1 + self.dice.below(8) },
        }
    }
}

fn purge(state: &State, index: u64) -> Step {
    Step::Purge { term: state.term_of(index).expect("it is there"), index }
}
