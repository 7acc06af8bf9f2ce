//! The terminal: its size, and its raw mode, in which every key goes to the command at once.

use std::io::{stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use schemas::live::Size;

/// The terminal in its raw mode, until this goes.
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Its size, when standard output is one.
pub(crate) fn size() -> Option<Size> {
    let found = tcgetwinsize(stdout()).ok()?;
    Some(Size { rows: found.ws_row, columns: found.ws_col })
}
