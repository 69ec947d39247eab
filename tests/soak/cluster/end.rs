//! What must be so at the end.

use std::time::Duration;

use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};

use super::faults::Record;
use super::overtaking::How;
use super::spread::{self, LONGEST_LEASE};
use crate::Plan;
use crate::aftermath::{AFTERMATH, KEYS_OUTLIVE, META_OUTLIVES};
use crate::book::nanos;
use crate::names::{Kind, Name};
use crate::scene::Scene;
use crate::verdict::{demand_kinds, demand_limits};

/// A soak of so many minutes must show all there is to be seen of lost writes.
const LONG: u64 = 10;

/// Nobody holds or waits, and the keys go with their time, on all primaries.
pub async fn nothing_is_left(scene: &Scene, cluster: &RedisCluster, grace: Duration) {
    let longest = LONGEST_LEASE.max(grace);
    let stopped = Instant::now();
    for name in spread::names() {
        nobody_is_left(scene, cluster, name.name, stopped + longest).await;
    }
    let end = stopped + KEYS_OUTLIVE + longest + Duration::from_secs(2);
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
        let most = i64::try_from((META_OUTLIVES + longest).as_millis()).expect("minutes");
        if ttl == -1 || ttl > most {
            scene.witness.state().find(format!("{meta} stays too long, PTTL {ttl}"));
        }
    }
    passing_names_are_gone(scene, cluster).await;
}

/// Who was killed leaves a permit that nobody needed to prune, until its lease ends.
async fn nobody_is_left(scene: &Scene, cluster: &RedisCluster, name: &str, end: Instant) {
    let key = |key: &str| format!("zsem:{{{name}}}:{key}");
    let permits = key("permits");
    loop {
        let now: Vec<String> = cluster.query_at(name, &["TIME"]).await;
        let now = format!("({}000", now[0]);
        let held: u64 = cluster.query_at(name, &["ZCOUNT", &permits, &now, "+inf"]).await;
        let waiting: u64 = cluster.query_at(name, &["ZCARD", &key("queue")]).await;
        if (held, waiting) == (0, 0) {
            return;
        }
        if Instant::now() > end {
            let finding = format!("{name}: {held} permits and {waiting} waiters are left");
            return scene.witness.state().find(finding);
        }
        sleep(Duration::from_millis(200)).await;
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
pub fn prove(scene: &Scene, record: &Record, plan: &Plan) {
    let kinds = [
        "process killed",
        "process frozen",
        "client closed",
        "client closed at once",
        "client dropped",
        "primary killed",
        How::AtOnce.name(),
        How::Elected.name(),
        "primary frozen until it was replaced",
        "primary frozen",
        "replica killed",
        "slot moved",
        "move given up",
        "connections cut",
        "scripts flushed",
    ];
    demand_kinds(scene, &kinds);
    let full = spread::names().iter().filter(|name| name.kind != Kind::Roomy);
    demand_limits(scene, &full.cloned().collect::<Vec<Name>>());
    if record.lost_in_all().grants_held == 0 {
        scene.witness.state().find("no proof: no grant was lost that anybody held".to_owned());
    }
    if plan.minutes >= LONG {
        prove_losses(scene, record, plan.failover_grace);
    }
}

/// In a short soak, some of it may be missing by chance.
fn prove_losses(scene: &Scene, record: &Record, grace: Duration) {
    let lost = record.lost_in_all();
    let mut state = scene.witness.state();
    let over = state.excess.get(How::AtOnce.name()).map_or(0, |excess| excess.times);
    for (shows, what) in [
        (lost.renewals_held > 0, "no renewal was lost of a permit that somebody held"),
        (lost.put_back > 0, "no permit was put back"),
        (lost.inspected > 0, "no permit that was put back was shown by `inspect`"),
        (lost.replicated_held > 0, "nobody held a replicated grant in a failover"),
        (over > 0 || !grace.is_zero(), "no name was over its limit though grants were lost"),
    ] {
        if !shows {
            state.find(format!("no proof: {what}"));
        }
    }
}
