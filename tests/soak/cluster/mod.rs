//! Processes that share names on a cluster, while its primaries are killed and its slots move.
//!
//! As in the soak of one server, an outside witness judges them. A primary that dies may have acknowledged writes that
//! its replica has not. So the names of that primary may be over their limits from then on until every holder has
//! said the word that tells it, a lease after the promotion at the latest. That is measured and told by cause. At all
//! other times, and at all other names, nothing may be over its limit, and no permit may be missing. If the handles have
//! a grace of the longest lease, that must hold for names that were used before, whatever was lost.
//!
//! A slot whose move is given up is another cause: an operator puts older copies of keys in place of newer ones. There
//! tokens may fall, too, as [`book`](crate::book) tells.

mod end;
mod faults;
mod lost_writes;
mod shard;
pub mod spread;
mod station;

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};

use crate::aftermath::{recover_all, stop};
use crate::operator::Operator;
use crate::scene::{Scene, Tally};
use crate::witness::Witness;
use crate::{Plan, STORM, nothing_was_found};

use faults::{Times, cluster_storm};
use station::Station;

const PROCESSES: usize = 12;
/// On a machine that is busy, a node may be silent for long without being dead.
const NODE_TIMEOUT: Duration = Duration::from_secs(4);
/// All must work again by then. On a machine that is busy, thirty names take their time.
const CALM: Duration = Duration::from_secs(40);

pub async fn soak(plan: &Plan) {
    let builder = RedisCluster::builder().primaries(3).replicas(1).node_timeout(NODE_TIMEOUT);
    // The other shards go on while one has no primary.
    let mut cluster = builder.args(&["--cluster-require-full-coverage", "no"]).start().await;
    let operator = Operator::of_cluster(&cluster);
    let witness = Witness::start(spread::names());
    {
        let mut state = witness.state();
        state.finds_missing_permits = true;
        // A storm that waits for its last fault may be long.
        state.longest_wait_allowed = 4 * STORM;
    }
    let scene = Scene { witness, tally: Tally::default(), operator };
    let mut random = Rng::with_seed(plan.seed);
    let mut times = Times::default();
    let mut stations = Vec::new();
    for index in 0..PROCESSES {
        let seeds = random.fork();
        stations.push(Station::open(index, &cluster, &scene, plan.failover_grace, seeds).await);
    }
    let start = Instant::now();
    let minutes = Duration::from_secs(60 * plan.minutes.max(1));
    let mut round = 0;
    while Instant::now() + STORM <= start + minutes && scene.witness.state().findings.is_empty() {
        round += 1;
        let end = Instant::now() + STORM;
        let at_stations = stations.iter_mut().map(|s| s.storm(&scene, end, random.fork()));
        let at_stations = join_all(at_stations.collect::<Vec<_>>());
        let graceful = !plan.failover_grace.is_zero();
        let at_cluster =
            cluster_storm(&mut cluster, &scene, graceful, end, random.fork(), &mut times);
        tokio::select! {
            _ = async { tokio::join!(at_stations, at_cluster) } => {}
            () = judge(&scene) => {}
        }
        let processes: Vec<_> = stations.iter().map(|station| station.child.pid()).collect();
        let calm = recover_all(&scene, &processes, "the storm", CALM).await;
        println!(
            "  {:>5.0} s: storm {round}, {} faults so far, {} holds; all work again after {:.1} s",
            start.elapsed().as_secs_f64(),
            scene.tally.counts().values().sum::<u64>(),
            scene.witness.state().holds,
            calm.as_secs_f64()
        );
    }
    stop(&scene, stations.iter_mut().map(|station| &mut station.child).collect()).await;
    end::nothing_is_left(&scene, &cluster).await;
    scene.witness.state().judge_all();
    end::prove(&scene);
    end::report(&scene, &times, start.elapsed());
    nothing_was_found(&scene, plan);
}

async fn judge(scene: &Scene) {
    loop {
        sleep(Duration::from_secs(1)).await;
        scene.witness.state().judge();
    }
}
