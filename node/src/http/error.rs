//! Every refusal on its way out: a code of the contract, a text for people, the extra fields.
//!
//! What the service and the state say is translated here, and only here is an internal cause
//! logged: the caller hears that the node failed, its operator hears why.

use std::borrow::Cow;

use http::HeaderName;
use raftmap_client::api::{Code, Problem};
use raftmap_state_machine::Refusal;

use super::answer::KV_REVISION;
use super::limits::Full;
use crate::service::ServiceError;

/// Seconds after which a refused client may well try again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A refusal. Boxed: the good paths carry only a pointer for it.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Refused>);

/// What a refusal says.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) problem: Problem,
    /// The methods that this path knows, for 405.
    pub(crate) allow: Option<&'static str>,
    /// Numbers for the reply's head, as the store's revision where the answer depends on it.
    pub(crate) numbers: Vec<(HeaderName, u64)>,
    /// Whether it passes by itself although its status does not say so.
    passes: bool,
    /// Whether the connection cannot be used again.
    pub(crate) close: bool,
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Problem::new(code, detail);
        ApiError(Box::new(Refused {
            problem,
            allow: None,
            numbers: Vec::new(),
            passes: false,
            close: false,
        }))
    }

    /// 400: `field` is a parameter, a header or a JSON member.
    pub(crate) fn invalid(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let mut error = ApiError::new(Code::InvalidArgument, detail);
        error.0.problem.field = Some(field.into().into_owned());
        error
    }

    pub(crate) fn too_large(code: Code, limit: u64) -> Self {
        ApiError::new(code, format!("the limit is {limit} bytes")).limit(limit)
    }

    pub(crate) fn limit(mut self, limit: u64) -> Self {
        self.0.problem.limit = Some(limit);
        self
    }

    /// Adds the store's revision to the reply's head.
    pub(crate) fn at_revision(self, revision: u64) -> Self {
        self.number(KV_REVISION, revision)
    }

    pub(crate) fn number(mut self, name: HeaderName, number: u64) -> Self {
        self.0.numbers.push((name, number));
        self
    }

    pub(crate) fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// The rest of the request will not be read: the connection ends with this answer.
    pub(crate) fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    pub(crate) fn guard_failed(token: u64) -> Self {
        let mut error = ApiError::new(Code::GuardFailed, "the lock is not held with this token");
        error.0.problem.token = Some(token);
        error
    }

    pub(crate) fn precondition_failed(mod_revision: u64) -> Self {
        let detail = match mod_revision {
            0 => "the key does not exist".to_owned(),
            revision => format!("the key is at revision {revision}"),
        };
        let mut error = ApiError::new(Code::PreconditionFailed, detail);
        error.0.problem.mod_revision = Some(mod_revision);
        error
    }

    /// What the replicated state refused, with its revision.
    pub(crate) fn refused(refusal: Refusal, revision: u64) -> Self {
        let error = match refusal {
            Refusal::NotFound => ApiError::new(Code::NotFound, "the key does not exist"),
            Refusal::PreconditionFailed { mod_revision } => {
                ApiError::precondition_failed(mod_revision)
            }
            Refusal::LeaseNotFound => ApiError::new(Code::LeaseNotFound, "no such lease"),
            Refusal::RangeTooLarge { limit } => {
                let detail =
                    format!("more than one call may touch or answer: the limit is {limit}");
                ApiError::new(Code::RangeTooLarge, detail).limit(limit)
            }
            Refusal::KeyTooLarge { limit } => ApiError::too_large(Code::KeyTooLarge, limit),
            Refusal::ValueTooLarge { limit } => ApiError::too_large(Code::ValueTooLarge, limit),
            Refusal::RequestTooLarge { limit } => ApiError::too_large(Code::RequestTooLarge, limit),
            Refusal::TooManyOps { limit } => {
                ApiError::invalid("body", format!("more than {limit} operations")).limit(limit)
            }
            Refusal::QuotaExceeded { limit } => {
                let detail = format!("the store is full: its limit is {limit}");
                ApiError::new(Code::QuotaExceeded, detail).limit(limit)
            }
            Refusal::Invalid { field, detail } => ApiError::invalid(field, detail),
            Refusal::Malformed => ApiError::internal("a command that this node made was malformed"),
        };
        error.at_revision(revision)
    }

    /// 500, with the cause in the log alone.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside the node");
        ApiError::new(Code::Internal, "the node's log says why")
    }

    pub(crate) fn code(&self) -> Code {
        self.0.problem.code
    }

    pub(crate) fn parts(&self) -> &Refused {
        &self.0
    }

    /// Seconds for `Retry-After`, where trying again makes sense.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let passes = self.0.passes || matches!(self.0.problem.status, 429 | 503);
        passes.then_some(RETRY_AFTER_SECONDS)
    }
}

