//! Waiting for conditions, never for a guess at how long something takes.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub const POLL_EVERY: Duration = Duration::from_millis(2);

/// Far above what anything in these tests needs, so that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Polls `condition` until it is true; panics naming `what` if it is not true in time.
#[track_caller]
pub fn eventually<C>(what: &str, patience: Duration, mut condition: C) -> impl Future<Output = ()>
where
    C: AsyncFnMut() -> bool,
{
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + patience;
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "{what}: not so after {patience:?} (waited for at {caller})"
            );
            sleep(POLL_EVERY).await;
        }
    }
}

/// Awaits `future`; panics naming the caller if it does not end within `limit`.
#[track_caller]
pub fn within<F: Future>(limit: Duration, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match timeout(limit, future).await {
            Ok(output) => output,
            Err(_) => panic!("did not end within {limit:?} (awaited at {caller})"),
        }
    }
}

/// So many milliseconds.
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
