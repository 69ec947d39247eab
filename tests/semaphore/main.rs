//! What a semaphore promises while its store and all its clients are well.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod acl;
mod auto_traits;
mod backoff;
#[cfg(feature = "tower")]
mod builders;
mod cancellation;
mod closing;
mod cluster_acl;
mod config;
mod counting;
mod fairness;
mod leases;
mod limits;
mod max_queue;
mod memory;
mod names;
mod order;
mod reentry;
mod release;
mod sentinel_acl;
mod set_up;
mod tokens;
mod transports;
mod waiting;
mod wake;
mod weighted;
mod wrong_mode;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role.split_once('/') {
        Some(("fairness", role)) => fairness::play(role, from_parent),
        Some(("wake", role)) => wake::play(role, from_parent),
        _ => panic!("no role {role}"),
    });
}
