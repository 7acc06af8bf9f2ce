//! Colours, where a person looks who wants them.

use std::io::IsTerminal as _;

/// Colours that tell several things apart, as terminals number them.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Whether to use colours on standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colour(bool);

impl Colour {
    /// On a terminal, unless they are not wanted.
    pub(crate) fn of_stdout(no_color: bool) -> Self {
        let wanted = !no_color && !runtime::settings::no_color();
        Self(wanted && std::io::stdout().is_terminal())
    }

    /// A text in the colour of the nth thing.
    pub(crate) fn nth(self, n: usize, text: &str) -> String {
        match COLOURS.get(n % COLOURS.len()) {
            Some(colour) if self.0 => format!("\x1b[{colour}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_left_alone_where_nobody_wants_colours() {
        assert_eq!(Colour(false).nth(1, "a"), "a");
        assert_eq!(Colour(true).nth(1, "a"), Colour(true).nth(7, "a"));
        assert_ne!(Colour(true).nth(1, "a"), Colour(true).nth(2, "a"));
    }
}
