//! The connection to Redis that the command line asks for.

use std::env;
use std::fs;

use zset_semaphore::{Client, ClientBuilder};

use crate::args::Global;
use crate::failure::Failure;
use crate::status::Status;

/// The variables that may have the URL, in the order in which they count.
const VARIABLES: [&str; 2] = ["ZSEM_URL", "REDIS_URL"];

impl Global {
    /// Connects. `label` is what others see of this process.
    pub(crate) async fn connect(&self, label: &str) -> Result<Client, Failure> {
        Ok(self.builder()?.label(label).connect().await?)
    }

    fn builder(&self) -> Result<ClientBuilder, Failure> {
        let builder = Client::builder().prefix(&self.prefix).call_timeout(self.call_deadline);
        Ok(match self.url()? {
            Some(url) => builder.url(url),
            None => builder,
        })
    }

    /// Returns the URL, wherever it was given.
    pub(crate) fn url(&self) -> Result<Option<String>, Failure> {
        if let Some(url) = &self.url {
            return Ok(Some(url.clone()));
        }
        if let Some(file) = &self.url_file {
            let text = fs::read_to_string(file).map_err(|error| {
                Failure::new(Status::CONFIG, format!("--url-file {}: {error}", file.display()))
            })?;
            return Ok(Some(text.trim().to_owned()));
        }
        for name in VARIABLES {
            match env::var(name) {
                Ok(url) if !url.is_empty() => return Ok(Some(url)),
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(Failure::new(Status::CONFIG, format!("${name} is not text")));
                }
                Ok(_) | Err(env::VarError::NotPresent) => {}
            }
        }
        Ok(None)
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
