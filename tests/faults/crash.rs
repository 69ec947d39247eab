//! Crashes: whatever ends a holder or a waiter, the units come back and the queue moves on.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zset_semaphore::{
    AcquireError, Client, ControlError, ExtendError, LostReason, MemoryStore, ReleaseError,
    Released, Renew, TryAcquireError, ZSetSemaphore,
};

use crate::common::connect::connect;
use crate::common::inspect::found;
use crate::common::stores::Place;
use test_support::child_role::{FromParent, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const LEASE: Duration = Duration::from_millis(1000);
const LONG: Duration = Duration::from_secs(3600);

fn semaphore(client: &Client, lease: Duration) -> ZSetSemaphore {
    client.semaphore("s", 1).lease(lease).build().unwrap()
}

pub(crate) fn play(role: &str, from_parent: FromParent) {
    let runtime = Runtime::new().unwrap();
    match role {
        "holder" => runtime.block_on(holder(from_parent)),
        "waiters" => runtime.block_on(waiters()),
        "leaver" => runtime.block_on(leaver()),
        "careless" => {
            let permit = runtime.block_on(async {
                semaphore(&connect(setting("URL")).await, LEASE).acquire(1).await.unwrap()
            });
            drop(runtime);
            drop(permit);
        }
        _ => panic!("no role {role}"),
    }
}

async fn holder(mut from_parent: FromParent) {
    let permit = semaphore(&connect(setting("URL")).await, LEASE).acquire(1).await.unwrap();
    say("holding");
    from_parent.recv().await;
    drop(permit);
}

async fn waiters() {
    let semaphore = semaphore(&connect(setting("URL")).await, LONG);
    let mut waiting: JoinSet<_> = (0..5).map(|_| semaphore.acquire(1)).collect();
    let _ = waiting.join_next().await;
    say("granted");
    std::future::pending::<()>().await;
}

async fn leaver() {
    let client = connect(setting("URL")).await;
    let permit = semaphore(&client, LONG).acquire(1).await.unwrap();
    drop(permit);
    client.shutdown().await.unwrap();
}

// Behaviour 28, invariant 2
#[tokio::test]
async fn the_units_of_a_killed_holder_are_back_at_the_end_of_its_lease() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await, LEASE);
    let mut child = Child::spawn("crash/holder", &[("URL", server.url())]);
    child.expect_line("@holding", PATIENCE).await;
    let waiting = tokio::spawn(semaphore.acquire(1));
    found(&semaphore, 1, 1).await;
    child.kill();
    let killed = Instant::now();
    let left = semaphore.inspect().await.unwrap().holders[0].expires_in;
    assert!(!waiting.is_finished() && left <= LEASE);
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    let waited = killed.elapsed(); // the slack is for a busy machine
    assert!(waited <= left + Duration::from_millis(1000), "{waited:?} for a lease of {left:?}");
    drop(permit);
}

// Behaviour 28, invariants 2 and 3
#[tokio::test]
async fn the_queue_moves_on_within_seconds_when_the_process_of_its_head_is_killed() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await, LONG);
    let first = semaphore.acquire(1).await.unwrap();
    let mut child = Child::spawn("crash/waiters", &[("URL", server.url())]);
    found(&semaphore, 1, 5).await;
    let behind = tokio::spawn(semaphore.acquire(1));
    found(&semaphore, 1, 6).await;
    child.kill();
    // Claimed by a dead waiter, which is thought alive for some seconds yet.
    first.release().await.unwrap();
    let released = Instant::now();
    let permit = within(PATIENCE, behind).await.unwrap().unwrap();
    let waited = released.elapsed();
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    found(&semaphore, 1, 0).await;
    drop(permit);
}

