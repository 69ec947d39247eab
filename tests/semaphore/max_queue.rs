//! Turned away where too many wait already, in the whole cluster.

use crate::common::stores::Place;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{AcquireError, Client, TryAcquireError, ZSetSemaphore};

fn bounded(client: &Client, max_queue: u32) -> ZSetSemaphore {
    client.semaphore("bounded", 1).max_queue(max_queue).build().unwrap()
}

async fn turned_away(semaphore: &ZSetSemaphore) -> (u64, u32) {
    match within(PATIENCE, semaphore.acquire(1)).await {
        Err(AcquireError::QueueFull { waiting, max_queue }) => (waiting, max_queue),
        other => panic!("not turned away: {other:?}"),
    }
}

async fn until_waiting(semaphore: &ZSetSemaphore, waiters: u64) {
    eventually("so many wait", PATIENCE, async || {
        semaphore.inspect().await.unwrap().waiters_total == waiters
    })
    .await;
}

#[tokio::test]
async fn who_finds_the_queue_full_is_told_how_many_wait_and_leaves_nothing() {
    for place in Place::each().await {
        // Those who wait are counted wherever they wait.
        let (here, there) = (bounded(&place.client(), 2), bounded(&place.client(), 2));
        let held = here.acquire(1).await.unwrap();
        let mut queued = Vec::new();
        for (number, semaphore) in [(1, &here), (2, &there)] {
            queued.push(tokio::spawn(semaphore.acquire(1)));
            until_waiting(&here, number).await;
        }
        for semaphore in [&here, &there, &here] {
            assert_eq!(turned_away(semaphore).await, (2, 2));
        }
        let books = here.inspect().await.unwrap();
        assert_eq!((books.in_use, books.waiters_total), (1, 2));

        held.release().await.unwrap();
        let second = within(PATIENCE, queued.remove(0)).await.unwrap().unwrap();
        // One place is free again.
        let third = tokio::spawn(here.acquire(1));
        until_waiting(&here, 2).await;
        assert_eq!(turned_away(&there).await, (2, 2));
        drop(second);
        drop(within(PATIENCE, queued.remove(0)).await.unwrap().unwrap());
        drop(within(PATIENCE, third).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn with_a_bound_of_zero_nobody_waits_but_all_who_fit_are_let_in() {
    for place in Place::each().await {
        let semaphore = bounded(&place.client(), 0);
        for _ in 0..3 {
            let held = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
            assert_eq!(turned_away(&semaphore).await, (0, 0));
            held.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_bound_is_that_of_the_handle_and_not_for_tries() {
    for place in Place::each().await {
        let client = place.client();
        let (strict, patient) = (bounded(&client, 1), bounded(&client, 3));
        let held = strict.acquire(1).await.unwrap();
        let first = tokio::spawn(strict.acquire(1));
        until_waiting(&strict, 1).await;
        assert_eq!(turned_away(&strict).await, (1, 1));
        let second = tokio::spawn(patient.acquire(1));
        until_waiting(&strict, 2).await;
        assert_eq!(turned_away(&strict).await, (2, 1));
        let tried = within(PATIENCE, strict.try_acquire(1)).await;
        assert!(matches!(tried, Err(TryAcquireError::Full { waiting: 2, .. })), "{tried:?}");
        held.release().await.unwrap();
        for waiter in [first, second] {
            within(PATIENCE, waiter).await.unwrap().unwrap().release().await.unwrap();
        }
    }
}
