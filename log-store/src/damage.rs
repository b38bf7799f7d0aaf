//! What is wrong with a log that does not open, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::LogError;

/// Where the log is damaged, and what is affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of damage it is.
    pub cause: Cause,
    /// The file.
    pub file: PathBuf,
    /// The byte in it from which on it cannot be trusted.
    pub offset: u64,
    /// The index of the first entry that may be affected, where that is known.
    pub first_index: Option<u64>,
    /// The index of the last entry that may be affected, where that is known.
    pub last_index: Option<u64>,
    /// What does not fit.
    pub reason: String,
}

/// The kinds of damage, told apart by what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// IDENTITY is missing or does not verify.
    Identity,
    /// FRONTIER is missing, does not verify or does not fit the log.
    Frontier,
    /// A file of another log lies here.
    Foreign,
    /// A file has a name that is not its own, or that no file of a log has.
    Misplaced,
    /// Segments are not there.
    Missing,
    /// Bytes that were durable do not verify.
    Rotten,
    /// The end of the log, which was durable, is gone or changed.
    EndLost,
    /// Everything verifies, and yet it does not fit together.
    Contradiction,
    /// An unfinished write, never acknowledged, and `strict_tail` is set.
    Strict,
}

impl Cause {
    /// A word for machines; it never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Frontier => "frontier",
            Self::Foreign => "foreign",
            Self::Misplaced => "misplaced",
            Self::Missing => "missing",
            Self::Rotten => "rotten",
            Self::EndLost => "end_lost",
            Self::Contradiction => "contradiction",
            Self::Strict => "strict",
        }
    }

    /// What the operator can do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Missing | Self::Rotten | Self::EndLost | Self::Contradiction => {
                "If these very files still exist unharmed elsewhere, put them back; an older copy is not the \
                 same. Otherwise remove this member from the cluster, empty its directory and join again \
                 under a new id: it has lost what it acknowledged and must not vote under the old one. \
                 `raftmap-node log verify` shows what is known, `raftmap-node log repair` saves what is left \
                 when no other member has it"
            }
            Self::Identity => {
                "Put IDENTITY back if it still exists elsewhere. Otherwise nobody can tell whose log this is: \
                 remove this member from the cluster, empty its directory and join again under a new id"
            }
            Self::Frontier => {
                "Put FRONTIER back if it still exists elsewhere. Otherwise nothing tells whether the end of the \
                 log is missing: remove this member from the cluster, empty its directory and join again under \
                 a new id. Only for a cluster of this node alone, `raftmap-node log repair \
                 --rebuild-frontier --keep-identity --i-accept-data-loss` makes a new one from segments that \
                 verify"
            }
            Self::Foreign | Self::Misplaced => {
                "Put the file where it belongs, or away if it is none of this log, and start again"
            }
            Self::Strict => {
                "Without `strict_tail`, a setting of the library, an open cuts it and keeps a copy in quarantine/"
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Damage {
    /// Damage of which no entries are known.
    pub(crate) fn of(cause: Cause, file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        let (file, reason) = (file.to_owned(), reason.into());
        Self { cause, file, offset, first_index: None, last_index: None, reason }
    }

    /// The same, as an error.
    pub(crate) fn refuse(
        cause: Cause,
        file: &Path,
        offset: u64,
        reason: impl Into<String>,
    ) -> LogError {
        LogError::corrupt(Self::of(cause, file, offset, reason))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.reason)?;
        match (self.first_index, self.last_index) {
            (Some(first), Some(last)) => write!(f, " (entries {first} to {last})")?,
            (Some(first), None) => write!(f, " (entries from {first} on)")?,
            (None, Some(last)) => write!(f, " (entries up to {last})")?,
            (None, None) => {}
        }
        write!(f, ". Nothing was changed. {}", self.cause.advice())
    }
}
