//! What a semaphore promises when clients, connections or the store fail.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod clock_step;
mod crash;
mod data_loss;
mod expiry;
mod fork;
mod gone_clients;
mod health;
mod last_handle;
mod logged;
mod loss;
mod lost_keys;
mod partition;
mod pipelined;
mod redis_errors;
mod redis_recovery;
mod renewal;
mod replicated;
mod rollback;
mod short_lease;
mod unanswered;
mod witness;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role.split_once('/') {
        Some(("crash", role)) => crash::play(role, from_parent),
        Some(("fork", role)) => fork::play(role, from_parent),
        Some(("partition", role)) => partition::play(role, from_parent),
        Some(("renewal", role)) => renewal::play(role, from_parent),
        Some(("witness", role)) => witness::play(role, from_parent),
        _ => panic!("no role {role}"),
    });
}
