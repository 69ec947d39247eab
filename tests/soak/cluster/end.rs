//! What must be so at the end, and what is printed.

use std::time::Duration;

use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};

use super::faults::Times;
use super::spread;
use crate::aftermath::{AFTERMATH, KEYS_OUTLIVE, META_OUTLIVES};
use crate::book::nanos;
use crate::names::LONGEST_LEASE;
use crate::scene::Scene;
use crate::verdict::{demand_kinds, demand_limits, report_faults, report_holds};

/// Nobody holds or waits, and the keys go with their time, on all primaries.
pub async fn nothing_is_left(scene: &Scene, cluster: &RedisCluster) {
    let stopped = Instant::now();
    for name in spread::names() {
        nobody_is_left(scene, cluster, name.name).await;
    }
    let end = stopped + KEYS_OUTLIVE + LONGEST_LEASE + Duration::from_secs(2);
    let is_meta = |key: &String| key.ends_with(":meta");
    while cluster.keys().await.iter().any(|key| !is_meta(key)) && Instant::now() < end {
        sleep(Duration::from_millis(200)).await;
    }
    for key in cluster.keys().await.into_iter().filter(|key| !is_meta(key)) {
        scene.witness.state().find(format!("{key} is still there"));
    }
    for name in spread::names() {
        let meta = format!("zsem:{{{}}}:meta", name.name);
        let ttl: i64 = cluster.query_at(name.name, &["PTTL", &meta]).await;
        let most = i64::try_from((META_OUTLIVES + LONGEST_LEASE).as_millis()).expect("minutes");
        if ttl == -1 || ttl > most {
            scene.witness.state().find(format!("{meta} stays too long, PTTL {ttl}"));
        }
    }
    passing_names_are_gone(scene, cluster).await;
}

async fn nobody_is_left(scene: &Scene, cluster: &RedisCluster, name: &str) {
    let key = |key: &str| format!("zsem:{{{name}}}:{key}");
    // Who was killed leaves a permit that nobody needed to prune; its lease ended long ago.
    let now: Vec<String> = cluster.query_at(name, &["TIME"]).await;
    let now = format!("({}000", now[0]);
    let permits = key("permits");
    let held: u64 = cluster.query_at(name, &["ZCOUNT", &permits, &now, "+inf"]).await;
    let waiting: u64 = cluster.query_at(name, &["ZCARD", &key("queue")]).await;
    if (held, waiting) != (0, 0) {
        let finding = format!("{name}: {held} permits and {waiting} waiters are left");
        scene.witness.state().find(finding);
    }
}

/// Names that were used once have gone, at least one of them, and no name is there that nobody used.
async fn passing_names_are_gone(scene: &Scene, cluster: &RedisCluster) {
    let outlive = nanos(KEYS_OUTLIVE + META_OUTLIVES + AFTERMATH);
    let passed = scene.witness.state().passed();
    let first = passed.iter().map(|(_, heard)| heard + outlive).min();
    let wait = first.map_or(0, |due| due.saturating_sub(monotonic_nanos()));
    sleep(Duration::from_nanos(wait)).await;
    let keys = cluster.keys().await;
    let now = monotonic_nanos();
    let due = passed.into_iter().filter(|(_, heard)| heard + outlive <= now);
    let mut state = scene.witness.state();
    for (name, _) in due {
        state.names_gone += 1;
        let tag = format!("{{{name}}}");
        for key in keys.iter().filter(|key| key.contains(&tag)) {
            state.find(format!("{key} is still there"));
        }
    }
    let known = state.names();
    for key in &keys {
        if !known.iter().any(|name| key.contains(&format!("{{{name}}}"))) {
            state.find(format!("{key} is there, and nobody uses it"));
        }
    }
}

/// A soak in which something never came to pass proves nothing about it.
pub fn prove(scene: &Scene) {
    let kinds = [
        "process killed",
        "process frozen",
        "client closed",
        "client closed at once",
        "client dropped",
        "primary killed",
        "primary killed ahead of its replica",
        "primary frozen until it was replaced",
        "primary frozen",
        "replica killed",
        "failover by hand",
        "slot moved",
        "move given up",
        "connections cut",
        "scripts flushed",
    ];
    demand_kinds(scene, &kinds);
    demand_limits(scene, spread::names());
}

pub fn report(scene: &Scene, times: &Times, took: Duration) {
    report_faults(scene, took);
    println!("\nwhat each took the cluster itself, median and longest:");
    for (kind, times) in times.0.iter().filter(|(_, times)| !times.is_empty()) {
        let mut times = times.clone();
        times.sort_unstable();
        let [median, longest] = [times[(times.len() - 1) / 2], times[times.len() - 1]];
        println!("  {kind:<40}{:>8.3} s{:>8.3} s", median.as_secs_f64(), longest.as_secs_f64());
    }
    println!("\nover the limit where acknowledged writes may have been lost:");
    let excess = scene.witness.state().excess.clone();
    if excess.is_empty() {
        println!("  never");
    }
    for (kind, excess) in excess {
        println!(
            "  {kind:<40}{} times, by {} units at most, for {:.3} s at most, {:.3} s in all; \
             {} permits were missing, {} tokens fell",
            excess.times,
            excess.most_units,
            excess.longest as f64 / 1e9,
            excess.total as f64 / 1e9,
            excess.missing_permits,
            excess.fallen_tokens,
        );
    }
    report_holds(scene);
}
