//! `zsem hash`: the key under which a keyed limit counts a secret.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use serde::Serialize;
use zset_semaphore::tower::Key;

use crate::args::Global;
use crate::failure::Failure;
use crate::output::warn;
use crate::status::Status;

/// No secret is longer.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Hash {
    key: String,
}

/// Reads the secret, without the end of its line, from a file or from standard input. It is no argument, since
/// all users of a machine see those.
pub(crate) fn hash(global: &Global, file: Option<&Path>) -> Result<Status, Failure> {
    let mut secret = Vec::new();
    if file.is_none() && io::stdin().is_terminal() {
        warn("type the secret, then Enter and Ctrl-D; the terminal shows it");
    }
    let read = match file {
        Some(file) => {
            fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut secret))
        }
        None => io::stdin().lock().take(LONGEST).read_to_end(&mut secret),
    };
    read.map_err(|error| Failure::of_system("the secret cannot be read", &error))?;
    if secret.len() as u64 == LONGEST {
        return Err(Failure::new(Status::USAGE, "the secret is too long"));
    }
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Failure::new(Status::USAGE, "the secret is empty"));
    }
    let hash = Hash { key: Key::secret(secret).name() };
    global.tell(&hash, || format!("{}\n", hash.key))?;
    Ok(Status::OK)
}
