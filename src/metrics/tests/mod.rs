//! The parts without a store.

#![allow(clippy::unwrap_used, clippy::panic)] // `allow-unwrap-in-tests` does not reach helpers

mod documented;
mod label;
mod outcome;
mod share;
mod state;
