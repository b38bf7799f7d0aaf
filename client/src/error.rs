//! What can go wrong with a call, by what the caller can do about it.
//!
//! ```text
//!   Invalid, Denied     change the request        nothing was changed
//!   NotFound, Conflict  look at the state         nothing was changed
//!   Full                make room                 nothing was changed
//!   Retry               call again, later         nothing was changed
//!   Unknown             read what is there now    it may have been changed, or still be
//!   Internal            report it                 nothing is known to have been changed
//! ```

use thiserror::Error;

use crate::api::{Code, Problem};

/// A call that did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can never succeed as it is. Not sent, or refused; nothing was changed.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, for people.
        reason: String,
        /// The node's refusal; `None` if it was found before anything was sent.
        problem: Option<Box<Problem>>,
    },
    /// The token is missing, unknown, or lacks the right. Nothing was changed.
    #[error("{0}")]
    Denied(Box<Problem>),
    /// The key, revision, lease or member that was named is not there (any more). Nothing was changed.
    #[error("{0}")]
    NotFound(Box<Problem>),
    /// The state does not allow it: a condition did not hold, or a limit of the state was hit. Nothing was changed.
    #[error("{0}")]
    Conflict(Box<Problem>),
    /// The store is full; deletes and reads still work. Nothing was changed.
    #[error("{0}")]
    Full(Box<Problem>),
    /// The cluster could not be reached or could not serve until the deadline. Nothing was changed; the call
    /// can be made again.
    #[error("{reason}")]
    Retry {
        /// What the last attempt met, for people.
        reason: String,
        /// The last refusal, if a node answered at all.
        problem: Option<Box<Problem>>,
    },
    /// The write was sent, and whether it was or will be applied is not known. It was not repeated: a second
    /// attempt might apply it twice.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What happened instead of an answer, for people.
        reason: String,
    },
    /// A node failed or gave an answer that this client does not understand.
    #[error("{reason}")]
    Internal {
        /// What came, for people.
        reason: String,
    },
}

impl Error {
    /// The node's own words, if it answered.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Invalid { problem, .. } | Error::Retry { problem, .. } => problem.as_deref(),
            Error::Denied(p) | Error::NotFound(p) | Error::Conflict(p) | Error::Full(p) => Some(p),
            Error::Unknown { .. } | Error::Internal { .. } => None,
        }
    }

    /// The code of the node's refusal, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|p| p.code)
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Error {
        Error::Invalid { reason: reason.into(), problem: None }
    }

    pub(crate) fn internal(reason: impl Into<String>) -> Error {
        Error::Internal { reason: reason.into() }
    }

    /// A final refusal. Statuses that leave the outcome open or ask to come again never get here.
    pub(crate) fn refused(problem: Problem) -> Error {
        let problem = Box::new(problem);
        match problem.code {
            Code::RouteNotFound
            | Code::MethodNotAllowed
            | Code::NotAcceptable
            | Code::UnsupportedMediaType => {
                Error::internal(format!("the node does not know this call: {problem}"))
            }
            _ => match problem.status {
                401 | 403 => Error::Denied(problem),
                404 | 410 => Error::NotFound(problem),
                409 | 412 | 422 | 423 => Error::Conflict(problem),
                507 => Error::Full(problem),
                400..=499 => Error::Invalid { reason: problem.to_string(), problem: Some(problem) },
                status => Error::internal(format!("unexpected status {status}: {problem}")),
            },
        }
    }
}

/// What calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code) -> Error {
        Error::refused(Problem::new(code, "because"))
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert!(matches!(refused(Code::InvalidArgument), Error::Invalid { .. }));
        assert!(matches!(refused(Code::ValueTooLarge), Error::Invalid { .. }));
        assert!(matches!(refused(Code::KeyTooLarge), Error::Invalid { .. }));
        assert!(matches!(refused(Code::PermissionDenied), Error::Denied(_)));
        assert!(matches!(refused(Code::LeaseNotFound), Error::NotFound(_)));
        assert!(matches!(refused(Code::Compacted), Error::NotFound(_)));
        assert!(matches!(refused(Code::PreconditionFailed), Error::Conflict(_)));
        assert!(matches!(refused(Code::RangeTooLarge), Error::Conflict(_)));
        assert!(matches!(refused(Code::QuotaExceeded), Error::Full(_)));
        assert!(matches!(refused(Code::RouteNotFound), Error::Internal { .. }));
    }

    #[test]
    fn the_nodes_words_stay_available() {
        let error = refused(Code::PreconditionFailed);
        assert_eq!(error.code(), Some(Code::PreconditionFailed));
        assert!(error.to_string().contains("because"), "{error}");
        assert_eq!(Error::invalid("an empty key").code(), None);
    }
}
