//! Loss: who loses a permit learns of it, and what took it does not stop the rest.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use zset_semaphore::{
    AcquireError, Client, ControlError, Inspection, KickOutcome, LostReason, MemoryStore, Permit,
    Released, Renew, StoreErrorKind, TryAcquireError, ZSetSemaphore,
};

use crate::common::connect::connect;
use crate::common::stores::Place;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const LEASE: Duration = Duration::from_millis(1500);

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(LEASE).build().unwrap()
}

async fn eventually_found(
    what: &str,
    semaphore: &ZSetSemaphore,
    as_wanted: impl Fn(&Inspection) -> bool,
) {
    eventually(what, PATIENCE, async || semaphore.inspect().await.is_ok_and(|f| as_wanted(&f)))
        .await;
}

async fn stays_held(permit: &Permit) {
    let lost = timeout(LEASE * 2, permit.lost()).await;
    assert!(lost.is_err(), "lost: {lost:?}");
}

// Behaviour 21
#[tokio::test]
async fn a_holder_survives_flushall_where_there_is_room() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 3);
    let (one, two) = (semaphore.acquire(1).await.unwrap(), semaphore.acquire(2).await.unwrap());
    server.cmd(&["FLUSHALL"]).await;
    eventually_found("both are back", &semaphore, |f| f.in_use == 3 && f.holders_total == 2).await;
    stays_held(&one).await;
    stays_held(&two).await;
    assert_eq!(two.release().await.unwrap(), Released::Freed);
    assert_eq!(semaphore.inspect().await.unwrap().in_use, 1);
}

// Behaviours 21, 23
#[tokio::test]
async fn a_holder_whose_room_was_taken_after_flushall_is_told_and_the_newcomer_stays() {
    let server = RedisServer::start().await;
    let (one, two) = (connect(server.url()).await, connect(server.url()).await);
    let newcomer = semaphore(&two, 1);
    let permit = semaphore(&one, 1).acquire(1).await.unwrap();
    assert!(newcomer.try_acquire(1).await.is_err());
    // A renewal may come between the two; then the newcomer finds no room, and it is tried again.
    let new = loop {
        server.cmd(&["FLUSHALL"]).await;
        if let Ok(new) = newcomer.try_acquire(1).await {
            break new;
        }
    };
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::MissingInStore);
    assert_eq!(permit.release().await.unwrap(), Released::AlreadyGone);
    stays_held(&new).await;
}

// Behaviours 21, 23
#[tokio::test]
async fn deleted_permits_are_lost_and_new_work_goes_on() {
    let server = RedisServer::start().await;
    let (one, two) = (connect(server.url()).await, connect(server.url()).await);
    let (first, second) = (semaphore(&one, 1), semaphore(&two, 1));
    let permit = first.acquire(1).await.unwrap();
    let waiting = tokio::spawn(second.acquire(1));
    eventually_found("one waits", &second, |f| f.waiters_total == 1).await;
    server.cmd(&["DEL", "zsem:{s}:permits"]).await;
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::MissingInStore);
    let next = within(PATIENCE, waiting).await.unwrap().unwrap();
    stays_held(&next).await;
}

// Behaviour 21
#[tokio::test]
async fn a_deleted_meta_key_costs_no_permit_and_no_unit() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 7);
    let heavy = semaphore.acquire(5).await.unwrap();
    let light = semaphore.acquire(1).await.unwrap();
    server.cmd(&["DEL", "zsem:{s}:meta"]).await;
    stays_held(&heavy).await;
    assert!(!light.is_lost());
    assert_eq!(semaphore.inspect().await.unwrap().in_use, 6);
    assert!(matches!(semaphore.try_acquire(2).await, Err(TryAcquireError::Full { in_use: 6, .. })));
    let token = semaphore.try_acquire(1).await.unwrap().fencing_token();
    assert!(token > light.fencing_token(), "tokens rise though the last one was forgotten");
}

// Behaviour 21
#[tokio::test]
async fn waiters_of_a_deleted_queue_come_back_in_their_order() {
    let server = RedisServer::start().await;
    let (one, two) = (connect(server.url()).await, connect(server.url()).await);
    let (holding, early, late) = (semaphore(&one, 1), semaphore(&one, 1), semaphore(&two, 1));
    let permit = holding.acquire(1).await.unwrap();
    let first = tokio::spawn(early.acquire(1));
    eventually_found("one waits", &holding, |f| f.waiters_total == 1).await;
    let second = tokio::spawn(late.acquire(1));
    eventually_found("two wait", &holding, |f| f.waiters_total == 2).await;
    let order = |found: &Inspection| {
        found.waiters.iter().map(|waiter| (waiter.id, waiter.ticket)).collect::<Vec<_>>()
    };
    let before = order(&holding.inspect().await.unwrap());
    server.cmd(&["DEL", "zsem:{s}:queue"]).await;
    eventually_found("both are back", &holding, |f| order(f) == before).await;
    permit.release().await.unwrap();
    let first = within(PATIENCE, first).await.unwrap().unwrap();
    assert!(!second.is_finished());
    drop(first);
    assert!(!within(PATIENCE, second).await.unwrap().unwrap().is_lost());
}

