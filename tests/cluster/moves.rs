//! Slots that are open for long, that come and go, and that move in one step.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slot_move::AtomicMove;
use test_support::redis_cluster::slots::slot_of;
use test_support::wait::ms;
use tokio::time::{Instant, sleep};

use crate::load::{Load, client};

/// By how much an acquire may take longer than the slot was open, on a machine that is busy.
const SOON: Duration = Duration::from_millis(500);
/// After this time a waiter asks by itself.
const ASKING_PERIOD: Duration = Duration::from_secs(1);

/// Eight tasks of two clients on one unit of a name at the first primary.
async fn loaded(cluster: &RedisCluster, stem: &str) -> (String, Load) {
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, stem).await;
    let handles = clients.map(|client| client.semaphore(&name, 1).build().unwrap());
    let load = Load::start(&handles, 8);
    load.goes_on(200).await;
    (name, load)
}

/// While no key has moved, turns run at the old place. One that empties a key and uses it again is cut in the middle.
#[tokio::test]
async fn turns_that_are_cut_while_a_slot_is_open_double_no_permit_and_lose_no_waiter() {
    let cluster = RedisCluster::start(2).await;
    let (name, load) = loaded(&cluster, "jobs").await;
    for to in [1, 0] {
        load.take_waits();
        let moving = cluster.begin_move(slot_of(&name), to).await;
        let began = moving.began();
        sleep(ms(1_000)).await;
        moving.move_keys().await;
        moving.finish().await;
        let open = began.elapsed();
        load.goes_on(200).await;
        let longest = load.take_waits().longest();
        println!("open for {open:?}; the longest acquire took {longest:?}");
        assert!(longest < open + SOON, "{longest:?} for {open:?}");
    }
    load.stop().await;
}

#[tokio::test]
async fn a_move_that_is_given_up_costs_its_time_and_an_asking_period() {
    let cluster = RedisCluster::start(2).await;
    // A name for each move: tokens are ahead of the clock for a while after one, and may fall in the next one.
    for stem in ["first", "second", "third"] {
        let (name, load) = loaded(&cluster, stem).await;
        load.take_waits();
        let moving = cluster.begin_move(slot_of(&name), 1).await;
        let began = moving.began();
        let keys = moving.keys_left().await;
        for key in keys.iter().take(2) {
            moving.move_key(key).await;
        }
        sleep(ms(300)).await;
        moving.give_up().await;
        let open = began.elapsed();
        load.goes_on(200).await;
        let longest = load.take_waits().longest();
        println!("open for {open:?}; the longest acquire took {longest:?}");
        // A turn that is cut may take a waiter of the other client from the queue, which asks in its time.
        assert!(longest < open + ASKING_PERIOD + SOON, "{longest:?} for {open:?}");
        load.stop().await;
    }
}

#[tokio::test]
async fn a_slot_that_moves_to_and_fro_without_a_pause_loses_nobody() {
    let cluster = RedisCluster::start(3).await;
    let (name, load) = loaded(&cluster, "jobs").await;
    for to in [1, 2, 0, 1, 0, 2, 0, 1, 2, 0] {
        let began = Instant::now();
        cluster.move_slot(slot_of(&name), to).await;
        let moved = began.elapsed();
        load.goes_on(20).await;
        let longest = load.take_waits().longest();
        println!("moved in {moved:?}; the longest acquire took {longest:?}");
        assert!(longest < moved + SOON, "{longest:?} for {moved:?}");
    }
    load.stop().await;
}

#[tokio::test]
async fn a_slot_that_moves_in_one_step_costs_a_tenth_of_a_second() {
    let Some(by) = AtomicMove::of_server() else {
        println!("this server moves slots key by key alone");
        return;
    };
    let cluster = RedisCluster::start(2).await;
    let (name, load) = loaded(&cluster, "jobs").await;
    let mut quickest = Duration::MAX;
    for to in [1, 0, 1, 0, 1] {
        load.take_waits();
        cluster.move_atomically(by, slot_of(&name), to).await;
        load.goes_on(100).await;
        let longest = load.take_waits().longest();
        println!("the longest acquire took {longest:?}");
        quickest = quickest.min(longest);
    }
    // What a busy machine adds differs from move to move.
    assert!(quickest < ms(100), "{quickest:?}");
    load.stop().await;
}
