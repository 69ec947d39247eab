//! The connection to Redis that the command line asks for.

use std::env;
use std::fs;

use zset_semaphore::{Client, ZSetSemaphore};

use crate::args::Global;
use crate::failure::Failure;
use crate::status::Status;

/// The URL that counts if none is given.
const URL: &str = "redis://127.0.0.1:6379";

/// The variables that may have the URL, in the order in which they count.
const VARIABLES: [&str; 2] = ["ZSEM_URL", "REDIS_URL"];

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
        let builder = Client::builder().url(self.url()?).prefix(&self.prefix);
        Ok(builder.call_timeout(self.call_deadline).label(label).connect().await?)
    }

    /// Connects, and returns a semaphore to look at and to steer: it has no limit of its own.
    pub(crate) async fn semaphore(&self, name: &str) -> Result<ZSetSemaphore, Failure> {
        Ok(self.connect(&own_label()).await?.semaphore(name, 0).build()?)
    }

    /// Returns the URL, wherever it was given, or the one that counts otherwise.
    pub(crate) fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        if let Some(file) = &self.url_file {
            let text = fs::read_to_string(file).map_err(|error| {
                Failure::new(Status::CONFIG, format!("--url-file {}: {error}", file.display()))
            })?;
            return Ok(text.trim().to_owned());
        }
        for name in VARIABLES {
            match env::var(name) {
                Ok(url) if !url.is_empty() => return Ok(url),
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(Failure::new(Status::CONFIG, format!("${name} is not text")));
                }
                Ok(_) | Err(env::VarError::NotPresent) => {}
            }
        }
        Ok(URL.to_owned())
    }

    /// Fails if nothing may be changed.
    pub(crate) fn may_change(&self) -> Result<(), Failure> {
        if self.read_only {
            return Err(Failure::new(Status::NO, "--read-only: nothing was changed"));
        }
        Ok(())
    }
}

/// What others see of a process that names itself nothing else: its host and its number.
pub(crate) fn own_label() -> String {
    let uname = rustix::system::uname();
    let host: String = uname.nodename().to_string_lossy().chars().take(100).collect();
    format!("{host}/{}", std::process::id())
}