// Behaviour 21
#[tokio::test]
async fn eviction_of_everything_is_survived() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 2);
    let permit = semaphore.acquire(1).await.unwrap();
    server.evict_all().await;
    eventually_found("the holder is back", &semaphore, |f| f.in_use == 1).await;
    stays_held(&permit).await;
    let other = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    assert!(!other.is_lost());
}

// Behaviours 21, 23
#[tokio::test]
async fn a_key_of_a_wrong_type_is_a_typed_error_and_work_goes_on_once_it_is_gone() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, 1);
    let permit = semaphore.acquire(1).await.unwrap();
    let waiting = tokio::spawn(semaphore.acquire(1));
    eventually_found("one waits", &semaphore, |f| f.waiters_total == 1).await;
    server.cmd(&["SET", "zsem:{s}:permits", "not a set"]).await;

    match within(PATIENCE, waiting).await.unwrap() {
        Err(AcquireError::Refused(error)) => assert_eq!(error.kind(), StoreErrorKind::WrongType),
        other => panic!("{other:?}"),
    }
    match semaphore.try_acquire(1).await {
        Err(TryAcquireError::Unavailable(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::WrongType);
        }
        other => panic!("{other:?}"),
    }
    match semaphore.inspect().await {
        Err(ControlError::Unavailable(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::WrongType);
        }
        other => panic!("{other:?}"),
    }
    // Nobody said that it is gone; it just cannot be proven any more.
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::RenewalTimeout);
    server.cmd(&["DEL", "zsem:{s}:permits"]).await;
    let next = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    stays_held(&next).await;
}

// Behaviour 23
#[tokio::test(start_paused = true)]
async fn lost_never_resolves_on_an_ordinary_end() {
    let memory = MemoryStore::new();
    let semaphore = semaphore(&Client::with_memory(&memory), 2);
    let (one, two) = (semaphore.acquire(1).await.unwrap(), semaphore.acquire(1).await.unwrap());
    let (watch_one, watch_two) = (one.handle(), two.handle());
    one.release().await.unwrap();
    drop(two);
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, watch_one.lost()).await.is_err());
    assert!(timeout(hour, watch_two.lost()).await.is_err());
    assert!(!watch_one.is_lost() && !watch_two.is_lost());
}

// Behaviour 23
#[tokio::test]
async fn lost_tells_the_reason_to_all_who_ask_early_or_late() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (near, far) = (connect(server.url()).await, connect(proxy.url()).await);
    let name = |client: &Client, name: &str| client.semaphore(name, 1).lease(LEASE);
    let manual = name(&near, "manual").renew(Renew::Manual).build().unwrap();
    let expired = manual.acquire(1).await.unwrap();
    let kicking = name(&near, "kicked").build().unwrap();
    let kicked = kicking.acquire(1).await.unwrap();
    let forgotten = name(&near, "forgotten").build().unwrap().acquire(1).await.unwrap();
    let unprovable = name(&far, "unprovable").build().unwrap().acquire(1).await.unwrap();

    assert_eq!(kicking.kick(kicked.id()).await.unwrap(), KickOutcome::Marked);
    server.cmd(&["DEL", "zsem:{forgotten}:permits"]).await;
    proxy.black_hole();
    for (permit, reason) in [
        (expired, LostReason::Expired),
        (kicked, LostReason::Kicked),
        (forgotten, LostReason::MissingInStore),
        (unprovable, LostReason::RenewalTimeout),
    ] {
        let watch = permit.handle();
        let (here, there) =
            within(PATIENCE, async { tokio::join!(permit.lost(), watch.lost()) }).await;
        assert_eq!((here, there), (reason, reason));
        assert!(permit.is_lost() && watch.is_lost());
        assert_eq!(permit.lost().now_or_never(), Some(reason), "who asks late is told at once");
        assert_eq!(permit.run(std::future::pending::<()>()).await, Err(reason));
        drop(permit);
        assert_eq!(watch.lost().now_or_never(), Some(reason), "also once the permit is gone");
    }
}

