//! What a primary that is killed costs its names, and those of the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::report::{Must, Table};
use closed_loop::measure::{Rounds, Times};
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;

const ROUNDS: usize = 4;
const WINDOW: Duration = Duration::from_secs(3);
/// Of each name of the others. They rest between acquires, so that no core is full.
const TASKS: usize = 8;
const REST: Duration = Duration::from_millis(4);
const LIMIT: u32 = 64;

/// The most that the others' p99 may be, beside that of before.
const MOST_OF_OTHERS: f64 = 1.2;
/// The most that the names of the killed one may wait for after the promotion, in seconds.
const MOST_AFTER_PROMOTION: f64 = 0.5;

pub(crate) async fn run() -> Vec<Must> {
    let builder = RedisCluster::builder().primaries(3).replicas(1);
    let mut cluster = builder.args(&["--cluster-require-full-coverage", "no"]).start().await;
    let client = Client::connect(cluster.url()).await.expect("connecting");
    let semaphore =
        |name: String| client.semaphore(name, LIMIT).build().expect("a name that is allowed");
    let others = [cluster.name_at(0, "other").await, cluster.name_at(1, "other").await];
    let others = Others::start(&others.map(semaphore));
    let struck = semaphore(cluster.name_at(2, "struck").await);
    let heads =
        ["primary killed", "promoted", "granted after it", "others' p99 us", "before", "ratio"];
    let mut table = Table::new(&heads);
    let (mut ratios, mut after) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let measured = kill(&mut cluster, &struck, &others).await;
        ratios.push(measured.others.p99() / measured.before.p99());
        after.push(measured.granted.as_secs_f64());
        table.row(format!("round {}", round + 1), &measured.cells());
    }
    table.print();
    let others = "cluster: p99 at other primaries, while one is replaced, over that of before";
    let own = "cluster: grant after the promotion, longest of the rounds";
    vec![
        Must::at_most(MOST_OF_OTHERS, others, ratios.median(), ""),
        Must::at_most(MOST_AFTER_PROMOTION, own, after.highest(), " s"),
    ]
}

struct Measured {
    promoted: Duration,
    /// After the promotion.
    granted: Duration,
    before: Times,
    others: Times,
}

impl Measured {
    fn cells(&self) -> [String; 5] {
        [
            format!("{:.3} s", self.promoted.as_secs_f64()),
            format!("{:.3} s", self.granted.as_secs_f64()),
            format!("{:.0}", self.others.p99()),
            format!("{:.0}", self.before.p99()),
            format!("{:.2}", self.others.p99() / self.before.p99()),
        ]
    }
}

/// Kills the primary of a name, and has it come back as a replica.
async fn kill(cluster: &mut RedisCluster, struck: &ZSetSemaphore, others: &Others) -> Measured {
    let slot = slot_of(struck.name());
    let primary = cluster.owner_of(struck.name()).await;
    drop(struck.acquire(1).await.expect("nothing ends the wait"));
    others.take();
    sleep(WINDOW).await;
    let before = others.take();
    cluster.nodes[primary].kill();
    let killed = Instant::now();
    let grant = async {
        drop(struck.acquire(1).await.expect("nothing ends the wait"));
        Instant::now()
    };
    let (granted, (_, promoted)) = tokio::join!(grant, cluster.promoted(slot, primary));
    sleep(WINDOW.saturating_sub(killed.elapsed())).await;
    let others = others.take();
    cluster.nodes[primary].restart_empty().await;
    cluster.wait_until_ready().await;
    Measured {
        promoted: promoted - killed,
        granted: granted.saturating_duration_since(promoted),
        before,
        others,
    }
}

/// Tasks at the names of other primaries, and how long their acquires take.
struct Others {
    _tasks: JoinSet<()>,
    nanos: Arc<Mutex<Vec<u64>>>,
}

impl Others {
    fn start(semaphores: &[ZSetSemaphore]) -> Self {
        let (mut tasks, nanos) = (JoinSet::new(), Arc::<Mutex<Vec<u64>>>::default());
        for semaphore in semaphores {
            for _ in 0..TASKS {
                tasks.spawn(acquire_and_rest(semaphore.clone(), Arc::clone(&nanos)));
            }
        }
        Self { _tasks: tasks, nanos }
    }

    /// The times since the last call.
    fn take(&self) -> Times {
        let mut nanos = self.nanos.lock().unwrap_or_else(PoisonError::into_inner);
        Times::new(std::mem::take(&mut *nanos))
    }
}

async fn acquire_and_rest(semaphore: ZSetSemaphore, nanos: Arc<Mutex<Vec<u64>>>) {
    loop {
        let asked = Instant::now();
        let permit = semaphore.acquire(1).await.expect("nothing ends the wait");
        let took = u64::try_from(asked.elapsed().as_nanos()).expect("a short time");
        nanos.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        sleep(REST).await;
        permit.release().await.expect("the server answers");
    }
}
