//! A soak: processes of ours on a real Redis under every fault there is, judged from outside.
//!
//! A minute of it is a test like any other, so that it is built, run and counted with the rest; `scripts/soak` runs
//! the same for as long as one likes. What is demanded:
//!
//! - the units that holders believe in never exceed the limit in force ([`book`] has the argument);
//! - fencing tokens rise, and none comes twice;
//! - who is kicked knows it within a lease;
//! - when the faults stop, each process is let in on each name, and nobody who waits is forgotten;
//! - clients shut down without leaving anything behind: nobody holds, nobody waits, and all keys vanish;
//! - every kind of fault came to pass, and every limit was reached: else it is no proof.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]
// What a test crate exports nobody imports.
#![allow(unreachable_pub)]

mod aftermath;
mod asking;
mod book;
mod cluster;
mod data_faults;
mod excess;
mod holding;
mod names;
mod operator;
mod reports;
mod scene;
mod server_faults;
mod station;
mod unbooked;
mod verdict;
mod visitors;
mod witness;
mod worker;

use std::time::Duration;

use aftermath::{nothing_is_left, passing_names_are_gone, recover, stop};
use data_faults::data_storm;
use fastrand::Rng;
use futures_util::future::join_all;
use names::NAMES;
use operator::Operator;
use scene::{Scene, Tally};
use server_faults::server_storm;
use station::Station;
use test_support::child_role;
use test_support::redis_server::RedisServer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use verdict::{prove, report};
use visitors::visitors;
use witness::Witness;

const PROCESSES: usize = 6;
const STORM: Duration = Duration::from_secs(50);
#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role {
        "worker" => worker::work(from_parent),
        "cluster worker" => worker::work_in_cluster(from_parent),
        "forking worker" => worker::work_in_forks(from_parent),
        _ => panic!("no role {role}"),
    });
}

/// One soak at a time: each needs the machine for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Plan {
    minutes: u64,
    seed: u64,
    wipes: bool,
    failover_grace: Duration,
}

impl Plan {
    fn from_env() -> Self {
        let number = |name: &str| -> Option<u64> {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse().unwrap_or_else(|error| panic!("{name} is {text:?}: {error}")))
        };
        Self {
            minutes: number("SOAK_MINUTES").unwrap_or(1),
            seed: number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..)),
            wipes: number("SOAK_WIPES").is_some_and(|wipes| wipes > 0),
            failover_grace: Duration::from_millis(number("SOAK_GRACE_MS").unwrap_or(0)),
        }
    }
}

impl Plan {
    /// Far above what it takes to start, to recover after each storm, and to wait for the keys to go.
    fn longest(&self) -> Duration {
        2 * Duration::from_secs(60 * self.minutes) + Duration::from_secs(300)
    }
}

// Invariants 1, 2, 5, 6, 7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_every_fault() {
    let _alone = ALONE.lock().await;
    let plan = Plan::from_env();
    println!(
        "{} min, seed {}{}",
        plan.minutes,
        plan.seed,
        if plan.wipes { ", with wipes" } else { "" }
    );
    until_stopped(&plan, soak(&plan)).await;
}

// Invariants 1, 2, 5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_a_cluster_whose_primaries_are_killed() {
    let _alone = ALONE.lock().await;
    let plan = Plan::from_env();
    println!("{} min, seed {}, grace {:?}", plan.minutes, plan.seed, plan.failover_grace);
    until_stopped(&plan, cluster::soak(&plan)).await;
}

/// Whatever ends this drops the servers and processes that the soak owns.
async fn until_stopped(plan: &Plan, soak: impl Future<Output = ()>) {
    tokio::select! {
        ended = timeout(plan.longest(), soak) => {
            assert!(ended.is_ok(), "the soak itself does not end; something waits for ever");
        }
        signal = stop_signal() => panic!("stopped by {signal}"),
    }
}

