//! Callers with different leases under one name.

use std::time::Duration;

use crate::common::stores::Place;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, PermitId, Renew, ZSetSemaphore};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(300);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn expires_in(semaphore: &ZSetSemaphore, id: PermitId) -> Option<Duration> {
    let books = semaphore.inspect().await.unwrap();
    books.holders.iter().find(|holder| holder.id == id).map(|holder| holder.expires_in)
}

// Behaviour 48
#[tokio::test]
async fn a_short_lease_neither_shortens_nor_evicts_a_long_one() {
    for place in Place::each().await {
        let long = place.client().semaphore("jobs", 4).lease(LONG).build().unwrap();
        let short =
            place.client().semaphore("jobs", 4).lease(SHORT).renew(Renew::Manual).build().unwrap();
        let held = long.acquire(1).await.unwrap();
        for _ in 0..3 {
            let passing = short.acquire(2).await.unwrap();
            within(PATIENCE, passing.lost()).await;
            eventually("the short lease has ended", PATIENCE, async || {
                // Pruned by the next turn of anybody.
                drop(short.try_acquire(1).await.unwrap());
                expires_in(&long, passing.id()).await.is_none()
            })
            .await;
            let left = expires_in(&long, held.id()).await.expect("still there");
            assert!(left > LONG - secs(60), "{left:?} left of {LONG:?}");
            assert!(!held.is_lost());
        }
        // A waiter with a short lease, granted by the long one's turn, has its own lease.
        let all = long.acquire(3).await.unwrap();
        let waiter = tokio::spawn(short.acquire(1));
        eventually("one waits", PATIENCE, async || {
            long.inspect().await.unwrap().waiters_total == 1
        })
        .await;
        all.release().await.unwrap();
        let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
        assert!(expires_in(&long, permit.id()).await.is_none_or(|left| left <= SHORT));
        assert!(expires_in(&long, held.id()).await.unwrap() > LONG - secs(60));
    }
}

// Behaviour 48
#[tokio::test]
async fn a_short_lease_never_shortens_the_life_of_the_keys() {
    let server = RedisServer::start().await;
    let semaphore = |lease| {
        let client = Client::open(server.url()).unwrap();
        client.semaphore("jobs", 4).lease(lease).build().unwrap()
    };
    let (long, short) = (semaphore(LONG), semaphore(SHORT));
    let ttl = async |key: &str| -> Duration {
        let ttl: i64 = server.query(&["PTTL", &format!("zsem:{{jobs}}:{key}")]).await;
        Duration::from_millis(ttl.try_into().unwrap_or_else(|_| panic!("PTTL of {key}: {ttl}")))
    };

    let first = short.acquire(1).await.unwrap();
    assert!(ttl("permits").await < secs(60), "a short lease asks for little");
    let held = long.acquire(1).await.unwrap();
    drop(first);
    for _ in 0..3 {
        let mut shorts = Vec::new();
        for _ in 0..3 {
            shorts.push(short.acquire(1).await.unwrap());
        }
        let waiter = tokio::spawn(short.acquire(1));
        eventually("one waits", PATIENCE, async || {
            long.inspect().await.unwrap().waiters_total == 1
        })
        .await;
        for key in ["permits", "meta"] {
            assert!(ttl(key).await > LONG - secs(60), "{key} ends before the long lease");
        }
        shorts.pop().unwrap().release().await.unwrap();
        drop(within(PATIENCE, waiter).await.unwrap().unwrap());
        drop(shorts);
        eventually("only the long one is held", PATIENCE, async || {
            let books = long.inspect().await.unwrap();
            (books.in_use, books.waiters_total) == (1, 0)
        })
        .await;
        for key in ["permits", "meta"] {
            assert!(ttl(key).await > LONG - secs(60), "{key} ends before the long lease");
        }
    }
    assert!(!held.is_lost());
}

// Behaviour 48
#[tokio::test]
async fn callers_with_any_leases_mix_and_all_keep_what_they_hold() {
    for place in Place::each().await {
        let leases = [secs(1), secs(2), secs(30), LONG];
        let semaphores: Vec<_> = leases
            .iter()
            .map(|lease| place.client().semaphore("jobs", 8).lease(*lease).build().unwrap())
            .collect();
        let mut kept = Vec::new();
        for semaphore in &semaphores {
            kept.push(semaphore.acquire(1).await.unwrap());
        }
        // Others come and go for longer than the shortest lease, several times over.
        let until = tokio::time::Instant::now() + leases[0] * 3;
        while tokio::time::Instant::now() < until {
            for semaphore in &semaphores {
                semaphore.acquire(2).await.unwrap().release().await.unwrap();
            }
        }
        for (permit, lease) in kept.iter().zip(leases) {
            assert!(!permit.is_lost(), "{lease:?}");
            let left = expires_in(&semaphores[0], permit.id()).await.expect("still there");
            assert!(left <= lease, "{left:?} of {lease:?}");
        }
        assert_eq!(semaphores[0].inspect().await.unwrap().in_use, 4);
    }
}
