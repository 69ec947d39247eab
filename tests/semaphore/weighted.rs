//! Permits of several units: all or nothing, never starved, and counted right whatever ends them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::inspect::{emptied, granted, queue};
use crate::common::stores::Place;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use zset_semaphore::{
    AcquireError, Client, ExtendError, LostReason, Released, Renew, TryAcquireError, ZSetSemaphore,
};

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("weights", limit).build().unwrap()
}

async fn in_use(semaphore: &ZSetSemaphore) -> u64 {
    semaphore.inspect().await.unwrap().in_use
}

// Behaviour 10
#[tokio::test]
async fn an_acquire_of_many_is_all_or_nothing_and_holds_nothing_while_it_waits() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 4), semaphore(&place.client(), 4));
        let mut singles = Vec::new();
        for _ in 0..3 {
            singles.push(there.acquire(1).await.unwrap());
        }
        let heavy = queue(&here, here.acquire(4)).await;
        for left in (0..3).rev() {
            let books = here.inspect().await.unwrap();
            assert_eq!((books.in_use, books.holders_total), (left + 1, left + 1));
            assert_eq!((books.waiters_total, books.waiters[0].units), (1, 4));
            assert!(!heavy.is_finished());
            singles.pop().unwrap().release().await.unwrap();
        }
        let heavy = granted(heavy).await;
        let books = here.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total, books.holders[0].units), (4, 1, 4));
        assert_eq!(heavy.release().await.unwrap(), Released::Freed);
        assert_eq!(in_use(&here).await, 0);
    }
}

// Behaviour 11
#[tokio::test]
async fn two_tasks_that_take_two_of_two_in_turn_both_succeed_every_time() {
    for place in Place::each().await {
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore(&place.client(), 2);
                tokio::spawn(async move {
                    for _ in 0..100 {
                        let permit = semaphore.acquire(2).await.unwrap();
                        assert_eq!(in_use(&semaphore).await, 2);
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            within(PATIENCE * 2, task).await.unwrap();
        }
        emptied(&semaphore(&place.client(), 2)).await;
    }
}

// Behaviour 11
#[tokio::test]
async fn a_waiter_for_two_is_woken_when_the_second_of_two_single_units_comes_back() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 2), semaphore(&place.client(), 2));
        let (first, second) = (there.acquire(1).await.unwrap(), there.acquire(1).await.unwrap());
        let pair = queue(&here, here.acquire(2)).await;
        first.release().await.unwrap();
        assert_eq!(in_use(&here).await, 1, "the one free unit is kept for nobody");
        assert!(!pair.is_finished());
        second.release().await.unwrap();
        // The turn that released it granted it.
        assert_eq!((in_use(&here).await, there.inspect().await.unwrap().waiters_total), (2, 0));
        drop(granted(pair).await);
    }
}

// Behaviour 12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_acquire_is_not_starved_by_a_stream_of_ones() {
    starvation_test(8, 5, 24).await;
}

// Behaviour 53
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_of_eight_get_their_turn_against_32_tasks_that_take_singles() {
    starvation_test(8, 8, 32).await;
}

async fn starvation_test(limit: u32, large: u32, singles: usize) {
    for place in Place::each().await {
        let stop = Arc::new(AtomicBool::new(false));
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let stream: Vec<_> = (0..singles)
            .map(|_| {
                let semaphore = semaphore(&place.client(), limit);
                let (stop, tokens) = (Arc::clone(&stop), Arc::clone(&tokens));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let permit = semaphore.acquire(1).await.unwrap();
                        tokens.lock().unwrap().push(permit.fencing_token());
                        tokio::time::sleep(ms(1)).await;
                        drop(permit);
                    }
                })
            })
            .collect();
        let heavy = semaphore(&place.client(), limit);
        eventually("the stream flows and is held up by the limit", PATIENCE, async || {
            let queued = heavy.inspect().await.unwrap().waiters_total;
            queued > 0 && tokens.lock().unwrap().len() > 2 * singles
        })
        .await;
        for _ in 0..10 {
            let waiting = tokio::spawn(heavy.acquire(large));
            eventually("it stands in the queue, or is through", PATIENCE, async || {
                let books = heavy.inspect().await.unwrap();
                waiting.is_finished() || books.waiters.iter().any(|waiter| waiter.units == large)
            })
            .await;
            let queued_by = tokens.lock().unwrap().iter().copied().max().unwrap();
            let permit = granted(waiting).await;
            let between = queued_by + 1..permit.fencing_token();
            drop(permit);
            let passed = tokens.lock().unwrap().iter().filter(|t| between.contains(t)).count();
            // Per task one that stood before it, and one whose grant was not noted yet.
            assert!(passed <= 2 * singles, "{passed} grants to singles came before it");
        }
        stop.store(true, Ordering::Relaxed);
        for task in stream {
            within(PATIENCE, task).await.unwrap();
        }
        emptied(&heavy).await;
    }
}

