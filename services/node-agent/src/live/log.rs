//! A replica's output, in parts. Whoever follows and is too slow loses lines, and is told how many;
//! whoever does not follow is waited for.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use runtime::clock;
use schemas::live::{Line, LogWanted, PART_BYTES_MAX, Said};

use super::session::{Session, Word};
use crate::engine::docker::Engine;

/// How many lines are taken from the engine at once, when so many are there.
const LINES_AT_ONCE: usize = 512;

/// What lines may take of a part: the rest is its frame.
const LINES_BYTES: usize = PART_BYTES_MAX - 1_024;

/// How long whoever follows may have no room before lines are lost, in ms.
const PATIENCE_MS: u64 = 1_000;

pub(super) async fn serve(
    engine: &Engine,
    mut session: Session,
    container: &str,
    run: u32,
    wanted: &LogWanted,
) {
    let lines = match engine.output(container, wanted).await {
        Ok(lines) => lines,
        Err((code, text)) => return session.say(Said::Refused { code, text }).await,
    };
    let mut lines = lines.ready_chunks(LINES_AT_ONCE);
    session.say(Said::Began { run }).await;
    let mut waiting = Waiting::default();
    let mut last = None;
    loop {
        while session.has_room()
            && let Some(said) = waiting.next()
        {
            session.say(said).await;
        }
        if waiting.is_empty()
            && let Some(last) = last.take()
        {
            return session.say(last).await;
        }
        tokio::select! {
            word = session.hear() => if matches!(word, Word::Over) { return },
            found = lines.next(), if waiting.parts.is_empty() && last.is_none() => match found {
                Some(found) => {
                    let (lines, error) = parted(found, wanted.timestamps);
                    last = error.map(|text| Said::Refused { code: 500, text });
                    waiting.add(lines, clock::mono_ms());
                }
                None => last = Some(Said::Ended { exit_code: None }),
            },
            () = clock::sleep_until(waiting.until_ms), if wanted.follow && !waiting.parts.is_empty() => {
                waiting.lose();
            }
        }
    }
}

/// The lines before an error, and the error.
fn parted(found: Vec<Result<Line, String>>, timestamps: bool) -> (Vec<Line>, Option<String>) {
    let mut lines = Vec::new();
    for line in found {
        match line {
            Ok(mut line) => {
                line.time_ms = line.time_ms.filter(|_| timestamps);
                lines.push(line);
            }
            Err(error) => return (lines, Some(error)),
        }
    }
    (lines, None)
}

/// Lines that wait for room, in parts, and how many before them were lost.
#[derive(Default)]
struct Waiting {
    parts: VecDeque<Vec<Line>>,
    lost: u64,
    until_ms: u64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.lost == 0
    }

    fn add(&mut self, lines: Vec<Line>, now_ms: u64) {
        // Whoever has lost lines already is not waited for again.
        self.until_ms = if self.lost > 0 { now_ms } else { now_ms + PATIENCE_MS };
        let mut bytes = LINES_BYTES;
        for mut line in lines {
            let cost = shorten(&mut line);
            if bytes + cost > LINES_BYTES {
                self.parts.push_back(Vec::new());
                bytes = 0;
            }
            bytes += cost;
            if let Some(part) = self.parts.back_mut() {
                part.push(line);
            }
        }
    }

    fn next(&mut self) -> Option<Said> {
        if self.is_empty() {
            return None;
        }
        let lines = self.parts.pop_front().unwrap_or_default();
        Some(Said::Lines { lines, lost: std::mem::take(&mut self.lost) })
    }

    fn lose(&mut self) {
        let lines: usize = self.parts.drain(..).map(|part| part.len()).sum();
        self.lost += u64::try_from(lines).unwrap_or(u64::MAX);
    }
}

/// What a line takes in a part, at most; one that would fill it alone is cut.
fn shorten(line: &mut Line) -> usize {
    const FRAME: usize = 80;
    let mut cost = FRAME;
    for (at, c) in line.text.char_indices() {
        cost += match c {
            '"' | '\\' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        };
        if cost > LINES_BYTES - FRAME {
            line.text.truncate(at);
            line.text.push('…');
            break;
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use schemas::live::{Part, Stream};

    use super::*;

    fn lines(count: usize, text: &str) -> Vec<Line> {
        let line = Line { time_ms: Some(u64::MAX), stream: Stream::Stdout, text: text.to_owned() };
        vec![line; count]
    }

    #[test]
    fn parts_are_no_larger_than_they_may_be_whatever_is_in_them() {
        for text in ["x", "\u{1}\u{2}", "\"\\", "é", &"\u{7}".repeat(30_000), &"y".repeat(200_000)]
        {
            let mut waiting = Waiting::default();
            waiting.add(lines(400, text), 0);
            let mut count = 0;
            while let Some(said) = waiting.next() {
                let Said::Lines { lines, lost: 0 } = &said else { panic!("{said:?}") };
                count += lines.len();
                let part = Part { session: "s".repeat(64), n: u64::MAX, said };
                let bytes = serde_json::to_vec(&part).expect("it encodes").len();
                assert!(bytes <= PART_BYTES_MAX, "{bytes}");
            }
            assert_eq!(count, 400);
        }
    }

    #[test]
    fn whoever_is_too_slow_is_told_how_many_lines_that_cost() {
        let mut waiting = Waiting::default();
        waiting.add(lines(7, "a"), 1_000);
        assert_eq!(waiting.until_ms, 1_000 + PATIENCE_MS);
        waiting.lose();
        waiting.add(lines(2, "b"), 3_000);
        assert_eq!(waiting.until_ms, 3_000, "no patience is left");
        let Some(Said::Lines { lines, lost: 7 }) = waiting.next() else { panic!("7 were lost") };
        assert_eq!(lines.len(), 2);
        assert!(waiting.next().is_none() && waiting.is_empty());
    }
}
