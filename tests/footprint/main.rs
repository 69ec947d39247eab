//! What a process pays for permits that it holds, for names that it has used, and for names that are idle.
//!
//! These tests measure the whole process, so they run one at a time.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod bytes;
mod held;
mod idle;
mod names;

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Builder;

/// Runs a test alone and on this thread. The next test begins when the runtime is gone, with all that its
/// tasks have allocated.
fn alone(test: impl AsyncFnOnce()) {
    on(Builder::new_current_thread().enable_all(), test);
}

/// As [`alone`], with paused time.
fn alone_with_paused_time(test: impl AsyncFnOnce()) {
    on(Builder::new_current_thread().enable_all().start_paused(true), test);
}

fn on(runtime: &mut Builder, test: impl AsyncFnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime.build().unwrap().block_on(test());
}
