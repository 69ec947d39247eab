//! A primary with its replica, and the names that it serves.

use fastrand::Rng;
use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::{SLOTS, Slot, slot_of};
use test_support::redis_cluster::view::View;

use crate::book::nanos;
use crate::names::{LONGEST_LEASE, PASSING};
use crate::scene::Scene;

/// From a promotion on, every holder has said a word after a lease, and a busy machine hears of it a little later.
const TOLD_LATE: u64 = 1_000_000_000;

pub struct Shard {
    pub primary: usize,
    pub replica: usize,
    /// Some slot that it serves.
    pub slot: Slot,
    view: View,
}

impl Shard {
    /// Any one that has slots and a replica.
    pub async fn any(cluster: &RedisCluster, random: &mut Rng) -> Option<Self> {
        let primary = random.choice(cluster.primaries().await)?;
        let replica = *cluster.replicas_of(primary).await.first()?;
        let view = cluster.view(primary).await;
        let slot = (0..SLOTS).find(|&slot| view.myself().serves(slot))?;
        Some(Self { primary, replica, slot, view })
    }

    fn names(&self, scene: &Scene) -> Vec<String> {
        let names = scene.witness.state().names();
        names.into_iter().filter(|name| self.view.myself().serves(slot_of(name))).collect()
    }
}

/// The writes that a shard may have acknowledged and lost, as the witness is to judge them.
pub struct LostWrites<'a> {
    scene: &'a Scene,
    shard: &'a Shard,
    kind: &'static str,
    /// Whether names that were used before must not be over their limits all the same.
    graceful: bool,
}

impl<'a> LostWrites<'a> {
    /// From now on, writes may be lost.
    pub fn begin(scene: &'a Scene, shard: &'a Shard, graceful: bool, kind: &'static str) -> Self {
        let lost = Self { scene, shard, kind, graceful };
        lost.tell();
        lost
    }

    /// From now on, none is lost any more.
    pub fn end(self) {
        // Of names that were new meanwhile, too.
        self.tell();
        let known = monotonic_nanos() + nanos(LONGEST_LEASE) + TOLD_LATE;
        for name in self.shard.names(self.scene) {
            self.scene.witness.state().knows_of_lost_writes(&name, known);
        }
    }

    fn tell(&self) {
        for name in self.shard.names(self.scene) {
            if !self.graceful || name.starts_with(PASSING) {
                self.scene.witness.state().may_have_lost_writes(&name, self.kind);
            }
        }
    }
}
