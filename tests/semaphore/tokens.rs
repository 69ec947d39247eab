//! Fencing tokens: each grant's is above that of every grant before it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::stores::Place;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, MemoryStore, Renew, ZSetSemaphore};

fn semaphore(client: &Client, limit: u32) -> ZSetSemaphore {
    client.semaphore("tokens", limit).build().unwrap()
}

// Invariant 5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_rise_strictly_from_holder_to_holder_across_clients() {
    for place in Place::each().await {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..24)
            .map(|task| {
                let (semaphore, tokens) = (semaphore(&place.client(), 1), Arc::clone(&tokens));
                tokio::spawn(async move {
                    for round in 0..10 {
                        // Waits, tries and waits with an end; one holder at a time notes its token.
                        let permit = match (task + round) % 3 {
                            0 => semaphore.try_acquire(1).await.ok(),
                            1 => semaphore.acquire(1).timeout(Duration::from_millis(20)).await.ok(),
                            _ => Some(semaphore.acquire(1).await.unwrap()),
                        };
                        if let Some(permit) = permit {
                            tokens.lock().unwrap().push(permit.fencing_token());
                            assert_eq!(permit.handle().fencing_token(), permit.fencing_token());
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            within(PATIENCE * 3, task).await.unwrap();
        }
        let tokens = tokens.lock().unwrap();
        assert!(tokens.len() >= 80, "only {} grants", tokens.len());
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    }
}

// Invariant 5
#[tokio::test]
async fn permits_granted_together_have_tokens_in_the_order_of_the_queue() {
    for place in Place::each().await {
        let (here, there) = (semaphore(&place.client(), 8), semaphore(&place.client(), 8));
        let all = here.acquire(8).await.unwrap();
        let mut waiting = Vec::new();
        for index in 0..8 {
            let handle = if index % 3 == 0 { &there } else { &here };
            waiting.push(tokio::spawn(handle.acquire(1)));
            eventually("it waits", PATIENCE, async || {
                here.inspect().await.unwrap().waiters_total == index + 1
            })
            .await;
        }
        let mut last = all.fencing_token();
        drop(all);
        let mut held = Vec::new();
        for waiting in waiting {
            let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
            assert!(permit.fencing_token() > last, "{} after {last}", permit.fencing_token());
            last = permit.fencing_token();
            held.push(permit);
        }
    }
}

// Invariant 5
#[tokio::test]
async fn tokens_rise_across_expiry_and_kicks() {
    for place in Place::each().await {
        let builder = place.client().semaphore("tokens", 1).lease(Duration::from_millis(100));
        let short = builder.renew(Renew::Manual).build().unwrap();
        let other = semaphore(&place.client(), 1);
        let mut last = 0;
        for _ in 0..3 {
            let expired = within(PATIENCE, short.acquire(1)).await.unwrap();
            assert!(expired.fencing_token() > last);
            let kicked = within(PATIENCE, other.acquire(1)).await.unwrap();
            assert!(kicked.fencing_token() > expired.fencing_token());
            last = kicked.fencing_token();
            short.kick_now(kicked.id()).await.unwrap();
        }
    }
}

// Invariant 5
#[tokio::test]
async fn tokens_rise_across_lost_data_also_for_who_never_saw_the_old_ones() {
    let mut server = RedisServer::start().await;
    let veteran = semaphore(&Client::connect(server.url()).await.unwrap(), 1);
    let mut last = 0;
    for loss in ["none", "DEL", "FLUSHALL", "restart"] {
        match loss {
            "DEL" => drop(server.cmd(&["DEL", "zsem:{tokens}:meta"]).await),
            "FLUSHALL" => drop(server.cmd(&["FLUSHALL"]).await),
            "restart" => server.restart_empty().await,
            _ => {}
        }
        let newcomer = semaphore(&Client::connect(server.url()).await.unwrap(), 1);
        for semaphore in [&newcomer, &veteran, &newcomer] {
            let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
            assert!(permit.fencing_token() > last, "after {loss}");
            last = permit.fencing_token();
            permit.release().await.unwrap();
        }
    }
}

// Invariant 5
#[tokio::test(start_paused = true)]
async fn tokens_rise_after_the_name_was_idle_for_so_long_that_nothing_is_left_of_it() {
    let memory = MemoryStore::new();
    let mut last = 0;
    for idle in [0, 1, 60, 3_600, 86_400] {
        tokio::time::sleep(Duration::from_secs(idle)).await;
        let semaphore = semaphore(&Client::with_memory(&memory), 1);
        // Many at once: more than a number per microsecond must not run into the next clock.
        for _ in 0..500 {
            let permit = semaphore.acquire(1).await.unwrap();
            assert!(permit.fencing_token() > last, "after {idle} s");
            last = permit.fencing_token();
            permit.release().await.unwrap();
        }
    }
}
