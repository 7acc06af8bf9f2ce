//! What a start does: the log against the stream, row by row of the design's table.
//!
//! Pure. The machine looks, asks [`judge`], acts, looks again, and so on until it may take. Each
//! step is safe on its own, so a crash between two of them is just another start.

use schemas::place::Place;

/// The stream, as the server describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The sequence of its first message, or of the next one when it is empty.
    pub first: u64,
    /// The sequence of its last message ever.
    pub last: u64,
    /// How many messages it holds.
    pub messages: u64,
}

/// How this instance stands to others just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is configured as the only one.
    pub only: bool,
    /// It may begin a history.
    pub begins: bool,
    /// The last `SequencerTaken` is of this very process.
    pub leads: bool,
    /// Whoever led was not heard for long enough.
    pub silent: bool,
    /// A disk of its own has no room: it could order nothing.
    pub full: bool,
    /// The highest place that anyone said was published.
    pub known: Place,
    /// An operator said to go on without what was published and is in no log.
    pub accepts_loss: bool,
}

/// Everything a start depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last stored entry.
    pub log: Place,
    /// The id of the log's history.
    pub genesis: Option<String>,
    /// The published head, as the witness or this process knows it.
    pub published: Place,
    /// Whether the log's entry at the published head is that one. True when the log ends below it.
    pub published_fits: bool,
    /// Whether the log has the entry that others say was published, the highest of them.
    pub known_fits: bool,
    /// The id of the history that the witness saw.
    pub witnessed_genesis: Option<String>,
    /// The highest position at or below the published head and the stream's last at which the log
    /// holds an entry of its own, not a void. Equal there, the two are equal before it.
    pub anchor: u64,
    /// The stream.
    pub stream: Stream,
    /// How the stream's messages compare to the log's entries, once they were read.
    pub compared: Option<Compared>,
    /// What the stream says about where it differs at or below the published head, once it was read
    /// for that.
    pub sought: Option<Sought>,
    /// How this instance stands to others.
    pub standing: Standing,
}

/// Why the stream differs at or below the published head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// It does not say.
    Nothing,
    /// Another instance took at this position, behind an entry that this log has, and said that it
    /// gives up what had been published there.
    GivenUp {
        /// The position.
        at: u64,
    },
}

/// How the stream compares to the log where both have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Equal, as far as the stream has what was to be compared.
    Equal {
        /// Whether it has any of it, so that the two are known to be of one history.
        proven: bool,
    },
    /// Equal up to here, and above the published head the stream had more when it was looked at: it
    /// has let go of that since, and what stood there is not known.
    Gone {
        /// The first position of it.
        at: u64,
        /// Whether an equal message was met before it.
        proven: bool,
    },
    /// They differ from here on.
    Differs {
        /// The first position at which they do.
        at: u64,
        /// Whether an equal message was met before it, or the position is the first of all.
        proven: bool,
        /// Whether the message there is an event of some history.
        event: bool,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a history.
    Genesis,
    /// Become the sequencer, by an event.
    Take,
    /// Read both from here to the end of the shorter one, and judge again.
    Compare {
        /// The first position.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Publish stored entries again, byte for byte.
    Publish {
        /// The first one.
        from: u64,
    },
    /// Make the empty stream go on at this sequence.
    Seat {
        /// The sequence of its next message.
        next: u64,
    },
    /// Take for published what others say was, and judge again.
    Believe {
        /// The last entry of it, which the log has.
        head: Place,
    },
    /// Move entries that were never published aside.
    SetAside {
        /// The first of them.
        from: u64,
    },
    /// Take in what the stream has and the log has not.
    CatchUp {
        /// The first position.
        from: u64,
        /// Whether the log's end is known to be equal to the stream.
        proven: bool,
    },
    /// Read the stream up to here for why it differs, and judge again.
    Seek {
        /// The last position.
        to: u64,
    },
    /// Take in what another instance publishes.
    Follow,
    /// Look again later.
    Wait(Waiting),
    /// Get what the stream has let go of from another instance.
    Bridge {
        /// The first position.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Do not start.
    Refuse(Refusal),
}

/// What one of several instances waits for, publishing nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// Nobody began a history.
    #[error("there is no history yet; start one instance with --begin, once, or as the only one")]
    History,
    /// The stream is not as the log, and there may be one who leads and mends it.
    #[error("for whoever leads to mend the events stream, or to be silent")]
    Leader,
    /// The stream was emptied behind what this log knows to be published, and nobody leads who knows
    /// more.
    #[error(
        "for an instance that knows what was published up to {last}: the events stream is empty and \
         goes on there, and this log knows it up to {published} only. If none comes back, delete the \
         stream {stream} to have it filled from this log",
        stream = schemas::stream::EVENTS.name
    )]
    Emptied {
        /// The published head.
        published: Place,
        /// The stream's last sequence.
        last: u64,
    },
    /// It is for this one to go on, and it has no room to.
    #[error("for room on a disk: one that can store nothing takes nothing over")]
    Room,
    /// Another instance has more.
    #[error(
        "the log ends at {log} and history was published up to {known}: for the instance that has \
         it; if there is none any more, stop this one and run \
         `muster-event-log --one-of-several take --accept-loss` on its folder"
    )]
    Below {
        /// The log's end.
        log: Place,
        /// What was published.
        known: Place,
    },
    /// The stream does not reach back to the log's end, or not to an entry that both have.
    #[error(
        "for an instance that has positions {from} to {to}: the events stream has nothing there \
         that follows from this log; if none has, connect to the NATS of this log"
    )]
    Gap {
        /// The first position.
        from: u64,
        /// The last one.
        to: u64,
    },
}

