//! Waiting until a store shows what a test wants to see.

use test_support::wait::{PATIENCE, eventually};
use zset_semaphore::ZSetSemaphore;

/// Waits until so many units are in use and so many waiters are in the queue.
pub(crate) async fn found(semaphore: &ZSetSemaphore, in_use: u64, waiters: u64) {
    let what = format!("{in_use} in use, {waiters} wait");
    eventually(&what, PATIENCE, async || {
        let found = semaphore.inspect().await;
        found.is_ok_and(|found| (found.in_use, found.waiters_total) == (in_use, waiters))
    })
    .await;
}

/// Waits until nothing is held and nobody waits.
pub(crate) async fn emptied(semaphore: &ZSetSemaphore) {
    eventually("nothing is held and nobody waits", PATIENCE, async || {
        let found = semaphore.inspect().await.unwrap();
        (found.in_use, found.holders_total, found.waiters_total) == (0, 0, 0)
    })
    .await;
}
