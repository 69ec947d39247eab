//! What a semaphore promises where a Redis Cluster spreads the names.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod atomic_moves;
mod endpoints;
mod failover;
mod holder;
mod isolated;
mod load;
mod many;
mod moves;
mod nodes;
mod operators;
mod replicated;
mod seeds;
mod shards;
mod slots;

/// Shards go on while another one has no primary.
const COVERAGE: [&str; 2] = ["--cluster-require-full-coverage", "no"];
