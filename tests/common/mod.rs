//! What several test binaries share and what knows the crate; the rest is the crate in `tests/support`.

#![allow(dead_code)] // each test binary uses a part of it

pub(crate) mod certificates;
pub(crate) mod connect;
pub(crate) mod inspect;
pub(crate) mod log;
#[cfg(feature = "metrics")]
pub(crate) mod recorder;
pub(crate) mod stores;
