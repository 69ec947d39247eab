//! The bytes of this process.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use test_support::wait::POLL_EVERY;
use tokio::time::{sleep, timeout};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is allocated and not freed.
pub(crate) fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// What this process has in memory.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).unwrap();
    1024 * kib.parse::<usize>().unwrap()
}

/// Waits until no more than `most` bytes are allocated. A driver gives back in its own time.
pub(crate) async fn comes_back_to(most: usize, patience: std::time::Duration) {
    let comes = async {
        while allocated() > most {
            sleep(POLL_EVERY).await;
        }
    };
    let came = timeout(patience, comes).await;
    assert!(came.is_ok(), "{} bytes too many are allocated", allocated().saturating_sub(most));
}
