//! Names that are spread over the primaries of a cluster.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::redis_server::RedisServer;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::{AcquireError, Client, StoreErrorKind, ZSetSemaphore};

use crate::COVERAGE;
use crate::load::{Load, client};

#[tokio::test]
async fn each_name_is_counted_by_the_primary_of_its_slot() {
    let cluster = RedisCluster::start(3).await;
    let client = client(cluster.url()).await;
    let mut held = Vec::new();
    for home in [0, 1, 2] {
        let name = cluster.name_at(home, "jobs").await;
        let semaphore = client.semaphore(&name, 1).build().unwrap();
        held.push(semaphore.acquire(1).await.unwrap());
        assert!(semaphore.try_acquire(1).await.is_err());
        assert_eq!(semaphore.inspect().await.unwrap().in_use, 1);
        semaphore.set_limit(2).await.unwrap();
        assert_eq!(semaphore.inspect().await.unwrap().limit, 2);
        let keys = cluster.nodes[home].keys().await;
        assert!(keys.iter().all(|key| key.starts_with(&format!("zsem:{{{name}}}:"))), "{keys:?}");
        assert!(!keys.is_empty());
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_a_release_of_another_client_at_each_primary() {
    let cluster = RedisCluster::start(3).await;
    let [one, two] = [client(cluster.url()).await, client(cluster.url()).await];
    for home in [0, 1, 2] {
        let name = cluster.name_at(home, "jobs").await;
        let [mine, other] = [&one, &two].map(|client| client.semaphore(&name, 1).build().unwrap());
        let mut quickest = Duration::MAX;
        for _ in 0..5 {
            let permit = mine.acquire(1).await.unwrap();
            let waiting = tokio::spawn(other.acquire(1));
            let queued = async || mine.inspect().await.unwrap().waiters.len() == 1;
            eventually("it waits", PATIENCE, queued).await;
            let released = Instant::now();
            permit.release().await.unwrap();
            drop(within(PATIENCE, waiting).await.unwrap().unwrap());
            quickest = quickest.min(released.elapsed());
        }
        assert!(quickest < ms(200), "no wake-up came: {quickest:?}");
    }
}

/// How many messages for subscribers the nodes have sent to all other nodes.
async fn on_the_bus(cluster: &RedisCluster) -> u64 {
    let mut sent = 0;
    for node in &cluster.nodes {
        let info: String = node.query(&["CLUSTER", "INFO"]).await;
        let line =
            info.lines().find_map(|line| line.strip_prefix("cluster_stats_messages_publish_sent:"));
        sent += line.map_or(0, |line| line.trim().parse::<u64>().unwrap());
    }
    sent
}

/// Waits until the client of a waiter is subscribed at a node.
async fn is_subscribed(node: &RedisServer) {
    let subscribed = async || {
        let channels: Vec<String> = node.query(&["PUBSUB", "SHARDCHANNELS"]).await;
        !channels.is_empty()
    };
    eventually("a waiter is subscribed", PATIENCE, subscribed).await;
}

/// Passes a permit to a waiter that is subscribed. Returns the time that it took.
async fn hand_over(from: &ZSetSemaphore, to: &ZSetSemaphore, node: &RedisServer) -> Duration {
    let permit = from.acquire(1).await.unwrap();
    let waiting = tokio::spawn(to.acquire(1));
    let queued = async || from.inspect().await.unwrap().waiters.len() == 1;
    eventually("it waits", PATIENCE, queued).await;
    is_subscribed(node).await;
    let released = Instant::now();
    permit.release().await.unwrap();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    let took = released.elapsed();
    permit.release().await.unwrap();
    took
}

#[tokio::test]
async fn wake_ups_stay_in_the_shard_also_after_the_slot_has_moved() {
    if !server_program::has_sharded_channels() {
        return server_program::skip("sharded channels");
    }
    let cluster = RedisCluster::start(3).await;
    let [one, two] = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, "jobs").await;
    let [mine, other] = [&one, &two].map(|client| client.semaphore(&name, 1).build().unwrap());
    for (nth, node) in [0, 2].into_iter().enumerate() {
        if nth > 0 {
            cluster.move_slot(slot_of(&name), node).await;
        }
        hand_over(&mine, &other, &cluster.nodes[node]).await;
        let before = on_the_bus(&cluster).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            slowest = slowest.max(hand_over(&mine, &other, &cluster.nodes[node]).await);
        }
        assert!(slowest < ms(400), "a wake-up was lost: {slowest:?}");
        assert_eq!(on_the_bus(&cluster).await, before);
    }
}

#[tokio::test]
async fn a_primary_that_hangs_leaves_the_names_of_others_alone() {
    let mut cluster = RedisCluster::builder().primaries(3).args(&COVERAGE).start().await;
    let client = client(cluster.url()).await;
    let mut loads = Vec::new();
    for home in [0, 1] {
        let name = cluster.name_at(home, "jobs").await;
        let semaphore = client.semaphore(&name, 4).build().unwrap();
        loads.push(Load::start(&[semaphore], 8));
    }
    let name = cluster.name_at(2, "hung").await;
    let hung = client.semaphore(&name, 1).build().unwrap();
    drop(hung.acquire(1).await.unwrap());
    for load in &loads {
        load.goes_on(500).await;
        load.take_waits();
        load.goes_on(2_000).await;
    }
    let before: Vec<_> = loads.iter().map(Load::take_waits).collect();
    cluster.nodes[2].freeze();
    let waiting = tokio::spawn(hung.acquire(1));
    let start = Instant::now();
    while start.elapsed() < ms(1_500) {
        for load in &loads {
            load.goes_on(100).await;
        }
    }
    assert!(client.is_available());
    assert!(!waiting.is_finished());
    cluster.nodes[2].thaw();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    for (load, before) in loads.into_iter().zip(before) {
        let after = load.take_waits();
        println!(
            "p99 of {} acquires before {:?}, of {} while the other primary hangs {:?}; longest {:?}",
            before.count(),
            before.p99(),
            after.count(),
            after.p99(),
            after.longest(),
        );
        assert!(after.longest() < ms(400), "{:?}", after.longest());
        load.stop().await;
    }
}

#[tokio::test]
async fn a_url_of_one_server_that_meets_a_cluster_says_which_url_to_use() {
    let cluster = RedisCluster::start(2).await;
    let name = cluster.name_at(1, "jobs").await;
    let client = Client::connect(cluster.nodes[0].url()).await.unwrap();
    let error = client.semaphore(name, 1).build().unwrap().acquire(1).await.unwrap_err();
    let AcquireError::Refused(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::WrongMode);
    assert!(error.to_string().contains("use redis+cluster://"), "{error}");
}

#[tokio::test]
async fn a_url_of_a_cluster_that_meets_one_server_says_which_url_to_use() {
    let server = RedisServer::start().await;
    let url = format!("redis+cluster://{}", server.addr());
    let error = Client::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("use redis://"), "{error}");
}

#[tokio::test]
async fn one_seed_that_answers_is_enough() {
    let cluster = RedisCluster::start(2).await;
    let dead = RedisServer::start().await;
    let address = dead.addr();
    drop(dead);
    let url = format!("redis+cluster://{address},{}", cluster.nodes[1].addr());
    let client = client(url).await;
    for home in [0, 1] {
        let name = cluster.name_at(home, "jobs").await;
        let semaphore = client.semaphore(name, 1).build().unwrap();
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
    }
}
