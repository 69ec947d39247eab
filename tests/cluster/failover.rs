//! Primaries that are killed, and replicas that take their place.

use std::time::Duration;

use redis::Value;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms};
use tokio::time::{Instant, sleep};

use crate::COVERAGE;
use crate::load::{Load, client};

/// Three primaries, and their replicas from 3 on. The other shards go on while one has no primary.
async fn three_pairs() -> RedisCluster {
    RedisCluster::builder().primaries(3).replicas(1).args(&COVERAGE).start().await
}

async fn is_primary(server: &RedisServer) -> bool {
    let role: Vec<Value> = server.query(&["ROLE"]).await;
    role.first() == Some(&Value::BulkString(b"master".to_vec()))
}

#[tokio::test]
async fn a_primary_that_is_killed_costs_its_names_little_more_than_the_failover_and_others_nothing()
{
    let mut cluster = three_pairs().await;
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let mut loads = Vec::new();
    for home in [0, 1, 2] {
        let name = cluster.name_at(home, "jobs").await;
        let handles = clients.each_ref().map(|client| client.semaphore(&name, 2).build().unwrap());
        loads.push(Load::start(&handles, 6));
    }
    for load in &loads {
        load.goes_on(1_000).await;
        load.take_waits();
        load.goes_on(1_000).await;
    }
    let before: Vec<_> = loads.iter().map(Load::take_waits).collect();
    loads[2].forgive();
    let killed = Instant::now();
    cluster.nodes[2].kill();
    let replica = &cluster.nodes[5];
    eventually("the replica is promoted", PATIENCE, async || is_primary(replica).await).await;
    let promoted = killed.elapsed();
    let rounds = loads[2].rounds();
    loads[2].goes_on(1).await;
    let served = killed.elapsed();
    println!(
        "killed; promoted after {promoted:?}; the first permit after {served:?} ({rounds} rounds)"
    );
    assert!(served < promoted + ms(500), "{served:?}, and promoted after {promoted:?}");
    for load in &loads {
        load.goes_on(200).await;
    }
    for (nth, (load, before)) in loads.into_iter().zip(before).enumerate() {
        let after = load.take_waits();
        let (longest, p99) = (after.longest(), after.p99());
        println!("shard {nth}: p99 before {:?}, after {p99:?}, longest {longest:?}", before.p99());
        assert!(nth == 2 || longest < ms(400), "{longest:?}");
        load.stop().await;
    }
}

#[tokio::test]
async fn a_primary_that_hangs_is_replaced() {
    let mut cluster = three_pairs().await;
    let client = client(cluster.url()).await;
    let name = cluster.name_at(2, "jobs").await;
    let semaphore = client.semaphore(&name, 1).build().unwrap();
    semaphore.acquire(1).await.unwrap().release().await.unwrap();
    let hung = Instant::now();
    cluster.nodes[2].freeze();
    let waiting = tokio::spawn(semaphore.acquire(1));
    let replica = &cluster.nodes[5];
    eventually("the replica is promoted", PATIENCE, async || is_primary(replica).await).await;
    let promoted = hung.elapsed();
    let permit = waiting.await.unwrap().unwrap();
    println!("hung; promoted after {promoted:?}; the first permit after {:?}", hung.elapsed());
    assert!(hung.elapsed() < promoted + ms(1_000));
    // The old one comes back as a replica.
    cluster.nodes[2].thaw();
    sleep(Duration::from_secs(1)).await;
    assert!(!permit.is_lost());
    permit.release().await.unwrap();
    semaphore.acquire(1).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_manual_failover_costs_neither_permits_nor_waiters() {
    let cluster = three_pairs().await;
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(1, "jobs").await;
    let handles = clients.each_ref().map(|client| client.semaphore(&name, 1).build().unwrap());
    let load = Load::start(&handles, 6);
    load.goes_on(500).await;
    for (node, other) in
        [(&cluster.nodes[4], &cluster.nodes[1]), (&cluster.nodes[1], &cluster.nodes[4])]
    {
        load.take_waits();
        node.cmd(&["CLUSTER", "FAILOVER"]).await;
        eventually("it is promoted", PATIENCE, async || is_primary(node).await).await;
        eventually("the other one follows", PATIENCE, async || !is_primary(other).await).await;
        load.goes_on(300).await;
        println!("the longest acquire took {:?}", load.take_waits().longest());
    }
    load.stop().await;
}

// Behaviour 88
#[tokio::test]
async fn after_a_long_outage_a_promotion_is_noticed_at_once() {
    let args = [COVERAGE.as_slice(), &["--cluster-replica-no-failover", "yes"]].concat();
    let mut cluster = RedisCluster::builder().primaries(3).replicas(1).args(&args).start().await;
    let client = client(cluster.url()).await;
    let name = cluster.name_at(2, "jobs").await;
    let semaphore = client.semaphore(&name, 1).build().unwrap();
    drop(semaphore.acquire(1).await.unwrap());
    cluster.nodes[2].kill();
    let waiting = tokio::spawn(semaphore.acquire(1));
    sleep(Duration::from_secs(15)).await;
    assert!(!waiting.is_finished());
    cluster.take_over(5).await;
    let (_, promoted) = cluster.promoted(slot_of(&name), 2).await;
    let permit = waiting.await.unwrap().unwrap();
    println!("after a long outage: granted {:?} after the promotion", promoted.elapsed());
    assert!(promoted.elapsed() < ms(500), "{:?}", promoted.elapsed());
    permit.release().await.unwrap();
}
