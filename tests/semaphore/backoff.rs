//! Asking at the pace of a backoff: a failed try is tried again, and is never taken for success.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::stores::Place;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::{
    AcquireError, Backoff, Client, MemoryStore, TryAcquireError, Wake, ZSetSemaphore,
};

fn polling(client: &Client, backoff: Backoff) -> ZSetSemaphore {
    client.semaphore("asked", 1).wake(Wake::Poll).backoff(backoff).build().unwrap()
}

/// A backoff that waits as long each time, and counts how often it was asked.
fn counting(wait: Duration) -> (Backoff, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let backoff = Backoff::from_fn(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Some(wait)
    });
    (backoff, count)
}

// Behaviour 47
#[tokio::test]
async fn failed_tries_are_retried_and_never_returned_as_success() {
    for place in Place::each().await {
        let (backoff, tries) = counting(ms(10));
        let holder = polling(&place.client(), Backoff::fixed(ms(10)));
        let asking = polling(&place.client(), backoff);
        let held = holder.acquire(1).await.unwrap();
        let waiting = tokio::spawn(asking.acquire(1));
        eventually("it asked several times", PATIENCE, async || tries.load(Ordering::SeqCst) > 5)
            .await;
        assert!(!waiting.is_finished(), "a failed try was returned");
        let books = holder.inspect().await.unwrap();
        assert_eq!((books.in_use, books.waiters_total), (1, 1), "a try is not a place more");
        assert_eq!(books.holders[0].id, held.id());
        let token = held.fencing_token();
        held.release().await.unwrap();
        let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
        // It really holds: the store says so, and nobody else gets in.
        assert!(permit.fencing_token() > token && !permit.is_lost());
        assert_eq!(holder.inspect().await.unwrap().holders[0].id, permit.id());
        assert!(matches!(holder.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    }
}

// Behaviour 47
#[tokio::test]
async fn when_the_tries_are_used_up_it_says_so_and_leaves_nothing() {
    for place in Place::each().await {
        let holder = polling(&place.client(), Backoff::default());
        let asking = polling(&place.client(), Backoff::fixed(ms(10)).tries(3));
        let held = holder.acquire(1).await.unwrap();
        let start = Instant::now();
        let error = within(PATIENCE, asking.acquire(1)).await.unwrap_err();
        let AcquireError::GaveUp { tries, waited } = error else { panic!("{error:?}") };
        assert_eq!(tries, 4, "one at once, and one after each of three waits");
        assert!(waited >= ms(30) && waited <= start.elapsed(), "{waited:?}");
        eventually("it left the queue", PATIENCE, async || {
            holder.inspect().await.unwrap().waiters_total == 0
        })
        .await;
        assert!(!held.is_lost());
        held.release().await.unwrap();
        drop(within(PATIENCE, asking.acquire(1)).await.unwrap());
    }
}

// Behaviour 47
#[tokio::test(start_paused = true)]
async fn each_waiter_asks_at_the_times_its_backoff_says() {
    let memory = MemoryStore::new();
    let holder = polling(&Client::with_memory(&memory), Backoff::default());
    let _held = holder.acquire(1).await.unwrap();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let start = Instant::now();
    let sequence = Backoff::from_fn(move |step| {
        noted.lock().unwrap().push(start.elapsed());
        Backoff::decay().nth(usize::try_from(step).unwrap())
    });
    let asking = polling(&Client::with_memory(&memory), sequence);
    let error = asking.acquire(1).timeout(ms(6_000)).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    let asked = asked.lock().unwrap();
    let mut expected = Duration::ZERO;
    for (at, wait) in asked.iter().zip(Backoff::decay()) {
        assert!(*at >= expected && *at <= expected + ms(20), "{asked:?}");
        expected += wait;
    }
    assert!(asked.len() >= 7 && expected > ms(6_000), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_starts_from_the_beginning_of_a_backoff_that_was_iterated() {
    let mut backoff = Backoff::linear(ms(10), ms(1_000), ms(60_000)).tries(3);
    assert_eq!(backoff.by_ref().take(2).collect::<Vec<_>>(), [ms(10), ms(1_010)]);
    let memory = MemoryStore::new();
    let _held = polling(&Client::with_memory(&memory), Backoff::default()).acquire(1).await;
    let asking = polling(&Client::with_memory(&memory), backoff.clone());
    for _ in 0..2 {
        let error = asking.acquire(1).await.unwrap_err();
        let AcquireError::GaveUp { tries, waited } = error else { panic!("{error:?}") };
        assert_eq!(tries, 4);
        let all = ms(10 + 1_010 + 2_010);
        assert!((all..all + ms(50)).contains(&waited), "{waited:?}");
    }
    // The iterator itself goes on where it was.
    assert_eq!(backoff.collect::<Vec<_>>(), [ms(2_010)]);
}
