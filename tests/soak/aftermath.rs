//! What must be so when the faults have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::book::nanos;
use crate::names::{LONGEST_LEASE, NAMES};
use crate::scene::Scene;
use crate::station::Station;
use test_support::ledger::monotonic_nanos;
use test_support::processes::Child;
use test_support::wait::PATIENCE;

/// All must work again by then: longer than a dead client is presumed alive, a claim and the longest lease after it.
const CALM: Duration = Duration::from_secs(15);
/// All processes have stopped by then, however busy the machine is.
const STOPPED: Duration = Duration::from_secs(60);
/// What the keys of a name outlive the last lease by, and `meta` the others.
pub const KEYS_OUTLIVE: Duration = Duration::from_secs(10);
pub const META_OUTLIVES: Duration = Duration::from_secs(60);
/// For how long one who was cut off may go on with what it had begun.
pub const AFTERMATH: Duration = Duration::from_secs(8);

/// Waits until all work again, and returns how long that took.
pub async fn recover(scene: &Scene, stations: &[Station], what: &str) -> Duration {
    let processes: Vec<u32> = stations.iter().map(|station| station.child.pid()).collect();
    recover_all(scene, &processes, what, CALM).await
}

/// As [`recover`], for these processes, which must work again within `longest`.
pub async fn recover_all(
    scene: &Scene,
    processes: &[u32],
    what: &str,
    longest: Duration,
) -> Duration {
    let (start, calm) = (Instant::now(), monotonic_nanos());
    loop {
        let stuck = scene.witness.state().stuck_since(processes, calm);
        if stuck.is_empty() {
            return start.elapsed();
        }
        if start.elapsed() > longest {
            for (name, who) in stuck {
                let books = books(scene, &name).await;
                let finding = format!(
                    "{name}: {longest:?} after {what} {} are stuck, and {books}: {}",
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

/// Tells all processes to stop, and waits until they have.
pub async fn stop(scene: &Scene, mut children: Vec<&mut Child>) {
    for child in &mut children {
        child.send("stop");
    }
    for child in children {
        let said = child.expect_line("@stopped", STOPPED).await;
        if !said.is_empty() {
            let process = child.pid();
            scene.witness.state().find(format!("process {process} stopped{said}"));
        }
        child.wait_for_exit(PATIENCE).await;
    }
}

/// Nobody holds or waits, and the keys go with their time.
pub async fn nothing_is_left(scene: &Scene) {
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
pub async fn passing_names_are_gone(scene: &Scene) -> Option<u64> {
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
