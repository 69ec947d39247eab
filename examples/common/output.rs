//! Printing that does not mind when nobody reads any more, where `println!` would panic.

use std::fmt::Display;
use std::io::{Write, stdout};

pub(crate) fn say(line: impl Display) {
    print(format_args!("{line}\n"));
}

/// A row of a table.
pub(crate) fn row(name: &str, value: impl Display) {
    say(format_args!("{name:<17} {value}"));
}

pub(crate) fn print(text: impl Display) {
    let mut out = stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
