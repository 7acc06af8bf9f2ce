//! One session: numbered parts to its asker, who must be heard now and then.

use bus::Bus;
use runtime::clock;
use schemas::live::{PARTS_AHEAD, Part, SILENT_MS, Said, Want};
use tokio::sync::mpsc::Receiver;

use super::Heard;

/// What a session hears.
#[derive(Debug)]
pub(super) enum Word {
    /// The asker listens, and may have room again.
    Listens,
    /// It wants something.
    Wants(Want),
    /// It wants an end, or was not heard for too long.
    Over,
}

/// How far a session has got, and how far its asker.
#[derive(Debug)]
struct Window {
    said: u64,
    taken: u64,
    heard_ms: u64,
}

impl Window {
    fn new(now_ms: u64) -> Self {
        Self { said: 0, taken: 0, heard_ms: now_ms }
    }

    fn has_room(&self) -> bool {
        self.said - self.taken < PARTS_AHEAD
    }

    /// What an asker claims to have taken is believed as far as it can be true.
    fn hear(&mut self, through: u64, now_ms: u64) {
        self.taken = self.taken.max(through.min(self.said));
        self.heard_ms = now_ms;
    }

    fn silent_at_ms(&self) -> u64 {
        self.heard_ms + SILENT_MS
    }
}

pub(super) struct Session {
    bus: Bus,
    id: String,
    reply: String,
    heard: Receiver<Heard>,
    window: Window,
}

impl Session {
    pub(super) fn new(bus: Bus, id: String, reply: String, heard: Receiver<Heard>) -> Self {
        Self { bus, id, reply, heard, window: Window::new(clock::mono_ms()) }
    }

    /// Whether another part may be said before the asker has taken some.
    pub(super) fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// What the asker says next.
    pub(super) async fn hear(&mut self) -> Word {
        let heard = tokio::select! {
            heard = self.heard.recv() => heard,
            () = clock::sleep_until(self.window.silent_at_ms()) => None,
        };
        let Some(heard) = heard else { return Word::Over };
        self.window.hear(heard.through, clock::mono_ms());
        self.reply = heard.reply;
        match heard.want {
            None => Word::Listens,
            Some(Want::Stop) => Word::Over,
            Some(want) => Word::Wants(want),
        }
    }

    pub(super) async fn say(&mut self, said: Said) {
        self.window.said += 1;
        let part = Part { session: self.id.clone(), n: self.window.said, said };
        let payload = serde_json::to_vec(&part).expect("a part has string keys only");
        // A part that is lost is missed by its number.
        if let Err(error) = self.bus.publish(&self.reply, payload).await {
            tracing::debug!(%error, "a part was not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_under_way_than_an_asker_has_room_for() {
        let mut window = Window::new(1_000);
        window.said = PARTS_AHEAD;
        assert!(!window.has_room());
        window.hear(1, 2_000);
        assert!(window.has_room());
        window.said += 1;
        // Claims of the future and of the past change nothing.
        window.hear(u64::MAX, 3_000);
        assert_eq!(window.taken, window.said);
        window.hear(0, 4_000);
        assert_eq!(window.taken, window.said);
        assert_eq!(window.silent_at_ms(), 4_000 + SILENT_MS);
    }
}
