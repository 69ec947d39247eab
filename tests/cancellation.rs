//! Futures dropped at any point: they leave no permit and no place in the queue.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]
// What a test crate exports nobody imports.
#![allow(unreachable_pub)]

mod stores;
mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use stores::Place;
use support::fault_proxy::FaultProxy;
use support::redis_server::RedisServer;
use support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Acquire, Client, Permit, ZSetSemaphore};

const LIMIT: u32 = 4;
const SEED: u64 = 8;

fn semaphore(client: &Client) -> ZSetSemaphore {
    client.semaphore("dropped", LIMIT).build().unwrap()
}

/// Waits until the store's books show nobody. Leases are far longer than the patience, so nothing
/// is gone only since its time was up.
async fn emptied(semaphore: &ZSetSemaphore) {
    eventually("no permit and no queue entry is left", PATIENCE, async || {
        let books = semaphore.inspect().await.unwrap();
        (books.in_use, books.holders_total, books.waiters_total) == (0, 0, 0)
    })
    .await;
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls so often, letting everybody else run for a random while in between; then drops it.
/// True if it was granted, and the permit dropped with it.
async fn poll_and_drop(mut acquire: Pin<Box<Acquire>>, polls: usize, random: &mut Rng) -> bool {
    let woken = Arc::new(CountingWaker::default());
    for _ in 0..polls {
        // A waker of its own each time: the last one is the one that counts.
        let waker = if random.bool() { Waker::from(Arc::clone(&woken)) } else { Waker::noop().clone() };
        let polled = acquire.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(permit) = polled {
            assert!(!permit.unwrap().is_lost());
            return true;
        }
        match random.u8(0..8) {
            0..3 => {}
            3..6 => {
                for _ in 0..random.u8(1..12) {
                    tokio::task::yield_now().await;
                }
            }
            _ => tokio::time::sleep(Duration::from_micros(random.u64(1..3_000))).await,
        }
    }
    false
}

/// Many tasks that acquire, poll a few times and drop; returns how many were dropped unready.
async fn storm(semaphores: &[ZSetSemaphore], tasks: usize, rounds: usize, seed: u64) -> usize {
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let semaphore = semaphores[task % semaphores.len()].clone();
            let mut random = Rng::with_seed(seed + task as u64);
            tokio::spawn(async move {
                let mut dropped = 0;
                for _ in 0..rounds {
                    let mut acquire = semaphore.acquire(random.u32(1..=LIMIT));
                    if random.u8(0..6) == 0 {
                        acquire = acquire.timeout(Duration::from_micros(random.u64(0..5_000)));
                    }
                    let polls = random.usize(0..6);
                    if acquire_survives(&mut random) {
                        // Load: somebody who stays, holds for a while, and goes.
                        let permit = semaphore.acquire(1).await.unwrap();
                        tokio::time::sleep(Duration::from_micros(random.u64(0..800))).await;
                        drop(permit);
                    }
                    match tokio::time::timeout(PATIENCE, poll_or_end(acquire, polls, &mut random)).await {
                        Ok(granted) => dropped += usize::from(!granted),
                        Err(_) => panic!("polling by hand does not end"),
                    }
                }
                dropped
            })
        })
        .collect();
    let mut dropped = 0;
    for task in tasks {
        dropped += within(PATIENCE * 6, task).await.unwrap();
    }
    dropped
}

fn acquire_survives(random: &mut Rng) -> bool {
    random.u8(0..4) == 0
}

async fn poll_or_end(acquire: Acquire, polls: usize, random: &mut Rng) -> bool {
    poll_and_drop(Box::pin(acquire), polls, random).await
}
