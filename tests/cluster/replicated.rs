//! Grants that are handed out once the replicas of their shard have them.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::wait::{PATIENCE, ms, within};
use tokio::time::{Instant, timeout};
use zset_semaphore::ZSetSemaphore;

use crate::COVERAGE;
use crate::common::inspect::{emptied, found};
use crate::load::client;

// Behaviour 86
#[tokio::test]
async fn a_shard_whose_replica_hangs_holds_up_its_own_names_until_their_slot_moves() {
    let builder = RedisCluster::builder().primaries(2).replicas(1).args(&COVERAGE);
    let mut cluster = builder.start().await;
    let client = client(cluster.url()).await;
    let names = [cluster.name_at(0, "jobs").await, cluster.name_at(1, "jobs").await];
    let at = |name: &str| client.semaphore(name, 2).replicated(1).build().unwrap();
    let [first, second]: [ZSetSemaphore; 2] = names.each_ref().map(|name| at(name));
    for semaphore in [&first, &second] {
        drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
        emptied(semaphore).await;
    }
    cluster.nodes[2].freeze();
    let mut waiting = std::pin::pin!(first.acquire(1));
    assert!(timeout(ms(700), &mut waiting).await.is_err(), "its replica does not have it");
    let begun = Instant::now();
    for _ in 0..10 {
        drop(within(PATIENCE, second.acquire(1)).await.unwrap());
    }
    println!("10 permits of the other shard: {:?}", begun.elapsed());
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    found(&first, 1, 0).await;
    // Valkey moves no slot before all replicas know of it that are connected.
    cluster.nodes[0].cmd(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    cluster.move_slot(slot_of(&names[0]), 1).await;
    let permit = within(PATIENCE, waiting).await.unwrap();
    let key = format!("zsem:{{{}}}:permits", names[0]);
    let mut replica = cluster.nodes[3].connection().await;
    let mut pipe = redis::pipe();
    pipe.cmd("READONLY").ignore().cmd("ZSCORE").arg(key).arg(permit.id().to_string());
    let (score,): (Option<f64>,) = pipe.query_async(&mut replica).await.unwrap();
    assert!(score.is_some(), "the replica of the other shard has it");
    drop(permit);
    emptied(&first).await;
    cluster.nodes[2].thaw();
}
