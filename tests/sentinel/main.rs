//! What a semaphore promises behind Sentinel: failover, sentinels that are away, wrong settings.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod failover;
mod holders;
mod odd_sentinels;
mod replicated;
mod sentinels;
#[cfg(feature = "tls-rustls")]
mod tls;

use test_support::sentinel::{FAILOVER, SentinelDeployment, ask};
use test_support::wait::eventually;
use zset_semaphore::Client;

/// Whether the client has its connection to this server.
async fn is_at(deployment: &SentinelDeployment, server: usize, client: &Client) -> bool {
    let channel = format!("zsem:wake:{}", client.id());
    let question = ["PUBSUB", "NUMSUB", &channel];
    let subscribers = ask::<(String, u64)>(&deployment.servers[server], &question).await;
    subscribers.is_ok_and(|(_, subscribers)| subscribers == 1)
}

async fn takes_turns_at(deployment: &SentinelDeployment, server: usize, client: &Client) {
    take_turns_until(client, async || is_at(deployment, server, client).await).await;
}

/// Waits until the client takes turns at a server other than `old` that a sentinel names as the primary. On a busy
/// machine, more than one failover may come.
async fn leaves(deployment: &SentinelDeployment, old: usize, client: &Client) {
    take_turns_until(client, async || {
        for sentinel in &deployment.sentinels {
            if let Ok(addr) = sentinel.primary().await
                && deployment.at(addr) != old
                && is_at(deployment, deployment.at(addr), client).await
            {
                return true;
            }
        }
        false
    })
    .await;
}

async fn take_turns_until(client: &Client, mut done: impl AsyncFnMut() -> bool) {
    let semaphore = client.semaphore("jobs", 1_000).build().unwrap();
    eventually("the client takes turns where it should", FAILOVER, async || {
        drop(semaphore.acquire(1).timeout(FAILOVER).await.unwrap());
        done().await
    })
    .await;
}
