//! Another server takes over whose clock differs from that of the old one. Leases go on by the new clock.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::common::connect::connect;
use crate::common::inspect::found;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_pair::RedisPair;
use test_support::redis_server::RedisServer;
use test_support::shifted_clock::ShiftedClock;
use test_support::wait::{PATIENCE, ms, within};

/// Its margin is a fiftieth of it.
const LEASE: Duration = ms(3_000);
const MARGIN_MS: i64 = 60;
const FAR_MS: i64 = 5_000;

/// A primary, and a replica whose clock is ahead.
struct Scene {
    // Before the clock: servers use it to their end.
    pair: RedisPair,
    _clock: ShiftedClock,
}

impl Scene {
    async fn start(ahead_ms: i64) -> Self {
        let clock = ShiftedClock::ahead_by(ahead_ms);
        let replica = RedisServer::builder().clock(&clock);
        Self { pair: RedisPair::start_with(replica).await, _clock: clock }
    }

    /// Somebody takes the only unit and is cut off. Then the replica takes over, which has the permit.
    async fn fail_over_behind_a_holder(&mut self, grace: Duration) -> Permit {
        let way = FaultProxy::start(self.pair.primary.addr()).await;
        let held = semaphore(&connect(way.url()).await, 1, grace).acquire(1).await.unwrap();
        way.refuse(true);
        way.cut();
        self.pair.lag().await;
        self.pair.fail_over().await;
        held
    }

    async fn another(&self, grace: Duration) -> ZSetSemaphore {
        semaphore(&connect(self.pair.proxy.url()).await, 1, grace)
    }
}

fn semaphore(client: &Client, limit: u32, grace: Duration) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(LEASE).failover_grace(grace).build().unwrap()
}

// Behaviour 85
#[tokio::test]
async fn a_clock_that_is_ahead_by_the_margin_lets_nobody_in_before_the_holder_knows() {
    let mut scene = Scene::start(MARGIN_MS).await;
    let began = Instant::now();
    let held = scene.fail_over_behind_a_holder(Duration::ZERO).await;
    let next = within(PATIENCE, scene.another(Duration::ZERO).await.acquire(1)).await.unwrap();
    assert!(held.is_lost(), "let in while another one still believes to hold");
    assert!(began.elapsed() < LEASE + ms(1_000), "{:?}", began.elapsed());
    assert!(next.fencing_token() > held.fencing_token());
}

// Behaviour 85
#[tokio::test]
async fn a_clock_that_is_far_ahead_passes_the_limit_at_most_until_the_deadline_of_the_holder() {
    let mut scene = Scene::start(FAR_MS).await;
    let held = scene.fail_over_behind_a_holder(Duration::ZERO).await;
    let took_over = Instant::now();
    let next = within(PATIENCE, scene.another(Duration::ZERO).await.acquire(1)).await.unwrap();
    println!("let in {:?} after the new server took over", took_over.elapsed());
    assert!(next.fencing_token() > held.fencing_token());
    within(LEASE, held.lost()).await;
}

// Behaviour 85
#[tokio::test]
async fn with_a_grace_of_one_lease_a_clock_that_is_far_ahead_lets_nobody_in_before_the_holder_knows()
 {
    let mut scene = Scene::start(FAR_MS).await;
    let held = scene.fail_over_behind_a_holder(LEASE).await;
    let next = within(PATIENCE, scene.another(LEASE).await.acquire(1)).await.unwrap();
    assert!(held.is_lost(), "let in while another one still believes to hold");
    assert!(next.fencing_token() > held.fencing_token());
}

// Behaviour 85
#[tokio::test]
async fn a_clock_that_is_far_behind_keeps_the_unit_of_a_dead_holder_for_as_much_longer() {
    let mut scene = Scene::start(-FAR_MS).await;
    let began = Instant::now();
    let held = scene.fail_over_behind_a_holder(Duration::ZERO).await;
    let next = within(PATIENCE * 2, scene.another(Duration::ZERO).await.acquire(1)).await.unwrap();
    let took = began.elapsed();
    assert!(held.is_lost());
    assert!(took < LEASE + Duration::from_millis(FAR_MS.unsigned_abs()) + ms(1_000), "{took:?}");
    assert!(next.fencing_token() > held.fencing_token());
}

// Behaviour 85
#[tokio::test]
async fn who_reconnects_keeps_its_permits_and_its_place_with_a_grace_or_a_clock_that_is_behind() {
    // All leases are over by a clock that is far ahead, so whoever comes first would get the units.
    for (ahead, grace) in [(FAR_MS, LEASE), (-FAR_MS, Duration::ZERO)] {
        let mut scene = Scene::start(ahead).await;
        let mine = semaphore(&connect(scene.pair.proxy.url()).await, 3, grace);
        let other = semaphore(&connect(scene.pair.proxy.url()).await, 3, grace);
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(mine.acquire(1).await.unwrap());
        }
        let mut waiting = std::pin::pin!(other.acquire(1));
        assert!(timeout(ms(50), &mut waiting).await.is_err());
        found(&mine, 3, 1).await;
        scene.pair.lag().await;
        scene.pair.fail_over().await;
        let losses = permits.iter().map(|permit| timeout(LEASE * 2, permit.lost()));
        let still_waits = timeout(LEASE * 2, &mut waiting);
        let (losses, still_waits) = tokio::join!(join_all(losses), still_waits);
        assert!(losses.iter().all(Result::is_err), "clock {ahead} ms ahead: {losses:?}");
        assert!(still_waits.is_err(), "clock {ahead} ms ahead: the limit is passed");
        let last = permits.iter().map(Permit::fencing_token).max();
        drop(permits);
        let next = within(PATIENCE, waiting).await.unwrap();
        assert!(Some(next.fencing_token()) > last, "clock {ahead} ms ahead");
    }
}
