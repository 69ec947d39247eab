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

mod book;
mod names;
mod reports;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod witness;
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use book::nanos;
use fastrand::Rng;
use futures_util::future::join_all;
use names::{Kind, LONGEST_LEASE, NAMES};
use storm::{Operator, Scene, Station, Tally, data_storm, server_storm, visitors};
use support::child_role;
use support::ledger::monotonic_nanos;
use support::redis_server::RedisServer;
use support::wait::PATIENCE;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use witness::Witness;

const PROCESSES: usize = 6;
const STORM: Duration = Duration::from_secs(50);
/// All must work again by then: longer than a dead client is presumed alive, a claim and the longest lease after it.
const CALM: Duration = Duration::from_secs(15);
/// What the keys of a name outlive the last lease by, and `meta` the others.
const KEYS_OUTLIVE: Duration = Duration::from_secs(10);
const META_OUTLIVES: Duration = Duration::from_secs(60);
/// For how long one who was cut off may go on with what it had begun.
const AFTERMATH: Duration = Duration::from_secs(8);

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role {
        "worker" => worker::work(from_parent),
        "forking worker" => worker::work_in_forks(from_parent),
        _ => panic!("no role {role}"),
    });
}

struct Plan {
    minutes: u64,
    seed: u64,
    wipes: bool,
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
        }
    }
}

