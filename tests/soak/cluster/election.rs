//! How a replica is promoted by the other primaries, and by hand where they do not.
//!
//! An election may fail for reasons that are none of the crate. A voter votes for a shard once in two node timeouts,
//! and a candidate asks again after four. A node that gets no processor time loses votes and is taken for dead. And a
//! voter refuses a candidate that has not heard of the last epoch of its own primary, each time it asks. So an
//! operator ends an election that takes long.

use std::time::Duration;

use fastrand::Rng;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};

use super::shard::Shard;
use crate::scene::ms;

/// Far above the time of a failover: a node timeout, a second, and the votes.
const ELECTION: Duration = Duration::from_secs(15);

/// How much of a log tells why nobody was elected.
const LINES: usize = 12;
/// A replica gives up a failover by hand after 5 s.
const GIVEN_UP: Duration = Duration::from_secs(6);
/// For how long a failover by hand is tried.
const BY_HAND: Duration = Duration::from_secs(30);

/// A promotion.
pub struct Replaced {
    pub took: Duration,
    /// Whether an operator had to promote the replica, because no other node did.
    pub by_operator: bool,
}

/// Waits until the replica of a shard has taken over.
pub async fn replaced(cluster: &RedisCluster, shard: &Shard) -> Replaced {
    let since = Instant::now();
    let mut by_operator = false;
    loop {
        if let Some((_, at)) = cluster.promoted_within(ELECTION, shard.slot, shard.primary).await {
            return Replaced { took: at - since, by_operator };
        }
        by_operator = true;
        println!("           no replica was elected in {:?}; its log ends:", since.elapsed());
        let log = cluster.nodes[shard.replica].log();
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            println!("             {line}");
        }
        cluster.take_over(shard.replica).await;
    }
}

/// Has the replica of a shard take over in agreement with its primary. It may be refused, and it may come to nothing,
/// because voters refuse it or are slow: then the replica gives up, and does not try again by itself. Returns
/// how long it took, if it came to pass.
pub async fn fail_over(cluster: &RedisCluster, shard: &Shard) -> Option<Duration> {
    let since = Instant::now();
    while since.elapsed() < BY_HAND {
        let words = ["CLUSTER", "FAILOVER"];
        if cluster.nodes[shard.replica].try_query::<()>(&words).await.is_err() {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        let promoted = cluster.promoted_within(GIVEN_UP, shard.slot, shard.primary).await;
        if let Some((_, at)) = promoted {
            return Some(at - since);
        }
    }
    None
}

/// The primary that was killed comes back, without data.
pub async fn come_back(cluster: &mut RedisCluster, shard: &Shard, random: &mut Rng) {
    sleep(ms(random, 100..1_500)).await;
    cluster.nodes[shard.primary].restart_empty().await;
}
