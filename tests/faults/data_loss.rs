//! Data loss: Redis comes back empty under load, and all find their feet again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zset_semaphore::{Client, LostReason, TryAcquireError, ZSetSemaphore};

use crate::common::connect::connect;
use crate::common::inspect::found;
use test_support::fault_proxy::FaultProxy;
use test_support::ledger::{Hold, Ledger, Reporter, monotonic_nanos};
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const LEASE: Duration = Duration::from_secs(3);

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(LEASE).build().unwrap()
}

// Behaviour 52
#[tokio::test]
async fn all_holders_of_four_clients_are_back_after_a_restart_where_there_is_room() {
    let mut server = RedisServer::start().await;
    let mut permits = Vec::new();
    for _ in 0..4 {
        let semaphore = semaphore(&connect(server.url()).await, 64);
        permits.extend(join_all((0..16).map(|_| semaphore.acquire(1))).await);
    }
    let permits: Vec<_> = permits.into_iter().map(Result::unwrap).collect();
    server.restart_empty().await;
    let watcher = semaphore(&connect(server.url()).await, 64);
    found(&watcher, 64, 0).await;
    let losses = permits.iter().map(|permit| timeout(LEASE * 2, permit.lost()));
    assert!(join_all(losses).await.iter().all(Result::is_err), "some were lost");
    assert!(matches!(watcher.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    drop(permits);
    found(&watcher, 0, 0).await;
}

// Behaviour 52
#[tokio::test]
async fn a_holder_that_comes_back_too_late_for_its_room_is_told_that_it_is_forgotten() {
    let mut server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let far = semaphore(&connect(proxy.url()).await, 1);
    let near = semaphore(&connect(server.url()).await, 1);
    let permit = far.acquire(1).await.unwrap();
    proxy.refuse(true);
    server.restart_empty().await;
    let next = within(PATIENCE, near.acquire(1)).await.unwrap();
    assert!(!permit.is_lost(), "it cannot know yet");
    proxy.refuse(false);
    assert_eq!(within(LEASE, permit.lost()).await, LostReason::MissingInStore);
    assert!(timeout(LEASE, next.lost()).await.is_err());
}

// Behaviour 52
#[tokio::test]
async fn holders_are_put_back_before_waiters_of_their_own_client_are_let_in() {
    let mut server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 4);
    let permits: Vec<_> = join_all((0..4).map(|_| semaphore.acquire(1))).await;
    let permits: Vec<_> = permits.into_iter().map(Result::unwrap).collect();
    let waiting: JoinSet<_> = (0..4).map(|_| semaphore.acquire(1)).collect();
    found(&semaphore, 4, 4).await;
    server.restart_empty().await;
    found(&semaphore, 4, 4).await;
    let losses = permits.iter().map(|permit| timeout(LEASE, permit.lost()));
    assert!(
        join_all(losses).await.iter().all(Result::is_err),
        "waiters of the same client took the room of live holders"
    );
    drop(permits);
    assert!(within(PATIENCE, waiting.join_all()).await.iter().all(Result::is_ok));
}

// Behaviour 52
#[tokio::test]
async fn waiters_keep_their_order_through_a_restart() {
    let mut server = RedisServer::start().await;
    let clients = [connect(server.url()).await, connect(server.url()).await];
    let watcher = semaphore(&connect(server.url()).await, 1);
    watcher.set_limit(0).await.unwrap(); // nobody is let in, so that the order is seen
    let mut waiting = JoinSet::new();
    for n in 0..6 {
        waiting.spawn(semaphore(&clients[n % 2], 0).acquire(1));
        found(&watcher, 0, n as u64 + 1).await;
    }
    let waiters = async || {
        let waiters = watcher.inspect().await.unwrap().waiters;
        waiters.iter().map(|waiter| (waiter.id, waiter.ticket)).collect::<Vec<_>>()
    };
    let order = waiters().await;
    server.restart_empty().await;
    found(&watcher, 0, 6).await;
    assert_eq!(waiters().await, order);
}

// Behaviours 52, 58
#[tokio::test]
async fn an_override_is_forgotten_with_the_data_and_the_handles_limit_is_in_force() {
    let mut server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 2);
    semaphore.set_limit(0).await.unwrap();
    let waiting: JoinSet<_> = (0..2).map(|_| semaphore.acquire(1)).collect();
    found(&semaphore, 0, 2).await;
    server.restart_empty().await;
    let permits = within(PATIENCE, waiting.join_all()).await;
    assert!(permits.iter().all(Result::is_ok));
    let found = semaphore.inspect().await.unwrap();
    assert_eq!((found.limit, found.limit_override, found.in_use), (2, None, 2));
}

