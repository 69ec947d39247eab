//! Very many names at once.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use test_support::redis_cluster::RedisCluster;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::time::Instant;
use zset_semaphore::{Permit, ZSetSemaphore};

use crate::load::client;

const COUNT: usize = 10_000;
const ABREAST: usize = 256;
const LEASE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_semaphores_are_held_renewed_and_given_back_over_three_primaries() {
    let cluster = RedisCluster::start(3).await;
    let client = client(cluster.url()).await;
    let semaphores: Vec<ZSetSemaphore> = (0..COUNT)
        .map(|n| client.semaphore(format!("many-{n}"), 1).lease(LEASE).build().unwrap())
        .collect();
    let began = Instant::now();
    let permits: Vec<_> = stream::iter(semaphores.iter().map(|semaphore| semaphore.acquire(1)))
        .buffer_unordered(ABREAST)
        .try_collect()
        .await
        .unwrap();
    println!("{COUNT} held after {:?}", began.elapsed());
    for node in &cluster.nodes {
        let clients: String = node.query(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        let of_crate = clients.lines().filter(|line| line.contains("addr=127.0.0.1")).count();
        assert!(of_crate <= 2, "{of_crate} connections to one node:\n{clients}");
        assert!(node.keys().await.len() > COUNT / 4, "a primary has few of the names");
    }
    // Each is renewed, which moves its deadline.
    let deadlines: Vec<_> = permits.iter().map(Permit::deadline).collect();
    eventually("all are renewed", LEASE, async || {
        permits.iter().zip(&deadlines).all(|(permit, before)| permit.deadline() > *before)
    })
    .await;
    assert!(permits.iter().all(|permit| !permit.is_lost()));
    let given = stream::iter(permits).map(|permit| permit.release()).buffer_unordered(ABREAST);
    within(6 * PATIENCE, given.try_collect::<Vec<_>>()).await.unwrap();
    eventually("nothing is held", PATIENCE, async || {
        let keys = cluster.keys().await;
        !keys.iter().any(|key| key.ends_with(":permits"))
    })
    .await;
}
