//! Closing: `close`, `shutdown` and `shutdown_now` end every waiter and leave nothing behind.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zset_semaphore::{AcquireError, Client, LostReason, Permit, TryAcquireError, ZSetSemaphore};

use crate::common::connect::{connect, connected};
use crate::common::inspect::found;
use crate::common::stores::Place;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

fn semaphore(client: &Client) -> ZSetSemaphore {
    client.semaphore("s", 2).build().unwrap()
}

type Waiters = JoinSet<Result<Permit, AcquireError>>;

/// Two permits and 20 waiters of one client, seen by another.
async fn crowd(client: &Client, watcher: &ZSetSemaphore) -> (ZSetSemaphore, [Permit; 2], Waiters) {
    let semaphore = semaphore(client);
    let permits = [semaphore.acquire(1).await.unwrap(), semaphore.acquire(1).await.unwrap()];
    let waiting = (0..20).map(|_| semaphore.acquire(1)).collect();
    found(watcher, 2, 20).await;
    (semaphore, permits, waiting)
}

async fn all_closed(waiting: Waiters) {
    let ends = within(PATIENCE, waiting.join_all()).await;
    assert_eq!(ends.len(), 20);
    for end in ends {
        assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
    }
}

// Behaviour 34
#[tokio::test]
async fn close_ends_all_waiters_and_leaves_the_permits() {
    for place in Place::each().await {
        let (client, watcher) = (place.client(), semaphore(&place.client()));
        let (semaphore, permits, waiting) = crowd(&client, &watcher).await;
        let other_name = client.semaphore("other", 1).build().unwrap();
        semaphore.clone().close();
        all_closed(waiting).await;
        found(&watcher, 2, 0).await;
        assert!(semaphore.is_closed() && !other_name.is_closed() && !watcher.is_closed());
        let end = within(PATIENCE, semaphore.acquire(1)).await;
        assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
        let end = within(PATIENCE, semaphore.try_acquire(1)).await;
        assert!(matches!(end, Err(TryAcquireError::Closed)), "{end:?}");
        assert!(permits.iter().all(|permit| !permit.is_lost()));
        let [one, two] = permits;
        one.release().await.unwrap();
        drop(two);
        found(&watcher, 0, 0).await;
        let elsewhere = within(PATIENCE, other_name.acquire(1)).await.unwrap();
        assert!(!elsewhere.is_lost());
    }
}

// Behaviour 34
#[tokio::test]
async fn shutdown_ends_all_waiters_and_waits_for_the_holders() {
    for place in Place::each().await {
        let (client, watcher) = (place.client(), semaphore(&place.client()));
        let (semaphore, [one, two], waiting) = crowd(&client, &watcher).await;
        let mut down = Box::pin(client.shutdown());
        assert!(down.as_mut().now_or_never().is_none());
        all_closed(waiting).await;
        one.release().await.unwrap();
        found(&watcher, 1, 0).await;
        assert!(down.as_mut().now_or_never().is_none(), "one is still held");
        assert!(!two.is_lost(), "shutdown takes from nobody");
        let watch = two.handle();
        drop(two);
        within(PATIENCE, down).await.unwrap();
        assert_eq!(watcher.inspect().await.unwrap().in_use, 0, "it returned too soon");
        assert!(watch.lost().now_or_never().is_none());
        let end = within(PATIENCE, semaphore.acquire(1)).await;
        assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
        let late = client.semaphore("another", 1).build().unwrap();
        let end = within(PATIENCE, late.acquire(1)).await;
        assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
    }
}

// Behaviour 34, invariant 7
#[tokio::test]
async fn shutdown_now_tells_every_holder_before_anyone_else_is_let_in() {
    for place in Place::each().await {
        let (client, watcher) = (place.client(), semaphore(&place.client()));
        let (_semaphore, permits, waiting) = crowd(&client, &watcher).await;
        let watches = permits.each_ref().map(Permit::handle);
        let next = tokio::spawn({
            let (acquire, watches) = (watcher.acquire(2), watches.clone());
            async move {
                let permit = acquire.await.unwrap();
                (permit, watches.map(|watch| watch.lost().now_or_never()))
            }
        });
        found(&watcher, 2, 21).await;
        within(PATIENCE, client.shutdown_now()).await.unwrap();
        for permit in &permits {
            assert_eq!(permit.lost().now_or_never(), Some(LostReason::Shutdown));
        }
        all_closed(waiting).await;
        let (_next, told) = within(PATIENCE, next).await.unwrap();
        assert_eq!(told, [Some(LostReason::Shutdown); 2], "let in before they were told");
        found(&watcher, 2, 0).await;
        for permit in permits {
            assert_eq!(permit.run(std::future::pending::<()>()).await, Err(LostReason::Shutdown));
        }
    }
}

// Behaviour 34
#[tokio::test]
async fn shutdown_while_redis_is_cut_off_ends_soon_and_tells_what_is_left() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let hasty = Client::builder().url(proxy.url()).call_timeout(Duration::from_millis(200));
    let client = connected(hasty).await;
    let watcher = semaphore(&connect(server.url()).await);
    let (_semaphore, permits, waiting) = crowd(&client, &watcher).await;
    proxy.black_hole();
    let start = Instant::now();
    let end = within(PATIENCE, client.shutdown_now()).await.unwrap_err();
    assert!(end.unconfirmed() >= 2, "{end:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(permits.iter().all(Permit::is_lost));
    all_closed(waiting).await;
    // The driver goes on for a while, and hands back what it can.
    proxy.pass();
    found(&watcher, 0, 0).await;
}

// Behaviour 30
#[test]
fn a_runtime_that_ends_before_the_driver_has_run_ends_the_client() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let semaphore = Client::in_memory().semaphore("unborn", 1).build().unwrap();
    let first = runtime();
    first.block_on(async { assert!(semaphore.acquire(1).now_or_never().is_none()) });
    drop(first);
    let ended = runtime().block_on(within(PATIENCE, semaphore.acquire(1)));
    assert!(matches!(ended, Err(AcquireError::Closed)), "{ended:?}");
}

// Behaviour 34
#[tokio::test]
async fn a_grant_that_nobody_has_looked_at_goes_back_at_a_shutdown() {
    let client = Client::in_memory();
    let semaphore = client.semaphore("unclaimed", 1).build().unwrap();
    let mut acquire = Box::pin(semaphore.acquire(1));
    assert!((&mut acquire).now_or_never().is_none());
    eventually("it is granted", PATIENCE, async || semaphore.inspect().await.unwrap().in_use == 1)
        .await;
    within(PATIENCE, client.shutdown()).await.unwrap();
    assert!(matches!(acquire.await, Err(AcquireError::Closed)));
}
