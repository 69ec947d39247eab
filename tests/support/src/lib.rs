//! What the integration tests stand on: real servers, real faults, real processes and an outside witness.
//!
//! It knows neither the crate nor what that depends on, since others compile it, too: `connect.rs` and `log.rs`,
//! which do, are modules of the tests that need them.

// Each test binary compiles all of this and uses a part of it.
#![allow(dead_code)]
// For a test, a panic is the report; and what a test crate exports nobody imports.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![allow(missing_debug_implementations, missing_docs, unreachable_pub)]

pub mod belief;
pub mod child_role;
mod fault_link;
pub mod fault_proxy;
pub mod ledger;
pub mod overlap;
pub mod owned_process;
pub mod processes;
pub mod redis_server;
mod redis_stats;
mod reserved_port;
pub mod wait;
