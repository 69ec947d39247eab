//! Waiting until a store shows what a test wants to see, and waiters that are known to be in the queue.

use test_support::wait::{PATIENCE, eventually, within};
use tokio::task::JoinHandle;
use zset_semaphore::{Acquire, AcquireError, Permit, ZSetSemaphore};

/// A task that waits for a permit.
pub(crate) type Waiting = JoinHandle<Result<Permit, AcquireError>>;

/// Starts waiting, and returns once it stands in the queue.
pub(crate) async fn queue(semaphore: &ZSetSemaphore, acquire: Acquire) -> Waiting {
    let before = semaphore.inspect().await.unwrap().waiters_total;
    let waiting = tokio::spawn(acquire);
    queued(semaphore, before + 1).await;
    waiting
}

/// The permit that a task has waited for.
pub(crate) async fn granted(waiting: Waiting) -> Permit {
    within(PATIENCE, waiting).await.unwrap().unwrap()
}

/// Waits until this number of waiters is in the queue.
pub(crate) async fn queued(semaphore: &ZSetSemaphore, waiters: u64) {
    eventually(&format!("{waiters} wait"), PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|found| found.waiters_total == waiters)
    })
    .await;
}

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
