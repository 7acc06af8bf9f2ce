//! What can go wrong on the bus, so that the caller can tell apart what it must treat differently.

/// A call to the bus failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Nobody answers at the address.
    #[error("cannot reach NATS at {url}: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the client said.
        why: String,
    },
    /// The server does not let this user in.
    #[error("NATS at {url} does not let {user} in: check --nats-user and its password")]
    Denied {
        /// Where.
        url: String,
        /// Who.
        user: String,
    },
    /// A file that says how to be let in is not what it should be.
    #[error("{path} does not hold {what}: {why}")]
    Credentials {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The server is older than what checks and batches rely on.
    #[error(
        "nats-server {found} at {url} is too old: {needed} or newer is needed, \
         because older ones silently ignore checks that keep the log whole"
    )]
    TooOld {
        /// Where.
        url: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// A server that anyone on the network could write to.
    #[error(
        "NATS at {url} is not on this machine and no user was given: \
         set --nats-user and a password, anyone could write there otherwise"
    )]
    NoAuthentication {
        /// Where.
        url: String,
    },
    /// A stream is not as this release needs it.
    #[error("stream {stream} has {field} = {found}, this release needs {wanted}: {advice}")]
    Drift {
        /// The stream.
        stream: &'static str,
        /// What differs.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
        /// What to do.
        advice: &'static str,
    },
    /// The server did not answer in time, or said no.
    #[error("{what}: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came back.
        why: String,
    },
}

impl BusError {
    pub(crate) fn failed(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Failed { what: what.into(), why: why.to_string() }
    }
}

/// A publish under checks failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Something else was published where this was to go.
    #[error("the stream or subject does not end where it was expected to: {0}")]
    WrongLast(String),
    /// The stream takes nothing more.
    #[error("the stream is full: {0}")]
    Full(String),
    /// No stream keeps this subject.
    #[error("no stream keeps {0}")]
    NoStream(String),
    /// No answer came: it may be there or not.
    #[error("nothing was heard of it: {0}")]
    Unknown(String),
    /// This user may not publish there.
    #[error("this user may not publish on {0}")]
    Denied(String),
    /// The server said no for another reason.
    #[error("refused: {0}")]
    Refused(String),
}

/// Following a stream failed for good.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// What is wanted has left the stream.
    #[error("stream {stream} begins at {first}; {wanted} is not in it any more")]
    Gone {
        /// The stream.
        stream: String,
        /// The first it still has.
        first: u64,
        /// What was wanted.
        wanted: u64,
    },
    /// The stream ends before what was read of it: it was lost or made anew.
    #[error("stream {stream} ends at {last}, before {read}, which was read of it")]
    Rewound {
        /// The stream.
        stream: String,
        /// Where it ends now.
        last: u64,
        /// The last that was read.
        read: u64,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A request was not answered with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens.
    #[error("nobody answers on {0}: is the service running?")]
    NobodyThere(String),
    /// No answer in time.
    #[error("no answer on {0} in time")]
    TimedOut(String),
    /// This user may not ask there.
    #[error("this user may not publish on {0}")]
    Denied(String),
    /// The service said no.
    #[error("{text} (code {code})")]
    Refused {
        /// Its code.
        code: u16,
        /// Its words.
        text: String,
    },
    /// The bus failed.
    #[error("{0}")]
    Failed(String),
}
