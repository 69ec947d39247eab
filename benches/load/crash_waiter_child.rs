//! A process that waits for what another one holds: a child of [`crash`](super::crash).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use zset_semaphore::Client;

use test_support::child_role::{FromParent, say, setting};

pub(crate) const ROLE: &str = "crash waiter";

/// Tells of each name, by its number, when it was granted, in microseconds of the server's clock.
pub(crate) async fn play(mut from_parent: FromParent) {
    let client = Client::connect(setting("URL")).await.expect("connecting");
    let mut waits = JoinSet::new();
    for (number, name) in setting("NAMES").split(' ').enumerate() {
        let lease = Duration::from_millis(setting("LEASE_MS").parse().expect("a number"));
        let semaphore = client.semaphore(name, 1).lease(lease).build().expect("a valid name");
        waits.spawn(async move {
            let permit = semaphore.acquire(1).await.expect("nothing ends the wait");
            (number, wall_micros(), permit)
        });
    }
    while let Some(wait) = waits.join_next().await {
        let (number, at, _permit) = wait.expect("no wait panics");
        say(format!("granted {number} {at}"));
    }
    from_parent.recv().await;
}

/// The clock that TIME of a server on this machine reads.
fn wall_micros() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    u64::try_from(micros).expect("an instant after 1970")
}
