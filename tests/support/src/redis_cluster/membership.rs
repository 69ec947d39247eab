//! How nodes get into a cluster and out of it.

use super::slots::{SLOTS, Slot, share};
use super::{RedisCluster, START};
use crate::wait::eventually;

impl RedisCluster {
    /// Joins the nodes that were just started, gives the primaries their slots, and the replicas their primaries.
    pub(super) async fn join(&self) {
        let primaries = self.options.primaries;
        for node in 0..self.nodes.len() {
            // Different from the start, epochs need not be made different by the nodes.
            let epoch = (node + 1).to_string();
            self.nodes[node].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            if node < primaries {
                self.give_slots(node, share(node, primaries)).await;
            }
            // Each one to each other one: nothing waits for gossip.
            for other in 0..node {
                self.meet(node, other).await;
            }
        }
        for replica in primaries..self.nodes.len() {
            self.replicate(replica, replica % primaries).await;
        }
    }

    /// Gives a node slots that no node has.
    pub async fn give_slots(&self, node: usize, slots: impl IntoIterator<Item = Slot>) {
        let slots: Vec<_> = slots.into_iter().map(|slot| slot.to_string()).collect();
        let mut words = vec!["CLUSTER", "ADDSLOTS"];
        words.extend(slots.iter().map(String::as_str));
        self.nodes[node].cmd(&words).await;
    }

    /// Takes a slot from the node that serves it. All nodes that answer then count it as served by nobody.
    pub async fn take_slot(&self, slot: Slot) {
        for node in self.primaries().await {
            let slot = slot.to_string();
            // A node that had it from gossip alone may have forgotten it already.
            let _ = self.nodes[node].try_query::<()>(&["CLUSTER", "DELSLOTS", &slot]).await;
        }
    }

    /// Gives primaries back the slots that all others count as theirs. A replica that was promoted before it had
    /// heard of a slot lacks it, until an operator mends that.
    pub(super) async fn mend_slots(&self) {
        for node in self.primaries().await {
            let view = self.view(node).await;
            let id = &view.myself().id;
            let missing: Vec<_> = (0..SLOTS).filter(|&slot| view.owner(slot).is_none()).collect();
            for slot in missing {
                let others = self.answering().into_iter().filter(|&other| other != node);
                let mut all_count_it = true;
                for other in others {
                    let seen = self.view(other).await;
                    all_count_it &= seen.owner(slot).is_some_and(|owner| owner.id == *id);
                }
                if all_count_it {
                    println!("slot {slot} was mended at node {node}");
                    self.give_slots(node, [slot]).await;
                }
            }
        }
    }

    /// Makes two nodes know each other.
    pub async fn meet(&self, one: usize, other: usize) {
        let addr = self.nodes[other].addr();
        let (host, port) = (addr.ip().to_string(), addr.port().to_string());
        self.nodes[one].cmd(&["CLUSTER", "MEET", &host, &port]).await;
    }

    /// Makes a node the replica of a primary, once it knows it.
    pub async fn replicate(&self, replica: usize, primary: usize) {
        let id = self.id_of(primary).await;
        eventually("the replica knows its primary", START, async || {
            let made = self.nodes[replica].try_query::<()>(&["CLUSTER", "REPLICATE", &id]).await;
            made.is_ok()
        })
        .await;
    }

    /// Makes all nodes that answer forget the node of an id.
    pub async fn forget(&self, id: &str) {
        for node in self.answering() {
            let _ = self.nodes[node].try_query::<()>(&["CLUSTER", "FORGET", id]).await;
        }
    }
}
