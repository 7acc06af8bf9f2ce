//! What one of several instances and the bus have to do with each other: following the stream, beats,
//! and the questions that a standby and a leader ask.

use std::time::Duration;

use bus::{Bus, FollowError, Message, RequestError};
use bytes::Bytes;
use runtime::{Failure, history};
use schemas::envelope::Envelope;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::report::{Beat, Heartbeat};
use schemas::{stream, subject};
use tokio::sync::mpsc::Sender;

use crate::sequencer::{Input, Streamed};

/// How many entries are taken in at once, at most.
const AT_ONCE: usize = 1_024;

/// How long whoever leads may take to answer before that says nothing.
const PROBE: Duration = Duration::from_millis(500);

pub(crate) fn streamed(message: Message) -> Streamed {
    let Message { sequence, subject, payload: bytes, .. } = message;
    Streamed { sequence, subject, bytes }
}

/// What a read of the events stream up to a sequence found. That nothing came says that nothing is
/// there only at the stream's end.
pub(crate) fn part(batch: Vec<Streamed>, at_end: bool, to: u64) -> Result<Input, String> {
    if batch.is_empty() && !at_end {
        return Err("the server does not say what the events stream holds".to_owned());
    }
    let wanted = batch.into_iter().filter(|message| message.sequence <= to);
    Ok(Input::Messages(wanted.collect()))
}

/// Hands in the events stream from a sequence on, until that is not to be had.
pub(crate) async fn follow(bus: Bus, queue: Sender<Input>, from: u64) {
    let mut follow = bus.follow(stream::EVENTS.name, from, None);
    loop {
        let input = match follow.next_batch(AT_ONCE).await {
            Ok(batch) if batch.is_empty() => continue,
            Ok(batch) => Input::Followed(batch.into_iter().map(streamed).collect()),
            Err(FollowError::Bus(error)) => {
                tracing::warn!(%error, "reading events again");
                tokio::time::sleep(PROBE).await;
                continue;
            }
            Err(error) => Input::Strayed(error.to_string()),
        };
        let strayed = matches!(input, Input::Strayed(_));
        if queue.send(input).await.is_err() || strayed {
            return;
        }
    }
}

/// Hands in what leaders say of themselves: of event-log that they are there, of others how far
/// history was published.
pub(crate) async fn read_beats(bus: Bus, queue: Sender<Input>) -> Result<(), Failure> {
    let mut beats = bus.subscribe(subject::BEATS).await?;
    let mut known = Place::START;
    while let Some(message) = beats.next().await {
        let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload) else { continue };
        let input = match beat.writer {
            Writer::EventLog => Input::Beat(beat),
            _ if beat.place.after(&known) => {
                known = beat.place;
                Input::Known(known)
            }
            _ => continue,
        };
        if queue.send(input).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Hands in what leaders of deciding services say of their states.
pub(crate) async fn read_marks(bus: Bus, queue: Sender<Input>) -> Result<(), Failure> {
    let mut beats = bus.subscribe(subject::BEATS).await?;
    while let Some(message) = beats.next().await {
        let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload) else { continue };
        if beat.mark.is_some() && queue.send(Input::Marked(beat)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Hands in how far history was published by the documents that agents hold.
pub(crate) async fn read_heartbeats(bus: Bus, queue: Sender<Input>) -> Result<(), Failure> {
    let mut heartbeats = bus.subscribe(subject::HEARTBEATS).await?;
    let mut known = Place::START;
    while let Some(message) = heartbeats.next().await {
        let heartbeat = serde_json::from_slice::<Heartbeat>(&message.payload);
        let Ok(place) = heartbeat.map(|heartbeat| heartbeat.place) else { continue };
        if place.after(&known) {
            known = place;
            if queue.send(Input::Known(place)).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Says that this instance leads.
pub(crate) async fn beat(bus: &Bus, beat: &Beat) {
    // The client would keep it back and send it when it may not be true any more.
    if bus.connected() {
        let payload = serde_json::to_vec(beat).expect("a beat has string keys only");
        let _ = bus.publish(&subject::beat(&beat.writer), payload).await;
    }
}

/// Whether nobody answers reads: the server says so at once when the connection of whoever led is
/// gone.
pub(crate) async fn nobody_answers(bus: &Bus) -> bool {
    let answer = bus.request(&subject::api("head"), Vec::new(), PROBE).await;
    matches!(answer, Err(RequestError::NobodyThere(_)))
}

/// Reads where the last `SequencerTaken` stands.
pub(crate) async fn confirm(bus: Bus, ticket: u64) -> Result<Input, String> {
    let last = bus.get_last(stream::EVENTS.name, subject::SEQUENCER_TAKEN).await;
    let last = last.ok().flatten().map(|message| message.sequence);
    Ok(Input::Confirmed { ticket, last })
}

/// Gets entries from the instance that answers reads.
pub(crate) async fn fetch(bus: Bus, from: u64, to: u64) -> Result<Input, String> {
    let request = LogRequest { from, to: Some(to), ..LogRequest::default() };
    let page = history::page(&bus, &request).await.map_err(|error| error.to_string())?;
    let entry = |(event, sequence): (Box<serde_json::value::RawValue>, u64)| {
        let bytes = Bytes::copy_from_slice(event.get().as_bytes());
        let envelope = Envelope::decode(&bytes).map_err(|error| error.to_string())?;
        let subject = subject::event(&envelope.header.tenant, &envelope.event.about());
        Ok(Streamed { sequence, subject, bytes })
    };
    let messages: Result<Vec<Streamed>, String> =
        page.events.into_iter().zip(from..).map(entry).collect();
    messages.map(Input::Messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64) -> Streamed {
        Streamed { sequence, subject: String::new(), bytes: Bytes::new() }
    }

    fn sequences(read: Result<Input, String>) -> Result<Vec<u64>, String> {
        match read? {
            Input::Messages(messages) => Ok(messages.iter().map(|m| m.sequence).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_there_only_when_the_server_says_so() {
        assert_eq!(sequences(part(Vec::new(), true, 9)), Ok(Vec::new()));
        assert!(sequences(part(Vec::new(), false, 9)).is_err());
        // What comes lies behind what was asked for: that is gone.
        assert_eq!(sequences(part(vec![message(10)], false, 9)), Ok(Vec::new()));
        let messages = vec![message(8), message(9), message(10)];
        assert_eq!(sequences(part(messages, false, 9)), Ok(vec![8, 9]));
    }
}
