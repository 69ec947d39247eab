//! What a cluster adds to a pair and to a hand-over, and what more primaries give.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::contenders::{Contender, ours_at};
use crate::cores::{Cores, Placement};
use crate::pair_figures::{Figures, ROUNDS};
use crate::report::{Must, say, title};
use closed_loop::measure::Times;
use test_support::redis_cluster::RedisCluster;
use test_support::wait::{PATIENCE, eventually};

const TASKS: [usize; 3] = [1, 16, 256];
/// Enough that each of three primaries has some.
const NAMES: usize = 48;
const HAND_OVERS: usize = 300;

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "cluster",
        &format!(
            "The pairs of `pairs`, at one server and at a cluster of one node, and with {NAMES} names
             at one node and at three. Then {HAND_OVERS} hand-overs to a waiter of another client, at one
             server and at three nodes by turns.",
        ),
    );
    let mut musts = one_node(cores).await;
    three_nodes(cores).await;
    musts.push(hand_overs().await);
    musts
}

/// Our pairs at a cluster of one node, beside those at a server in no cluster.
async fn one_node(cores: &Cores) -> Vec<Must> {
    let server = cores.server(Placement::Pinned).start().await;
    let core = cores.args_of_server(Placement::Pinned);
    let core: Vec<&str> = core.iter().map(String::as_str).collect();
    let cluster = RedisCluster::start_with(1, &core).await;
    let contenders = vec![
        ours_at(&cluster.url(), "a cluster of one", cores, Placement::Pinned, 1).await,
        ours_at(&server.url(), "a server", cores, Placement::Pinned, 1).await,
    ];
    let must = |(tasks, figures): (usize, Figures)| {
        let what = format!("cluster, {tasks} tasks: pairs/s at a cluster of one / at a server");
        Must::at_least(0.95, what, figures.ours_over(1), "")
    };
    measure(contenders, "pinned").await.into_iter().map(must).collect()
}

/// Our pairs at three primaries, beside those at one. No core is anybody's own.
async fn three_nodes(cores: &Cores) {
    let [three, one] = [RedisCluster::start(3).await, RedisCluster::start(1).await];
    let contenders = vec![
        ours_at(&three.url(), "three nodes", cores, Placement::Unpinned, NAMES).await,
        ours_at(&one.url(), "one node", cores, Placement::Unpinned, NAMES).await,
    ];
    measure(contenders, "unpinned, 48 names").await;
}

async fn measure(mut contenders: Vec<Contender>, what: &str) -> Vec<(usize, Figures)> {
    let mut all = Vec::new();
    for tasks in TASKS {
        let mut figures = Figures::of(&contenders);
        for round in 0..ROUNDS {
            figures.round(&mut contenders, tasks, round).await;
        }
        figures.print(&format!("{tasks} tasks, {what}"));
        all.push((tasks, figures));
    }
    all
}

/// Two clients that pass the only unit of a name to and fro.
struct Two {
    held: Option<Permit>,
    handles: [ZSetSemaphore; 2],
}

impl Two {
    async fn at(url: &str) -> Self {
        let client = async || Client::connect(url).await.expect("connecting");
        let [one, other] = [client().await, client().await];
        let handles =
            [one, other].map(|client| client.semaphore("handed", 1).build().expect("a name"));
        let held = Some(handles[0].acquire(1).await.expect("nobody holds it"));
        Self { held, handles }
    }

    /// From the moment before the release until `acquire` has returned to the other one.
    async fn hand_over(&mut self) -> Duration {
        self.handles.swap(0, 1);
        let next = self.handles[0].clone();
        let waiting: JoinHandle<(Permit, Instant)> = tokio::spawn(async move {
            let permit = next.acquire(1).await.expect("nothing ends the wait");
            (permit, Instant::now())
        });
        let queued = async || {
            let seen = self.handles[1].inspect().await;
            seen.is_ok_and(|seen| seen.waiters.len() == 1)
        };
        eventually("it waits", PATIENCE, queued).await;
        let released = Instant::now();
        self.held.take().expect("it is held").release().await.expect("the server answers");
        let (permit, at) = waiting.await.expect("it goes on");
        self.held = Some(permit);
        at - released
    }
}

async fn hand_overs() -> Must {
    let server = test_support::redis_server::RedisServer::start().await;
    let cluster = RedisCluster::start(3).await;
    let mut pairs = [Two::at(&cluster.url()).await, Two::at(&server.url()).await];
    let mut nanos = [Vec::new(), Vec::new()];
    for _ in 0..HAND_OVERS {
        for (two, nanos) in pairs.iter_mut().zip(&mut nanos) {
            nanos.push(two.hand_over().await.as_nanos() as u64);
        }
    }
    let [cluster, server] = nanos.map(Times::new);
    for (what, times) in [("three nodes", &cluster), ("a server", &server)] {
        let [p50, p99] = [times.p50(), times.p99()];
        say(format_args!("  hand-overs at {what}: p50 {p50:.0} us, p99 {p99:.0} us"));
    }
    let what = "cluster: median hand-over at three nodes / at a server";
    Must::at_most(1.2, what, cluster.p50() / server.p50(), "")
}