// Behaviours 27, 57
#[tokio::test]
async fn a_kick_ends_that_permit_for_good_and_no_other() {
    for place in Place::each().await {
        let (client, operator) = (place.client(), place.client());
        let (semaphore, control) = (semaphore(&client, 3), semaphore(&operator, 3));
        let kicked = semaphore.acquire(1).await.unwrap();
        let others = [semaphore.acquire(1).await.unwrap(), semaphore.acquire(1).await.unwrap()];
        let waiting = tokio::spawn(control.acquire(1));
        eventually_found("one waits", &control, |f| f.waiters_total == 1).await;

        assert_eq!(control.kick(kicked.id()).await.unwrap(), KickOutcome::Marked);
        assert_eq!(within(PATIENCE, kicked.lost()).await, LostReason::Kicked);
        // Its units are in use until the holder gives it back: the next one need not wait for the lease then.
        let found = control.inspect().await.unwrap();
        assert!(found.holders.iter().any(|holder| holder.id == kicked.id() && holder.kicked));
        assert_eq!((found.in_use, found.waiters_total), (3, 1));
        let id = kicked.id();
        assert_eq!(kicked.release().await.unwrap(), Released::Freed);
        let next = within(PATIENCE, waiting).await.unwrap().unwrap();
        for permit in others.iter().chain([&next]) {
            stays_held(permit).await;
        }
        let found = control.inspect().await.unwrap();
        assert!(found.holders.iter().all(|holder| holder.id != id && !holder.kicked));
        assert_eq!(control.kick(id).await.unwrap(), KickOutcome::NotHeld);
        assert_eq!(control.inspect().await.unwrap().in_use, 3);
    }
}

/// How a holder gives back a permit that was kicked.
type GiveBack = fn(Permit);

// Behaviour 57
#[tokio::test]
async fn a_kicked_permit_is_free_when_it_is_dropped_and_not_before() {
    let by_drop: GiveBack = drop;
    let by_handle: GiveBack = |permit| {
        let handle = permit.handle();
        tokio::spawn(async move {
            assert_eq!(handle.release().await.unwrap(), Released::Freed);
            assert_eq!(handle.release().await.unwrap(), Released::AlreadyGone);
            assert_eq!(permit.release().await.unwrap(), Released::AlreadyGone);
        });
    };
    for give_back in [by_drop, by_handle] {
        for place in Place::each().await {
            let (client, operator) = (place.client(), place.client());
            let (semaphore, control) = (semaphore(&client, 1), semaphore(&operator, 1));
            let permit = semaphore.acquire(1).await.unwrap();
            control.kick(permit.id()).await.unwrap();
            assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::Kicked);
            assert!(control.try_acquire(1).await.is_err(), "its holder may be at work");
            give_back(permit);
            eventually_found("it is given back", &control, |found| found.in_use == 0).await;
        }
    }
}

// Behaviours 27, 57
#[tokio::test]
async fn a_kicked_permit_that_nobody_gives_back_is_free_when_its_lease_ends() {
    for place in Place::each().await {
        let (client, operator) = (place.client(), place.client());
        let (semaphore, control) = (semaphore(&client, 2), semaphore(&operator, 2));
        let (kicked, other) =
            (semaphore.acquire(1).await.unwrap(), semaphore.acquire(1).await.unwrap());
        control.kick(kicked.id()).await.unwrap();
        assert_eq!(within(PATIENCE, kicked.lost()).await, LostReason::Kicked);
        let start = Instant::now();
        let next = within(PATIENCE, control.acquire(1)).await.unwrap();
        assert!(start.elapsed() < LEASE + Duration::from_millis(500), "{:?}", start.elapsed());
        assert_eq!(kicked.lost().await, LostReason::Kicked, "the reason does not change");
        stays_held(&other).await;
        assert_eq!(kicked.release().await.unwrap(), Released::AlreadyGone);
        drop(next);
    }
}

// Behaviour 57
#[tokio::test(start_paused = true)]
async fn a_kicked_permit_that_its_future_has_not_handed_out_is_given_back_with_the_future() {
    let memory = MemoryStore::new();
    let client = || Client::with_memory(&memory);
    let (holder, control) = (semaphore(&client(), 1), semaphore(&client(), 1));
    for polls_again in [false, true] {
        let held = holder.acquire(1).await.unwrap();
        let mut granted = Box::pin(semaphore(&client(), 1).acquire(1));
        assert!((&mut granted).now_or_never().is_none());
        eventually_found("it waits", &control, |found| found.waiters_total == 1).await;
        held.release().await.unwrap();
        let unseen = control.inspect().await.unwrap().holders[0].id;
        control.kick(unseen).await.unwrap();
        sleep(LEASE / 2).await; // its client has learnt of the kick from a renewal
        if polls_again {
            let next = timeout(LEASE / 4, granted).await.expect("no room").unwrap();
            assert_ne!(next.id(), unseen);
        } else {
            drop(granted);
        }
        let free = timeout(LEASE / 4, control.acquire(1)).await.expect("nobody has given it back");
        free.unwrap().release().await.unwrap();
    }
}

