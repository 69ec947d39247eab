//! What the shows have in common, one idea a file.

#![allow(dead_code)] // each show uses a part of it

pub(crate) mod cli;
pub(crate) mod crowd;
pub(crate) mod in_flight;
pub(crate) mod output;
pub(crate) mod server;
pub(crate) mod shutdown;
pub(crate) mod store;
pub(crate) mod words;

use std::error::Error;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Result<T, E = BoxError> = std::result::Result<T, E>;
