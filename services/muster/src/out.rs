//! Standard output and standard error. The `print!`, `println!` and `eprintln!` of this crate are those
//! below: the standard ones panic when a reader has gone, as in `muster ps | head -1`.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

use crate::error::Code;

macro_rules! print {
    ($($part:tt)*) => { $crate::out::put(format_args!($($part)*)) };
}

macro_rules! println {
    ($($part:tt)*) => { $crate::out::put(format_args!("{}\n", format_args!($($part)*))) };
}

macro_rules! eprintln {
    ($($part:tt)*) => { $crate::out::tell(format_args!("{}\n", format_args!($($part)*))) };
}

/// Writes to standard output. Where that cannot be, the process ends: quietly when the reader has
/// enough, else with what is wrong.
pub(crate) fn put(text: Arguments<'_>) {
    let Err(error) = std::io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        runtime::process::leave(Code::Closed.number());
    }
    tell(format_args!("muster: cannot write to standard output: {error}\n"));
    runtime::process::leave(Code::Internal.number());
}

/// Writes to standard error. That nobody reads it is no reason to stop.
pub(crate) fn tell(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}
