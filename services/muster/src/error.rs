//! Exit codes, and the errors that carry them.

use std::process::ExitCode;

use bus::RequestError;
use runtime::Failure;
use schemas::command::Problem;

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
    /// This user may not.
    NotPermitted,
    /// Something is wrong with Muster itself.
    Internal,
    /// Ctrl-C.
    Interrupted,
    /// Whoever read standard output has enough. Shells say so of tools that end by SIGPIPE.
    Closed,
    /// As the command ended that was run in a replica.
    Command(u8),
}

impl Code {
    /// The process's exit code.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::TimedOut => 4,
            Self::Unreachable => 5,
            Self::Conflict => 6,
            Self::NotFound => 7,
            Self::NotPermitted => 8,
            Self::Internal => 10,
            Self::Interrupted => 130,
            Self::Closed => 141,
            Self::Command(code) => code,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
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

    /// What a rejection means for the exit code.
    pub(crate) fn rejected(problem: &Problem) -> Self {
        let code = match problem.code.as_str() {
            "not_found" => Code::NotFound,
            "changed_meanwhile" => Code::Conflict,
            "not_permitted" => Code::NotPermitted,
            _ => Code::Refused,
        };
        Self::new(code, problem.to_string())
    }
}

impl From<RequestError> for CliError {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::NobodyThere(_) | RequestError::TimedOut(_) => Code::Unreachable,
            RequestError::Denied(_) | RequestError::Refused { code: 403, .. } => Code::NotPermitted,
            RequestError::Refused { code: 404, .. } => Code::NotFound,
            RequestError::Refused { code: 400..=499, .. } => Code::Usage,
            RequestError::Refused { .. } | RequestError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<bus::BusError> for CliError {
    fn from(error: bus::BusError) -> Self {
        let code = match &error {
            bus::BusError::Denied { .. } => Code::NotPermitted,
            _ => Code::Unreachable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<bus::FollowError> for CliError {
    fn from(error: bus::FollowError) -> Self {
        Self::new(Code::Unreachable, error.to_string())
    }
}

impl From<Failure> for CliError {
    fn from(error: Failure) -> Self {
        Self::internal(runtime::process::chain(error.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_says_which_exit_code_it_is() {
        let code = |code: &str| CliError::rejected(&Problem::new(code, "", "", "")).code;
        assert_eq!(code("not_found"), Code::NotFound);
        assert_eq!(code("changed_meanwhile"), Code::Conflict);
        assert_eq!(code("not_permitted"), Code::NotPermitted);
        assert_eq!(code("invalid_value"), Code::Refused);
        let denied = RequestError::Denied("muster.v1.api.head".to_owned());
        assert_eq!(CliError::from(denied).code, Code::NotPermitted);
    }
}