impl From<Full> for ApiError {
    fn from(_: Full) -> Self {
        ApiError::new(Code::TooManyRequests, "the node has as much under way as it takes")
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let detail = error.to_string();
        let code = match error {
            ServiceError::Invalid { field, detail } => return ApiError::invalid(field, detail),
            ServiceError::Future { revision } => {
                let mut invalid = ApiError::invalid("revision", detail).at_revision(revision);
                invalid.0.problem.revision = Some(revision);
                return invalid;
            }
            ServiceError::Compacted { oldest_revision } => {
                let mut gone = ApiError::new(Code::Compacted, detail);
                gone.0.problem.oldest_revision = Some(oldest_revision);
                return gone;
            }
            ServiceError::RequestTooLarge { limit } => {
                return ApiError::too_large(Code::RequestTooLarge, limit);
            }
            ServiceError::NoRoom { reserve_bytes } => {
                let mut full = ApiError::new(Code::QuotaExceeded, detail).limit(reserve_bytes);
                full.0.passes = true;
                return full;
            }
            ServiceError::StorageFailed(cause) => {
                tracing::error!(%cause, "a request met failed storage");
                return ApiError::new(Code::StorageFailed, "this node's storage failed");
            }
            ServiceError::Internal(cause) => return ApiError::internal(cause),
            ServiceError::NoLeader => Code::NoLeader,
            ServiceError::TooStale => Code::TooStale,
            ServiceError::ShuttingDown => Code::ShuttingDown,
            ServiceError::TooManyRequests => Code::TooManyRequests,
            ServiceError::Timeout => Code::Timeout,
            ServiceError::Conflict(_) => Code::Conflict,
            ServiceError::AlreadyInitialized => Code::AlreadyInitialized,
            ServiceError::MemberNotFound => Code::MemberNotFound,
        };
        ApiError::new(code, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_cause_is_not_told_to_the_caller() {
        let error = ApiError::from(ServiceError::Internal("secret path".into()));
        assert_eq!(error.code(), Code::Internal);
        assert!(!format!("{error:?}").contains("secret path"));
    }

    #[test]
    fn a_failed_condition_tells_where_the_key_is() {
        let error = ApiError::refused(Refusal::PreconditionFailed { mod_revision: 7 }, 9);
        assert_eq!(error.parts().problem.mod_revision, Some(7));
        assert_eq!(error.parts().numbers, [(KV_REVISION, 9)]);
        assert_eq!(error.retry_after(), None);
    }

    #[test]
    fn only_what_passes_by_itself_says_when_to_come_back() {
        for (error, seconds) in [
            (ServiceError::NoLeader, Some(1)),
            (ServiceError::TooManyRequests, Some(1)),
            (ServiceError::NoRoom { reserve_bytes: 1 }, Some(1)),
            (ServiceError::Timeout, None),
            (ServiceError::AlreadyInitialized, None),
        ] {
            assert_eq!(ApiError::from(error).retry_after(), seconds);
        }
    }
}
