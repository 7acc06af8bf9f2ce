//! Exit codes, and the errors that carry them.

use std::process::ExitCode;

use bus::RequestError;
use runtime::Failure;

/// How the command line ends. Scripts may rely on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The answer is no: a verification failed.
    No,
    /// The command line or its input is wrong.
    Usage,
    /// The cluster refused.
    Refused,
    /// It has not come about in the time that was given.
    TimedOut,
    /// The cluster cannot be reached.
    Unreachable,
    /// Something changed meanwhile.
    Conflict,
    /// There is no such thing.
    NotFound,
    /// Something is wrong with Muster itself.
    Internal,
    /// Ctrl-C.
    Interrupted,
    /// As the command ended that was run in a replica.
    Command(u8),
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::No => 1,
            Code::Usage => 2,
            Code::Refused => 3,
            Code::TimedOut => 4,
            Code::Unreachable => 5,
            Code::Conflict => 6,
            Code::NotFound => 7,
            Code::Internal => 10,
            Code::Interrupted => 130,
            Code::Command(code) => code,
        })
    }
}

/// Why the command line ends otherwise than well.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl CliError {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::new(Code::Internal, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Code::Usage, text)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Code::Interrupted, "")
    }
}

impl From<RequestError> for CliError {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::NobodyThere(_) | RequestError::TimedOut(_) => Code::Unreachable,
            RequestError::Refused { code: 404, .. } => Code::NotFound,
            RequestError::Refused { code: 400..=499, .. } => Code::Usage,
            RequestError::Refused { .. } | RequestError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<bus::BusError> for CliError {
    fn from(error: bus::BusError) -> Self {
        Self::new(Code::Unreachable, error.to_string())
    }
}

impl From<Failure> for CliError {
    fn from(error: Failure) -> Self {
        Self::internal(runtime::process::chain(error.as_ref()))
    }
}
