//! What is asked of a node's agent for the moment: a replica's output, and commands run in it.
//!
//! Nothing of it is kept on the bus. An asker publishes an [`Ask`] on the subject of the replica, with
//! an inbox of its own as the reply subject; [`Part`]s come there until one ends the session. While
//! it goes on, the asker says now and then that it still listens and what it has taken, and an agent
//! that does not hear that for a while stops: nothing is ever sent to nobody.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often an asker must say that it still listens, in ms.
pub const LISTENING_MS: u64 = 10_000;

/// After how long without that a session ends, in ms.
pub const SILENT_MS: u64 = 30_000;

/// The most sessions at once on one node.
pub const SESSIONS_MAX: usize = 32;

/// The largest part, in bytes.
pub const PART_BYTES_MAX: usize = 64 * 1024;

/// How many parts may be under way that the asker has not taken.
pub const PARTS_AHEAD: u64 = 32;

/// How much input one [`Want::Input`] carries at most, before it is base64, in bytes.
pub const INPUT_BYTES_MAX: usize = 32 * 1024;

/// How many of those may be under way that the command has not read.
pub const INPUTS_AHEAD: u64 = 8;

/// The longest id of a session.
pub const SESSION_BYTES_MAX: usize = 64;

/// What every reply subject begins with. Nothing is sent anywhere else, whoever asks.
pub const INBOX: &str = "_INBOX.";

/// How long one reply subject serves, in ms and in parts, before an asker should give another: a
/// server lets an agent answer there only so long and so often.
pub const REPLY_MS: u64 = 600_000;
/// See [`REPLY_MS`].
pub const REPLY_PARTS: u64 = 10_000;

/// What an asker says. The newest reply subject is where parts go from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The session's id, random: whoever knows it can end it.
    pub session: String,
    /// The last part that was taken.
    #[serde(default)]
    pub through: u64,
    /// What is wanted; none: to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
}

/// What is wanted of a session. The first one of a session is `log` or `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// A replica's output.
    Log(LogWanted),
    /// A command run in a replica.
    Exec(ExecWanted),
    /// Input for the command.
    Input {
        /// 1, 2, 3 … within the session.
        n: u64,
        /// The bytes; none say that no more follow.
        base64: String,
    },
    /// The size of the asker's terminal.
    Size(Size),
    /// An end, at once. A command that runs is killed.
    Stop,
}

/// Which output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogWanted {
    /// Of which run; none: of the newest.
    pub run: Option<u32>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only what was said since then, in ms since 1970 UTC by the node's clock.
    pub since_ms: Option<u64>,
    /// To go on with what is said from now on.
    pub follow: bool,
    /// Whether each line says when it was said.
    pub timestamps: bool,
}

/// Which command is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecWanted {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether input will come.
    pub input: bool,
    /// Whether it runs on a terminal.
    pub tty: bool,
    /// The terminal's size.
    pub size: Option<Size>,
    /// The user to be in the container.
    pub user: Option<String>,
    /// The folder to be in.
    pub workdir: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// The session.
    pub session: String,
    /// 1, 2, 3 … within the session: one that is missing was lost on the way.
    pub n: u64,
    /// What it says.
    pub said: Said,
}

/// What a part says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The session goes ahead.
    Began {
        /// The run it is about.
        run: u32,
    },
    /// Lines of a replica's output, in order.
    Lines {
        /// The lines.
        lines: Vec<Line>,
        /// How many came before them that the asker was too slow for.
        #[serde(default, skip_serializing_if = "is_zero")]
        lost: u64,
    },
    /// What a command wrote.
    Output {
        /// Where it wrote it.
        stream: Stream,
        /// The bytes.
        base64: String,
    },
    /// The command, or the pipe to it, has taken input up to here.
    InputTaken {
        /// The number of the input.
        n: u64,
    },
    /// The session is over: the output ends here, or the command has.
    Ended {
        /// The command's exit code, when the engine knows one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i64>,
    },
    /// The session is over, or never began.
    Refused {
        /// As of HTTP: 404 when there is nothing of the kind, 409 when it cannot be now.
        code: u16,
        /// Why, and what to do.
        text: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A line of a replica's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// When it was said, by the node's clock, if that was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Where it was said.
    pub stream: Stream,
    /// The line, without its end. What is not UTF-8 in it was replaced.
    pub text: String,
}

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output, and everything on a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Said {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Refused { .. })
    }
}

/// The user who listens on an inbox: the server lets no other.
#[must_use]
pub fn user_of(inbox: &str) -> Option<&str> {
    let (user, rest) = inbox.strip_prefix(INBOX)?.split_once('.')?;
    // The agents' own users have a dot in their names.
    let user = match user {
        "agent" => inbox.get(INBOX.len()..INBOX.len() + 6 + rest.find('.')?)?,
        user => user,
    };
    (!user.is_empty()).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_says_whose_it_is() {
        assert_eq!(user_of("_INBOX.ana.x8"), Some("ana"));
        assert_eq!(user_of("_INBOX.agent.n1.x8"), Some("agent.n1"));
        for wrong in ["_INBOX.x8", "_INBOX..x8", "muster.v1.rpt.heartbeat.n1", "_INBOX.agent.x8"] {
            assert_eq!(user_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_by_hand_is_short() {
        let asked = r#"{"session":"a","want":{"log":{"tail":10}}}"#;
        let asked: Ask = serde_json::from_str(asked).expect("it decodes");
        let wanted = LogWanted { tail: Some(10), ..LogWanted::default() };
        let whole = Ask { session: "a".to_owned(), through: 0, want: Some(Want::Log(wanted)) };
        assert_eq!(asked, whole);
    }
}
