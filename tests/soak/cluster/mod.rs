//! Processes that share names on a cluster, while its primaries are killed and its slots move.
//!
//! As in the soak of one server, an outside witness judges them. A primary that dies may have acknowledged writes that
//! its replica lacks.
//!
//! - Where a replica lags that takes over, the soak reads which permits it lacks ([`lost_permits`]). Only their units may be
//!   over the limit, until the new primary has them again or their leases end. How much that was is measured. Where
//!   there is room, all of them must be put back. With a grace, their units must not be over the limit either,
//!   unless the name is unknown to the new primary. A replicated grant must not be among them.
//! - Where a primary dies that was not paused before, nobody can read what was lost. All names of that primary are excused
//!   until every holder has said a word, a lease after the promotion at the latest ([`lost_writes`]).
//! - A slot whose move is given up is excused, too: an operator puts older copies of keys in place of newer ones.
//!   There tokens may fall as well, as [`book`](crate::book) tells.
//!
//! At all other times, and at all other names, nothing may be over its limit, and no permit may be missing.
//!
//! # What it was seen to find
//!
//! Each of these changes to the crate was tried, and `scripts/soak cluster 1 --seed 1` found it:
//!
//! - no new incarnation after a failover (`lua/turn/meet.lua`): permits are missing where there is room, and names with
//!   a grace are over their limits;
//! - permits are not put back (`lua/turn/renew.lua`): permits are missing where there is room;
//! - the grace is ignored, or its end lies before its beginning (`lua/turn/meet.lua`): names with a grace are over their
//!   limits;
//! - `replicated` is ignored (`semaphore_builder.rs`): a grant is held, and the replica that takes over lacks it.

mod copy;
mod election;
mod end;
mod faults;
mod lost_permits;
mod lost_writes;
mod moves;
mod overtaking;
mod report;
mod shard;
pub mod spread;
mod station;
mod word;

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

use faults::{Faults, Record};
use station::Station;
use word::Words;

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
        // A grace excuses no excess, but who has gone leaves room taken that a permit needs to be put back.
        state.finds_missing_permits = plan.failover_grace.is_zero();
        // A storm that waits for its last fault may be long.
        state.longest_wait_allowed = 4 * STORM;
    }
    let scene = Scene { witness, tally: Tally::default(), operator };
    let mut random = Rng::with_seed(plan.seed);
    let mut record = Record::default();
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
        let words = Words::new();
        let at_stations = stations.iter_mut().map(|s| s.storm(&scene, &words, random.fork()));
        let at_stations = join_all(at_stations.collect::<Vec<_>>());
        let (grace, record) = (plan.failover_grace, &mut record);
        let mut faults = Faults { scene: &scene, words: &words, grace, record };
        let at_cluster = faults.storm(&mut cluster, end, random.fork());
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
    end::nothing_is_left(&scene, &cluster, plan.failover_grace).await;
    scene.witness.state().judge_all();
    end::prove(&scene, &record, plan);
    report::report(&scene, &record, start.elapsed());
    nothing_was_found(&scene, plan);
}

async fn judge(scene: &Scene) {
    loop {
        sleep(Duration::from_secs(1)).await;
        scene.witness.state().judge();
    }
}
