//! What goes to standard output.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::{Color, Global};
use crate::failure::Failure;
use crate::printable::{Printable, is_harmless};

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

/// Writes lines to standard error as they are, but safe for a terminal.
pub(crate) fn write_error(text: &str) {
    let line = |line| format!("{}\n", Printable::of_length(line, LONGEST));
    let lines: String = text.lines().map(line).collect();
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

/// What is traced, made safe for a terminal. A line is written when this is dropped.
struct Lines(Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for line in String::from_utf8_lossy(&self.0).lines() {
            warn(line);
        }
    }
}

/// Writes one line of JSON.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut line, Escaping));
    written.map_err(|error| Failure::of_system("JSON", &error.into()))?;
    print(&(String::from_utf8_lossy(&line) + "\n"))
}

/// Writes characters as escapes that are not safe to print: a terminal shows what is printed.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if is_harmless(character) {
                write!(writer, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

impl Global {
    /// Writes what the library tells of itself to standard error, as far as `--verbose` asks for it.
    pub(crate) fn trace(&self) {
        let level = match self.verbose {
            0 => return,
            1 => Level::WARN,
            2 => Level::DEBUG,
            _ => Level::TRACE,
        };
        let lines = || Lines(Vec::new());
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        subscriber.with_span_events(FmtSpan::CLOSE).with_writer(lines).init();
    }

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
