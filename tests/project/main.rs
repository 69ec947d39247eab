//! What the project says of itself is so.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod dependencies;
mod map;
#[cfg(feature = "metrics")]
mod prometheus;
