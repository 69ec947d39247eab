//! One of the four keys of a name is gone under load: all who wait are served, soon and in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::common::connect::connect;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const LIMIT: u32 = 5;
const WAITERS: usize = 200;
/// How long each of them works.
const WORK: Duration = Duration::from_millis(5);
/// An asking period, and the work of all.
const SOON: Duration = Duration::from_secs(3);

fn semaphore(client: &Client) -> ZSetSemaphore {
    client.semaphore("s", LIMIT).build().unwrap()
}

async fn so_many_wait(semaphore: &ZSetSemaphore, count: usize) {
    eventually(&format!("{count} wait"), PATIENCE, async || {
        let found = semaphore.inspect().await;
        found.is_ok_and(|found| found.waiters_total == count as u64)
    })
    .await;
}

/// Waiters of one client behind holders, and how many of them have worked.
struct Crowd {
    waiters: JoinSet<()>,
    served: Arc<AtomicUsize>,
}

impl Crowd {
    /// Behind those who hold all; nobody works yet.
    async fn waiting(semaphore: &ZSetSemaphore) -> (Self, Vec<Permit>) {
        let mut holders = Vec::new();
        for _ in 0..LIMIT {
            holders.push(semaphore.acquire(1).await.unwrap());
        }
        let (mut waiters, served) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..WAITERS {
            let (acquire, served) = (semaphore.acquire(1), Arc::clone(&served));
            waiters.spawn(async move {
                let permit = acquire.await.unwrap();
                sleep(WORK).await;
                served.fetch_add(1, Ordering::Relaxed);
                drop(permit);
            });
        }
        so_many_wait(semaphore, WAITERS).await;
        (Self { waiters, served }, holders)
    }

    /// The holders have gone, and the first waiters have worked.
    async fn at_work(semaphore: &ZSetSemaphore) -> Self {
        let (crowd, holders) = Self::waiting(semaphore).await;
        drop(holders);
        eventually("some have worked", PATIENCE, async || crowd.served() >= 10).await;
        assert!(crowd.served() < WAITERS / 2, "too fast: {}", crowd.served());
        crowd
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    async fn served_soon(self, what: &str) {
        let start = Instant::now();
        eventually(what, SOON, async || self.served() == WAITERS).await;
        self.waiters.join_all().await;
        println!("{what}: {WAITERS} served {:.2} s after the loss", start.elapsed().as_secs_f64());
    }
}

// Behaviour 59
#[tokio::test]
async fn waiters_whose_queue_is_gone_are_served_within_an_asking_period_though_there_is_room() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await);
    let crowd = Crowd::at_work(&semaphore).await;
    server.cmd(&["DEL", "zsem:{s}:queue"]).await;
    crowd.served_soon("the queue was deleted").await;
}

// Behaviour 59
#[tokio::test]
async fn newcomers_do_not_pass_waiters_whose_queue_is_gone_for_long() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await);
    let newcomers = self::semaphore(&connect(server.url()).await);
    let crowd = Crowd::at_work(&semaphore).await;
    server.cmd(&["DEL", "zsem:{s}:queue"]).await;
    let lost = Instant::now();
    let mut passed = Duration::ZERO;
    while crowd.served() < WAITERS - LIMIT as usize {
        assert!(lost.elapsed() < SOON, "{} of {WAITERS} served", crowd.served());
        if let Ok(permit) = newcomers.try_acquire(1).await {
            passed = lost.elapsed();
            sleep(WORK).await;
            drop(permit);
        }
    }
    assert!(passed < SOON / 2, "newcomers were let in for {passed:?}");
    crowd.served_soon("the queue was deleted among newcomers").await;
}

// Behaviour 59
#[tokio::test]
async fn waiters_that_another_client_takes_for_dead_are_served_within_an_asking_period() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await);
    let foreign = self::semaphore(&connect(server.url()).await);
    let (crowd, holders) = Crowd::waiting(&semaphore).await;
    server.cmd(&["DEL", "zsem:{s}:clients"]).await;
    // Its turns find nobody alive in the queue, and our newcomer's makes us look alive.
    let stranger = tokio::spawn(foreign.acquire(1));
    so_many_wait(&semaphore, 1).await;
    let newcomer = tokio::spawn(semaphore.acquire(1));
    so_many_wait(&semaphore, 2).await;
    drop(holders);
    for waiter in [stranger, newcomer] {
        drop(within(PATIENCE, waiter).await.unwrap().unwrap());
    }
    crowd.served_soon("the clients were deleted").await;
}

// Behaviour 59
#[tokio::test]
async fn waiters_are_served_when_the_server_evicts_all_keys_under_load() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&connect(server.url()).await);
    let crowd = Crowd::at_work(&semaphore).await;
    server.evict_all().await;
    crowd.served_soon("all keys were evicted").await;
}
