//! Streams: created once, compared at every start, never changed because a setting drifted.

use std::time::Duration;

use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use schemas::stream::{Storage, StreamSpec};

use crate::follow::Message;
use crate::{Bus, BusError};

/// The shortest time in which the server remembers message ids. Nothing of ours relies on it.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(30);

/// Error code of the server: there is no such stream.
const NO_SUCH_STREAM: u64 = 10059;
/// Error code of the server: there is no such message.
const NO_SUCH_MESSAGE: u64 = 10037;

const ADVICE: &str =
    "give the stream back its settings, or take it away: it is rebuilt from the log";

/// Where a stream begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The first sequence it has, or would have.
    pub first: u64,
    /// The last sequence it gave.
    pub last: u64,
    /// How many messages it has.
    pub messages: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

impl Bus {
    /// Makes sure that a stream is there and as it must be.
    ///
    /// # Errors
    ///
    /// When it is there and differs, naming the first difference; or when the server fails.
    pub async fn ensure_stream(&self, spec: &'static StreamSpec) -> Result<(), BusError> {
        let wanted = config(spec);
        let found = match self.context.get_stream(spec.name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) if is_missing(&error) => {
                let made = self.context.create_stream(wanted.clone()).await;
                let made = made
                    .map_err(|e| BusError::failed(format!("creating stream {}", spec.name), e))?;
                made.cached_info().config.clone()
            }
            Err(error) => {
                return Err(BusError::failed(format!("looking at stream {}", spec.name), error));
            }
        };
        differences(spec.name, &wanted, &found).into_iter().next().map_or(Ok(()), Err)
    }

    /// Every setting in which a stream differs from what it must be. `None`: there is no such stream.
    ///
    /// # Errors
    ///
    /// When the server does not answer, as it does not where this user may not look.
    pub async fn stream_drift(
        &self,
        spec: &'static StreamSpec,
    ) -> Result<Option<Vec<BusError>>, BusError> {
        match self.context.get_stream(spec.name).await {
            Ok(stream) => {
                let found = &stream.cached_info().config;
                Ok(Some(differences(spec.name, &config(spec), found)))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(BusError::failed(format!("looking at stream {}", spec.name), error)),
        }
    }

    /// Where a stream begins and ends. `None`: there is no such stream.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn stream_state(&self, name: &str) -> Result<Option<StreamState>, BusError> {
        match self.context.get_stream(name).await {
            Ok(stream) => {
                let state = &stream.cached_info().state;
                Ok(Some(StreamState {
                    first: state.first_sequence,
                    last: state.last_sequence,
                    messages: state.messages,
                    bytes: state.bytes,
                }))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(BusError::failed(format!("looking at stream {name}"), error)),
        }
    }

    /// Takes away every message below `sequence`. On an empty stream: seats it, so that the next
    /// message gets `sequence`.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn purge_below(&self, name: &str, sequence: u64) -> Result<(), BusError> {
        let failed = |error: String| BusError::failed(format!("purging stream {name}"), error);
        // Beyond the end of what it has, the same call would take everything away and skip numbers.
        if let Some(state) = self.stream_state(name).await?
            && state.messages > 0
            && sequence > state.last + 1
        {
            return Err(failed(format!("it ends at {}, before {sequence}", state.last)));
        }
        let stream =
            self.context.get_stream_no_info(name).await.map_err(|e| failed(e.to_string()))?;
        stream.purge().sequence(sequence).await.map_err(|e| failed(e.to_string()))?;
        Ok(())
    }

    /// The message of a sequence, from the stream's leader.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn get(&self, name: &str, sequence: u64) -> Result<Option<Message>, BusError> {
        let what = || format!("reading {sequence} of stream {name}");
        let stream = self.context.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| BusError::failed(what(), error))?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(Message::stored(message))),
            Err(error) if says_no_message(&error) => Ok(None),
            Err(error) => Err(BusError::failed(what(), error)),
        }
    }

    /// The newest message on a subject, read directly.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn get_last(&self, name: &str, subject: &str) -> Result<Option<Message>, BusError> {
        use async_nats::jetstream::stream::DirectGetErrorKind;
        let what = || format!("reading the newest on {subject} of stream {name}");
        let stream = self.context.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| BusError::failed(what(), error))?;
        match stream.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(Message::stored(message))),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(BusError::failed(what(), error)),
        }
    }
}

fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::context::GetStreamErrorKind;
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code().0 == NO_SUCH_STREAM)
}

fn says_no_message(error: &async_nats::jetstream::stream::RawMessageError) -> bool {
    use async_nats::jetstream::stream::LastRawMessageErrorKind;
    matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound)
        || matches!(error.kind(), LastRawMessageErrorKind::JetStream(error) if error.error_code().0 == NO_SUCH_MESSAGE)
}

fn config(spec: &StreamSpec) -> Config {
    let max_age = Duration::from_secs(spec.max_age_s);
    let window = if spec.max_age_s == 0 { DUPLICATE_WINDOW } else { DUPLICATE_WINDOW.min(max_age) };
    Config {
        name: spec.name.to_owned(),
        description: Some(spec.why.to_owned()),
        subjects: spec.subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        retention: RetentionPolicy::Limits,
        storage: match spec.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        discard: if spec.discard_new { DiscardPolicy::New } else { DiscardPolicy::Old },
        max_age,
        max_bytes: spec.max_bytes,
        max_messages: spec.max_messages,
        max_messages_per_subject: spec.max_messages_per_subject,
        max_message_size: spec.max_message_bytes,
        max_consumers: spec.max_consumers,
        num_replicas: 1,
        compression: Some(Compression::None),
        duplicate_window: window,
        deny_delete: spec.deny_delete,
        allow_direct: spec.allow_direct,
        republish: spec.republish.map(|(source, destination)| Republish {
            source: source.to_owned(),
            destination: destination.to_owned(),
            headers_only: false,
        }),
        ..Config::default()
    }
}

/// The fields that are not as wanted.
fn differences(stream: &'static str, wanted: &Config, found: &Config) -> Vec<BusError> {
    let mut differ = Vec::new();
    macro_rules! same {
        ($($name:ident),*) => { $(if wanted.$name != found.$name {
            let (wanted, found) = (format!("{:?}", wanted.$name), format!("{:?}", found.$name));
            let field = stringify!($name);
            differ.push(BusError::Drift { stream, field, found, wanted, advice: ADVICE });
        })* };
    }
    same!(subjects, retention, storage, discard, discard_new_per_subject, max_age, max_bytes);
    same!(max_messages, max_messages_per_subject, max_message_size, max_consumers, num_replicas);
    same!(no_ack, duplicate_window, sealed, allow_rollup, deny_delete, deny_purge, republish);
    same!(allow_direct, mirror, sources, subject_transform, compression, persist_mode);
    same!(allow_message_ttl, allow_message_counter, allow_message_schedules);
    differ
}
