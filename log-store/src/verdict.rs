//! What to do with the end of the log: keep it, cut it, or refuse to open. Law L4.
//!
//! Pure: everything that the decision depends on is in [`TailFacts`], so its whole table is in the tests.
//!
//! ```text
//!   header | frame | frame | frame | X  ?????????????????  | end of file
//!                                    ^ the first byte that is not part of a valid frame
//! ```
//! Only bytes that were never acknowledged may be cut. They are written behind everything durable, so
//! whatever shows that X was durable shows that acknowledged bytes are gone:
//! 1. the file is shorter than it was made, before it got its name: a sealed one is shortened only once its
//!    successor has its name, and the last one is never removed, so a successor is gone;
//! 2. FRONTIER says that the log was durable beyond X;
//! 3. a valid frame behind X was written when the log was durable beyond X;
//! 4. what is at X was written whole and has changed since, or was never written by this log (`tear`).

use std::fmt;

use crate::damage::Cause;
use crate::tear::Tear;

/// What is known of the last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailFacts {
    pub(crate) start_lsn: u64,
    /// Offset X: where the valid frames end.
    pub(crate) end: u64,
    /// The last valid frame seals the segment.
    pub(crate) is_sealed: bool,
    /// The length that the file was made with.
    pub(crate) capacity: u64,
    pub(crate) file_len: u64,
    /// How far FRONTIER says that the log was durable.
    pub(crate) frontier_lsn: u64,
    /// The largest `synced_lsn` of valid frames behind X.
    pub(crate) later_synced_lsn: Option<u64>,
    /// Behind the last byte after X that is not zero; X itself when all are zero.
    pub(crate) content_end: u64,
    /// What is between the two.
    pub(crate) tear: Tear,
    /// The setting of that name.
    pub(crate) strict_tail: bool,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends at X.
    Keep,
    /// The log ends at X; the bytes from there to `to` are an unfinished write.
    Cut { to: u64 },
    /// Acknowledged bytes are gone or changed, or nothing may be cut.
    Refuse(Refusal),
}

/// Why a log is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Rule 1.
    Short { file_len: u64, capacity: u64 },
    /// Rule 2.
    BeforeFrontier { end_lsn: u64, frontier_lsn: u64 },
    /// Rule 3.
    DurableBeyond { end_lsn: u64, synced_lsn: u64 },
    /// Rule 4; what does not verify.
    Whole { what: &'static str },
    /// `strict_tail` is set.
    Strict { bytes: u64 },
}

pub(crate) fn verdict(facts: &TailFacts) -> Verdict {
    let end_lsn = facts.start_lsn + facts.end;
    let frontier_lsn = facts.frontier_lsn;
    if end_lsn < frontier_lsn {
        return Verdict::Refuse(Refusal::BeforeFrontier { end_lsn, frontier_lsn });
    }
    if let Some(synced_lsn) = facts.later_synced_lsn.filter(|&synced| synced > end_lsn) {
        return Verdict::Refuse(Refusal::DurableBeyond { end_lsn, synced_lsn });
    }
    if facts.file_len < facts.capacity {
        let (file_len, capacity) = (facts.file_len, facts.capacity);
        return Verdict::Refuse(Refusal::Short { file_len, capacity });
    }
    match facts.tear {
        _ if facts.is_sealed => Verdict::Keep,
        Tear::Nothing => Verdict::Keep,
        Tear::Whole(what) => Verdict::Refuse(Refusal::Whole { what }),
        Tear::Torn if facts.strict_tail => {
            Verdict::Refuse(Refusal::Strict { bytes: facts.content_end - facts.end })
        }
        Tear::Torn => Verdict::Cut { to: facts.content_end },
    }
}

