//! Two turns of one name in flight: they go out, and whatever becomes of them, nothing is left.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, ZSetSemaphore};

async fn held(server: &RedisServer, name: &str) -> u64 {
    server.query(&["ZCARD", &format!("zsem:{{{name}}}:permits")]).await
}

#[tokio::test]
async fn a_second_turn_does_not_wait_for_the_reply_to_the_first_but_a_third_one_does() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = Client::builder().url(proxy.url()).call_timeout(PATIENCE).build().unwrap();
    let semaphore = client.semaphore("abreast", 100).build().unwrap();
    let first = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    within(PATIENCE, first.release()).await.unwrap(); // no answer is on its way any more

    proxy.hold_replies();
    let mut crowd = Vec::new();
    for (newcomers, at_the_server) in [(1, 1), (20, 21)] {
        crowd.extend((0..newcomers).map(|_| tokio::spawn(semaphore.acquire(1))));
        eventually("the turn has run", PATIENCE, async || {
            held(&server, "abreast").await == at_the_server
        })
        .await;
    }
    crowd.extend((0..20).map(|_| tokio::spawn(semaphore.acquire(1))));
    // Another name is not held up; and when its turn has run, theirs would have run as well.
    let elsewhere = client.semaphore("elsewhere", 1).build().unwrap();
    let other = tokio::spawn(elsewhere.acquire(1));
    eventually("the other name's turn has run", PATIENCE, async || {
        held(&server, "elsewhere").await == 1
    })
    .await;
    assert_eq!(held(&server, "abreast").await, 21);

    proxy.pass();
    let granted = within(PATIENCE, join_all(crowd)).await;
    let permits: Vec<_> = granted.into_iter().map(|task| task.unwrap().unwrap()).collect();
    assert_eq!(permits.len(), 41);
    drop(within(PATIENCE, other).await.unwrap().unwrap());
}

/// Acquires, some of them given up, and releases of both kinds, with faults in between.
async fn live(
    semaphore: ZSetSemaphore,
    proxy: Arc<FaultProxy>,
    seed: u64,
    holders: Arc<AtomicU32>,
    tokens: Arc<Mutex<HashSet<u64>>>,
    limit: u32,
) {
    let mut random = Rng::with_seed(seed);
    for _ in 0..20 {
        match random.u16(..600) {
            0 => proxy.cut(),
            1..5 => proxy.lose_next_reply(),
            5..12 => {
                proxy.hold_replies();
                for _ in 0..random.u8(..200) {
                    tokio::task::yield_now().await;
                }
                proxy.pass();
            }
            _ => {}
        }
        if random.u8(..4) == 0 {
            let patience = Duration::from_micros(random.u64(..3_000));
            if let Ok(permit) = tokio::time::timeout(patience, semaphore.acquire(1)).await {
                drop(permit.unwrap());
            }
            continue;
        }
        let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
        let others = holders.fetch_add(1, Ordering::SeqCst);
        assert!(others < limit, "{} hold, the limit is {limit}", others + 1);
        assert!(tokens.lock().unwrap().insert(permit.fencing_token()), "a token was given twice");
        tokio::task::yield_now().await;
        holders.fetch_sub(1, Ordering::SeqCst);
        if random.bool() {
            let _ = within(PATIENCE, permit.release()).await;
        } else {
            drop(permit);
        }
    }
}

#[tokio::test]
async fn whatever_becomes_of_two_turns_the_limit_holds_and_nothing_is_left_to_a_lease() {
    for limit in [16, 300] {
        let server = RedisServer::start().await;
        let proxy = Arc::new(FaultProxy::start(server.addr()).await);
        let deadline = Duration::from_millis(100);
        let client = Client::builder().url(proxy.url()).call_timeout(deadline).build().unwrap();
        let semaphore = client.semaphore("abreast", limit).build().unwrap();
        let (holders, tokens) = (Arc::default(), Arc::default());
        let crowd = (0..200).map(|seed| {
            let (holders, tokens) = (Arc::clone(&holders), Arc::clone(&tokens));
            tokio::spawn(live(semaphore.clone(), Arc::clone(&proxy), seed, holders, tokens, limit))
        });
        for task in join_all(crowd.collect::<Vec<_>>()).await {
            task.unwrap();
        }
        proxy.pass();
        // A lease is 30 s, so what is gone within a third of it was given back.
        eventually("all is given back", Duration::from_secs(10), async || {
            let queued: u64 = server.query(&["ZCARD", "zsem:{abreast}:queue"]).await;
            held(&server, "abreast").await == 0 && queued == 0
        })
        .await;
        let granted = tokens.lock().unwrap().len();
        assert!(granted > 2_000, "only {granted} were granted");
        assert!(proxy.connections_total() > 3, "the connection was never replaced");
    }
}
