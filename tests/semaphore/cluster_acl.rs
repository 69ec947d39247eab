//! The rights that a client needs in a cluster: the list is enough, and nothing is denied in silence.

use std::time::{Duration, Instant};

use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, ConnectError, StoreErrorKind};

use crate::acl::{RIGHTS, WHERE_IT_RUNS, assert_page_has_user, denied, give_rights, lists_library};

/// What the user needs beside the rights of a single server.
const OF_CLUSTER: [&str; 2] = ["+cluster|slots", "+info"];
/// What it needs beside them where the server has sharded channels. Others do not know these commands.
const OF_SHARDED_CHANNELS: [&str; 2] = ["+spublish", "+ssubscribe"];

fn rights() -> impl Iterator<Item = &'static str> {
    let sharded =
        OF_SHARDED_CHANNELS.into_iter().filter(|_| server_program::has_sharded_channels());
    RIGHTS.split_whitespace().chain(OF_CLUSTER).chain(sharded)
}

fn url_of(node: &RedisServer) -> String {
    format!("redis+cluster://app:pw@{}", node.addr())
}

#[test]
fn the_page_gives_the_user_of_a_cluster() {
    let all = RIGHTS.split_whitespace().chain(OF_CLUSTER).chain(OF_SHARDED_CHANNELS);
    assert_page_has_user(WHERE_IT_RUNS, "app", &all.collect::<Vec<_>>());
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
    let is_sharded = server_program::has_sharded_channels();
    let (channels, publish, heard) =
        if is_sharded { ("SHARDCHANNELS", "spublish", 1) } else { ("CHANNELS", "publish", 2) };
    eventually("it waits, and hears wake-ups", PATIENCE, async || {
        let channels: Vec<String> = node.query(&["PUBSUB", channels]).await;
        let books = semaphore.inspect().await.unwrap();
        books.waiters.len() == 1 && channels.len() == heard
    })
    .await;
    held.extend(Duration::from_secs(60)).await.unwrap();
    held.release().await.unwrap();
    let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
    assert_eq!(node.calls(publish).await, 1);
    permit.release().await.unwrap();
    within(PATIENCE, client.shutdown()).await.unwrap();
    within(PATIENCE, other.shutdown()).await.unwrap();
    let denied = denied(node).await;
    assert!(denied.iter().all(lists_library), "{denied:?}");
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
            // Redis 6.2 names the command alone.
            let command =
                if server_program::major_version() < 7 { "'cluster'" } else { "cluster|slots" };
            assert!(error.to_string().contains(command), "{error}");
        }
        other => panic!("expected NotPermitted, got {other:?}"),
    }
}

// Behaviour 80
#[tokio::test]
async fn without_the_rights_to_sharded_channels_waiters_are_woken_through_the_plain_one() {
    if !server_program::has_sharded_channels() {
        return server_program::skip("sharded channels");
    }
    let cluster = RedisCluster::start(1).await;
    let node = &cluster.nodes[0];
    for lacking in OF_SHARDED_CHANNELS {
        give_rights(node, rights().filter(|right| *right != lacking)).await;
        let client = within(PATIENCE, Client::connect(url_of(node))).await.unwrap();
        let other = within(PATIENCE, Client::connect(url_of(node))).await.unwrap();
        let [mine, theirs] =
            [&client, &other].map(|client| client.semaphore(lacking, 1).build().unwrap());
        let mut quickest = Duration::MAX;
        for _ in 0..5 {
            let held = theirs.acquire(1).await.unwrap();
            let waiter = tokio::spawn(mine.acquire(1));
            let queued = async || mine.inspect().await.unwrap().waiters.len() == 1;
            eventually("it waits", PATIENCE, queued).await;
            let released = Instant::now();
            held.release().await.unwrap();
            let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
            quickest = quickest.min(released.elapsed());
            permit.release().await.unwrap();
        }
        // A waiter that is not woken asks after a second.
        assert!(quickest < Duration::from_millis(200), "{lacking}: no wake-up came: {quickest:?}");
        within(PATIENCE, client.shutdown()).await.unwrap();
        within(PATIENCE, other.shutdown()).await.unwrap();
    }
}
