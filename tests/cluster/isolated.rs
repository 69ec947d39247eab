//! A primary that nobody else in the cluster reaches, with clients that are left with it.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::{Instant, timeout};
use zset_semaphore::{Client, LostReason, ZSetSemaphore};

use crate::COVERAGE;
use crate::load::client;

const LEASE: Duration = ms(3_000);

fn semaphore(client: &Client, name: &str) -> ZSetSemaphore {
    client.semaphore(name, 2).lease(LEASE).build().unwrap()
}

/// Makes a primary forget all other nodes. It goes on as if it were a cluster by itself, and does not hear that
/// its slots were taken.
async fn isolate(cluster: &RedisCluster, node: usize) {
    for other in (0..cluster.nodes.len()).filter(|other| *other != node) {
        let id = cluster.id_of(other).await;
        cluster.nodes[node].cmd(&["CLUSTER", "FORGET", &id]).await;
    }
}

// Behaviour 83
#[tokio::test]
async fn clients_of_an_isolated_primary_come_to_the_new_one_and_lose_what_it_has_no_room_for() {
    if server_program::is_valkey() || server_program::version() >= (7, 2) {
        return server_program::skip("FORGET that other nodes do not hear of");
    }
    let cluster = RedisCluster::builder().replicas(1).args(&COVERAGE).start().await;
    let (old, new) = (0, 2);
    let name = cluster.name_at(old, "jobs").await;
    let left_client = client(cluster.url()).await;
    let left = semaphore(&left_client, &name);
    let replicated = left.acquire(1).await.unwrap();
    cluster.nodes[new].has_all_of(&cluster.nodes[old]).await;

    isolate(&cluster, old).await;
    cluster.take_over(new).await;
    cluster.promoted(slot_of(&name), old).await;
    // The old one has room for one more, and the new one for another.
    let unknown = within(PATIENCE, left.acquire(1)).await.unwrap();
    let mut behind = std::pin::pin!(left.acquire(1));
    assert!(timeout(ms(100), &mut behind).await.is_err());
    let other = semaphore(&client(cluster.url_by(&[1])).await, &name);
    let newer = within(PATIENCE, other.acquire(1)).await.unwrap();
    assert!(other.try_acquire(1).await.is_err());
    assert!(!replicated.is_lost() && !unknown.is_lost(), "nobody can know yet");

    let met = Instant::now();
    for node in 1..cluster.nodes.len() {
        cluster.meet(old, node).await;
    }
    assert_eq!(within(PATIENCE, unknown.lost()).await, LostReason::MissingInStore);
    println!("lost {:?} after the old primary met the others", met.elapsed());
    let full = async || {
        let seen = other.inspect().await.unwrap();
        (seen.in_use, seen.waiters.len()) == (2, 1)
    };
    eventually("the waiter is in the queue of the new primary", PATIENCE, full).await;
    assert!(!replicated.is_lost() && !newer.is_lost());
    let last =
        [&replicated, &unknown, &newer].map(|permit| permit.fencing_token()).into_iter().max();
    newer.release().await.unwrap();
    let next = within(PATIENCE, behind).await.unwrap();
    assert!(Some(next.fencing_token()) > last, "a token does not rise");
    assert!(timeout(LEASE, replicated.lost()).await.is_err());
}
