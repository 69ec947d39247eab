//! What a cluster costs beside one server, and what several primaries give.

use std::time::Duration;

use crate::cluster_failover;
use crate::cluster_names::{self, CLIENTS, NAMES};
use crate::contenders::{self, Contender, LIMIT};
use crate::handover::{Place, measure};
use crate::pair_figures::{Figures, ROUNDS, WINDOW};
use crate::report::{Must, Table, say, title};
use closed_loop::measure::Rounds;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;

const TASKS: [usize; 3] = [1, 16, 256];
/// The least that pairs per second through the cluster path must be over those at one server.
const LEAST: f64 = 1.0 / 1.05;

const HANDOVER_WAIT: Duration = Duration::from_millis(50);
const HANDOVERS: usize = 8;
const REPETITIONS: usize = 4;
/// The most that a hand-over in a cluster may take beside one at one server.
const MOST: f64 = 1.2;

pub(crate) async fn run() -> Vec<Must> {
    title(
        "cluster",
        &format!(
            "As `pairs`, limit {LIMIT}: the same client at one server, and at a cluster. {ROUNDS} rounds of
             {WINDOW:?} each, every candidate first in turn; medians of them (lowest..highest). All is
             unpinned. The cluster path at a cluster of one node is compared with one server. The single
             path at that node (redis://) tells what part of the difference is the server's.
             Names: {NAMES} of them, on one primary and spread over three, used by {CLIENTS} clients. The
             time of processors that a pair takes tells what the servers could do with a core each. Last,
             of three primaries and three replicas one primary at a time is killed, while tasks acquire
             at the other two."
        ),
    );
    let server = RedisServer::start().await;
    let one = RedisCluster::start(1).await;
    let three = RedisCluster::start(3).await;
    let mut musts = paths(&server, &one).await;
    musts.push(cluster_names::run(&one, &three).await);
    musts.push(handovers(&server, &three).await);
    drop((server, one, three));
    say("");
    musts.extend(cluster_failover::run().await);
    musts
}

/// One name through the cluster path, and through that of one server.
async fn paths(server: &RedisServer, one: &RedisCluster) -> Vec<Must> {
    let mut contenders = [
        contenders::ours_at("cluster path, one node", &one.url(), 1).await,
        contenders::ours_at("one server", &server.url(), 1).await,
        contenders::ours_at("single path, that node", &one.nodes[0].url(), 1).await,
    ];
    let mut musts = Vec::new();
    for tasks in TASKS {
        let figures = figures(&mut contenders, tasks).await;
        figures.print(&format!("one name, {tasks} tasks"));
        let what = format!("cluster, {tasks} tasks: pairs/s over one server");
        musts.push(Must::at_least(LEAST, what, figures.ours_over(1), ""));
    }
    musts
}

async fn figures(contenders: &mut [Contender], tasks: usize) -> Figures {
    let mut figures = Figures::of(contenders);
    for round in 0..ROUNDS {
        figures.round(contenders, tasks, round).await;
    }
    figures
}

/// As `handover`, at a cluster of three primaries and at one server in turn.
async fn handovers(server: &RedisServer, three: &RedisCluster) -> Must {
    let place = |url: String| Place { url, baselines_url: server.url() };
    let places = [place(three.url()), place(server.url())];
    let mut p50s = [Rounds::default(), Rounds::default()];
    let mut table = Table::new(&["hand-over, p50 us", "times", "cluster", "one server", "ratio"]);
    for repetition in 0..REPETITIONS {
        let mut measured = [None, None];
        for step in 0..places.len() {
            let index = (step + repetition) % places.len();
            let times = measure(&places[index], HANDOVER_WAIT, HANDOVERS).await.times();
            measured[index] = Some(times);
        }
        let [Some(cluster), Some(single)] = measured else { continue };
        for (all, times) in p50s.iter_mut().zip([&cluster, &single]) {
            all.push(times.p50());
        }
        table.row(
            format!("repetition {}", repetition + 1),
            &[
                cluster.count().to_string(),
                format!("{:.0}", cluster.p50()),
                format!("{:.0}", single.p50()),
                format!("{:.2}", cluster.p50() / single.p50()),
            ],
        );
    }
    table.print();
    let [cluster, single] = &p50s;
    let what = "cluster: hand-over p50 over that of one server, median of repetitions";
    Must::at_most(MOST, what, cluster.over(single).median(), "")
}
