//! Giving back: once and for all, waking exactly who can use it, over connections that break.

use std::time::Duration;

use crate::common::connect::connected;
use crate::common::inspect::queued;
use crate::common::stores::Place;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::{
    Client, KickOutcome, LostReason, PermitId, ReleaseError, Released, Renew, TryAcquireError,
    ZSetSemaphore,
};

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("gate", limit).build().unwrap()
}

async fn in_use(semaphore: &ZSetSemaphore) -> u64 {
    semaphore.inspect().await.unwrap().in_use
}

/// That many single units can be taken at once, and no more.
async fn capacity(semaphore: &ZSetSemaphore) -> usize {
    let mut permits = Vec::new();
    while let Ok(permit) = semaphore.try_acquire(1).await {
        permits.push(permit);
    }
    let count = permits.len();
    for permit in permits {
        permit.release().await.unwrap();
    }
    count
}

// Behaviour 14
#[tokio::test]
async fn a_release_frees_once_and_says_so_ever_after() {
    for place in Place::each().await {
        let three = semaphore(&place.client(), 3);
        let (a, b) = (three.acquire(1).await.unwrap(), three.acquire(1).await.unwrap());
        let watch = a.handle();
        assert_eq!(watch.release().await.unwrap(), Released::Freed);
        for _ in 0..3 {
            assert_eq!(watch.release().await.unwrap(), Released::AlreadyGone);
        }
        assert_eq!(a.release().await.unwrap(), Released::AlreadyGone);
        assert_eq!(watch.release().await.unwrap(), Released::AlreadyGone);
        assert_eq!(in_use(&three).await, 1, "it took something from the other holder");
        assert_eq!(capacity(&three).await, 2);
        drop(b);
        eventually("all is free", PATIENCE, async || in_use(&three).await == 0).await;
        assert_eq!(capacity(&three).await, 3, "the capacity rose");
    }
}

// Behaviour 14
#[tokio::test]
async fn releasing_an_expired_permit_changes_nothing_and_says_so() {
    for place in Place::each().await {
        let builder = place.client().semaphore("gate", 1);
        let fixed = builder.lease(ms(200)).renew(Renew::Manual).build().unwrap();
        let other = semaphore(&place.client(), 1);
        for drop_it in [false, true] {
            let expired = fixed.acquire(1).await.unwrap();
            let next = within(PATIENCE, other.acquire(1)).await.unwrap();
            assert_eq!(within(PATIENCE, expired.lost()).await, LostReason::Expired);
            if drop_it {
                drop(expired);
            } else {
                assert_eq!(expired.release().await.unwrap(), Released::AlreadyGone);
            }
            // The one who has it now keeps it.
            assert!(matches!(fixed.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
            assert_eq!(other.inspect().await.unwrap().holders[0].id, next.id());
            assert_eq!(next.release().await.unwrap(), Released::Freed);
            assert_eq!(capacity(&other).await, 1);
        }
    }
}

// Behaviour 14
#[tokio::test]
async fn releasing_what_the_server_no_longer_knows_changes_nothing_and_says_so() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let near = semaphore(&Client::connect(server.url()).await.unwrap(), 12);
    let far = semaphore(&Client::connect(proxy.url()).await.unwrap(), 12);
    let _kept = (near.acquire(1).await.unwrap(), near.acquire(4).await.unwrap());
    for units in [1, 3] {
        let deaf = far.acquire(units).await.unwrap();
        // Its holder does not hear that somebody ends it.
        proxy.hold_wake_ups();
        assert_eq!(near.kick_now(deaf.id()).await.unwrap(), KickOutcome::Removed);
        assert_eq!(in_use(&near).await, 5);
        server.reset_stats().await;
        let answer = tokio::spawn(deaf.release());
        eventually("it was looked for", PATIENCE, async || server.script_calls().await > 0).await;
        proxy.pass();
        assert_eq!(within(PATIENCE, answer).await.unwrap().unwrap(), Released::AlreadyGone);
        assert_eq!((in_use(&near).await, capacity(&near).await), (5, 7));
    }
}

// Behaviour 14
#[tokio::test]
async fn a_foreign_id_that_nobody_holds_frees_nothing() {
    for place in Place::each().await {
        let two = semaphore(&place.client(), 2);
        let (held, gone) = (two.acquire(1).await.unwrap(), two.acquire(1).await.unwrap());
        let foreign: PermitId = "00000000000000ff:9".parse().unwrap();
        let heavy: PermitId = "00000000000000ff:9*2".parse().unwrap();
        let released = gone.id();
        gone.release().await.unwrap();
        for id in [foreign, heavy, released] {
            assert_eq!(two.kick(id).await.unwrap(), KickOutcome::NotHeld);
            assert_eq!(two.kick_now(id).await.unwrap(), KickOutcome::NotHeld);
        }
        assert_eq!((in_use(&two).await, capacity(&two).await), (1, 1));
        assert!(!held.is_lost());
    }
}

// Behaviour 15
#[tokio::test]
async fn a_release_wakes_exactly_as_many_waiters_as_fit() {
    for place in Place::each().await {
        let here = semaphore(&place.client(), 6);
        let others: Vec<_> = (0..3).map(|_| semaphore(&place.client(), 6)).collect();
        let heavy = here.acquire(5).await.unwrap();
        let single = here.acquire(1).await.unwrap();
        let mut waiting = Vec::new();
        for (index, units) in [1, 2, 1, 3, 1].into_iter().enumerate() {
            waiting.push(tokio::spawn(others[index % 3].acquire(units)));
            queued(&here, index as u64 + 1).await;
        }
        heavy.release().await.unwrap();
        // 1 + 2 + 1 of the 5 units that came free; 3 do not fit, and hold back the last one.
        let books = here.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total, books.waiters_total), (5, 4, 2));
        let mut woken = Vec::new();
        for waiting in waiting.drain(..3) {
            woken.push(within(PATIENCE, waiting).await.unwrap().unwrap());
        }
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        single.release().await.unwrap();
        let books = here.inspect().await.unwrap();
        assert_eq!((books.in_use, books.waiters_total), (4, 2));
        drop(woken);
        for waiting in waiting {
            within(PATIENCE, waiting).await.unwrap().unwrap().release().await.unwrap();
        }
        eventually("all is free", PATIENCE, async || in_use(&here).await == 0).await;
    }
}

