//! A real cluster of `redis-server` processes, gone when the test is.

use std::collections::BTreeMap;

use redis::Value;

use crate::redis_server::RedisServer;
use crate::reserved_port::ReservedPort;
use crate::wait::{PATIENCE, eventually};

const SLOTS: u16 = 16_384;
/// After which time without an answer a node is taken for dead, in milliseconds.
const NODE_TIMEOUT: &str = "500";

/// Primaries that share the slots evenly, in the order of the slots, and perhaps a replica of each.
pub struct RedisCluster {
    pub primaries: Vec<RedisServer>,
    /// The replica at an index is that of the primary at the same index.
    pub replicas: Vec<RedisServer>,
    // After the processes.
    _buses: Vec<ReservedPort>,
}

impl RedisCluster {
    /// Starts a cluster without replicas.
    pub async fn start(primaries: usize) -> Self {
        Self::start_with(primaries, &[]).await
    }

    /// As [`start`](Self::start), with more arguments for each server.
    pub async fn start_with(primaries: usize, args: &[&str]) -> Self {
        let mut cluster = Self { primaries: Vec::new(), replicas: Vec::new(), _buses: Vec::new() };
        for nth in 0..primaries {
            let node = cluster.start_node(args).await;
            let (first, last) = cluster.slots_of(nth, primaries);
            let epoch = (nth + 1).to_string();
            node.cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            let (first, last) = (first.to_string(), last.to_string());
            node.cmd(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            cluster.introduce(&node, nth).await;
            cluster.primaries.push(node);
        }
        cluster.until_agreed().await;
        cluster
    }

    /// Starts a cluster in which each primary has a replica, with more arguments for each server.
    pub async fn with_replicas(primaries: usize, args: &[&str]) -> Self {
        let mut cluster = Self::start_with(primaries, args).await;
        for nth in 0..primaries {
            let replica = cluster.start_node(args).await;
            cluster.introduce(&replica, primaries + nth).await;
            let primary = cluster.id_of(&cluster.primaries[nth]).await;
            let knows = async || {
                let nodes: String = replica.query(&["CLUSTER", "NODES"]).await;
                nodes.contains(&primary)
            };
            eventually("the replica knows its primary", PATIENCE, knows).await;
            replica.cmd(&["CLUSTER", "REPLICATE", &primary]).await;
            cluster.replicas.push(replica);
        }
        for replica in &cluster.replicas {
            let is_linked = async || {
                let role: Vec<Value> = replica.query(&["ROLE"]).await;
                role.get(3) == Some(&Value::BulkString(b"connected".to_vec()))
            };
            eventually("the replica has its data", PATIENCE, is_linked).await;
        }
        cluster.until_agreed().await;
        cluster
    }

    async fn start_node(&mut self, args: &[&str]) -> RedisServer {
        let bus = ReservedPort::new();
        let builder = RedisServer::builder()
            .arg("--cluster-enabled")
            .arg("yes")
            .arg("--cluster-node-timeout")
            .arg(NODE_TIMEOUT)
            .arg("--cluster-port")
            .arg(bus.addr().port().to_string());
        let builder = args.iter().fold(builder, |builder, &arg| builder.arg(arg));
        self._buses.push(bus);
        builder.start().await
    }

    /// Tells the first node of another one, which is the `nth` that was started.
    async fn introduce(&self, node: &RedisServer, nth: usize) {
        let Some(first) = self.primaries.first() else { return };
        let bus = self._buses[nth].addr().port().to_string();
        first.cmd(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus]).await;
    }

    fn slots_of(&self, nth: usize, primaries: usize) -> (u16, u16) {
        let bound = |nth: usize| (usize::from(SLOTS) * nth / primaries) as u16;
        (bound(nth), bound(nth + 1) - 1)
    }

    /// The URL that names all primaries.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.primaries.iter().map(|node| node.addr().to_string()).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// All nodes: the primaries, and then the replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.primaries.iter().chain(&self.replicas)
    }

    pub async fn id_of(&self, node: &RedisServer) -> String {
        node.query(&["CLUSTER", "MYID"]).await
    }

    pub async fn slot_of(&self, name: &str) -> u16 {
        self.primaries[0].query(&["CLUSTER", "KEYSLOT", name]).await
    }

    /// Returns the index of the primary that has had the slot of a name from the start.
    pub async fn home_of(&self, name: &str) -> usize {
        let slot = self.slot_of(name).await;
        let homes = 0..self.primaries.len();
        let has = |&nth: &usize| (self.slots_of(nth, self.primaries.len()).1) >= slot;
        homes.into_iter().find(has).expect("each slot has a home")
    }

    /// Returns a name, beginning with `stem`, whose slot the primary at `home` has had from the start.
    pub async fn name_at(&self, home: usize, stem: &str) -> String {
        for nth in 0.. {
            let name = format!("{stem}-{nth}");
            if self.home_of(&name).await == home {
                return name;
            }
        }
        unreachable!("names do not end")
    }

    /// Waits until all nodes know the same primaries, each with its slots, and all slots are served.
    pub async fn until_agreed(&self) {
        let agreed = async || {
            let mut views = Vec::new();
            for node in self.nodes() {
                let info: String = node.query(&["CLUSTER", "INFO"]).await;
                if !info.contains("cluster_state:ok") {
                    return false;
                }
                views.push(view(&node.query(&["CLUSTER", "SLOTS"]).await));
            }
            let nodes: String = self.primaries[0].query(&["CLUSTER", "NODES"]).await;
            nodes.lines().count() == self.nodes().count()
                && views.iter().all(|view| Some(view) == views.first())
        };
        eventually("the nodes agree", PATIENCE, agreed).await;
    }

    /// Moves a slot from one primary to another the way that all versions know: the keys go one by one, and
    /// meanwhile neither node has all of them. `between` runs after the first half of the keys has gone.
    pub async fn move_slot(
        &self,
        slot: u16,
        from: &RedisServer,
        to: &RedisServer,
        between: impl AsyncFnOnce(),
    ) {
        let (slot, from_id, to_id) =
            (slot.to_string(), self.id_of(from).await, self.id_of(to).await);
        to.cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        from.cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
        let half = keys_in(from, &slot).await.len() / 2;
        migrate(from, to, &slot, half).await;
        between().await;
        migrate(from, to, &slot, usize::MAX).await;
        for node in [to, from].into_iter().chain(self.primaries.iter()) {
            node.cmd(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        }
    }
}

async fn keys_in(node: &RedisServer, slot: &str) -> Vec<String> {
    node.query(&["CLUSTER", "GETKEYSINSLOT", slot, "1000"]).await
}

/// Moves up to `most` keys.
async fn migrate(from: &RedisServer, to: &RedisServer, slot: &str, most: usize) {
    let mut moved = 0;
    loop {
        let keys = keys_in(from, slot).await;
        if keys.is_empty() || moved >= most {
            return;
        }
        for key in keys.iter().take(most - moved) {
            let port = to.port().to_string();
            from.cmd(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
            moved += 1;
        }
    }
}

/// The port of the primary of each range of slots.
fn view(slots: &Value) -> BTreeMap<i64, i64> {
    let Value::Array(ranges) = slots else { return BTreeMap::new() };
    let ranges = ranges.iter().filter_map(|range| match range {
        Value::Array(range) => match range.as_slice() {
            [Value::Int(first), _, Value::Array(primary), ..] => match primary.get(1) {
                Some(Value::Int(port)) => Some((*first, *port)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    ranges.collect()
}
