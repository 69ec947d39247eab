#![allow(clippy::panic, clippy::unwrap_used)]

#[cfg(feature = "redis")]
mod differential;
