//! Whether two clients get permits from each other, and how fast.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use zset_semaphore::{Client, TryAcquireError};

use crate::failure::Failure;
use crate::status::Status;
use crate::times::short;

use super::finding::Finding;

/// How many round trips are measured.
const ROUNDS: usize = 20;

/// A waiter asks by itself after a second. One that is served sooner was woken.
const WOKEN: Duration = Duration::from_millis(500);

/// A call that takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(50);

pub(crate) async fn examine(
    client: &Client,
    other: &Client,
    name: &str,
) -> Result<Vec<Finding>, Failure> {
    let mine = client.semaphore(name, 1).build()?;
    let theirs = other.semaphore(name, 1).build()?;
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        drop(mine.inspect().await?);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let median = took[ROUNDS / 2];
    let told =
        format!("{} each, the longest of {ROUNDS} {}", exact(median), exact(took[ROUNDS - 1]));
    let calls = match median {
        slow if slow > SLOW => Finding::warn("round trip", told),
        _ => Finding::ok("round trip", told),
    };

    let held = match mine.try_acquire(1).await {
        Ok(held) => held,
        Err(TryAcquireError::Full { .. }) => {
            let told = "not tried: the semaphore is in use; check without a name";
            return Ok(vec![calls, Finding::ok("wake-ups", told)]);
        }
        Err(error) => return Err(error.into()),
    };
    let waiting = tokio::spawn(theirs.acquire(1).timeout(Duration::from_secs(10)));
    let queued = async {
        while mine.inspect().await?.waiters_total == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Failure>(())
    };
    let late = |_| Failure::new(Status::AWAY, "a waiter was not queued in time");
    timeout(Duration::from_secs(5), queued).await.map_err(late)??;
    drop(held);
    let start = Instant::now();
    let served = waiting.await.map_err(|error| Failure::new(Status::SYSTEM, error))??;
    let took = start.elapsed();
    let _ = served.release().await; // it ends with its lease, too
    let told = format!("a waiter was served {} after a release", exact(took));
    let wake_up = match took {
        slow if slow > WOKEN => Finding::warn(
            "wake-ups",
            format!(
                "{told}, by asking: wake-ups do not arrive; look at +subscribe, +publish and the proxy"
            ),
        ),
        _ => Finding::ok("wake-ups", told),
    };
    Ok(vec![calls, wake_up])
}

fn exact(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..10_000 => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
        _ => short(duration),
    }
}