// Behaviours 21, 57
#[tokio::test]
async fn a_kicked_permit_is_not_put_back_after_a_loss_of_data_and_holds_up_nobody() {
    let server = RedisServer::start().await;
    let (client, operator) = (connect(server.url()).await, connect(server.url()).await);
    let (semaphore, control) = (semaphore(&client, 2), semaphore(&operator, 2));
    let (kicked, other) =
        (semaphore.acquire(1).await.unwrap(), semaphore.acquire(1).await.unwrap());
    control.kick(kicked.id()).await.unwrap();
    assert_eq!(within(PATIENCE, kicked.lost()).await, LostReason::Kicked);
    server.cmd(&["FLUSHALL"]).await;
    // A waiter of the client that still has the kicked permit.
    let next = within(LEASE, semaphore.acquire(1)).await.unwrap();
    stays_held(&other).await;
    let found = control.inspect().await.unwrap();
    assert!(found.in_use == 2 && found.holders.iter().all(|holder| holder.id != kicked.id()));
    drop((kicked, next));
}

// Behaviours 27, 57
#[tokio::test]
async fn a_kicked_holder_that_is_cut_off_is_not_renewed_when_it_is_back() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = connect(proxy.url()).await;
    let lease = Duration::from_secs(4);
    let build = |client: &Client| client.semaphore("s", 1).lease(lease).build().unwrap();
    let permit = build(&client).acquire(1).await.unwrap();
    let operator = build(&connect(server.url()).await);
    proxy.black_hole();
    assert_eq!(operator.kick(permit.id()).await.unwrap(), KickOutcome::Marked);
    let before: f64 = server.query(&["ZSCORE", "zsem:{s}:permits", &permit.id().to_string()]).await;
    // Its next renewal is in the hole by now, and goes on from there.
    proxy.wait_for("a renewal", |t| t.requests_received > t.requests_forwarded).await;
    assert!(!permit.is_lost(), "it cannot know");
    assert_eq!(operator.inspect().await.unwrap().in_use, 1, "the unit is not free before");
    let after: f64 = server.query(&["ZSCORE", "zsem:{s}:permits", &permit.id().to_string()]).await;
    assert_eq!(before, after);
    proxy.pass();
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::Kicked);
    drop(permit);
    eventually_found("it is handed back", &operator, |f| f.in_use == 0).await;
}

// Behaviour 27
#[tokio::test]
async fn a_renewal_never_resurrects_what_was_kicked_at_once_and_granted_to_another() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = connect(proxy.url()).await;
    let operator = connect(server.url()).await;
    let control = semaphore(&operator, 1);
    let permit = semaphore(&client, 1).acquire(1).await.unwrap();
    proxy.black_hole();
    assert_eq!(control.kick_now(permit.id()).await.unwrap(), KickOutcome::Removed);
    let next = control.try_acquire(1).await.unwrap();
    assert!(next.fencing_token() > permit.fencing_token());
    proxy.pass();
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::MissingInStore);
    // Not even where there is room again: under the same incarnation it was ended for good.
    next.release().await.unwrap();
    sleep(LEASE * 2).await;
    assert_eq!(control.inspect().await.unwrap().in_use, 0);
}

// Behaviour 57
#[tokio::test]
async fn a_waiter_that_was_granted_unheard_and_kicked_is_not_granted_when_it_asks_again() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let far = connect(proxy.url()).await;
    let near = connect(server.url()).await;
    let build = |client: &Client| client.semaphore("s", 1).build().unwrap();
    let (holding, waiting) = (build(&near), build(&far));
    let permit = holding.acquire(1).await.unwrap();
    let waiting = tokio::spawn(waiting.acquire(1));
    eventually_found("one waits", &holding, |f| f.waiters_total == 1).await;
    proxy.refuse(true);
    proxy.cut();
    permit.release().await.unwrap();
    let granted = holding.inspect().await.unwrap().holders[0].id;
    assert_eq!(granted.client(), far.id());
    assert_eq!(holding.kick(granted).await.unwrap(), KickOutcome::Marked);
    proxy.refuse(false);
    let end = within(PATIENCE, waiting).await.unwrap();
    assert!(matches!(end, Err(AcquireError::Kicked)), "{end:?}");
    eventually_found("its claim is gone", &holding, |f| f.in_use + f.waiters_total == 0).await;
}