/// Why event-log does not start. Each is for a person to resolve: starting would lose or fork what
/// somebody has already seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log lost what was published.
    #[error(
        "the log ends at {log} and was published up to {published}, which the events stream does \
         not have either: positions {missing} to {last} are missing. Restore a backup that reaches \
         further with `muster restore` into an empty folder, or salvage more of a damaged store; \
         `muster-event-log salvage --accept-loss` gives up what is missing",
        missing = .log.position + 1, last = .published.position
    )]
    BelowWitness {
        /// The log's end.
        log: Place,
        /// What the witness saw.
        published: Place,
    },
    /// The log is another one than the witness saw.
    #[error(
        "the log at position {position} is not what the witness file saw published there \
         ({published}, hash {hash}); run `muster-event-log verify`, then restore the log or, if \
         it is the right one, the witness file that belongs to it",
        position = .published.position, hash = .published.hash
    )]
    NotTheWitnessed {
        /// What the witness saw.
        published: Place,
    },
    /// Two histories.
    #[error(
        "the log belongs to history {log}, the witness file beside it to {witness}; put the two \
         that belong together into one folder"
    )]
    OtherGenesis {
        /// The log's.
        log: String,
        /// The witness's.
        witness: String,
    },
    /// The stream says something else than what was published.
    #[error(
        "the events stream differs from the log at position {at}, at or below the published head \
         {published} (hash {hash}): one of the two is of another history; connect to the NATS of \
         this log, or delete the stream {stream} to have it filled from this log",
        hash = .published.hash, stream = schemas::stream::EVENTS.name
    )]
    Differs {
        /// Where.
        at: u64,
        /// The log's published head.
        published: Place,
    },
    /// The stream is ahead, and what lies between is nowhere.
    #[error(
        "the log ends at {log} and the events stream begins at {first} (last {last}): the events \
         between, positions {missing} to {before}, are in neither. Restore a backup that reaches \
         {before} with `muster restore` into an empty folder and start on that: the rest is taken \
         in from the stream. Or, to begin a new history, delete the stream {stream}",
        missing = .log.position + 1, before = .first - 1,
        stream = schemas::stream::EVENTS.name
    )]
    Gap {
        /// The log's end.
        log: Place,
        /// The stream's first sequence.
        first: u64,
        /// The stream's last sequence.
        last: u64,
    },
    /// The stream was emptied behind the published head.
    #[error(
        "the events stream is empty and its last sequence is {last}, above the published head \
         {published}: what stood between cannot be compared; delete the stream {stream} to have \
         it filled from this log",
        stream = schemas::stream::EVENTS.name
    )]
    Emptied {
        /// The published head.
        published: Place,
        /// The stream's last sequence.
        last: u64,
    },
    /// The stream misses a message that the log does not have.
    #[error(
        "the events stream has no message at sequence {at}, and the log ends before it; restore \
         a backup that reaches {at} with `muster restore` into an empty folder"
    )]
    Hole {
        /// The missing sequence.
        at: u64,
    },
    /// An entry of a newer release.
    #[error("position {at} cannot be read by this release: {what}; start a newer release")]
    Newer {
        /// Where.
        at: u64,
        /// What does not decode.
        what: String,
    },
}

/// What to do next, given what is known.
#[must_use]
pub fn judge(facts: &Facts) -> Action {
    if let (Some(log), Some(witness)) = (&facts.genesis, &facts.witnessed_genesis)
        && log != witness
    {
        let (log, witness) = (log.clone(), witness.clone());
        return Action::Refuse(Refusal::OtherGenesis { log, witness });
    }
    if !facts.published_fits {
        return Action::Refuse(Refusal::NotTheWitnessed { published: facts.published });
    }
    let act = |facts: &Facts| if facts.stream.messages == 0 { empty(facts) } else { filled(facts) };
    let action = match facts.standing.accepts_loss && facts.log.position < facts.published.position
    {
        true => act(&Facts { published: facts.log, ..facts.clone() }),
        false => act(facts),
    };
    if facts.standing.only { action } else { of_several(facts, action) }
}

