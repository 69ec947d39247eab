//! Nodes that announce other addresses than those they listen at, as they do in containers and behind NAT.

use redis::Value;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::server_program;
use test_support::wait::{PATIENCE, within};

use crate::load::client;

/// Moves a name from one node to another while a client uses it, whose only seed is the first node. So the client
/// follows a reply of MOVED, and an address in the slot map, which has `host` there.
async fn follows_a_name(announced: &[&str], host: Value) {
    let cluster = RedisCluster::builder().primaries(2).args(announced).start().await;
    let map: Vec<(u16, u16, Vec<Value>)> = cluster.nodes[0].query(&["CLUSTER", "SLOTS"]).await;
    assert!(map.iter().all(|(_, _, node)| node[0] == host), "{map:?}");
    let client = client(cluster.url_by(&[0])).await;
    let name = cluster.name_at(0, "jobs").await;
    let semaphore = client.semaphore(&name, 1).build().unwrap();
    let held = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    cluster.move_slot(slot_of(&name), 1).await;
    within(PATIENCE, held.release()).await.unwrap();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    let other = cluster.name_at(1, "others").await;
    let semaphore = client.semaphore(&other, 1).build().unwrap();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
}

#[tokio::test]
async fn nodes_that_announce_a_host_name_are_reached_by_it() {
    if server_program::major_version() < 7 {
        return server_program::skip("announced host name");
    }
    let by_name = ["--cluster-preferred-endpoint-type", "hostname"];
    let announced = [&by_name[..], &["--cluster-announce-hostname", "localhost"]].concat();
    follows_a_name(&announced, Value::BulkString(b"localhost".to_vec())).await;
}

#[tokio::test]
async fn nodes_that_announce_no_host_are_reached_at_the_host_that_was_asked() {
    if server_program::major_version() < 7 {
        return server_program::skip("announced host name");
    }
    let announced = ["--cluster-preferred-endpoint-type", "unknown-endpoint"];
    follows_a_name(&announced, Value::Nil).await;
}
