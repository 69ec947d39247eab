//! Faults of the nodes, and slots that move. One at a time: the cluster is whole again before the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};

use super::election::{Replaced, come_back, fail_over, replaced};
use super::lost_permits::Sum;
use super::lost_writes::LostWrites;
use super::moves::{give_up_a_move, move_at_once, move_slot};
use super::overtaking::{How, Overtaking, begin_graces};
use super::shard::Shard;
use super::word::{Word, Words};
use crate::scene::{Deck, Scene, ms};

#[derive(Clone, Copy)]
enum OfCluster {
    Killed,
    Overtaken(How),
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

const OF_CLUSTER: [OfCluster; 14] = [
    OfCluster::Killed,
    OfCluster::Overtaken(How::AtOnce),
    OfCluster::Overtaken(How::AtOnce),
    OfCluster::Overtaken(How::AtOnce),
    OfCluster::Overtaken(How::Elected),
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

/// What is told of the faults at the end.
#[derive(Default)]
pub struct Record {
    /// How long each fault took the cluster itself: until a replica was promoted, until a slot had moved.
    pub times: BTreeMap<&'static str, Vec<Duration>>,
    /// By how a replica that lagged took over: what was lost.
    pub lost: BTreeMap<&'static str, Sum>,
    /// How many replicas an operator had to promote.
    pub promoted_by_operator: u64,
}

impl Record {
    pub fn lost_in_all(&self) -> Sum {
        let mut all = Sum::default();
        self.lost.values().for_each(|lost| all.add(*lost));
        all
    }
}

/// What all faults of the cluster share.
pub struct Faults<'a> {
    pub scene: &'a Scene,
    pub words: &'a Words,
    pub grace: Duration,
    pub record: &'a mut Record,
}

impl Faults<'_> {
    /// Goes on until `end`, and until each kind has come once.
    pub async fn storm(&mut self, cluster: &mut RedisCluster, end: Instant, mut random: Rng) {
        let mut deck = Deck::new(&OF_CLUSTER);
        for count in 0.. {
            sleep(ms(&mut random, 200..1_000)).await;
            let kind = deck.draw(&mut random);
            let mut random = random.fork();
            if Instant::now() >= end && count >= OF_CLUSTER.len() {
                break;
            }
            let (name, took) = self.strike(cluster, kind, &mut random).await;
            self.record.times.entry(name).or_default().extend(took);
            self.scene.done(name, None);
            cluster.wait_until_ready().await;
            begin_graces(self.scene).await;
        }
        self.words.say(Word::Calm);
    }

    /// Lets the fault come and go. Returns what it was, and what it took the cluster.
    async fn strike(
        &mut self,
        cluster: &mut RedisCluster,
        kind: OfCluster,
        random: &mut Rng,
    ) -> (&'static str, Option<Duration>) {
        let scene = self.scene;
        let span = ms(random, 30..400);
        let shard = Shard::any(cluster, random).await.expect("each primary has a replica");
        match kind {
            OfCluster::Killed => {
                let name = "primary killed";
                let lost = self.may_lose(name, &shard);
                cluster.nodes[shard.primary].kill();
                let took = self.note(replaced(cluster, &shard).await);
                lost.end();
                come_back(cluster, &shard, random).await;
                (name, Some(took))
            }
            OfCluster::Overtaken(how) => {
                let overtaking = Overtaking { scene, words: self.words, grace: self.grace };
                let (took, lost) = overtaking.run(cluster, how, random).await;
                self.record.lost.entry(how.name()).or_default().add(lost);
                let took = self.note(took);
                (how.name(), Some(took))
            }
            OfCluster::FrozenAndReplaced => {
                let name = "primary frozen until it was replaced";
                let lost = self.may_lose(name, &shard);
                cluster.nodes[shard.primary].freeze();
                let took = self.note(replaced(cluster, &shard).await);
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
                let took = fail_over(cluster, &shard).await;
                (if took.is_some() { "failover by hand" } else { "failover by hand refused" }, took)
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

    /// From now on, the shard may lose writes, and nobody knows which.
    fn may_lose<'a>(&self, kind: &'static str, shard: &'a Shard) -> LostWrites<'a>
    where
        Self: 'a,
    {
        LostWrites::of_primary(self.scene, kind, self.grace, |slot| shard.serves(slot))
    }

    fn note(&mut self, replaced: Replaced) -> Duration {
        self.record.promoted_by_operator += u64::from(replaced.by_operator);
        replaced.took
    }
}
