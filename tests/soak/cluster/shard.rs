//! A primary with its replica, and the slots that it serves.

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::{SLOTS, Slot};
use test_support::redis_cluster::view::View;

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

    pub fn serves(&self, slot: Slot) -> bool {
        self.view.myself().serves(slot)
    }
}