// Behaviour 15
#[tokio::test]
async fn a_release_sends_one_message_per_woken_process_and_none_when_nobody_waits() {
    let server = RedisServer::start().await;
    let client = async || semaphore(&Client::connect(server.url()).await.unwrap(), 8);
    let (here, one, two, three) = (client().await, client().await, client().await, client().await);
    let alone = here.acquire(8).await.unwrap();
    server.reset_stats().await;
    alone.release().await.unwrap();
    assert_eq!(server.calls("publish").await, 0, "nobody waits");

    let all = here.acquire(8).await.unwrap();
    let mut waiting = Vec::new();
    // Interleaved, so that a message per grant or per run of grants would be more.
    for (index, client) in [&one, &two, &one, &two, &here, &one, &three].into_iter().enumerate() {
        waiting.push(tokio::spawn(client.acquire(1)));
        queued(&here, index as u64 + 1).await;
    }
    let too_many = tokio::spawn(three.acquire(2));
    queued(&here, 8).await;
    server.reset_stats().await;
    all.release().await.unwrap();
    for waiting in waiting {
        // Held, so that no release wakes the last one.
        std::mem::forget(within(PATIENCE, waiting).await.unwrap().unwrap());
    }
    assert_eq!(server.calls("publish").await, 3, "one for each of three processes");
    assert!(!too_many.is_finished());
}

// Behaviour 16
#[tokio::test]
async fn a_release_over_a_broken_connection_is_retried_until_it_arrives() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let near = semaphore(&Client::connect(server.url()).await.unwrap(), 1);
    let builder = Client::builder().url(proxy.url()).call_timeout(ms(200));
    let far = semaphore(&builder.connect().await.unwrap(), 1);
    for fault in ["cut", "refused", "black hole", "reply lost"] {
        let held = far.acquire(1).await.unwrap();
        let start = Instant::now();
        match fault {
            "cut" => proxy.cut(),
            "refused" => {
                proxy.refuse(true);
                proxy.cut();
            }
            "black hole" => proxy.black_hole(),
            _ => proxy.lose_next_reply(),
        }
        let release = tokio::spawn(held.release());
        if fault == "refused" || fault == "black hole" {
            let tried = proxy.connections_total() + 2;
            proxy.wait_for_connections(tried).await;
            assert!(!release.is_finished(), "{fault}: {:?}", release.await);
            proxy.refuse(false);
            proxy.pass();
        }
        assert_eq!(within(PATIENCE, release).await.unwrap().unwrap(), Released::Freed, "{fault}");
        // Long before the lease of 30 s would have ended.
        let next = within(PATIENCE, near.acquire(1)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(15), "{fault}");
        drop(next);
    }
}

// Behaviour 16
#[tokio::test]
async fn a_dropped_permit_is_given_back_over_a_new_connection() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let near = semaphore(&Client::connect(server.url()).await.unwrap(), 5);
    let far = semaphore(&Client::connect(proxy.url()).await.unwrap(), 5);
    let (a, b) = (far.acquire(3).await.unwrap(), far.acquire(1).await.unwrap());
    proxy.refuse(true);
    proxy.cut();
    drop((a, b));
    proxy.wait_for_connections(3).await;
    assert_eq!(in_use(&near).await, 4);
    proxy.refuse(false);
    eventually("both came back", PATIENCE, async || in_use(&near).await == 0).await;
    assert_eq!(capacity(&near).await, 5);
}

async fn unconfirmed_release(cancel_before: bool) -> Duration {
    const LEASE: Duration = Duration::from_millis(600);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = connected(Client::builder().url(proxy.url()).call_timeout(ms(100))).await;
    let short = client.semaphore("gate", 1).lease(LEASE).build().unwrap();
    let held = short.acquire(1).await.unwrap();
    let waiting = tokio::spawn(semaphore(&client, 1).acquire(1));
    queued(&short, 1).await;
    proxy.refuse(true);
    proxy.cut();
    let start = Instant::now();
    if cancel_before {
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
    }
    let answer = within(PATIENCE, held.release()).await;
    assert!(matches!(answer, Err(ReleaseError::Unconfirmed)), "{answer:?}");
    let took = start.elapsed();
    // The unit is free by then, or nearly so: the server's clock began the lease later.
    let near = semaphore(&Client::connect(server.url()).await.unwrap(), 1);
    within(PATIENCE, near.acquire(1)).await.unwrap().release().await.unwrap();
    took
}

// Behaviour 16
#[tokio::test]
async fn a_release_that_cannot_arrive_says_so_when_the_lease_would_have_ended() {
    let took = unconfirmed_release(false).await;
    assert!(took < Duration::from_secs(3), "the lease is 0.6 s, and it took {took:?}");
}

// Behaviour 16
#[tokio::test]
async fn a_release_behind_a_cancelled_wait_says_so_at_the_same_time() {
    let took = unconfirmed_release(true).await;
    assert!(took < Duration::from_secs(3), "the lease is 0.6 s, and it took {took:?}");
}
