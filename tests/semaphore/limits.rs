//! Limits that change under those who hold and wait.

use std::collections::HashSet;
use std::time::Duration;

use crate::common::stores::Place;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{AcquireError, Client, MemoryStore, Permit, TryAcquireError, ZSetSemaphore};

async fn waiting(semaphore: &ZSetSemaphore, count: u64) {
    eventually(&format!("{count} wait"), PATIENCE * 3, async || {
        semaphore.inspect().await.is_ok_and(|books| books.waiters_total == count)
    })
    .await;
}

async fn in_use(semaphore: &ZSetSemaphore, units: u64) {
    eventually(&format!("{units} are in use"), PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|books| books.in_use == units)
    })
    .await;
}

// Behaviour 37
#[tokio::test]
async fn a_raise_from_nothing_serves_ten_thousand_waiters() {
    const CROWD: u32 = 10_000;
    for place in Place::each().await {
        let waiters = place.client().semaphore("jobs", 0).build().unwrap();
        let operator = place.client().semaphore("jobs", 0).build().unwrap();
        let crowd: FuturesUnordered<_> = (0..CROWD).map(|_| waiters.acquire(1)).collect();
        let crowd = tokio::spawn(crowd.map(Result::unwrap).collect::<Vec<Permit>>());
        waiting(&operator, u64::from(CROWD)).await;
        assert_eq!(operator.inspect().await.unwrap().in_use, 0);

        operator.set_limit(CROWD).await.unwrap();
        let served = within(PATIENCE * 3, crowd).await.unwrap();
        let books = operator.inspect().await.unwrap();
        assert!(books.in_use <= u64::from(CROWD) && books.waiters_total == 0, "{books:?}");
        let tokens: HashSet<u64> = served.iter().map(Permit::fencing_token).collect();
        assert_eq!(tokens.len(), CROWD as usize);
        drop(served);
        in_use(&operator, 0).await;
    }
}

// Behaviour 37
#[tokio::test]
async fn a_raise_wakes_just_those_who_now_fit() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 1).build().unwrap();
        let operator = place.client().semaphore("jobs", 1).build().unwrap();
        let _first = jobs.acquire(1).await.unwrap();
        let mut waiters: Vec<_> = (0..5).map(|_| tokio::spawn(jobs.acquire(1))).collect();
        waiting(&operator, 5).await;
        operator.set_limit(4).await.unwrap();
        let rest = waiters.split_off(3);
        let mut permits = Vec::new();
        for waiter in waiters {
            permits.push(within(PATIENCE, waiter).await.unwrap().unwrap());
        }
        let books = operator.inspect().await.unwrap();
        assert_eq!((books.in_use, books.waiters_total), (4, 2));
        assert!(rest.iter().all(|waiter| !waiter.is_finished()));
    }
}

// Behaviour 37
#[tokio::test]
async fn a_cut_below_what_is_in_use_takes_nothing_and_admits_nobody_until_drained() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 8).build().unwrap();
        let other = place.client().semaphore("jobs", 8).build().unwrap();
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(jobs.acquire(1).await.unwrap());
        }
        other.set_limit(2).await.unwrap();
        let books = other.inspect().await.unwrap();
        assert_eq!((books.in_use, books.limit, books.limit_override), (5, 2, Some(2)));
        let full = other.try_acquire(1).await.unwrap_err();
        assert!(
            matches!(full, TryAcquireError::Full { in_use: 5, limit: 2, waiting: 0 }),
            "{full:?}"
        );

        let waiter = tokio::spawn(other.acquire(1));
        waiting(&jobs, 1).await;
        for left in (2..5).rev() {
            held.pop().unwrap().release().await.unwrap();
            let books = jobs.inspect().await.unwrap();
            assert_eq!((books.in_use, books.waiters_total), (left, 1), "no room yet");
        }
        assert!(held.iter().all(|permit| !permit.is_lost()));
        held.pop().unwrap().release().await.unwrap();
        let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
        assert_eq!(jobs.inspect().await.unwrap().in_use, 2);
        drop(permit);
    }
}

