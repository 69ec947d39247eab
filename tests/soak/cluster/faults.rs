//! Faults of the nodes, and slots that move. One at a time: the cluster is whole again before the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slot_move::{AtomicMove, SlotMove};
use test_support::redis_cluster::slots::slot_of;
use tokio::time::{Instant, sleep};

use super::lost_writes::LostWrites;
use super::shard::Shard;
use super::spread;
use crate::scene::{Deck, Scene, ms};

#[derive(Clone, Copy)]
enum OfCluster {
    Killed,
    KilledAhead,
    FrozenAndReplaced,
    Frozen,
    ReplicaKilled,
    FailedOver,
    SlotMoved,
    SlotMovedAtOnce,
    MoveGivenUp,
    ConnectionsCut,
    ScriptsFlushed,
}

const OF_CLUSTER: [OfCluster; 11] = [
    OfCluster::Killed,
    OfCluster::KilledAhead,
    OfCluster::FrozenAndReplaced,
    OfCluster::Frozen,
    OfCluster::ReplicaKilled,
    OfCluster::FailedOver,
    OfCluster::SlotMoved,
    OfCluster::SlotMovedAtOnce,
    OfCluster::MoveGivenUp,
    OfCluster::ConnectionsCut,
    OfCluster::ScriptsFlushed,
];

/// Far above the time of a failover: a node timeout, a second, and the votes.
const ELECTION: Duration = Duration::from_secs(15);

