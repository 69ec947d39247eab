//! The connection to Redis that the command line asks for.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zset_semaphore::{Client, ConnectError, ZSetSemaphore};

use crate::args::Global;
use crate::failure::Failure;
use crate::status::Status;

/// The URL that counts if none is given.
const URL: &str = "redis://127.0.0.1:6379";

/// The variables that may have the URL, in the order in which they count.
const VARIABLES: [&str; 2] = ["ZSEM_URL", "REDIS_URL"];

/// No file with a URL is longer.
const LONGEST: u64 = 1 << 16;

/// A URL, and where it was given.
pub(crate) struct Url {
    pub(crate) text: String,
    source: String,
}

impl Global {
    /// Fails if options contradict each other. `clap` sees only those on the same side of the verb.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => {
                Err(Failure::new(Status::USAGE, "--url and --url-file exclude each other"))
            }
            _ => Ok(()),
        }
    }

    /// Connects. `label` is what others see of this process.
    pub(crate) async fn connect(&self, label: &str) -> Result<Client, Failure> {
        let url = self.url()?;
        let builder = Client::builder().url(url.text).prefix(&self.prefix);
        let connected = builder.call_timeout(self.call_deadline).label(label).connect().await;
        connected.map_err(|error| match error {
            ConnectError::Config(error) if error.field() == "url" => {
                Failure::of_setting(&url.source, &error)
            }
            other => other.into(),
        })
    }

    /// Connects, and returns a semaphore to look at and to steer: it has no limit of its own.
    pub(crate) async fn semaphore(&self, name: &str) -> Result<ZSetSemaphore, Failure> {
        Ok(self.connect(&own_label()).await?.semaphore(name, 0).build()?)
    }

    /// Returns the URL, wherever it was given, or the one that counts otherwise.
    pub(crate) fn url(&self) -> Result<Url, Failure> {
        if let Some(url) = &self.url {
            return Ok(Url { text: url.clone(), source: "--url".to_owned() });
        }
        if let Some(file) = &self.url_file {
            return read_url(file);
        }
        for name in VARIABLES {
            match env::var(name) {
                Ok(text) if !text.trim().is_empty() => {
                    return Ok(Url { text, source: format!("${name}") });
                }
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(Failure::new(Status::CONFIG, format!("${name} is not text")));
                }
                Ok(_) | Err(env::VarError::NotPresent) => {}
            }
        }
        Ok(Url { text: URL.to_owned(), source: "the default URL".to_owned() })
    }

    /// Fails if nothing may be changed.
    pub(crate) fn may_change(&self) -> Result<(), Failure> {
        if self.read_only {
            return Err(Failure::new(Status::NO, "--read-only: nothing was changed"));
        }
        Ok(())
    }
}

/// Reads the one line of a file.
fn read_url(file: &Path) -> Result<Url, Failure> {
    let source = format!("--url-file {}", file.display());
    let wrong = |why: &dyn Display| Failure::new(Status::CONFIG, format!("{source}: {why}"));
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(&format_args!("it is longer than {LONGEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not text"))?;
    let text = text.trim_start_matches('\u{feff}'); // some editors write it
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (None, _) => Err(wrong(&"it is empty")),
        (Some(_), Some(_)) => Err(wrong(&"it has more than one line; the URL is the only one")),
        (Some(url), None) => Ok(Url { text: url.to_owned(), source }),
    }
}

/// What others see of a process that names itself nothing else: its host and its number.
pub(crate) fn own_label() -> String {
    let uname = rustix::system::uname();
    let host: String = uname.nodename().to_string_lossy().chars().take(100).collect();
    format!("{host}/{}", std::process::id())
}
