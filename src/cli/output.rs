//! What goes to standard output.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::args::{Color, Global};
use crate::failure::Failure;
use crate::printable::Printable;

/// The longest line on standard error.
const LONGEST: usize = 2_000;

/// Writes to standard output. A reader that has gone, such as `head`, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of_system("standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error, if that can be written.
pub(crate) fn warn(text: &str) {
    let line = format!("zsem: {}\n", Printable::of_length(text, LONGEST));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Writes one line of JSON.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::from);
    let line = line.map_err(|error| Failure::of_system("JSON", &error))?;
    print(&(line + "\n"))
}

impl Global {
    /// Writes what a verb has to tell: as JSON where that is asked for, else as text.
    pub(crate) fn tell(
        &self,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.json {
            true => print_json(json),
            false => print(&text()),
        }
    }

    /// Returns whether tables are in colour: by default on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn colors(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stdout().is_terminal()
            }
        }
    }
}
