//! Nodes that are replaced, seeds that die, and slots that nobody serves.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::{SLOTS, slot_of};
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};
use tokio::time::{Instant, sleep};

use crate::COVERAGE;
use crate::holder::Holder;
use crate::load::{Load, client};

#[tokio::test]
async fn a_node_that_is_replaced_under_its_address_serves_the_names_of_the_old_one() {
    let mut cluster = RedisCluster::start(2).await;
    let holder = Holder::at(&cluster, 1).await;
    let old = cluster.id_of(1).await;
    cluster.nodes[1].replace_node().await;
    cluster.forget(&old).await;
    cluster.meet(0, 1).await;
    cluster.give_slots(1, SLOTS / 2..SLOTS).await;
    cluster.wait_until_ready().await;
    holder.gets_it_back().await;
}

/// A node that was replaced has no slots at first, and another server may have got the address of a seed.
#[tokio::test]
async fn all_seeds_but_one_may_be_other_servers_or_nodes_without_slots() {
    let cluster = RedisCluster::start(2).await;
    let stranger = RedisServer::start().await;
    let fresh = RedisServer::builder().cluster_node().start().await;
    let (stranger, fresh, node) = (stranger.addr(), fresh.addr(), cluster.nodes[0].addr());
    let names = [cluster.name_at(0, "jobs").await, cluster.name_at(1, "jobs").await];
    // Whichever answers first counts.
    for _ in 0..5 {
        let client = client(format!("redis+cluster://{fresh},{stranger},{node}")).await;
        for name in &names {
            let semaphore = client.semaphore(name, 1).build().unwrap();
            within(PATIENCE, semaphore.acquire(1)).await.unwrap().release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_whose_only_seed_has_gone_asks_the_nodes_that_it_has_learnt() {
    let mut cluster =
        RedisCluster::builder().primaries(3).replicas(1).args(&COVERAGE).start().await;
    let client = client(cluster.url_by(&[0])).await;
    let mut loads = Vec::new();
    for home in [0, 1] {
        let name = cluster.name_at(home, "jobs").await;
        let semaphore = client.semaphore(&name, 2).build().unwrap();
        loads.push((name, Load::start(&[semaphore], 4)));
    }
    for (_, load) in &loads {
        load.goes_on(50).await;
        load.forgive();
    }
    for (home, (name, load)) in loads.into_iter().enumerate() {
        cluster.nodes[home].kill();
        let (_, promoted) = cluster.promoted(slot_of(&name), home).await;
        load.goes_on(50).await;
        println!("served {:?} after the promotion", promoted.elapsed());
        load.stop().await;
    }
}

#[tokio::test]
async fn a_slot_that_nobody_serves_holds_up_its_own_names_alone() {
    let cluster = RedisCluster::builder().args(&COVERAGE).start().await;
    let client = client(cluster.url()).await;
    let names = cluster.names_at(0, "jobs", 2).await;
    let [bare, served] =
        [&names[0], &names[1]].map(|name| client.semaphore(name, 1).build().unwrap());
    drop(bare.acquire(1).await.unwrap());
    let load = Load::start(&[served], 4);
    load.goes_on(50).await;
    cluster.take_slot(slot_of(&names[0])).await;
    let waiting = tokio::spawn(bare.acquire(1));
    load.take_waits();
    sleep(ms(1_000)).await;
    assert!(!waiting.is_finished());
    load.goes_on(50).await;
    assert!(load.take_waits().longest() < ms(400));
    cluster.give_slots(1, [slot_of(&names[0])]).await;
    let given = Instant::now();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    println!("served {:?} after the slot had a primary", given.elapsed());
    assert!(given.elapsed() < ms(1_000), "{:?}", given.elapsed());
    load.stop().await;
}