// Invariants 1, 2, 5, 6, 7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_every_fault() {
    let plan = Plan::from_env();
    println!(
        "{} min, seed {}{}",
        plan.minutes,
        plan.seed,
        if plan.wipes { ", with wipes" } else { "" }
    );
    // Whatever ends this drops the servers and processes it owns.
    tokio::select! {
        () = soak(&plan) => {}
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
    let scene = Scene { witness: Witness::start(), tally: Tally::default(), operator };
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
    stop(&scene, &mut stations).await;
    nothing_is_left(&scene).await;
    scene.witness.state().judge_all();
    prove(&scene, plan);
    report(&scene, start.elapsed());
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

/// Waits until all work again, and returns how long that took.
async fn recover(scene: &Scene, stations: &[Station], what: &str) -> Duration {
    let (start, calm) = (Instant::now(), monotonic_nanos());
    let processes: Vec<u32> = stations.iter().map(|station| station.child.pid()).collect();
    loop {
        let stuck = scene.witness.state().stuck_since(&processes, calm);
        if stuck.is_empty() {
            return start.elapsed();
        }
        if start.elapsed() > CALM {
            for (name, who) in stuck {
                let books = books(scene, &name).await;
                let finding = format!(
                    "{name}: {CALM:?} after {what} {} are stuck, and {books}: {}",
                    who.len(),
                    who[..who.len().min(4)].join("; ")
                );
                scene.witness.state().find(finding);
            }
            return start.elapsed();
        }
        scene.witness.state().judge();
        sleep(Duration::from_millis(50)).await;
    }
}

/// What the server says of a name.
async fn books(scene: &Scene, name: &str) -> String {
    match scene.operator.semaphore(name).inspect().await {
        Ok(books) => format!(
            "the server has {} of {} units in use, {} waiters",
            books.in_use, books.limit, books.waiters_total
        ),
        Err(error) => format!("the server does not tell: {error}"),
    }
}

async fn stop(scene: &Scene, stations: &mut [Station]) {
    for station in &mut *stations {
        station.child.send("stop");
    }
    for station in stations {
        let said = station.child.expect_line("@stopped", PATIENCE).await;
        if !said.is_empty() {
            let process = station.child.pid();
            scene.witness.state().find(format!("process {process} stopped{said}"));
        }
        station.child.wait_for_exit(PATIENCE).await;
    }
}

/// Nobody holds or waits, and the keys go with their time.
async fn nothing_is_left(scene: &Scene) {
    let stopped = Instant::now();
    for name in &NAMES {
        let key = |key: &str| format!("zsem:{{{}}}:{key}", name.name);
        // Who was killed leaves a permit that nobody needed to prune; its lease ended long ago.
        let now: Vec<String> = scene.operator.command(&["TIME"]).await.expect("the server is up");
        let now = format!("({}000", now[0]);
        let held: Option<u64> =
            scene.operator.command(&["ZCOUNT", &key("permits"), &now, "+inf"]).await;
        let waiting: Option<u64> = scene.operator.command(&["ZCARD", &key("queue")]).await;
        if (held, waiting) != (Some(0), Some(0)) {
            let finding =
                format!("{}: {held:?} permits and {waiting:?} waiters are left", name.name);
            scene.witness.state().find(finding);
        }
    }
    let keys_end = stopped + KEYS_OUTLIVE + LONGEST_LEASE + Duration::from_secs(2);
    let names: Vec<_> = NAMES.iter().map(|name| name.name.to_owned()).collect();
    let leftover = vanish(scene, &names, keys_end, &["permits", "queue", "clients"]).await;
    for (key, ttl) in leftover {
        scene.witness.state().find(format!("{key} is still there, PTTL {ttl}"));
    }
    for name in &NAMES {
        let meta = format!("zsem:{{{}}}:meta", name.name);
        let ttl: i64 = scene.operator.command(&["PTTL", &meta]).await.expect("the server is up");
        let most = (META_OUTLIVES + LONGEST_LEASE).as_millis();
        if ttl == -1 || i128::from(ttl) > i128::try_from(most).expect("a short time") {
            scene.witness.state().find(format!("{meta} stays too long, PTTL {ttl}"));
        }
    }
    // At least one, also in a short soak.
    if let Some(due) = passing_names_are_gone(scene).await
        && scene.witness.state().names_gone == 0
    {
        sleep(Duration::from_nanos(due.saturating_sub(monotonic_nanos()))).await;
        passing_names_are_gone(scene).await;
    }
    no_other_keys(scene).await;
}

/// Names used once have gone while the soak went on. Returns when the next one is due.
async fn passing_names_are_gone(scene: &Scene) -> Option<u64> {
    let outlive = nanos(KEYS_OUTLIVE + META_OUTLIVES + AFTERMATH);
    let passed = scene.witness.state().passed();
    let now = monotonic_nanos();
    let (due, later): (Vec<_>, Vec<_>) =
        passed.into_iter().partition(|(_, heard)| heard + outlive <= now);
    let all = ["permits", "queue", "clients", "meta"];
    let names: Vec<String> = due.into_iter().map(|(name, _)| name).collect();
    for (key, ttl) in vanish(scene, &names, Instant::now(), &all).await {
        scene.witness.state().find(format!("{key} is still there, PTTL {ttl}"));
    }
    scene.witness.state().names_gone += names.len();
    for name in &names {
        scene.witness.state().forget_name(name);
    }
    later.iter().map(|(_, heard)| heard + outlive).min()
}

/// And no name is there that nobody uses.
async fn no_other_keys(scene: &Scene) {
    let keys: Vec<String> = scene.operator.command(&["KEYS", "zsem:*"]).await.unwrap_or_default();
    let known = scene.witness.state().names();
    let unknown = |key: &&String| !known.iter().any(|name| key.contains(&format!("{{{name}}}")));
    for key in keys.iter().filter(unknown) {
        scene.witness.state().find(format!("{key} is there, and nobody uses it"));
    }
}

/// Those of the keys that are still there at `end`, with their time to live.
async fn vanish(
    scene: &Scene,
    names: &[String],
    end: Instant,
    kinds: &[&str],
) -> BTreeMap<String, i64> {
    loop {
        let mut left = BTreeMap::new();
        for name in names {
            for kind in kinds {
                let key = format!("zsem:{{{name}}}:{kind}");
                let ttl = scene.operator.command(&["PTTL", &key]).await.expect("the server is up");
                if ttl != -2_i64 {
                    left.insert(key, ttl);
                }
            }
        }
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// A soak in which something never came to pass proves nothing about it.
fn prove(scene: &Scene, plan: &Plan) {
    let mut kinds = vec![
        "process killed",
        "process frozen",
        "black hole",
        "requests held",
        "replies held",
        "slow replies",
        "connections cut",
        "connections refused",
        "old connections held",
        "reply lost",
        "wake-ups held",
        "client closed",
        "client closed at once",
        "client dropped",
        "visitor came and went",
        "visitor ended with no word",
        "visitor that forked ended with no word",
        "clients killed (CLIENT KILL)",
        "all paused (CLIENT PAUSE)",
        "writes paused (CLIENT PAUSE)",
        "scripts flushed",
        "server frozen",
        "kicked",
        "kicked at once",
        "limit moved",
        "limit set to 0",
        "`queue` deleted",
        "`clients` deleted",
        "`meta` deleted",
        "`permits` deleted",
        "keys evicted",
    ];
    if plan.wipes {
        kinds.extend(["all keys wiped (FLUSHALL)", "server restarted empty"]);
    }
    let counts = scene.tally.counts();
    let mut state = scene.witness.state();
    for kind in kinds {
        if !counts.contains_key(kind) {
            state.find(format!("no proof: there was no {kind:?}"));
        }
    }
    for name in NAMES.iter().filter(|name| name.kind != Kind::Moved) {
        let most = state.most_units.get(name.name).copied().unwrap_or(0);
        if most < u64::from(name.limit) {
            state.find(format!("no proof: {} reached {most} of {} units", name.name, name.limit));
        }
    }
}

fn report(scene: &Scene, took: Duration) {
    let state = scene.witness.state();
    let counts = scene.tally.counts();
    let faults: u64 = counts.values().sum();
    println!(
        "\n{faults} faults in {:.0} s, and the longest until a struck process was let in again:",
        took.as_secs_f64()
    );
    for (kind, count) in &counts {
        match state.recovery.get(kind) {
            Some(&longest) => println!("  {count:>8}  {kind:<34}{:>9.3} s", longest as f64 / 1e9),
            None => println!("  {count:>8}  {kind}"),
        }
    }
    let longest = state.longest_wait as f64 / 1e9;
    println!("\n{} holds; the longest wait for one {longest:.1} s", state.holds);
    println!("{} names were used once and have gone", state.names_gone);
    table("most units at once", &state.most_units);
    table("asked in vain", &state.missed);
    table("permits lost", &state.losses);
    table("given back with an answer", &state.counted);
    println!("\n{} findings", state.findings.len());
}

fn table(title: &str, rows: &BTreeMap<String, u64>) {
    println!("\n{title}:");
    for (what, count) in rows {
        println!("  {count:>8}  {what}");
    }
}
