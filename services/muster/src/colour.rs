//! Colours: on terminals only, and only where nobody asked for none.

use std::io::IsTerminal;
use std::sync::OnceLock;

/// What `--no-color` and the environment say; the same for the whole process.
static ASKED: OnceLock<Option<bool>> = OnceLock::new();

/// A colour that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Grey = 90,
}

/// Takes note of `--no-color` and the environment. Called once, before anything is printed.
pub(crate) fn set_up(no_color: bool) {
    let asked = if no_color { Some(false) } else { runtime::settings::colour() };
    let _ = ASKED.set(asked);
}

/// Whether to colour what goes to a stream.
pub(crate) fn wanted(stream: &impl IsTerminal) -> bool {
    ASKED.get().copied().flatten().unwrap_or_else(|| stream.is_terminal())
}

/// A text in a colour, for standard output.
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    painted(wanted(&std::io::stdout()), colour, text)
}

/// A text in the colour of the nth of several things, for standard output.
pub(crate) fn nth(n: usize, text: &str) -> String {
    const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
    match COLOURS.get(n % COLOURS.len()) {
        Some(colour) if wanted(&std::io::stdout()) => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        _ => text.to_owned(),
    }
}

/// A text in a colour, if at all.
pub(crate) fn painted(wanted: bool, colour: Colour, text: &str) -> String {
    if wanted { format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8) } else { text.to_owned() }
}

/// The colour of how something is: well, on its way, or in trouble.
pub(crate) fn of_state(state: &str) -> Colour {
    match state {
        "ready" | "converged" | "open" => Colour::Green,
        "lost" | "unknown" | "stalled" | "waiting" => Colour::Red,
        "leaving" | "ending" | "deleting" => Colour::Grey,
        _ => Colour::Yellow,
    }
}

/// How something is, in the colour of that, for standard output.
pub(crate) fn state(state: &str) -> String {
    paint(of_state(state), state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_painted_only_where_wanted() {
        assert_eq!(painted(true, Colour::Green, "ok"), "\u{1b}[32mok\u{1b}[0m");
        assert_eq!(painted(false, Colour::Green, "ok"), "ok");
        assert_eq!(of_state("ready"), Colour::Green);
        assert_eq!(of_state("starting"), Colour::Yellow);
    }
}