/// How long each fault took the cluster itself: until a replica was promoted, until a slot had moved.
#[derive(Default)]
pub struct Times(pub BTreeMap<&'static str, Vec<Duration>>);

/// Goes on until `end`, and until each kind has come once.
pub async fn cluster_storm(
    cluster: &mut RedisCluster,
    scene: &Scene,
    graceful: bool,
    end: Instant,
    mut random: Rng,
    times: &mut Times,
) {
    let mut deck = Deck::new(&OF_CLUSTER);
    for count in 0.. {
        sleep(ms(&mut random, 200..1_000)).await;
        let kind = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end && count >= OF_CLUSTER.len() {
            return;
        }
        let (name, took) = strike(cluster, kind, scene, graceful, &mut random).await;
        times.0.entry(name).or_default().extend(took);
        scene.done(name, None);
        cluster.wait_until_ready().await;
    }
}

/// Lets the fault come and go. Returns what it was, and what it took the cluster.
async fn strike(
    cluster: &mut RedisCluster,
    kind: OfCluster,
    scene: &Scene,
    graceful: bool,
    random: &mut Rng,
) -> (&'static str, Option<Duration>) {
    let span = ms(random, 30..400);
    let shard = Shard::any(cluster, random).await.expect("each primary has a replica");
    match kind {
        OfCluster::Killed => {
            let name = "primary killed";
            let lost = LostWrites::of_primary(scene, name, graceful, |slot| shard.serves(slot));
            cluster.nodes[shard.primary].kill();
            let took = replaced(cluster, &shard).await;
            lost.end();
            come_back(cluster, &shard, random).await;
            (name, Some(took))
        }
        OfCluster::KilledAhead => {
            let name = "primary killed ahead of its replica";
            let lost = LostWrites::of_primary(scene, name, graceful, |slot| shard.serves(slot));
            kill_ahead(cluster, &shard, span).await;
            // At once, so that leases which the replica does not know go on.
            cluster.take_over(shard.replica).await;
            let took = replaced(cluster, &shard).await;
            lost.end();
            come_back(cluster, &shard, random).await;
            (name, Some(took))
        }
        OfCluster::FrozenAndReplaced => {
            let name = "primary frozen until it was replaced";
            let lost = LostWrites::of_primary(scene, name, graceful, |slot| shard.serves(slot));
            cluster.nodes[shard.primary].freeze();
            let took = replaced(cluster, &shard).await;
            sleep(span).await;
            cluster.nodes[shard.primary].thaw();
            lost.end();
            (name, Some(took))
        }
        OfCluster::Frozen => {
            cluster.nodes[shard.primary].freeze();
            sleep(span).await;
            cluster.nodes[shard.primary].thaw();
            ("primary frozen", None)
        }
        OfCluster::ReplicaKilled => {
            cluster.nodes[shard.replica].kill();
            sleep(span).await;
            cluster.nodes[shard.replica].restart_empty().await;
            ("replica killed", None)
        }
        OfCluster::FailedOver => {
            let since = Instant::now();
            cluster.fail_over(shard.replica).await;
            let (_, at) = cluster.promoted(shard.slot, shard.primary).await;
            ("failover by hand", Some(at - since))
        }
        OfCluster::SlotMoved => ("slot moved", Some(move_slot(cluster, random).await)),
        OfCluster::SlotMovedAtOnce => move_at_once(cluster, random).await,
        OfCluster::MoveGivenUp => {
            let name = "move given up";
            (name, Some(give_up_a_move(cluster, scene, name, random).await))
        }
        OfCluster::ConnectionsCut => {
            for node in cluster.answering() {
                if random.bool() {
                    cluster.nodes[node].cut_connections().await;
                }
            }
            ("connections cut", None)
        }
        OfCluster::ScriptsFlushed => {
            cluster.nodes[shard.primary].cmd(&["SCRIPT", "FLUSH"]).await;
            ("scripts flushed", None)
        }
    }
}

/// Kills a primary that has acknowledged writes for a while without its replica.
async fn kill_ahead(cluster: &mut RedisCluster, shard: &Shard, span: Duration) {
    cluster.nodes[shard.replica].freeze();
    cluster.nodes[shard.primary].cmd(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    sleep(span).await;
    cluster.nodes[shard.primary].kill();
    cluster.nodes[shard.replica].thaw();
}

/// Waits until a replica has taken over. On a machine that is busy, the nodes may fail to elect one: then an operator
/// tells it to.
async fn replaced(cluster: &RedisCluster, shard: &Shard) -> Duration {
    let since = Instant::now();
    let elected = cluster.promoted_within(ELECTION, shard.slot, shard.primary).await;
    if elected.is_none() {
        println!("           no replica was elected in {ELECTION:?}");
        cluster.take_over(shard.replica).await;
    }
    let (_, at) = match elected {
        Some(promoted) => promoted,
        None => cluster.promoted(shard.slot, shard.primary).await,
    };
    at - since
}

async fn come_back(cluster: &mut RedisCluster, shard: &Shard, random: &mut Rng) {
    sleep(ms(random, 100..1_500)).await;
    cluster.nodes[shard.primary].restart_empty().await;
}

/// Moves the slot of some name key by key, with a pause when half of it has moved. Returns for how long it was open.
async fn move_slot(cluster: &RedisCluster, random: &mut Rng) -> Duration {
    let moving = move_half_a_slot(cluster, random).await;
    let began = moving.began();
    moving.move_keys().await;
    moving.finish().await;
    began.elapsed()
}

/// Moves half of the slot of some name, and back. Returns for how long it was open.
async fn give_up_a_move(
    cluster: &RedisCluster,
    scene: &Scene,
    kind: &'static str,
    random: &mut Rng,
) -> Duration {
    let moving = move_half_a_slot(cluster, random).await;
    let began = moving.began();
    let lost = LostWrites::of_slot(scene, kind, moving.slot());
    moving.give_up().await;
    lost.end();
    began.elapsed()
}

async fn move_half_a_slot<'a>(cluster: &'a RedisCluster, random: &mut Rng) -> SlotMove<'a> {
    let name = random.choice(spread::names()).expect("there are names").name;
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
async fn move_at_once(
    cluster: &RedisCluster,
    random: &mut Rng,
) -> (&'static str, Option<Duration>) {
    let name = random.choice(spread::names()).expect("there are names").name;
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
