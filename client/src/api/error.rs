//! Problems: every refusal as RFC 9457 `application/problem+json` with a stable code.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Media type of a problem's body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal, as it stands in a reply's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:raftmap:problem:<code>`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The code in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request, for people.
    #[serde(default)]
    pub detail: String,
    /// What programs decide by.
    pub code: Code,
    /// The parameter, header or JSON member that was refused; `body` for a broken body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The store's present revision, where one beyond it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The oldest revision that is still kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_revision: Option<u64>,
    /// The key's present `mod_revision`, 0 when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mod_revision: Option<u64>,
    /// The lock's present token, 0 when it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// The bound that was hit: bytes, keys or operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Who holds the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl Problem {
    /// A problem with the status and title of its code and no extra fields.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("urn:raftmap:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            field: None,
            revision: None,
            oldest_revision: None,
            mod_revision: None,
            token: None,
            limit: None,
            holder: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal $status:literal $title:literal;)*) => {
        /// Why a call was refused. The names on the wire never change; new ones may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every code that a node may answer with.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                    Code::Unknown => "unknown",
                }
            }

            /// The HTTP status that it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Code::$name => $status,)*
                    Code::Unknown => 500,
                }
            }

            /// The code in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Code::$name => $title,)*
                    Code::Unknown => "Unknown problem",
                }
            }
        }
    };
}

codes! {
    /// A parameter, header or body that is malformed or out of its bounds.
    InvalidArgument = "invalid_argument" 400 "Invalid argument";
    /// No token, or one that is not known.
    Unauthenticated = "unauthenticated" 401 "Not authenticated";
    /// The token lacks the right.
    PermissionDenied = "permission_denied" 403 "Permission denied";
    /// The key, or the named thing, does not exist.
    NotFound = "not_found" 404 "Not found";
    /// The lease does not exist (any more).
    LeaseNotFound = "lease_not_found" 404 "Lease not found";
    /// No member has this id.
    MemberNotFound = "member_not_found" 404 "Member not found";
    /// Nothing is served under this path.
    RouteNotFound = "route_not_found" 404 "No such route";
    /// The path exists, the method does not; `Allow` says which do.
    MethodNotAllowed = "method_not_allowed" 405 "Method not allowed";
    /// `Accept` fits nothing that could be answered.
    NotAcceptable = "not_acceptable" 406 "Not acceptable";
    /// A `Content-Encoding` that is not understood.
    UnsupportedMediaType = "unsupported_media_type" 415 "Unsupported content encoding";
    /// The call does not fit the present state.
    Conflict = "conflict" 409 "Conflict";
    /// The cluster was formed before.
    AlreadyInitialized = "already_initialized" 409 "Already initialized";
    /// The first request with this idempotency key still runs.
    IdempotencyInProgress = "idempotency_in_progress" 409 "Still in progress";
    /// The revision asked for is no longer kept.
    Compacted = "compacted" 410 "Compacted";
    /// `If-Match` or `If-None-Match` did not hold.
    PreconditionFailed = "precondition_failed" 412 "Precondition failed";
    /// The lock that guards the write has moved on.
    GuardFailed = "guard_failed" 412 "Guard failed";
    /// The value is longer than the store takes.
    ValueTooLarge = "value_too_large" 413 "Value too large";
    /// The request is longer than the node takes.
    RequestTooLarge = "request_too_large" 413 "Request too large";
    /// The key is longer than the store takes.
    KeyTooLarge = "key_too_large" 414 "Key too large";
    /// The idempotency key was used with another request.
    IdempotencyMismatch = "idempotency_mismatch" 422 "Idempotency key mismatch";
    /// The range holds more than one command may touch or answer.
    RangeTooLarge = "range_too_large" 422 "Range too large";
    /// Somebody else holds the lock.
    LockHeld = "lock_held" 423 "Lock held";
    /// Refused before it was proposed; try again later.
    TooManyRequests = "too_many_requests" 429 "Too many requests";
    /// The node failed; never for bad input.
    Internal = "internal" 500 "Internal error";
    /// No leader is known; certainly not applied.
    NoLeader = "no_leader" 503 "No leader";
    /// This node's state is older than the reader allows.
    TooStale = "too_stale" 503 "Too stale";
    /// The node is stopping; certainly not applied.
    ShuttingDown = "shutting_down" 503 "Shutting down";
    /// The node's storage failed; it is about to exit.
    StorageFailed = "storage_failed" 503 "Storage failed";
    /// Not answered in time. A write may still commit.
    Timeout = "timeout" 504 "Timeout";
    /// The store is full; deletes and reads still work.
    QuotaExceeded = "quota_exceeded" 507 "Quota exceeded";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_name_in_every_form() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            let read: Code = serde_json::from_str(&format!("\"{code}\"")).unwrap();
            assert_eq!(read, *code);
        }
        assert_eq!(serde_json::from_str::<Code>("\"brand_new\"").unwrap(), Code::Unknown);
    }

    #[test]
    fn a_problem_carries_only_the_fields_it_has() {
        let mut problem = Problem::new(Code::Compacted, "revision 3 is gone");
        problem.oldest_revision = Some(9);
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            r#"{"type":"urn:raftmap:problem:compacted","title":"Compacted","status":410,"detail":"revision 3 is gone","code":"compacted","oldest_revision":9}"#
        );
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
}
