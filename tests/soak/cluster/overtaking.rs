//! A replica that lags takes the place of its primary, so that the last grants and renewals are lost.
//!
//! What is lost is read and not guessed. The primary is paused before it is killed, so what it has then is all that it
//! has acknowledged. The replica is frozen and cut off before, so what it has does not change until it is
//! promoted.

use std::time::Duration;

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};
use tokio::time::{Instant, sleep};

use super::copy::Copy;
use super::election::{Replaced, come_back, replaced};
use super::lost_permits::{LostPermits, Sum};
use super::shard::Shard;
use super::spread::{self, LONGEST_LEASE};
use super::word::{Word, Words};
use crate::names::{Kind, Name};
use crate::scene::{Scene, ms};

/// How the replica comes to be the primary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// An operator tells it to, and half of the processes hear of it late.
    AtOnce,
    /// The other primaries elect it.
    Elected,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "primary overtaken at once",
            Self::Elected => "primary overtaken by election",
        }
    }
}

pub struct Overtaking<'a> {
    pub scene: &'a Scene,
    pub words: &'a Words,
    pub grace: Duration,
}

impl Overtaking<'_> {
    /// Lets the replica of some shard take over. The old primary comes back later.
    pub async fn run(
        &self,
        cluster: &mut RedisCluster,
        how: How,
        random: &mut Rng,
    ) -> (Replaced, Sum) {
        let shard = &self.shard_without_grace(cluster, random).await;
        let lag = ms(random, 400..1_500);
        let late = ms(random, 1_500..2_500);
        cut_off(cluster, shard).await;
        self.words.say(Word::Rush);
        sleep(lag).await;
        self.words.say(if how == How::AtOnce { Word::Still } else { Word::Storm });
        let primary = &cluster.nodes[shard.primary];
        primary.cmd(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
        let had = Copy::of(primary).await;
        cluster.nodes[shard.primary].kill();
        cluster.nodes[shard.replica].thaw();
        let replica = &cluster.nodes[shard.replica];
        lost_its_primary(replica).await;
        let has = Copy::of(replica).await;
        let mut lost = LostPermits::between(self.scene, how.name(), self.grace, &had, &has);
        if how == How::AtOnce {
            cluster.take_over(shard.replica).await;
        }
        let took = replaced(cluster, shard).await;
        let others_are_let_in = async {
            sleep(late).await;
            self.words.say(Word::Storm);
        };
        tokio::join!(others_are_let_in, lost.settle(cluster, shard.replica, self.scene));
        come_back(cluster, shard, random).await;
        (took, lost.sum())
    }

    /// A shard whose names are granted, so that there is something to lose.
    async fn shard_without_grace(&self, cluster: &RedisCluster, random: &mut Rng) -> Shard {
        let patient_until = Instant::now() + 2 * LONGEST_LEASE.max(self.grace);
        loop {
            let shard = Shard::any(cluster, random).await.expect("each primary has a replica");
            if Instant::now() > patient_until || !self.is_in_grace(&shard).await {
                return shard;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_in_grace(&self, shard: &Shard) -> bool {
        let has_grace = |name: &&Name| {
            shard.serves(slot_of(name.name)) && spread::has_grace(name.name, self.grace)
        };
        for name in spread::names().iter().filter(has_grace) {
            match self.scene.operator.semaphore(name.name).inspect().await {
                Ok(books) if books.failover_grace.is_none() => {}
                _ => return true,
            }
        }
        false
    }
}

/// Has the grace of names begin that nobody uses until they are called: it begins with the first turn.
pub async fn begin_graces(scene: &Scene) {
    for name in spread::names().iter().filter(|name| name.kind == Kind::Graceful) {
        let _ = scene.operator.semaphore(name.name).try_acquire(1).await;
    }
}

/// From now on, the replica of a shard hears nothing of its primary.
async fn cut_off(cluster: &mut RedisCluster, shard: &Shard) {
    cluster.nodes[shard.replica].freeze();
    cluster.nodes[shard.primary].cmd(&["CLIENT", "KILL", "TYPE", "replica"]).await;
}

/// Waits until the replica has read the last that its primary has sent.
async fn lost_its_primary(replica: &RedisServer) {
    eventually("the replica sees that its primary is gone", 6 * PATIENCE, async || {
        let info: String = replica.query(&["INFO", "replication"]).await;
        info.contains("master_link_status:down")
    })
    .await;
}
