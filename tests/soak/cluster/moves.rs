//! Slots that move: key by key, in one step, and half-way and back.

use std::time::Duration;

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slot_move::{AtomicMove, SlotMove};
use test_support::redis_cluster::slots::slot_of;
use tokio::time::{Instant, sleep};

use super::lost_writes::LostWrites;
use super::spread;
use crate::names::{Kind, Name};
use crate::scene::{Scene, ms};

/// Moves the slot of some name key by key, with a pause when half of it has moved. Returns for how long it was open.
pub async fn move_slot(cluster: &RedisCluster, random: &mut Rng) -> Duration {
    let moving = move_half_a_slot(cluster, any_name(random), random).await;
    let began = moving.began();
    moving.move_keys().await;
    moving.finish().await;
    began.elapsed()
}

/// Moves half of the slot of some name, and back. Returns for how long it was open.
pub async fn give_up_a_move(
    cluster: &RedisCluster,
    scene: &Scene,
    kind: &'static str,
    random: &mut Rng,
) -> Duration {
    let moving = move_half_a_slot(cluster, any_name_but_replicated(random), random).await;
    let began = moving.began();
    let lost = LostWrites::of_slot(scene, kind, moving.slot());
    moving.give_up().await;
    lost.end();
    began.elapsed()
}

fn any_name(random: &mut Rng) -> &'static Name {
    random.choice(spread::names()).expect("there are names")
}

/// A move that is given up puts older copies in place, and no replica knows better.
fn any_name_but_replicated(random: &mut Rng) -> &'static Name {
    loop {
        let name = any_name(random);
        if name.kind != Kind::Replicated {
            return name;
        }
    }
}

async fn move_half_a_slot<'a>(
    cluster: &'a RedisCluster,
    name: &Name,
    random: &mut Rng,
) -> SlotMove<'a> {
    let name = name.name;
    let to = another_primary(cluster, name, random).await;
    let moving = cluster.begin_move(slot_of(name), to).await;
    let keys = moving.keys_left().await;
    for key in &keys[..keys.len() / 2] {
        moving.move_key(key).await;
        sleep(ms(random, 0..200)).await;
    }
    sleep(ms(random, 20..1_000)).await;
    moving
}

/// Moves the slot of some name in one step, where the engine can.
pub async fn move_at_once(
    cluster: &RedisCluster,
    random: &mut Rng,
) -> (&'static str, Option<Duration>) {
    let name = any_name(random).name;
    let to = another_primary(cluster, name, random).await;
    let since = Instant::now();
    match AtomicMove::of_server() {
        Some(by) => {
            cluster.move_atomically(by, slot_of(name), to).await;
            ("slot moved in one step", Some(since.elapsed()))
        }
        None => {
            cluster.move_slot(slot_of(name), to).await;
            ("slot moved without a pause", Some(since.elapsed()))
        }
    }
}

async fn another_primary(cluster: &RedisCluster, name: &str, random: &mut Rng) -> usize {
    let owner = cluster.owner_of(name).await;
    let others = cluster.primaries().await.into_iter().filter(|&node| node != owner);
    random.choice(others.collect::<Vec<_>>()).expect("there is another primary")
}