// Behaviour 29
#[tokio::test]
async fn a_live_waiter_that_was_dropped_while_cut_off_comes_back_to_its_old_place() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let far = semaphore(&connect(proxy.url()).await, LONG);
    let near = semaphore(&connect(server.url()).await, LONG);
    let permit = near.acquire(1).await.unwrap();
    let early = tokio::spawn(far.acquire(1));
    found(&near, 1, 1).await;
    let late = tokio::spawn(near.acquire(1));
    found(&near, 1, 2).await;
    let places = async || {
        let waiters = near.inspect().await.unwrap().waiters;
        waiters.iter().map(|waiter| (waiter.id, waiter.ticket)).collect::<Vec<_>>()
    };
    let order = places().await;
    proxy.refuse(true);
    proxy.cut();
    found(&near, 1, 1).await; // the dead one was dropped by the other's question
    assert_eq!(places().await, order[1..]);
    proxy.refuse(false);
    found(&near, 1, 2).await;
    assert_eq!(places().await, order);
    permit.release().await.unwrap();
    let first = within(PATIENCE, early).await.unwrap().unwrap();
    assert!(!late.is_finished(), "the one that came later was let in as well");
    first.release().await.unwrap();
    assert!(!within(PATIENCE, late).await.unwrap().unwrap().is_lost());
}

// Behaviour 30, invariant 2
#[tokio::test]
async fn a_process_that_ends_hands_back_what_it_can_and_leaves_the_rest_to_the_lease() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await, LEASE);
    for role in ["leaver", "careless"] {
        let mut child = Child::spawn(&format!("crash/{role}"), &[("URL", server.url())]);
        assert!(child.wait_for_exit(PATIENCE).await.success(), "{role} did not end well");
        let in_use = semaphore.inspect().await.unwrap().in_use;
        assert!(role == "careless" || in_use == 0, "{role} left something behind");
        let next = within(LEASE * 5, semaphore.acquire(1)).await.unwrap();
        next.release().await.unwrap();
    }
}

// Behaviour 30, invariant 2
#[tokio::test]
async fn a_client_whose_last_handle_goes_hands_back_what_it_held_and_disconnects() {
    let server = RedisServer::start().await;
    let watcher = semaphore(&connect(server.url()).await, LONG);
    let client = connect(server.url()).await;
    let mine = semaphore(&client, LONG);
    let permit = mine.acquire(1).await.unwrap();
    let mut waiting = Box::pin(mine.acquire(1));
    assert!(waiting.as_mut().now_or_never().is_none());
    found(&watcher, 1, 1).await;
    let clients = async || -> usize {
        let list: String = server.query(&["CLIENT", "LIST"]).await;
        list.matches("lib-name=zset-semaphore").count().max(list.matches("addr=127.0.0.1").count())
    };
    let before = clients().await;
    drop((client, mine, waiting));
    drop(permit);
    found(&watcher, 0, 0).await;
    eventually("it has disconnected", PATIENCE, async || clients().await < before).await;
}

/// A permit of a client whose runtime has ended, and a runtime of the test's own.
fn orphan(
    place: &Place,
    here: &Runtime,
    renew: Renew,
    lease: Duration,
) -> (ZSetSemaphore, Client, zset_semaphore::Permit) {
    let hosting = Runtime::new().unwrap();
    let client = place.client();
    let semaphore = client.semaphore("s", 1).lease(lease).renew(renew).build().unwrap();
    let permit = hosting.block_on(semaphore.acquire(1)).unwrap();
    let waiting = here.spawn(semaphore.acquire(1));
    here.block_on(found(&semaphore, 1, 1));
    drop(hosting);
    let end = here.block_on(within(PATIENCE, waiting)).unwrap();
    assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
    (semaphore, client, permit)
}

// Behaviour 30
#[test]
fn when_the_runtime_of_the_driver_ends_every_caller_is_told_closed() {
    let here = Runtime::new().unwrap();
    for place in here.block_on(Place::each()) {
        let (semaphore, client, permit) = orphan(&place, &here, Renew::Auto, LONG);
        here.block_on(async {
            let end = within(PATIENCE, semaphore.acquire(1)).await;
            assert!(matches!(end, Err(AcquireError::Closed)), "{end:?}");
            let end = within(PATIENCE, semaphore.try_acquire(1)).await;
            assert!(matches!(end, Err(TryAcquireError::Closed)), "{end:?}");
            let end = within(PATIENCE, semaphore.inspect()).await;
            assert!(matches!(end, Err(ControlError::Closed)), "{end:?}");
            let end = within(PATIENCE, semaphore.set_limit(3)).await;
            assert!(matches!(end, Err(ControlError::Closed)), "{end:?}");
            assert!(semaphore.is_closed());
            drop(permit);
            let _ = within(PATIENCE, client.shutdown()).await;
        });
    }
}