async fn stop_signal() -> &'static str {
    let mut interrupt = signal(SignalKind::interrupt()).expect("listening to signals");
    let mut terminate = signal(SignalKind::terminate()).expect("listening to signals");
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

async fn soak(plan: &Plan) {
    let mut server = RedisServer::start().await;
    let operator = Operator::new(&server);
    let scene = Scene { witness: Witness::start(&NAMES), tally: Tally::default(), operator };
    let mut random = Rng::with_seed(plan.seed);
    let mut stations = Vec::new();
    for index in 0..PROCESSES {
        stations.push(Station::open(index, &server, &scene.witness, random.fork()).await);
    }
    let start = Instant::now();
    let minutes = Duration::from_secs(60 * plan.minutes.max(1));
    let mut round = 0;
    while Instant::now() + STORM <= start + minutes && scene.witness.state().findings.is_empty() {
        round += 1;
        storm(&scene, &mut server, &mut stations, plan.wipes, random.fork()).await;
        rush(&mut stations).await;
        let calm = recover(&scene, &stations, "the storm").await;
        speaks_both_protocols(&scene).await;
        quiet_losses(&scene, &mut stations).await;
        passing_names_are_gone(&scene).await;
        let state = scene.witness.state();
        println!(
            "  {:>5.0} s: storm {round}, {} faults so far, {} holds; all work again after {:.1} s",
            start.elapsed().as_secs_f64(),
            scene.tally.counts().values().sum::<u64>(),
            state.holds,
            calm.as_secs_f64()
        );
    }
    stop(&scene, stations.iter_mut().map(|station| &mut station.child).collect()).await;
    nothing_is_left(&scene).await;
    scene.witness.state().judge_all();
    prove(&scene, plan.wipes);
    report(&scene, start.elapsed());
    nothing_was_found(&scene, plan);
}

fn nothing_was_found(scene: &Scene, plan: &Plan) {
    let findings = &scene.witness.state().findings;
    assert!(
        findings.is_empty(),
        "{} findings with seed {}:\n{}",
        findings.len(),
        plan.seed,
        findings.join("\n")
    );
}

async fn storm(
    scene: &Scene,
    server: &mut RedisServer,
    stations: &mut [Station],
    wipes: bool,
    mut random: Rng,
) {
    let end = Instant::now() + STORM;
    let url = server.url();
    let seeds = [random.fork(), random.fork(), random.fork()];
    let [server_seed, data_seed, visitors_seed] = seeds;
    let at_stations = stations.iter_mut().map(|station| station.storm(scene, end, random.fork()));
    let judging = async {
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            scene.witness.state().judge();
        }
    };
    tokio::join!(
        join_all(at_stations),
        server_storm(server, scene, wipes, end, server_seed),
        data_storm(scene, end, data_seed),
        visitors(scene, &url, end, visitors_seed),
        judging,
    );
}

async fn speaks_both_protocols(scene: &Scene) {
    let clients: String = scene.operator.command(&["CLIENT", "LIST"]).await.unwrap_or_default();
    for protocol in ["resp=2", "resp=3"] {
        let speaks = |line: &str| line.contains("addr=127.0.0.1") && line.contains(protocol);
        if !clients.lines().any(speaks) {
            scene.witness.state().find(format!("no proof: nobody speaks {protocol}"));
        }
    }
}

/// Many ask at once, and nobody new for as long as they wait.
async fn rush(stations: &mut [Station]) {
    stations.iter_mut().for_each(Station::rush);
    sleep(Duration::from_millis(100)).await;
}

/// One kind of key at a time is deleted, and nothing else happens that would make clients look around.
async fn quiet_losses(scene: &Scene, stations: &mut [Station]) {
    for key in ["queue", "clients", "meta", "permits"] {
        rush(stations).await;
        for name in &NAMES {
            scene.operator.delete(&scene.witness, name.name, key).await;
        }
        let calm = recover(scene, stations, &format!("all `{key}` were deleted")).await;
        println!("           all `{key}` deleted: {:.1} s", calm.as_secs_f64());
    }
}
