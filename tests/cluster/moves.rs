//! Slots that are open for long, and that come and go.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::wait::ms;
use tokio::time::{Instant, sleep};

use crate::load::{Load, client};

/// By how much a move may stop grants for longer than the slot was open, in the middle of all moves.
const COST: Duration = ms(300);
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
async fn a_slot_that_moves_key_by_key_costs_its_own_time_and_little_more() {
    let cluster = RedisCluster::start(2).await;
    let (name, load) = loaded(&cluster, "jobs").await;
    let mut costs = Vec::new();
    for to in [1, 0, 1, 0, 1, 0, 1, 0] {
        load.take_waits();
        load.goes_on(20).await;
        let began = Instant::now();
        // The keys lie on two nodes meanwhile.
        cluster.move_slot_with(slot_of(&name), to, async || sleep(ms(500)).await).await;
        let open = began.elapsed();
        load.goes_on(50).await;
        let gap = load.take_waits().longest_gap();
        println!("open for {open:?}; no grant for {gap:?}");
        costs.push(gap.saturating_sub(open));
    }
    load.stop().await;
    costs.sort_unstable();
    let (cost, highest) = (costs[costs.len() / 2], costs[costs.len() - 1]);
    println!("beyond the time of the move: {cost:?} (p50), {highest:?} (max)");
    assert!(cost < COST && highest < SOON, "{costs:?}");
}