// Behaviour 37
#[tokio::test]
async fn a_waiter_for_more_than_a_lowered_limit_is_told_and_the_rest_move_on() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 8).build().unwrap();
        let operator = place.client().semaphore("jobs", 8).build().unwrap();
        let held = jobs.acquire(8).await.unwrap();
        let heavy = tokio::spawn(jobs.acquire(6));
        waiting(&operator, 1).await;
        let light = tokio::spawn(jobs.acquire(2));
        waiting(&operator, 2).await;

        operator.set_limit(0).await.unwrap();
        held.release().await.unwrap();
        in_use(&operator, 0).await;
        let books = operator.inspect().await.unwrap();
        assert_eq!(books.waiters_total, 2, "a pause turns nobody away");

        operator.set_limit(2).await.unwrap();
        match within(PATIENCE, heavy).await.unwrap() {
            Err(AcquireError::TooLarge { units: 6, limit: 2 }) => {}
            other => panic!("expected TooLarge, got {other:?}"),
        }
        within(PATIENCE, light).await.unwrap().unwrap().release().await.unwrap();
    }
}

// Behaviour 58
#[tokio::test]
async fn an_override_survives_idling_and_a_pause_does_not_end_by_itself() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 8).build().unwrap();
        jobs.acquire(1).await.unwrap().release().await.unwrap();
        jobs.set_limit(3).await.unwrap();
        jobs.acquire(1).await.unwrap().release().await.unwrap();
        idle_for_long(&place).await;
        let books = jobs.inspect().await.unwrap();
        assert_eq!((books.limit, books.limit_override), (3, Some(3)));

        jobs.set_limit(0).await.unwrap();
        idle_for_long(&place).await;
        let newcomer = place.client().semaphore("jobs", 8).build().unwrap();
        let full = newcomer.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 0, limit: 0, .. }), "{full:?}");
        let waiter = tokio::spawn(newcomer.acquire(1));
        waiting(&jobs, 1).await;
        idle_for_long(&place).await; // its place is lost, and it comes back
        waiting(&jobs, 1).await;

        jobs.clear_limit().await.unwrap();
        within(PATIENCE, waiter).await.unwrap().unwrap().release().await.unwrap();
        assert_eq!(jobs.inspect().await.unwrap().limit_override, None);
        if let Place::Redis(server) = &place {
            let ttl: i64 = server.query(&["PTTL", "zsem:{jobs}:meta"]).await;
            assert!(ttl > 0, "without an override it must end by itself; PTTL {ttl}");
        }
    }
}

/// All that can end by time, ends.
async fn idle_for_long(place: &Place) {
    match place {
        Place::Redis(server) => {
            for key in server.keys().await {
                let ttl: i64 = server.query(&["PTTL", &key]).await;
                if ttl >= 0 {
                    server.cmd(&["DEL", &key]).await;
                }
            }
        }
        // Here time is another test's: see below.
        Place::Memory(_) => {}
    }
}

// Behaviour 58
#[tokio::test(start_paused = true)]
async fn a_pause_outlives_a_year_without_anybody() {
    let memory = MemoryStore::new();
    let jobs = || Client::with_memory(&memory).semaphore("jobs", 8).build().unwrap();
    jobs().set_limit(0).await.unwrap();
    tokio::time::advance(Duration::from_secs(365 * 24 * 3600)).await;
    assert_eq!(jobs().inspect().await.unwrap().limit_override, Some(0));
    let hours = Duration::from_secs(5 * 3600);
    let waited = jobs().acquire(1).timeout(hours).await.unwrap_err();
    assert!(matches!(waited, AcquireError::Timeout { waited, .. } if waited >= hours));
    jobs().clear_limit().await.unwrap();
    jobs().acquire(1).await.unwrap().release().await.unwrap();
}

// Behaviour 38
#[tokio::test]
async fn while_callers_disagree_the_highest_limit_is_the_cap() {
    for place in Place::each().await {
        let low = place.client().semaphore("jobs", 2).build().unwrap();
        let high = place.client().semaphore("jobs", 5).build().unwrap();
        let mut held = vec![low.acquire(1).await.unwrap(), high.acquire(1).await.unwrap()];
        let full = low.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 2, limit: 2, .. }), "{full:?}");
        for _ in 0..3 {
            held.push(high.try_acquire(1).await.unwrap());
        }
        let full = high.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 5, limit: 5, .. }), "{full:?}");

        // A waiter of the low one is served by the turns of the high one, up to the high limit.
        let waiter = tokio::spawn(low.acquire(1));
        waiting(&high, 1).await;
        held.pop().unwrap().release().await.unwrap();
        held.push(within(PATIENCE, waiter).await.unwrap().unwrap());
        assert_eq!(high.inspect().await.unwrap().in_use, 5);

        // An override ends the disagreement.
        low.set_limit(1).await.unwrap();
        for semaphore in [&low, &high] {
            let full = semaphore.try_acquire(1).await.unwrap_err();
            assert!(matches!(full, TryAcquireError::Full { limit: 1, .. }), "{full:?}");
        }
    }
}

