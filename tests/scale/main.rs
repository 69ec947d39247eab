//! Many of everything: permits, waiters, names and keys.
//!
//! These tests measure what a server or a process works, so they run one at a time.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod burst;
mod busy_names;
mod expiry;
mod failover;
mod keys;
mod load;
mod storm;

use test_support::child_role;
use tokio::sync::{Mutex, MutexGuard};

/// Keeps the other tests of this binary waiting until it is dropped.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role.split_once('/') {
        Some(("keys", role)) => keys::play(role, from_parent),
        _ => panic!("no role {role}"),
    });
}
