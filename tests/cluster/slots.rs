//! Slots that come to other primaries while their names are in use.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::{Instant, sleep};

use crate::load::{Load, client};

#[tokio::test]
async fn a_slot_that_moves_under_load_doubles_no_permit_and_loses_no_waiter() {
    let cluster = RedisCluster::start(2).await;
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, "jobs").await;
    let handles = clients
        .each_ref()
        .map(|client| client.semaphore(&name, 1).lease(ms(3_000)).build().unwrap());
    let load = Load::start(&handles, 8);
    load.goes_on(200).await;
    let slot = slot_of(&name);
    for to in [1, 0, 1] {
        load.take_waits();
        let start = Instant::now();
        cluster.move_slot_with(slot, to, async || sleep(ms(1_000)).await).await;
        let moved = start.elapsed();
        load.goes_on(100).await;
        println!("the move took {moved:?}, the longest acquire {:?}", load.take_waits().longest());
    }
    load.stop().await;
}

#[tokio::test]
async fn while_a_slot_moves_holders_keep_their_leases_and_waiters_their_places() {
    let cluster = RedisCluster::start(2).await;
    let [one, two] = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, "jobs").await;
    let [mine, other] =
        [&one, &two].map(|client| client.semaphore(&name, 1).lease(ms(3_000)).build().unwrap());
    let held = mine.acquire(1).await.unwrap();
    let mut waiting = Vec::new();
    for (nth, semaphore) in [&other, &mine, &other].into_iter().enumerate() {
        waiting.push(tokio::spawn(semaphore.acquire(1)));
        let queued = async || mine.inspect().await.unwrap().waiters.len() == nth + 1;
        eventually("it waits", PATIENCE, queued).await;
    }
    let slot = slot_of(&name);
    cluster.move_slot_with(slot, 1, async || sleep(ms(1_500)).await).await;
    assert!(!held.is_lost());
    let moved = Instant::now();
    held.release().await.unwrap();
    let mut last = 0;
    for waiting in waiting {
        let held = within(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(held.fencing_token() > last);
        last = held.fencing_token();
        held.release().await.unwrap();
    }
    println!("the queue was served {:?} after the move", moved.elapsed());
    assert!(cluster.nodes[0].keys().await.is_empty());
}

#[tokio::test]
async fn a_name_that_is_new_while_its_slot_moves_is_served_when_it_has_moved() {
    let cluster = RedisCluster::start(2).await;
    let client = client(cluster.url()).await;
    let name = cluster.name_at(0, "new").await;
    let semaphore = client.semaphore(&name, 1).build().unwrap();
    let slot = slot_of(&name);
    let mut waiting = None;
    let between = async || {
        waiting = Some(tokio::spawn(semaphore.acquire(1)));
        sleep(ms(500)).await;
    };
    cluster.move_slot_with(slot, 1, between).await;
    let moved = Instant::now();
    drop(within(PATIENCE, waiting.unwrap()).await.unwrap().unwrap());
    println!("served {:?} after the move", moved.elapsed());
    assert!(moved.elapsed() < ms(1_000));
}

#[tokio::test]
async fn a_turn_that_is_cut_in_the_middle_is_settled_by_the_next_one() {
    let cluster = RedisCluster::start(2).await;
    let [one, two] = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, "jobs").await;
    let [mine, other] =
        [&one, &two].map(|client| client.semaphore(&name, 1).lease(ms(5_000)).build().unwrap());
    let held = mine.acquire(1).await.unwrap();
    let token = held.fencing_token();
    let waiting = tokio::spawn(other.acquire(1));
    let queued = async || mine.inspect().await.unwrap().waiters.len() == 1;
    eventually("it waits", PATIENCE, queued).await;

    // No key has gone yet, so the turn of the release runs until it has removed the only permit.
    let moving = cluster.begin_move(slot_of(&name), 1).await;
    let releasing = tokio::spawn(held.release());
    let cut = async || {
        let stats: String = moving.from().query(&["INFO", "errorstats"]).await;
        stats.contains("errorstat_ERR") && moving.keys_left().await.len() < 4
    };
    eventually("the turn is cut", PATIENCE, cut).await;
    sleep(ms(200)).await;
    assert!(!waiting.is_finished());
    moving.give_up().await;

    within(PATIENCE, releasing).await.unwrap().unwrap();
    let held = within(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(held.fencing_token() > token);
    assert_eq!(mine.inspect().await.unwrap().in_use, 1);
    held.release().await.unwrap();
    assert_eq!(mine.inspect().await.unwrap().in_use, 0);
}

#[tokio::test]
async fn a_name_that_nodes_send_to_and_fro_is_served_when_they_agree() {
    let cluster = RedisCluster::start(2).await;
    let client = client(cluster.url()).await;
    let name = cluster.name_at(0, "jobs").await;
    let semaphore = client.semaphore(&name, 1).lease(ms(5_000)).build().unwrap();
    let held = semaphore.acquire(1).await.unwrap();
    let waiting = tokio::spawn(semaphore.acquire(1));
    let moving = cluster.begin_move(slot_of(&name), 1).await;
    moving.move_keys().await;
    // From now on each says that the other one has it.
    let (slot, new) = (slot_of(&name).to_string(), cluster.id_of(1).await);
    cluster.nodes[0].cmd(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]).await;
    let redirected = async || {
        let stats: String = moving.to().query(&["INFO", "errorstats"]).await;
        stats.contains("errorstat_MOVED")
    };
    drop(within(PATIENCE, semaphore.inspect()).await);
    eventually("it was sent back", PATIENCE, redirected).await;
    cluster.nodes[1].cmd(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]).await;
    assert!(!held.is_lost());
    held.release().await.unwrap();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
}