// Behaviour 38
#[tokio::test]
async fn two_handles_of_one_client_go_by_the_higher_limit_while_both_live() {
    for place in Place::each().await {
        let client = place.client();
        let low = client.semaphore("jobs", 1).build().unwrap();
        let high = client.semaphore("jobs", 2).build().unwrap();
        let held = [low.acquire(1).await.unwrap(), low.try_acquire(1).await.unwrap()];
        drop(high);
        let full = low.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 2, limit: 1, .. }), "{full:?}");
        drop(held);
    }
}

#[tokio::test]
async fn a_handle_that_is_gone_leaves_its_limit_to_nobody() {
    for place in Place::each().await {
        let client = place.client();
        let high = client.semaphore("jobs", 2).build().unwrap();
        let held = high.acquire(1).await.unwrap();
        drop(high);
        let low = client.semaphore("jobs", 1).build().unwrap();
        let full = low.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 1, limit: 1, .. }), "{full:?}");
        drop(held);
    }
}

#[tokio::test]
async fn a_declared_limit_is_that_of_the_handle_and_serves_the_waiters_of_all_clients() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 1).build().unwrap();
        let other = place.client().semaphore("jobs", 1).build().unwrap();
        let held = jobs.acquire(1).await.unwrap();
        let waiter = tokio::spawn(other.acquire(1));
        waiting(&jobs, 1).await;

        jobs.clone().declare(2);
        assert_eq!(jobs.limit(), 2);
        let served = within(PATIENCE, waiter).await.unwrap().unwrap();
        let books = other.inspect().await.unwrap();
        assert_eq!((books.limit, books.declared_limit, books.in_use), (2, Some(2), 2));

        // A lower one takes nothing, and counts once enough have left.
        other.declare(1);
        jobs.declare(1);
        eventually("the store knows the lower limit", PATIENCE, async || {
            other.inspect().await.is_ok_and(|books| books.declared_limit == Some(1))
        })
        .await;
        assert!(!held.is_lost() && !served.is_lost());
        served.release().await.unwrap();
        let full = jobs.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 1, limit: 1, .. }), "{full:?}");
    }
}

#[tokio::test]
async fn a_limit_that_was_declared_before_the_first_call_needs_no_runtime_and_is_told_by_it() {
    for place in Place::each().await {
        let jobs = place.client().semaphore("jobs", 1).build().unwrap();
        let declared = jobs.clone();
        std::thread::spawn(move || declared.declare(3)).join().unwrap();
        let _held = jobs.acquire(3).await.unwrap();
        assert_eq!(jobs.inspect().await.unwrap().declared_limit, Some(3));
    }
}

#[tokio::test]
async fn a_handle_whose_limit_was_declared_leaves_that_limit_when_it_is_dropped() {
    for place in Place::each().await {
        let client = place.client();
        let (low, high) = (
            client.semaphore("jobs", 1).build().unwrap(),
            client.semaphore("jobs", 1).build().unwrap(),
        );
        high.declare(3);
        let held = low.acquire(2).await.unwrap();
        drop(high);
        let full = low.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 2, limit: 1, .. }), "{full:?}");
        drop(held);
        let large = low.acquire(2).await.unwrap_err();
        assert!(matches!(large, AcquireError::TooLarge { units: 2, limit: 1 }), "{large:?}");
    }
}

#[tokio::test]
async fn threads_that_declare_at_the_same_time_leave_one_limit_behind() {
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    std::thread::scope(|scope| {
        for limit in 1..=4 {
            let jobs = &jobs;
            scope.spawn(move || (0..1_000).for_each(|_| jobs.declare(limit)));
        }
    });
    jobs.declare(2);
    let _held = jobs.acquire(2).await.unwrap();
    let full = jobs.try_acquire(1).await.unwrap_err();
    assert!(matches!(full, TryAcquireError::Full { in_use: 2, limit: 2, .. }), "{full:?}");
}
