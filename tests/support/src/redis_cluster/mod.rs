//! A cluster of primaries and replicas, all real processes of the test's own.

mod failover;
mod membership;
pub mod slot_move;
pub mod slots;
pub mod view;

use std::time::Duration;

use redis::FromRedisValue;
use tokio::time::{Instant, sleep};

use crate::redis_server::{RedisServer, RedisServerBuilder};
use crate::wait::{POLL_EVERY, ms};

use slots::SLOTS;
use view::View;

/// A primary that has just started takes no writes for 2 s, and a replica needs to be seen by all. On a machine that is
/// busy, an election in between takes several node timeouts.
const START: Duration = Duration::from_secs(180);
/// Slots that nobody serves by then are given back by hand.
const MENDED: Duration = Duration::from_secs(15);

/// How a [`RedisCluster`] is started.
///
/// # Default
///
/// Two primaries without replicas, no password; a node that is silent for 500 ms counts as failing.
#[must_use]
pub struct RedisClusterBuilder {
    primaries: usize,
    replicas: usize,
    node_timeout: Duration,
    password: Option<String>,
    args: Vec<String>,
}

impl RedisClusterBuilder {
    pub fn primaries(mut self, primaries: usize) -> Self {
        self.primaries = primaries;
        self
    }

    /// How many replicas each primary has.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// For how long a node must be silent to count as failing.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// Asks this password of the default user of all nodes.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds one argument to the command line of all nodes.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments to the command line of all nodes.
    pub fn args(self, args: &[&str]) -> Self {
        args.iter().fold(self, |builder, &arg| builder.arg(arg))
    }

    /// Starts all nodes, joins them, and waits until each of them sees all of the others at work.
    pub async fn start(self) -> RedisCluster {
        let count = self.primaries * (1 + self.replicas);
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.node().start().await);
        }
        let cluster = RedisCluster { nodes, options: self };
        cluster.join().await;
        cluster.wait_until_ready().await;
        cluster
    }

    fn node(&self) -> RedisServerBuilder {
        let timeout = self.node_timeout.as_millis().to_string();
        let mut builder = RedisServer::builder().cluster_node();
        for (name, value) in [
            ("--cluster-node-timeout", timeout.as_str()),
            // A replica stays with its primary, and a primary whose last slot has moved stays a primary.
            ("--cluster-allow-replica-migration", "no"),
            // However long a replica was cut off: it may be promoted.
            ("--cluster-replica-validity-factor", "0"),
            ("--repl-diskless-sync", "yes"),
            ("--repl-diskless-sync-delay", "0"),
            ("--repl-diskless-load", "swapdb"),
            // A replica is listed once it has heard something of its primary.
            ("--repl-ping-replica-period", "1"),
        ] {
            builder = builder.arg(name).arg(value);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password).arg("--masterauth").arg(password);
        }
        for arg in &self.args {
            builder = builder.arg(arg);
        }
        builder
    }
}

/// A cluster of `redis-server` processes. Dropping it kills all of them.
///
/// Calls that ask any node pass over nodes that were killed or frozen by way of `nodes`.
pub struct RedisCluster {
    /// At the start, the primaries come first. Node `p` has its replicas at `p + primaries`, `p + 2 * primaries`, ..
    pub nodes: Vec<RedisServer>,
    options: RedisClusterBuilder,
}

impl RedisCluster {
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder {
            primaries: 2,
            replicas: 0,
            node_timeout: ms(500),
            password: None,
            args: Vec::new(),
        }
    }

    /// Starts a cluster of so many primaries without replicas.
    pub async fn start(primaries: usize) -> Self {
        Self::builder().primaries(primaries).start().await
    }

    /// The url with all nodes of the start as seeds.
    pub fn url(&self) -> String {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        self.url_by(&all)
    }

    /// The url with these nodes as seeds.
    pub fn url_by(&self, nodes: &[usize]) -> String {
        let seeds: Vec<_> = nodes.iter().map(|&node| self.nodes[node].addr().to_string()).collect();
        let login = self.options.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis+cluster://{}{}", login.unwrap_or_default(), seeds.join(","))
    }

    pub fn primaries_at_start(&self) -> usize {
        self.options.primaries
    }

    /// Runs one command on the node that serves the slot of `name`.
    pub async fn query_at<T: FromRedisValue>(&self, name: &str, words: &[&str]) -> T {
        let owner = self.owner_of(name).await;
        self.nodes[owner].query(words).await
    }

    /// The keys of all primaries, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for node in self.primaries().await {
            keys.extend(self.nodes[node].keys().await);
        }
        keys.sort();
        keys
    }

    /// Waits until all slots are served, replicas have the data of their primaries, and the nodes that answer
    /// agree on what each of them does.
    pub async fn wait_until_ready(&self) {
        let began = Instant::now();
        let (deadline, mut mended) = (began + START, false);
        while !self.is_ready().await {
            if !mended && began.elapsed() > MENDED {
                mended = true;
                self.mend_slots().await;
            }
            assert!(
                Instant::now() < deadline,
                "the cluster is not ready after {START:?}. {}",
                self.told().await
            );
            sleep(POLL_EVERY).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let mut views = Vec::new();
        for node in self.answering() {
            let view = self.view(node).await;
            let all_served = view.is_ok && view.slots_served() == usize::from(SLOTS);
            if !all_served || !self.is_linked(node, &view).await {
                return false;
            }
            views.push(view);
        }
        views.iter().all(|view| views.iter().all(|other| view.agrees_with(other)))
    }

    /// What the nodes that answer say of the cluster.
    async fn told(&self) -> String {
        let mut told = String::new();
        for node in self.answering() {
            for command in ["NODES", "INFO"] {
                let said: String = self.nodes[node].query(&["CLUSTER", command]).await;
                told += &format!("\nCLUSTER {command} of node {node}:\n{said}");
            }
        }
        told
    }

    /// Whether the node is a primary, or a replica that has the data of its primary.
    async fn is_linked(&self, node: usize, view: &View) -> bool {
        if view.myself().is_primary {
            return true;
        }
        let info: String = self.nodes[node].query(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    }
}
