//! The tower layer: what it holds, for how long, and that nothing of it stays behind.

#![cfg(feature = "tower")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]
// What a test crate exports nobody imports.
#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod accounting;

mod answer;
mod disconnect;
mod drop_order;
mod hold_body;
mod http;
mod layer;
mod lost;
mod probe;
mod queue;
mod web;
mod wire;
