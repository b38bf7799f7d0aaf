//! Why a command did not do what was asked, and the exit code that says so.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use raftmap_client::Error;
use serde_json::json;

/// The contract's exit codes, 0 aside.
const NOT_HELD: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const UNKNOWN: u8 = 4;

#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Call(Error),
    /// What was asked for is not there.
    NotFound(String),
    /// The arguments or the input make no sense.
    Usage(String),
    /// A file of this machine could not be used.
    Local(String, io::Error),
    /// Whoever read stdout has enough.
    Closed,
}

impl Failure {
    pub(crate) fn local(what: impl Into<String>, error: io::Error) -> Failure {
        Failure::Local(what.into(), error)
    }

    /// An error of writing to stdout.
    pub(crate) fn stdout(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::local("write to stdout", error),
        }
    }

    /// Says it on stderr and returns the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let code = self.exit_code();
        if !matches!(self, Failure::Closed) {
            // With stderr gone there is nobody left to tell; the exit code still does.
            let _told = if json {
                writeln!(io::stderr(), "{}", self.json(code))
            } else {
                writeln!(io::stderr(), "raftmap: {self}")
            };
        }
        ExitCode::from(code)
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::NotFound(_) => NOT_HELD,
            Failure::Usage(_) | Failure::Local(..) => USAGE,
            Failure::Call(error) => match error {
                Error::NotFound(_) | Error::Conflict(_) | Error::Full(_) => NOT_HELD,
                Error::Invalid { .. } | Error::Denied(_) => USAGE,
                Error::Unknown { .. } => UNKNOWN,
                _ => UNREACHABLE,
            },
        }
    }

    fn json(&self, code: u8) -> serde_json::Value {
        let problem = match self {
            Failure::Call(error) => error.problem(),
            _ => None,
        };
        json!({ "error": self.to_string(), "exit_code": code, "problem": problem })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Call(error) => error.fmt(f),
            Failure::NotFound(reason) | Failure::Usage(reason) => f.write_str(reason),
            Failure::Local(what, error) => write!(f, "{what}: {error}"),
            Failure::Closed => f.write_str("stdout was closed"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Call(error)
    }
}

#[cfg(test)]
mod tests {
    use raftmap_client::api::{Code, Problem};

    use super::*;

    #[test]
    fn every_kind_of_error_has_the_contracts_exit_code() {
        let problem = || Box::new(Problem::new(Code::PreconditionFailed, ""));
        let call = |error| Failure::Call(error).exit_code();
        let reason = String::new;
        assert_eq!(call(Error::Conflict(problem())), 1);
        assert_eq!(call(Error::NotFound(problem())), 1);
        assert_eq!(call(Error::Full(problem())), 1);
        assert_eq!(call(Error::Invalid { reason: reason(), problem: None }), 2);
        assert_eq!(call(Error::Denied(problem())), 2);
        assert_eq!(call(Error::Retry { reason: reason(), problem: None }), 3);
        assert_eq!(call(Error::Internal { reason: reason() }), 3);
        assert_eq!(call(Error::Unknown { reason: reason() }), 4);
    }
}
