//! The order of the queue: first come first served, within a client and across clients.

use std::collections::HashMap;
use std::task::{Context, Waker};

use crate::common::inspect::{emptied, granted, queue, queued};
use crate::common::stores::Place;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::task::JoinSet;
use zset_semaphore::{Client, Permit, PermitId, ZSetSemaphore};

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("door", limit).build().unwrap()
}

// Behaviour 35, invariant 4
#[tokio::test]
async fn waiters_are_served_first_come_first_served_across_clients() {
    for place in Place::each().await {
        let clients: Vec<_> = (0..5).map(|_| semaphore(&place.client(), 1)).collect();
        let mut held = clients[0].acquire(1).await.unwrap();
        let mut waiting = Vec::new();
        for turn in 0..30 {
            let client = &clients[turn * 7 % 5];
            waiting.push(queue(client, client.acquire(1)).await);
        }
        for next in waiting {
            assert!(!next.is_finished());
            drop(held);
            held = granted(next).await;
        }
        drop(held);
        emptied(&clients[0]).await;
    }
}

// Behaviour 35
#[tokio::test]
async fn waiters_of_one_client_that_came_at_once_are_served_in_the_order_of_their_first_poll() {
    for place in Place::each().await {
        let one = semaphore(&place.client(), 1);
        let mut held = one.acquire(1).await.unwrap();
        // More than go into one turn; nothing is awaited between the first polls.
        let mut waiting: Vec<_> = (0..300).map(|_| Box::pin(one.acquire(1))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for acquire in &mut waiting {
            assert!(acquire.as_mut().poll(&mut context).is_pending());
        }
        let mut last = held.fencing_token();
        for next in waiting {
            drop(held);
            held = within(PATIENCE, next).await.unwrap();
            assert!(held.fencing_token() > last);
            last = held.fencing_token();
        }
    }
}

// Behaviour 35
#[tokio::test]
async fn a_releaser_that_asks_again_at_once_goes_to_the_back() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 1), semaphore(&place.client(), 1));
        let held = here.acquire(1).await.unwrap();
        let second = queue(&there, there.acquire(1)).await;
        let third = queue(&here, here.acquire(1)).await;
        drop(held);
        let again = tokio::spawn(here.acquire(1));
        let second = granted(second).await;
        queued(&here, 2).await;
        drop(second);
        let third = granted(third).await;
        assert!(!again.is_finished());
        drop(third);
        drop(granted(again).await);
    }
}

// Invariant 4
#[tokio::test]
async fn every_grant_goes_to_the_lowest_ticket_then_in_the_queue() {
    let mut random = fastrand::Rng::with_seed(4);
    for place in Place::each().await {
        let clients: Vec<_> = (0..4).map(|_| semaphore(&place.client(), 3)).collect();
        let watch = &clients[0];
        let mut arrived: JoinSet<Permit> = JoinSet::new();
        let mut held: HashMap<PermitId, Permit> = HashMap::new();
        let mut aborts = HashMap::new();
        for step in 0..150 {
            let before = watch.inspect().await.unwrap();
            let queue: Vec<PermitId> = before.waiters.iter().map(|waiter| waiter.id).collect();
            match random.u8(0..10) {
                // Somebody comes, and stands last.
                0..4 if queue.len() < 12 => {
                    let client = clients[random.usize(0..4)].clone();
                    let units = random.u32(1..4);
                    let free = 3 - before.in_use;
                    let abort = arrived.spawn(async move { client.acquire(units).await.unwrap() });
                    if queue.is_empty() && u64::from(units) <= free {
                        let permit = within(PATIENCE, arrived.join_next()).await.unwrap().unwrap();
                        held.insert(permit.id(), permit);
                    } else {
                        queued(watch, queue.len() as u64 + 1).await;
                        let books = watch.inspect().await.unwrap();
                        let ids: Vec<_> = books.waiters.iter().map(|waiter| waiter.id).collect();
                        assert_eq!(ids[..queue.len()], queue, "step {step}: the order changed");
                        aborts.insert(ids[queue.len()], abort);
                    }
                    continue;
                }
                // Somebody gives up, wherever he stands.
                4 if !queue.is_empty() => {
                    let gone = queue[random.usize(0..queue.len())];
                    aborts.remove(&gone).unwrap().abort();
                    let cancelled = within(PATIENCE, arrived.join_next()).await.unwrap();
                    assert!(cancelled.unwrap_err().is_cancelled());
                    eventually("it left", PATIENCE, async || {
                        let books = watch.inspect().await.unwrap();
                        books.waiters.iter().all(|waiter| waiter.id != gone)
                    })
                    .await;
                    check(watch, &queue, Some(gone), &mut arrived, &mut held, step).await;
                }
                // Somebody leaves.
                _ => {
                    let Some(&id) = held.keys().min_by_key(|id| (id.units(), id.to_string()))
                    else {
                        continue;
                    };
                    held.remove(&id).unwrap().release().await.unwrap();
                    check(watch, &queue, None, &mut arrived, &mut held, step).await;
                }
            }
        }
        assert!(aborts.len() > 10, "too little was queued to show anything");
    }
}

/// Whoever left the queue is its front, as far as it fits; and each one of them holds now.
async fn check(
    watch: &ZSetSemaphore,
    queue: &[PermitId],
    gone: Option<PermitId>,
    arrived: &mut JoinSet<Permit>,
    held: &mut HashMap<PermitId, Permit>,
    step: usize,
) {
    let books = watch.inspect().await.unwrap();
    let left: Vec<PermitId> = books.waiters.iter().map(|waiter| waiter.id).collect();
    let expected: Vec<PermitId> = queue.iter().copied().filter(|id| Some(*id) != gone).collect();
    let served = expected.len() - left.len();
    assert_eq!(expected[served..], left, "step {step}: somebody overtook");
    if let Some(next) = left.first() {
        assert!(books.in_use + u64::from(next.units()) > 3, "step {step}: the head fits and waits");
    }
    for id in &expected[..served] {
        while !held.contains_key(id) {
            let permit = within(PATIENCE, arrived.join_next()).await.unwrap().unwrap();
            held.insert(permit.id(), permit);
        }
    }
    assert_eq!(held.values().map(|permit| u64::from(permit.units())).sum::<u64>(), books.in_use);
}