impl Refusal {
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::Short { .. } | Self::BeforeFrontier { .. } | Self::DurableBeyond { .. } => {
                Cause::EndLost
            }
            Self::Whole { .. } => Cause::Rotten,
            Self::Strict { .. } => Cause::Strict,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { file_len, capacity } => {
                write!(f, "the file has {file_len} bytes, it was made with {capacity}")
            }
            Self::BeforeFrontier { end_lsn, frontier_lsn } => write!(
                f,
                "the log ends at lsn {end_lsn}, but FRONTIER says that it was durable up to \
                 {frontier_lsn}"
            ),
            Self::DurableBeyond { end_lsn, synced_lsn } => write!(
                f,
                "the log ends at lsn {end_lsn}, but a later frame says that it was durable up to \
                 {synced_lsn}"
            ),
            Self::Whole { what } => {
                write!(f, "{what}; no crash leaves that: it has changed since it was written")
            }
            Self::Strict { bytes } => {
                write!(f, "an unfinished write of {bytes} bytes, and strict_tail is set")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of lsn 1000 to 1500 in a file of 4000, nothing behind it.
    const CLEAN: TailFacts = TailFacts {
        start_lsn: 1000,
        end: 500,
        is_sealed: false,
        capacity: 4000,
        file_len: 4000,
        frontier_lsn: 1500,
        later_synced_lsn: None,
        content_end: 500,
        tear: Tear::Nothing,
        strict_tail: false,
    };
    /// The same with something behind the end.
    const TORN: TailFacts = TailFacts { content_end: 700, tear: Tear::Torn, ..CLEAN };
    /// The same, and it is no unfinished write.
    const WHOLE: TailFacts = TailFacts { tear: Tear::Whole("a record"), ..TORN };

    #[test]
    fn the_whole_table() {
        let short = Refusal::Short { file_len: 3999, capacity: 4000 };
        let before = Refusal::BeforeFrontier { end_lsn: 1500, frontier_lsn: 1501 };
        let beyond = Refusal::DurableBeyond { end_lsn: 1500, synced_lsn: 1501 };
        let table = [
            ("clean end", CLEAN, Verdict::Keep),
            ("clean end, FRONTIER behind", TailFacts { frontier_lsn: 0, ..CLEAN }, Verdict::Keep),
            ("clean end, strict", TailFacts { strict_tail: true, ..CLEAN }, Verdict::Keep),
            ("zeroed end", TailFacts { frontier_lsn: 1501, ..CLEAN }, Verdict::Refuse(before)),
            ("cut file", TailFacts { file_len: 3999, ..CLEAN }, Verdict::Refuse(short)),
            ("grown file", TailFacts { file_len: 9000, ..CLEAN }, Verdict::Keep),
            ("torn", TORN, Verdict::Cut { to: 700 }),
            (
                "torn, FRONTIER behind",
                TailFacts { frontier_lsn: 3, ..TORN },
                Verdict::Cut { to: 700 },
            ),
            ("rot, FRONTIER behind", WHOLE, Verdict::Refuse(Refusal::Whole { what: "a record" })),
            (
                "rot, a later frame of the same write",
                TailFacts { later_synced_lsn: Some(1500), ..WHOLE },
                Verdict::Refuse(Refusal::Whole { what: "a record" }),
            ),
            ("rot, a cut file", TailFacts { file_len: 3999, ..WHOLE }, Verdict::Refuse(short)),
            (
                "rot, FRONTIER beyond",
                TailFacts { frontier_lsn: 1501, ..WHOLE },
                Verdict::Refuse(before),
            ),
            (
                "torn, FRONTIER beyond",
                TailFacts { frontier_lsn: 1501, ..TORN },
                Verdict::Refuse(before),
            ),
            (
                "torn, strict",
                TailFacts { strict_tail: true, ..TORN },
                Verdict::Refuse(Refusal::Strict { bytes: 200 }),
            ),
            (
                "torn, a later frame of the same write",
                TailFacts { later_synced_lsn: Some(1500), ..TORN },
                Verdict::Cut { to: 700 },
            ),
            (
                "rot, a later frame",
                TailFacts { later_synced_lsn: Some(1501), ..TORN },
                Verdict::Refuse(beyond),
            ),
            (
                "rot, a later frame, a cut file",
                TailFacts { later_synced_lsn: Some(1501), file_len: 3999, ..TORN },
                Verdict::Refuse(beyond),
            ),
            ("sealed", TailFacts { is_sealed: true, ..CLEAN }, Verdict::Keep),
            (
                "sealed and shortened: its successor is lost",
                TailFacts { is_sealed: true, file_len: 3999, ..CLEAN },
                Verdict::Refuse(short),
            ),
            (
                "sealed, FRONTIER beyond: a segment is lost",
                TailFacts { is_sealed: true, frontier_lsn: 1501, ..CLEAN },
                Verdict::Refuse(before),
            ),
        ];
        for (name, facts, expected) in table {
            assert_eq!(verdict(&facts), expected, "{name}");
        }
    }
}