// Behaviour 12
#[tokio::test]
async fn more_than_the_limit_and_zero_are_typed_errors_at_once() {
    for place in Place::each().await {
        let three = semaphore(&place.client(), 3);
        let error = within(PATIENCE, three.acquire(4)).await.unwrap_err();
        assert!(matches!(error, AcquireError::TooLarge { units: 4, limit: 3 }), "{error:?}");
        let error = three.try_acquire(u32::MAX).await.unwrap_err();
        let units = u32::MAX;
        assert!(matches!(error, TryAcquireError::TooLarge { units: u, limit: 3 } if u == units));
        assert!(matches!(three.acquire(0).await, Err(AcquireError::ZeroUnits)));
        assert!(matches!(three.try_acquire(0).await, Err(TryAcquireError::ZeroUnits)));
        assert_eq!(three.inspect().await.unwrap().waiters_total, 0);
    }
}

// Behaviour 12
#[tokio::test]
async fn an_override_is_what_an_acquire_is_measured_against_at_once() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 3), semaphore(&place.client(), 3));
        here.set_limit(6).await.unwrap();
        let six = within(PATIENCE, here.acquire(6)).await.unwrap();
        six.release().await.unwrap();
        // Also by a client that has not spoken since.
        let six = within(PATIENCE, there.acquire(6)).await.unwrap();
        six.release().await.unwrap();
        here.set_limit(2).await.unwrap();
        for semaphore in [&here, &there] {
            let error = within(PATIENCE, semaphore.acquire(3)).await.unwrap_err();
            assert!(matches!(error, AcquireError::TooLarge { units: 3, limit: 2 }), "{error:?}");
        }
        drop(within(PATIENCE, there.acquire(2)).await.unwrap());
    }
}

// Behaviour 12
#[tokio::test]
async fn when_the_limit_sinks_below_a_waiting_n_it_is_told_and_the_rest_move_on() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 5), semaphore(&place.client(), 5));
        let held = here.acquire(2).await.unwrap();
        let large_here = queue(&here, here.acquire(5)).await;
        let large_there = queue(&here, there.acquire(4)).await;
        let small_here = queue(&here, here.acquire(1)).await;
        let small_there = queue(&here, there.acquire(1)).await;
        // A pause turns nobody away.
        here.set_limit(0).await.unwrap();
        assert!(there.try_acquire(1).await.is_err());
        assert_eq!(here.inspect().await.unwrap().waiters_total, 4);
        assert!(!large_here.is_finished() && !large_there.is_finished());
        // A limit of 3 does; 2 of it are held, so one of the small ones fits.
        here.set_limit(3).await.unwrap();
        let error = within(PATIENCE, large_here).await.unwrap().unwrap_err();
        assert!(matches!(error, AcquireError::TooLarge { units: 5, limit: 3 }), "{error:?}");
        let error = within(PATIENCE, large_there).await.unwrap().unwrap_err();
        assert!(matches!(error, AcquireError::TooLarge { units: 4, limit: 3 }), "{error:?}");
        let small_here = granted(small_here).await;
        assert!(!small_there.is_finished());
        drop(held);
        let small_there = granted(small_there).await;
        drop((small_here, small_there));
        emptied(&here).await;
    }
}