// Behaviour 30
#[test]
fn who_releases_or_extends_after_the_runtime_of_the_driver_has_ended_is_told_the_truth() {
    let here = Runtime::new().unwrap();
    for place in here.block_on(Place::each()) {
        let (_semaphore, _client, permit) = orphan(&place, &here, Renew::Auto, LONG);
        assert!(!permit.is_lost(), "its lease is not over");
        let other = semaphore(&place.client(), LONG);
        here.block_on(async {
            let extended = within(PATIENCE, permit.extend(LONG)).await;
            let released = within(PATIENCE, permit.release()).await;
            let in_use = other.inspect().await.unwrap().in_use;
            match place {
                // Nothing is sent any more: the units come back with the lease, as the docs say.
                Place::Redis(_) => {
                    assert!(matches!(extended, Err(ExtendError::Closed)), "{extended:?}");
                    assert!(matches!(released, Err(ReleaseError::Closed)), "{released:?}");
                    assert_eq!(in_use, 1);
                }
                Place::Memory(_) => {
                    assert!(extended.is_ok(), "{extended:?}");
                    assert!(matches!(released, Ok(Released::Freed)), "{released:?}");
                    assert_eq!(in_use, 0);
                }
            }
        });
    }
}

// Behaviour 30, invariant 2
#[test]
fn in_memory_a_permit_dropped_after_its_runtime_comes_back_at_once() {
    let here = Runtime::new().unwrap();
    let place = Place::Memory(MemoryStore::new());
    let (_semaphore, client, permit) = orphan(&place, &here, Renew::Auto, LONG);
    let next = semaphore(&place.client(), LONG);
    let next = here.spawn(next.acquire(1));
    here.block_on(found(&semaphore(&place.client(), LONG), 1, 1));
    drop(permit); // outside any runtime
    let next = here.block_on(within(PATIENCE, next)).unwrap().unwrap();
    assert!(!next.is_lost());
    drop((next, client));
}

// Behaviour 30, invariants 2 and 7
#[test]
fn a_permit_whose_runtime_has_ended_is_lost_with_its_lease_and_the_next_one_is_let_in() {
    let here = Runtime::new().unwrap();
    for place in here.block_on(Place::each()) {
        for (renew, reason) in
            [(Renew::Auto, LostReason::RenewalTimeout), (Renew::Manual, LostReason::Expired)]
        {
            let (_semaphore, _client, permit) = orphan(&place, &here, renew, LEASE);
            here.block_on(async {
                let next = semaphore(&place.client(), LEASE);
                let let_in = tokio::spawn(next.acquire(1));
                assert_eq!(within(PATIENCE, permit.lost()).await, reason);
                let next = within(PATIENCE, let_in).await.unwrap().unwrap();
                assert!(next.fencing_token() > permit.fencing_token());
                drop(permit);
                next.release().await.unwrap();
            });
        }
    }
}

// Invariant 2
#[tokio::test]
async fn a_granted_unit_comes_back_however_its_holder_ends() {
    for place in Place::each().await {
        let client = place.client();
        let semaphore = semaphore(&client, LONG);
        let take = || semaphore.acquire(1).timeout(PATIENCE);

        take().await.unwrap().release().await.unwrap();
        drop(take().await.unwrap());
        let permit = take().await.unwrap();
        permit.handle().release().await.unwrap();
        let permit = take().await.unwrap();
        let panicked = tokio::spawn(async move {
            let _held = permit;
            panic!("this is meant to happen");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        let permit = take().await.unwrap();
        let aborted = tokio::spawn(async move { permit.run(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        aborted.abort();
        let permit = take().await.unwrap();
        std::thread::spawn(move || drop(permit)).join().unwrap(); // outside any runtime
        // Granted, and dropped before the grant was looked at.
        let permit = take().await.unwrap();
        let mut waiting = Box::pin(take());
        assert!(waiting.as_mut().now_or_never().is_none());
        found(&semaphore, 1, 1).await;
        permit.release().await.unwrap();
        drop(waiting);
        assert!(!take().await.unwrap().is_lost());
        found(&semaphore, 0, 0).await;
    }
}
