//! The rights that a client needs in a cluster: the list is enough, and nothing is denied in silence.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, ConnectError, StoreErrorKind};

use crate::acl::{RIGHTS, give_rights};

/// What the user needs beside the rights of a single server. Redis 6.2 has no sharded channels.
const OF_CLUSTER: [&str; 4] = ["+cluster|slots", "+spublish", "+ssubscribe", "+info"];

fn rights() -> impl Iterator<Item = &'static str> {
    RIGHTS.split_whitespace().chain(OF_CLUSTER)
}

fn url_of(node: &RedisServer) -> String {
    format!("redis+cluster://app:pw@{}", node.addr())
}

// Behaviour 80
#[tokio::test]
async fn a_user_with_the_listed_rights_can_use_a_cluster() {
    let cluster = RedisCluster::start(1).await;
    let node = &cluster.nodes[0];
    give_rights(node, rights()).await;
    let client = within(PATIENCE, Client::connect(url_of(node))).await.unwrap();
    let other = within(PATIENCE, Client::connect(url_of(node))).await.unwrap();
    let semaphore = client.semaphore("jobs", 1).build().unwrap();
    let held = other.semaphore("jobs", 1).build().unwrap().acquire(1).await.unwrap();
    let waiter = tokio::spawn(semaphore.acquire(1));
    eventually("it waits, and hears wake-ups", PATIENCE, async || {
        let channels: Vec<String> = node.query(&["PUBSUB", "SHARDCHANNELS"]).await;
        let books = semaphore.inspect().await.unwrap();
        books.waiters.len() == 1 && channels.len() == 1
    })
    .await;
    held.extend(Duration::from_secs(60)).await.unwrap();
    held.release().await.unwrap();
    let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
    assert_eq!(node.calls("spublish").await, 1);
    permit.release().await.unwrap();
    within(PATIENCE, client.shutdown()).await.unwrap();
    within(PATIENCE, other.shutdown()).await.unwrap();
    let denied: Vec<redis::Value> = node.query(&["ACL", "LOG"]).await;
    assert!(denied.is_empty(), "{denied:?}");
}

// Behaviour 80
#[tokio::test]
async fn without_the_right_to_read_the_slots_nothing_connects() {
    let cluster = RedisCluster::start(1).await;
    let node = &cluster.nodes[0];
    give_rights(node, rights().filter(|right| *right != OF_CLUSTER[0])).await;
    match within(PATIENCE, Client::connect(url_of(node))).await {
        Err(ConnectError::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::NotPermitted, "{error}");
            assert!(error.to_string().contains("cluster|slots"), "{error}");
        }
        other => panic!("expected NotPermitted, got {other:?}"),
    }
}
