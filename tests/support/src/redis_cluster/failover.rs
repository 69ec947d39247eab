//! How a replica takes the place of its primary.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::RedisCluster;
use super::slots::Slot;
use crate::wait::{PATIENCE, eventually, ms};

impl RedisCluster {
    /// Makes a replica the primary, by hand, in agreement with the present one.
    pub async fn fail_over(&self, replica: usize) {
        // A replica whose link is down is refused, as after its primary has just come back.
        let patience = PATIENCE + 2 * self.options.node_timeout;
        eventually("the replica may take over", patience, async || {
            self.nodes[replica].try_query::<()>(&["CLUSTER", "FAILOVER"]).await.is_ok()
        })
        .await;
    }

    /// Makes a replica the primary though its primary and the other nodes do not agree.
    pub async fn take_over(&self, replica: usize) {
        self.nodes[replica].cmd(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await;
    }

    /// Waits until another node than `old` serves a slot and takes commands. Returns which one, and when it did.
    pub async fn promoted(&self, slot: Slot, old: usize) -> (usize, Instant) {
        // A replica that too few primaries have voted for in time asks again after four node timeouts.
        let patience = PATIENCE + 2 * 4 * self.options.node_timeout;
        match self.promoted_within(patience, slot, old).await {
            Some(promoted) => promoted,
            None => panic!("no other node serves slot {slot} by now. {}", self.told().await),
        }
    }

    /// As [`promoted`](Self::promoted), for so long at the most.
    pub async fn promoted_within(
        &self,
        patience: Duration,
        slot: Slot,
        old: usize,
    ) -> Option<(usize, Instant)> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            for node in self.answering() {
                if node != old && self.takes_commands(node, slot).await {
                    return Some((node, Instant::now()));
                }
            }
            sleep(ms(1)).await;
        }
        None
    }

    async fn takes_commands(&self, node: usize, slot: Slot) -> bool {
        let view = self.view(node).await;
        view.is_ok && view.myself().serves(slot)
    }

    /// Waits until all nodes that answer agree who serves a slot. Returns after how long.
    pub async fn agreed(&self, slot: Slot) -> Duration {
        let began = Instant::now();
        loop {
            let mut owners = Vec::new();
            for node in self.answering() {
                owners.push(self.view(node).await.owner(slot).map(|owner| owner.addr));
            }
            if owners[0].is_some() && owners.iter().all(|owner| *owner == owners[0]) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the nodes do not agree on slot {slot}: {owners:?}"
            );
            sleep(ms(2)).await;
        }
    }
}
