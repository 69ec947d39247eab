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

use tokio::sync::{Mutex, MutexGuard};

/// Keeps the other tests of this binary waiting until it is dropped.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}