/// Takes, holds and gives back until told to stop.
async fn work(
    semaphore: ZSetSemaphore,
    reporter: Reporter,
    name: String,
    lost: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let permit = semaphore.acquire(1).await.unwrap();
        reporter.enter(&name, 1);
        let span = Duration::from_millis(fastrand::u64(200..1200));
        let ended = permit.run(sleep(span)).await;
        reporter.leave(&name);
        if ended.is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// For how long more than `limit` were held, in milliseconds.
fn time_above(holds: &[Hold], limit: i64) -> f64 {
    let mut edges: Vec<(u64, i64)> =
        holds.iter().flat_map(|hold| [(hold.from_ns, 1), (hold.until_ns, -1)]).collect();
    edges.sort_unstable();
    let (mut held, mut since, mut above) = (0, 0, 0);
    for (at, step) in edges {
        if held > limit {
            above += at - since;
        }
        (held, since) = (held + step, at);
    }
    above as f64 / 1e6
}

// Behaviour 52
#[tokio::test]
async fn a_restart_under_load_lets_at_most_twice_the_limit_run_and_settles_at_the_limit() {
    const LIMIT: u32 = 32;
    let mut server = RedisServer::start().await;
    let ledger = Ledger::start();
    let (lost, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut load = JoinSet::new();
    for client in 0..4 {
        let semaphore = semaphore(&connect(server.url()).await, LIMIT);
        for task in 0..16 {
            let reporter = Reporter::connect(&ledger.address());
            let name = format!("{client}-{task}");
            let (lost, stop) = (Arc::clone(&lost), Arc::clone(&stop));
            load.spawn(work(semaphore.clone(), reporter, name, lost, stop));
        }
    }
    let full = async || ledger.holds().iter().filter(|hold| hold.until_ns == u64::MAX).count();
    eventually("it is full", PATIENCE, async || full().await == LIMIT as usize).await;
    sleep(Duration::from_secs(2)).await; // until holders and waiters are mixed among the clients
    ledger.assert_never_over(LIMIT);
    server.restart_empty().await;
    let back = monotonic_nanos();
    sleep(LEASE + Duration::from_secs(1)).await;
    let settled = monotonic_nanos();
    sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    within(PATIENCE, load.join_all()).await;

    let (peak, holds) = (ledger.overlap(), ledger.holds());
    println!(
        "restarted empty under 4 clients x 16 tasks, limit {LIMIT}: at most {} ran at once, above \
         the limit for {:.0} ms in all; {} holders were told that they lost",
        peak.units,
        time_above(&holds, i64::from(LIMIT)),
        lost.load(Ordering::Relaxed)
    );
    assert!(peak.units <= u64::from(2 * LIMIT), "{peak}");
    let late = ledger.overlap_within(settled..u64::MAX);
    assert_eq!(late.units, u64::from(LIMIT), "after a lease all is as before: {late}");
    assert!(holds.iter().any(|hold| hold.from_ns > back), "work goes on");
    let watcher = semaphore(&connect(server.url()).await, LIMIT);
    found(&watcher, 0, 0).await;
}
