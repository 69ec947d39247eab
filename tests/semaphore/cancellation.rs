//! Futures dropped at any point: they leave no permit and no place in the queue.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::common::inspect::emptied;
use crate::common::stores::Place;
use fastrand::Rng;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::time::Instant;
use zset_semaphore::{Acquire, AcquireError, Client, ZSetSemaphore};

const LIMIT: u32 = 4;
const SEED: u64 = 8;

/// Its lease is far longer than the patience of these tests: what is gone was given back and has not expired.
fn semaphore(client: &Client) -> ZSetSemaphore {
    client.semaphore("dropped", LIMIT).build().unwrap()
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a random number of times, letting others run for a random while in between; drops it then.
/// True if it was still pending.
async fn poll_and_drop(acquire: Acquire, random: &mut Rng) -> bool {
    let mut acquire = pin!(acquire);
    let woken = Arc::new(CountingWaker::default());
    for _ in 0..random.u8(0..6) {
        // The last waker is the one that counts.
        let counting = Waker::from(Arc::clone(&woken));
        let waker = if random.bool() { &counting } else { Waker::noop() };
        match acquire.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => {}
            Poll::Ready(Ok(permit)) => {
                assert!(!permit.is_lost());
                return false;
            }
            Poll::Ready(Err(error)) => {
                assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
                return false;
            }
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
    true
}

/// Many tasks acquire, poll and drop; every `stay`-th time somebody stays until he is served.
/// Returns how many were dropped while pending.
async fn storm(semaphores: &[ZSetSemaphore], stay: Option<u8>, seed: u64) -> usize {
    const TASKS: u64 = 40;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let semaphore = semaphores[task as usize % semaphores.len()].clone();
            let mut random = Rng::with_seed(seed * TASKS + task);
            tokio::spawn(async move {
                let mut dropped = 0;
                for _ in 0..60 {
                    if stay.is_some_and(|every| random.u8(0..every) == 0) {
                        let permit = semaphore.acquire(random.u32(1..=LIMIT)).await.unwrap();
                        tokio::time::sleep(Duration::from_micros(random.u64(0..800))).await;
                        drop(permit);
                    }
                    let mut acquire = semaphore.acquire(random.u32(1..=LIMIT));
                    if random.u8(0..6) == 0 {
                        acquire = acquire.timeout(Duration::from_micros(random.u64(0..5_000)));
                    }
                    dropped += usize::from(poll_and_drop(acquire, &mut random).await);
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

// Behaviours 8, 9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_acquires_dropped_at_any_point_leave_no_permit_and_no_queue_entry() {
    for place in Place::each().await {
        let semaphores: Vec<_> = (0..4).map(|_| semaphore(&place.client())).collect();
        let mut dropped = 0;
        for round in 0..3 {
            dropped += storm(&semaphores, Some(4), SEED + round).await;
            emptied(&semaphores[0]).await;
        }
        assert!(dropped > 3_000, "only {dropped} were dropped while pending");
        // All of it can be had, by each.
        for semaphore in &semaphores {
            let all = semaphore.try_acquire(LIMIT).await.unwrap();
            all.release().await.unwrap();
        }
    }
}

// Behaviour 8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_waiters_dropped_while_nobody_is_let_in_leave_the_queue_empty() {
    for place in Place::each().await {
        let semaphores: Vec<_> = (0..4).map(|_| semaphore(&place.client())).collect();
        // Paused: no turn of anybody can take what was forgotten from the queue.
        semaphores[0].set_limit(0).await.unwrap();
        let dropped = storm(&semaphores, None, SEED).await;
        assert!(dropped > 1_000, "only {dropped} were dropped while pending");
        emptied(&semaphores[0]).await;
        semaphores[0].clear_limit().await.unwrap();
        drop(within(PATIENCE, semaphores[1].acquire(LIMIT)).await.unwrap());
    }
}

// Behaviour 8
#[tokio::test]
async fn an_acquire_that_is_never_polled_asks_for_nothing() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&Client::connect(server.url()).await.unwrap());
    server.reset_stats().await;
    let never_polled: Vec<_> = (0..100).map(|_| semaphore.acquire(1)).collect();
    let held = semaphore.try_acquire(1).await.unwrap();
    drop(never_polled);
    held.release().await.unwrap();
    assert_eq!(server.script_calls().await, 2);
}

struct Far {
    proxy: FaultProxy,
    near: ZSetSemaphore,
    far: ZSetSemaphore,
}

impl Far {
    /// One client beside the server, one behind a proxy.
    async fn start(server: &RedisServer, call_timeout: Duration) -> Self {
        let proxy = FaultProxy::start(server.addr()).await;
        let near = semaphore(&Client::connect(server.url()).await.unwrap());
        let far = Client::builder().url(proxy.url()).call_timeout(call_timeout);
        let far = semaphore(&far.connect().await.unwrap());
        Self { proxy, near, far }
    }

    /// Waits until so many units are in use, and so many wait, by what the server says.
    async fn until(&self, in_use: u64, waiting: u64) {
        eventually(&format!("{in_use} in use, {waiting} waiting"), PATIENCE, async || {
            let books = self.near.inspect().await.unwrap();
            (books.in_use, books.waiters_total) == (in_use, waiting)
        })
        .await;
    }
}

/// What a first poll sends off.
fn sent(acquire: Acquire) -> Pin<Box<Acquire>> {
    let mut acquire = Box::pin(acquire);
    assert!(acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    acquire
}

// Behaviours 8, 9
#[tokio::test]
async fn dropped_while_the_reply_is_in_flight_it_is_taken_back() {
    let server = RedisServer::start().await;
    let link = Far::start(&server, PATIENCE).await;
    for held in [0, LIMIT] {
        let all = if held > 0 { Some(link.near.acquire(held).await.unwrap()) } else { None };
        link.proxy.hold_replies();
        let acquire = sent(link.far.acquire(2));
        let (in_use, waiting) = if held > 0 { (4, 1) } else { (2, 0) };
        link.until(in_use, waiting).await;
        drop(acquire);
        link.proxy.pass();
        link.until(u64::from(held), 0).await;
        drop(all);
        emptied(&link.near).await;
    }
}

// Behaviours 8, 9
#[tokio::test]
async fn dropped_while_the_reply_never_comes_it_is_taken_back_over_a_new_connection() {
    let server = RedisServer::start().await;
    let link = Far::start(&server, Duration::from_millis(100)).await;
    for held in [0, LIMIT] {
        let all = if held > 0 { Some(link.near.acquire(held).await.unwrap()) } else { None };
        drop(within(PATIENCE, link.far.acquire(1).timeout(Duration::from_millis(1))).await);
        link.until(u64::from(held), 0).await;
        link.proxy.hold_replies();
        let acquire = sent(link.far.acquire(2));
        let (in_use, waiting) = if held > 0 { (4, 1) } else { (2, 0) };
        link.until(in_use, waiting).await;
        let frozen = link.proxy.freeze_existing();
        link.proxy.pass();
        drop(acquire);
        link.until(u64::from(held), 0).await;
        // What lay in the old connection comes late, and changes nothing.
        let before = link.proxy.bytes_up();
        frozen.release();
        link.proxy.wait_for("the old bytes", |traffic| traffic.requests_forwarded > before).await;
        drop(all);
        emptied(&link.near).await;
    }
}

// Behaviours 8, 9
#[tokio::test]
async fn dropped_at_random_while_replies_are_held_at_random_nothing_is_left() {
    let server = RedisServer::start().await;
    let link = Far::start(&server, PATIENCE).await;
    let mut random = Rng::with_seed(SEED);
    for _ in 0..15 {
        let mut others = Vec::new();
        for _ in 0..20 {
            match random.u8(0..4) {
                0 => link.proxy.hold_replies(),
                1 => link.proxy.pass(),
                2 => others.push(tokio::spawn(link.near.acquire(random.u32(1..=LIMIT)))),
                _ => {}
            }
            poll_and_drop(link.far.acquire(random.u32(1..=LIMIT)), &mut random).await;
        }
        link.proxy.pass();
        for other in others {
            drop(within(PATIENCE, other).await.unwrap().unwrap());
        }
        emptied(&link.near).await;
    }
}

// Behaviour 31
#[tokio::test]
async fn a_release_while_the_answer_queued_is_in_flight_is_not_missed() {
    // Over RESP3 the wake-up comes behind that answer; over RESP2 on its own connection, before it.
    for resp2 in [false, true] {
        let builder = RedisServer::builder();
        let builder =
            if resp2 { builder.arg("--rename-command").arg("HELLO").arg("") } else { builder };
        let server = builder.start().await;
        let link = Far::start(&server, PATIENCE).await;
        assert_eq!(link.proxy.connections_total() > 1, resp2);
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let all = link.near.acquire(LIMIT).await.unwrap();
            link.proxy.hold_replies();
            let waiting = tokio::spawn(link.far.acquire(1));
            link.until(4, 1).await;
            all.release().await.unwrap();
            link.until(1, 0).await;
            let start = Instant::now();
            link.proxy.pass();
            drop(within(PATIENCE, waiting).await.unwrap().unwrap());
            best = best.min(start.elapsed());
            emptied(&link.near).await;
        }
        assert!(best < Duration::from_millis(300), "it learnt by asking, after {best:?}");
    }
}