// Behaviour 13
#[tokio::test]
async fn units_in_use_are_right_when_heavy_permits_expire() {
    for place in Place::each().await {
        let fixed = |lease| {
            let builder = place.client().semaphore("weights", 20).lease(lease);
            builder.renew(Renew::Manual).build().unwrap()
        };
        let (short, long) = (fixed(ms(600)), fixed(Duration::from_secs(60)));
        let kept = long.acquire(6).await.unwrap();
        let single = short.acquire(1).await.unwrap();
        let heavy = [short.acquire(5).await.unwrap(), short.acquire(8).await.unwrap()];
        assert_eq!(in_use(&long).await, 20);
        for permit in &heavy {
            assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::Expired);
        }
        assert_eq!(within(PATIENCE, single.lost()).await, LostReason::Expired);
        // 14 units came back, not one more and not one less.
        let rest = within(PATIENCE, long.acquire(14)).await.unwrap();
        assert_eq!(in_use(&long).await, 20);
        assert!(matches!(long.try_acquire(1).await, Err(TryAcquireError::Full { in_use: 20, .. })));
        for permit in heavy {
            assert_eq!(permit.release().await.unwrap(), Released::AlreadyGone);
        }
        drop(single);
        rest.release().await.unwrap();
        assert_eq!(in_use(&long).await, 6);
        kept.release().await.unwrap();
        assert_eq!(in_use(&long).await, 0);
    }
}

// Behaviour 13
#[tokio::test]
async fn units_in_use_are_right_when_heavy_permits_are_renewed() {
    for place in Place::each().await {
        let client = place.client();
        let builder = client.semaphore("weights", 10).lease(ms(800));
        let renewed = builder.clone().build().unwrap();
        let pushed = builder.renew(Renew::Manual).build().unwrap();
        let (a, b) = (renewed.acquire(4).await.unwrap(), pushed.acquire(3).await.unwrap());
        b.extend(Duration::from_secs(60)).await.unwrap();
        let until = tokio::time::Instant::now() + ms(2_000);
        while tokio::time::Instant::now() < until {
            assert_eq!(in_use(&renewed).await, 7);
            b.extend(Duration::from_secs(60)).await.unwrap();
        }
        assert!(!a.is_lost() && !b.is_lost());
        let full = renewed.try_acquire(4).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 7, .. }), "{full:?}");
        let watch = b.handle();
        b.release().await.unwrap();
        assert_eq!(in_use(&renewed).await, 4);
        assert_eq!(watch.release().await.unwrap(), Released::AlreadyGone);
        let c = renewed.try_acquire(6).await.unwrap();
        drop((a, c));
        emptied(&renewed).await;
    }
}

// Behaviour 13
#[tokio::test]
async fn units_in_use_are_right_when_heavy_permits_are_released_twice() {
    for place in Place::each().await {
        let ten = semaphore(&place.client(), 10);
        let (a, b) = (ten.acquire(7).await.unwrap(), ten.acquire(2).await.unwrap());
        let watches = [a.handle(), a.handle()];
        let (first, second) = tokio::join!(watches[0].release(), watches[1].release());
        let mut said = [first.unwrap(), second.unwrap()];
        said.sort_by_key(|released| *released == Released::AlreadyGone);
        assert_eq!(said, [Released::Freed, Released::AlreadyGone]);
        assert_eq!(a.release().await.unwrap(), Released::AlreadyGone);
        assert_eq!(in_use(&ten).await, 2);
        // Capacity is as it was: 8 more and no 9.
        assert!(ten.try_acquire(9).await.is_err());
        let c = ten.try_acquire(8).await.unwrap();
        let released = c.handle();
        c.release().await.unwrap();
        assert!(!released.is_lost());
        assert_eq!(in_use(&ten).await, 2);
        drop(b);
        emptied(&ten).await;
    }
}

// Behaviour 13
#[tokio::test]
async fn units_in_use_are_recounted_when_only_the_books_about_them_are_lost() {
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let ten = semaphore(&client, 10);
    let (a, b) = (ten.acquire(4).await.unwrap(), ten.acquire(3).await.unwrap());
    server.cmd(&["DEL", "zsem:{weights}:meta"]).await;
    let full = ten.try_acquire(4).await.unwrap_err();
    assert!(matches!(full, TryAcquireError::Full { in_use: 7, .. }), "{full:?}");
    a.release().await.unwrap();
    assert_eq!(in_use(&ten).await, 3);
    assert!(!b.is_lost());
    assert!(!matches!(b.extend(ms(30_000)).await, Err(ExtendError::Lost(_))));
    drop(b);
    emptied(&ten).await;
}
