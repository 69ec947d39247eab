//! Nodes that forget scripts, come back empty, or speak only the old protocol; and a cluster that is down.

use test_support::redis_cluster::RedisCluster;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::{Instant, sleep};

use crate::holder::Holder;
use crate::load::{Load, client};

#[tokio::test]
async fn a_node_that_forgets_its_scripts_gets_them_again() {
    let cluster = RedisCluster::start(2).await;
    let client = client(cluster.url()).await;
    let mut loads = Vec::new();
    for home in [0, 1] {
        let name = cluster.name_at(home, "jobs").await;
        loads.push(Load::start(&[client.semaphore(&name, 2).build().unwrap()], 4));
    }
    for _ in 0..10 {
        loads[1].goes_on(20).await;
        cluster.nodes[1].cmd(&["SCRIPT", "FLUSH"]).await;
    }
    loads[0].goes_on(20).await;
    for load in loads {
        load.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_empty_at_its_address_gets_its_permits_back() {
    let mut cluster = RedisCluster::start(2).await;
    let holder = Holder::at(&cluster, 1).await;
    cluster.nodes[1].restart_empty().await;
    cluster.wait_until_ready().await;
    holder.gets_it_back().await;
}

#[tokio::test]
async fn a_cluster_that_is_down_is_asked_until_it_is_up_again() {
    let mut cluster = RedisCluster::start(2).await;
    let Holder { semaphore, held } = Holder::at(&cluster, 0).await;
    cluster.nodes[1].kill();
    let is_down = async || {
        let info: String = cluster.nodes[0].query(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:fail")
    };
    eventually("a slot has no node", PATIENCE, is_down).await;
    let waiting = tokio::spawn(semaphore.acquire(1));
    sleep(ms(300)).await;
    assert!(!waiting.is_finished());
    cluster.nodes[1].restart_empty().await;
    cluster.wait_until_ready().await;
    let up = Instant::now();
    held.release().await.unwrap();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    println!("served {:?} after the cluster was up", up.elapsed());
    assert!(up.elapsed() < ms(500));
}

/// Releases a permit of one client, for which another one waits, at each of two nodes.
async fn wake_waiters(cluster: &RedisCluster) {
    let [one, two] = [client(cluster.url()).await, client(cluster.url()).await];
    for home in [0, 1] {
        let name = cluster.name_at(home, "jobs").await;
        let [mine, other] = [&one, &two].map(|client| client.semaphore(&name, 1).build().unwrap());
        let held = mine.acquire(1).await.unwrap();
        let waiting = tokio::spawn(other.acquire(1));
        let queued = async || mine.inspect().await.unwrap().waiters.len() == 1;
        eventually("it waits", PATIENCE, queued).await;
        let released = Instant::now();
        held.release().await.unwrap();
        drop(within(PATIENCE, waiting).await.unwrap().unwrap());
        assert!(released.elapsed() < ms(400), "no wake-up came: {:?}", released.elapsed());
    }
}

#[tokio::test]
async fn nodes_that_speak_only_the_old_protocol_wake_waiters_too() {
    let cluster = RedisCluster::builder().args(&["--rename-command", "HELLO", ""]).start().await;
    wake_waiters(&cluster).await;
}

// Behaviour 80
#[tokio::test]
async fn nodes_that_do_not_know_sharded_channels_wake_waiters_too() {
    if !server_program::has_sharded_channels() {
        // Then all other tests run without.
        return server_program::skip("sharded channels");
    }
    for unknown in ["SSUBSCRIBE", "SPUBLISH"] {
        let cluster =
            RedisCluster::builder().args(&["--rename-command", unknown, ""]).start().await;
        wake_waiters(&cluster).await;
    }
}

// Behaviour 77
#[tokio::test]
async fn the_connections_to_the_nodes_of_a_cluster_are_named_after_their_use() {
    let cluster = RedisCluster::start(1).await;
    let builder = crate::load::builder(cluster.url()).label("api-7");
    let client = crate::common::connect::connected(builder).await;
    let semaphore = client.semaphore("jobs", 1).build().unwrap();
    let held = semaphore.acquire(1).await.unwrap();
    let waiting = tokio::spawn(semaphore.acquire(1));
    // Plain channels are heard on the connection of the turns.
    let of_wake_ups = server_program::has_sharded_channels().then_some("wake-ups");
    let used_for = || ["turns", "slots"].into_iter().chain(of_wake_ups);
    eventually("the node lists all names", PATIENCE, async || {
        let clients: String = cluster.nodes[0].query(&["CLIENT", "LIST"]).await;
        let is_named =
            |used_for| clients.contains(&format!(" name=zset-semaphore:api-7:{used_for} "));
        used_for().all(is_named)
    })
    .await;
    held.release().await.unwrap();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
}