/// The same for one of several: whatever publishes is for the one who leads, or for one who may take
/// over; and what is missing here may be with another.
fn of_several(facts: &Facts, action: Action) -> Action {
    let Facts { log, published, stream, standing, .. } = facts;
    // Where the stream begins behind what I know to be published, it says nothing of what lies before:
    // even a message of mine there may have been voided, by an instance that can tell.
    let begins_behind = stream.messages > 0 && stream.first > published.position + 1;
    let unknown_behind = match facts.compared {
        Some(Compared::Differs { at, proven: false, .. }) => at > published.position,
        Some(Compared::Gone { .. }) => true,
        _ => false,
    };
    if log.position > published.position && (begins_behind || unknown_behind) {
        return Action::SetAside { from: published.position + 1 };
    }
    match action {
        // What follows may not follow from what I never published.
        Action::Refuse(Refusal::Gap { .. }) if log.position > published.position => {
            Action::SetAside { from: published.position + 1 }
        }
        Action::Refuse(Refusal::Gap { first, .. }) => {
            Action::Bridge { from: log.position + 1, to: first - 1 }
        }
        Action::Refuse(Refusal::Differs { at, .. }) => match facts.sought {
            None => Action::Seek { to: at },
            Some(Sought::Nothing) => action,
            Some(Sought::GivenUp { at }) => Action::SetAside { from: at },
        },
        Action::Refuse(Refusal::BelowWitness { .. }) => {
            Action::Wait(Waiting::Below { log: *log, known: *published })
        }
        // By what others have seen, this log may know more than by itself.
        Action::Refuse(Refusal::Emptied { .. })
            if facts.known_fits && standing.known.position > published.position =>
        {
            Action::Believe { head: standing.known }
        }
        // Whoever leads made it go on there, and its next event says what stands before.
        Action::Refuse(Refusal::Emptied { published, last }) if !standing.leads => {
            Action::Wait(match standing.silent {
                true => Waiting::Emptied { published, last },
                false => Waiting::Leader,
            })
        }
        Action::Genesis if !standing.begins => Action::Wait(Waiting::History),
        Action::Genesis | Action::Take | Action::Publish { .. } | Action::Seat { .. }
            if !standing.leads =>
        {
            if standing.known.after(log) && !standing.accepts_loss {
                return Action::Wait(Waiting::Below { log: *log, known: standing.known });
            }
            match standing.silent && !standing.full {
                true => action,
                false if stream.last == log.position && log.position > 0 => Action::Follow,
                false if standing.silent => Action::Wait(Waiting::Room),
                false => Action::Wait(Waiting::Leader),
            }
        }
        action => action,
    }
}

/// The stream holds nothing.
fn empty(facts: &Facts) -> Action {
    let Facts { log, published, stream, .. } = facts;
    if stream.last > log.position {
        let (first, last) = (stream.first, stream.last);
        return Action::Refuse(Refusal::Gap { log: *log, first, last });
    }
    if log.position < published.position {
        return Action::Refuse(Refusal::BelowWitness { log: *log, published: *published });
    }
    if stream.last > published.position {
        return Action::Refuse(Refusal::Emptied { published: *published, last: stream.last });
    }
    if log.position == 0 {
        return Action::Genesis;
    }
    if stream.last < published.position {
        return Action::Seat { next: published.position + 1 };
    }
    behind_or_equal(facts)
}

/// The stream holds messages.
fn filled(facts: &Facts) -> Action {
    let Facts { log, published, stream, .. } = facts;
    if stream.first > log.position + 1 {
        let (first, last) = (stream.first, stream.last);
        return Action::Refuse(Refusal::Gap { log: *log, first, last });
    }
    let from = stream.first.max(facts.anchor).max(1);
    let to = stream.last.min(log.position);
    let compared = match facts.compared {
        Some(compared) => Some(compared),
        None if from <= to => return Action::Compare { from, to },
        None => None,
    };
    match compared {
        Some(Compared::Differs { at, proven, event }) => {
            // Above the published head it is mine that goes, but only on a common ground: a whole
            // stream of another history must not be taken for some foreign messages.
            if at <= published.position || (event && !proven) {
                return Action::Refuse(Refusal::Differs { at, published: *published });
            }
            Action::SetAside { from: at }
        }
        _ if stream.last > log.position => {
            let proven = matches!(
                compared,
                Some(Compared::Equal { proven: true } | Compared::Gone { proven: true, .. })
            );
            Action::CatchUp { from: log.position + 1, proven }
        }
        _ => behind_or_equal(facts),
    }
}

/// Everything the stream holds is in the log.
fn behind_or_equal(facts: &Facts) -> Action {
    let Facts { log, published, stream, .. } = facts;
    if log.position < published.position {
        return Action::Refuse(Refusal::BelowWitness { log: *log, published: *published });
    }
    if stream.last < log.position {
        return Action::Publish { from: stream.last + 1 };
    }
    Action::Take
}

#[cfg(test)]
mod tests;
