//! Somebody who holds the only unit of a name.

use test_support::redis_cluster::RedisCluster;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Permit, ZSetSemaphore};

use crate::load::client;

pub(crate) struct Holder {
    pub(crate) semaphore: ZSetSemaphore,
    pub(crate) held: Permit,
}

impl Holder {
    /// Takes the unit of a name that a node counts.
    pub(crate) async fn at(cluster: &RedisCluster, node: usize) -> Self {
        let client = client(cluster.url()).await;
        let name = cluster.name_at(node, "jobs").await;
        let semaphore = client.semaphore(&name, 1).build().unwrap();
        let held = semaphore.acquire(1).await.unwrap();
        Self { semaphore, held }
    }

    /// Waits until the server has the permit again, which it had lost. Then gives it back.
    pub(crate) async fn gets_it_back(self) {
        let Self { semaphore, held } = self;
        let put_back = async || semaphore.inspect().await.is_ok_and(|seen| seen.in_use == 1);
        eventually("the permit is put back", PATIENCE, put_back).await;
        assert!(!held.is_lost());
        held.release().await.unwrap();
        drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    }
}
