//! Another server takes over with older data: after a failover to a replica that lagged behind, or a restart
//! from an older dump.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use zset_semaphore::{Client, LostReason, Permit, TryAcquireError, ZSetSemaphore};

use crate::common::connect::connect;
use crate::common::inspect::found;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_pair::RedisPair;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, within};

const LEASE: Duration = Duration::from_secs(3);

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(LEASE).build().unwrap()
}

fn with_grace(client: &Client, limit: u32, grace: Duration) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(LEASE).failover_grace(grace).build().unwrap()
}

async fn acquire(semaphore: &ZSetSemaphore, count: usize) -> Vec<Permit> {
    let permits = join_all((0..count).map(|_| semaphore.acquire(1))).await;
    permits.into_iter().map(Result::unwrap).collect()
}

async fn assert_all_kept(permits: &[Permit]) {
    let losses = permits.iter().map(|permit| timeout(LEASE * 2, permit.lost()));
    assert!(join_all(losses).await.iter().all(Result::is_err), "some were lost");
}

// Behaviour 78
#[tokio::test]
async fn permits_that_a_lagging_replica_lacks_are_put_back() {
    let mut pair = RedisPair::start().await;
    let semaphore = semaphore(&connect(pair.proxy.url()).await, 8);
    let before = acquire(&semaphore, 3).await;
    pair.lag().await;
    let after = acquire(&semaphore, 5).await;
    pair.fail_over().await;
    let watcher = self::semaphore(&connect(pair.proxy.url()).await, 8);
    found(&watcher, 8, 0).await;
    assert!(matches!(watcher.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    let permits: Vec<Permit> = before.into_iter().chain(after).collect();
    assert_all_kept(&permits).await;
    let last = permits.iter().map(Permit::fencing_token).max();
    drop(permits);
    found(&watcher, 0, 0).await;
    assert!(Some(watcher.try_acquire(1).await.unwrap().fencing_token()) > last);
}

// Behaviour 78
#[tokio::test]
async fn permits_that_were_released_just_before_a_failover_do_not_come_back() {
    let mut pair = RedisPair::start().await;
    let client = connect(pair.proxy.url()).await;
    let semaphore = client.semaphore("s", 4).lease(20 * LEASE).build().unwrap();
    let permits = acquire(&semaphore, 4).await;
    pair.lag().await;
    for permit in permits {
        permit.release().await.unwrap();
    }
    pair.fail_over().await;
    within(PATIENCE, acquire(&semaphore, 4)).await;
}

// Behaviour 78
#[tokio::test]
async fn permits_that_an_older_dump_lacks_are_put_back_by_whoever_comes_first() {
    let mut server = RedisServer::start().await;
    let late = FaultProxy::start(server.addr()).await;
    let near = semaphore(&connect(server.url()).await, 4);
    let far = semaphore(&connect(late.url()).await, 4);
    let before = acquire(&near, 1).await;
    server.cmd(&["SAVE"]).await;
    let near_after = acquire(&near, 1).await;
    let far_after = acquire(&far, 2).await;
    late.refuse(true);
    late.cut();
    server.restart().await;
    found(&near, 2, 0).await;
    // This one comes when the name has a new incarnation already, and has seen a higher number.
    late.refuse(false);
    found(&near, 4, 0).await;
    assert_all_kept(&before.into_iter().chain(near_after).chain(far_after).collect::<Vec<_>>())
        .await;
}

// Behaviour 78
#[tokio::test]
async fn units_are_counted_again_where_meta_alone_is_older() {
    let server = RedisServer::start().await;
    let near = semaphore(&connect(server.url()).await, 8);
    let far = semaphore(&connect(server.url()).await, 8);
    let first = near.acquire(3).await.unwrap();
    let mut connection = server.connection().await;
    let older: Vec<u8> =
        redis::cmd("DUMP").arg("zsem:{s}:meta").query_async(&mut connection).await.unwrap();
    let second = near.acquire(4).await.unwrap();
    let mut restore = redis::cmd("RESTORE");
    restore.arg("zsem:{s}:meta").arg(0).arg(older).arg("REPLACE");
    let _: () = restore.query_async(&mut connection).await.unwrap();
    let third = within(PATIENCE, near.acquire(1)).await.unwrap();
    found(&far, 8, 0).await;
    assert!(matches!(far.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    drop((first, second, third));
    found(&near, 0, 0).await;
}

/// The one who takes a permit away has not seen that `meta` is older.
// Behaviour 78
#[tokio::test]
async fn units_are_counted_again_where_an_older_meta_counts_fewer_than_are_taken_away() {
    let server = RedisServer::start().await;
    let late = FaultProxy::start(server.addr()).await;
    let near = semaphore(&connect(server.url()).await, 8);
    let far = connect(late.url()).await.semaphore("s", 8).lease(LEASE / 10).build().unwrap();
    let mut connection = server.connection().await;
    let kept = near.acquire(2).await.unwrap();
    let older: Vec<u8> =
        redis::cmd("DUMP").arg("zsem:{s}:meta").query_async(&mut connection).await.unwrap();
    let expires = far.acquire(4).await.unwrap();
    late.refuse(true);
    late.cut();
    let mut restore = redis::cmd("RESTORE");
    restore.arg("zsem:{s}:meta").arg(0).arg(older).arg("REPLACE");
    let _: () = restore.query_async(&mut connection).await.unwrap();
    let granted = within(PATIENCE, near.acquire(6)).await.unwrap();
    assert!(expires.is_lost());
    found(&near, 8, 0).await;
    drop((kept, granted));
    found(&near, 0, 0).await;
}

// Behaviour 78
#[tokio::test]
async fn a_restart_that_loses_nothing_costs_no_holder_its_permit_and_no_waiter_its_place() {
    let mut server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await, 2);
    let permits = acquire(&semaphore, 2).await;
    let mut first = std::pin::pin!(semaphore.acquire(1));
    assert!(timeout(Duration::from_millis(50), &mut first).await.is_err());
    let mut second = std::pin::pin!(semaphore.acquire(1));
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
    server.cmd(&["SAVE"]).await;
    server.restart().await;
    found(&semaphore, 2, 2).await;
    assert_all_kept(&permits).await;
    let [one, other] = <[Permit; 2]>::try_from(permits).unwrap();
    drop(one);
    let first = within(PATIENCE, first).await.unwrap();
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
    drop(other);
    let second = within(PATIENCE, second).await.unwrap();
    assert!(second.fencing_token() > first.fencing_token());
}

// Behaviour 79
#[tokio::test]
async fn during_the_grace_a_late_holder_comes_before_newcomers() {
    let mut pair = RedisPair::start().await;
    let far_proxy = FaultProxy::start(pair.primary.addr()).await;
    let far = with_grace(&connect(far_proxy.url()).await, 1, LEASE);
    let near = semaphore(&connect(pair.proxy.url()).await, 1);
    drop(acquire(&far, 1).await);
    found(&near, 0, 0).await;
    pair.lag().await;
    let held = acquire(&far, 1).await;
    far_proxy.refuse(true);
    pair.fail_over().await;
    far_proxy.cut();
    // The near client wants no grace, but the far one has told what it wants, before the lag.
    let mut newcomer = std::pin::pin!(near.acquire(1));
    assert!(timeout(LEASE / 3, &mut newcomer).await.is_err(), "granted under the lost permit");
    assert!(matches!(near.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    let left = near.inspect().await.unwrap().failover_grace.unwrap();
    assert!(left < LEASE && left > LEASE / 3, "{left:?}");
    far_proxy.lead_to(pair.replica.addr());
    far_proxy.refuse(false);
    found(&near, 1, 1).await;
    assert_all_kept(&held).await;
    drop(held);
    drop(within(PATIENCE, newcomer).await.unwrap());
    assert_eq!(near.inspect().await.unwrap().failover_grace, None);
}

// Behaviour 79
#[tokio::test]
async fn waiters_are_served_when_the_grace_ends_though_nobody_holds() {
    let mut pair = RedisPair::start().await;
    let grace = Duration::from_millis(1_500);
    let semaphore = with_grace(&connect(pair.proxy.url()).await, 2, grace);
    drop(acquire(&semaphore, 1).await);
    found(&semaphore, 0, 0).await;
    pair.lag().await;
    pair.fail_over().await;
    let begun = Instant::now();
    let other = with_grace(&connect(pair.proxy.url()).await, 2, grace);
    let (one, two) = tokio::join!(semaphore.acquire(1), other.acquire(1));
    let took = begun.elapsed();
    assert!((one.is_ok(), two.is_ok()) == (true, true));
    assert!(took >= grace - Duration::from_millis(100), "only {took:?}");
    assert!(took < grace * 2, "{took:?}");
}

// Behaviour 79
#[tokio::test]
async fn a_server_that_came_back_empty_has_its_grace_and_an_old_server_has_none() {
    let mut server = RedisServer::start().await;
    let grace = Duration::from_secs(4);
    let far_proxy = FaultProxy::start(server.addr()).await;
    let far = with_grace(&connect(far_proxy.url()).await, 1, grace);
    let held = within(PATIENCE * 2, far.acquire(1)).await.unwrap();
    far_proxy.refuse(true);
    server.restart_empty().await;
    let restarted = Instant::now();
    let near = with_grace(&connect(server.url()).await, 1, grace);
    let newcomer = near.acquire(1);
    let mut newcomer = std::pin::pin!(newcomer);
    assert!(timeout(Duration::from_secs(1), &mut newcomer).await.is_err());
    far_proxy.refuse(false);
    found(&near, 1, 1).await;
    assert!(!held.is_lost());
    held.release().await.unwrap();
    drop(within(PATIENCE, newcomer).await.unwrap());
    // A new name waits as long as that. Then the server has been up for longer than the grace.
    let client = connect(server.url()).await;
    let new = |name: &str| client.semaphore(name, 1).failover_grace(grace).build().unwrap();
    drop(within(PATIENCE, new("new").acquire(1)).await.unwrap());
    assert!(restarted.elapsed() >= grace - Duration::from_secs(1));
    sleep(Duration::from_secs(1)).await;
    drop(new("newer").try_acquire(1).await.unwrap());
}

// Behaviour 78
#[tokio::test]
async fn without_a_grace_a_late_holder_is_told_that_its_room_is_taken() {
    let mut pair = RedisPair::start().await;
    let far_proxy = FaultProxy::start(pair.primary.addr()).await;
    let far = semaphore(&connect(far_proxy.url()).await, 1);
    let near = semaphore(&connect(pair.proxy.url()).await, 1);
    drop(acquire(&near, 1).await);
    found(&near, 0, 0).await;
    pair.lag().await;
    let held = acquire(&far, 1).await;
    far_proxy.refuse(true);
    pair.fail_over().await;
    far_proxy.cut();
    let newcomer = within(PATIENCE, near.acquire(1)).await.unwrap();
    far_proxy.lead_to(pair.replica.addr());
    far_proxy.refuse(false);
    assert_eq!(within(PATIENCE, held[0].lost()).await, LostReason::MissingInStore);
    assert!(!newcomer.is_lost());
    assert!(newcomer.fencing_token() > held[0].fencing_token());
}
