//! Leases that are short next to the round trip, or to the call timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use zset_semaphore::Client;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};

/// By how much the runtime was late at the worst, since it was last asked.
#[derive(Clone, Default)]
struct Hiccups(Arc<AtomicU64>);

impl Hiccups {
    fn watch() -> Self {
        let hiccups = Self::default();
        let worst = Arc::clone(&hiccups.0);
        tokio::spawn(async move {
            loop {
                let slept = Instant::now();
                sleep(ms(1)).await;
                let late = slept.elapsed().saturating_sub(ms(1)).as_micros();
                worst.fetch_max(late as u64, Relaxed);
            }
        });
        hiccups
    }

    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Relaxed))
    }
}

/// Holds a permit for 60 leases of 150 ms, as often as the machine itself is late for one. In paused time,
/// `src/driver/abreast.rs` does so with the shortest lease there is.
async fn is_held_over(round_trip: Duration) {
    const LEASE: Duration = ms(150);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = Client::connect(proxy.url()).await.unwrap();
    let semaphore = client.semaphore("s", 1).lease(LEASE).build().unwrap();
    proxy.delay_replies(round_trip);
    let hiccups = Hiccups::watch();
    for attempt in 1.. {
        hiccups.take();
        let started = Instant::now();
        let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
        let lost = timeout(LEASE * 60, permit.lost()).await;
        let Ok(reason) = lost else { return };
        let late = hiccups.take();
        let held = started.elapsed();
        println!("{round_trip:?}: {reason:?} after {held:?}, where the machine was {late:?} late");
        assert!(late > LEASE / 12, "{reason:?} after {held:?} over {round_trip:?}");
        if attempt == 20 {
            return; // this machine cannot tell
        }
    }
}

// Behaviour 64
#[tokio::test]
async fn a_lease_is_held_while_a_round_trip_takes_up_to_a_third_of_it() {
    tokio::join!(is_held_over(ms(36)), is_held_over(ms(48)));
}

// Behaviour 64
#[tokio::test]
async fn a_lost_answer_to_an_acquire_does_not_cost_those_who_hold_their_lease() {
    let lease = ms(3_600);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client =
        Client::builder().url(proxy.url()).call_timeout(ms(2_000)).connect().await.unwrap();
    let semaphore = client.semaphore("s", 2).lease(lease).build().unwrap();
    let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    // Too early for a renewal to ride along, too late for another turn before it.
    sleep(lease / 8).await;
    proxy.lose_next_reply();
    let newcomer = tokio::spawn(semaphore.acquire(1));
    let lost = timeout(lease * 2, permit.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    within(PATIENCE, newcomer).await.unwrap().unwrap().release().await.unwrap();
}
