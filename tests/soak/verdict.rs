//! What a soak proves, and what it prints at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::names::{Kind, NAMES, Name};
use crate::scene::Scene;

/// A soak in which something never came to pass proves nothing about it.
pub fn prove(scene: &Scene, wipes: bool) {
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
    if wipes {
        kinds.extend(["all keys wiped (FLUSHALL)", "server restarted empty"]);
    }
    demand_kinds(scene, &kinds);
    demand_limits(scene, &NAMES);
}

/// Each of these kinds of fault has come to pass.
pub fn demand_kinds(scene: &Scene, kinds: &[&str]) {
    let counts = scene.tally.counts();
    let mut state = scene.witness.state();
    for &kind in kinds {
        if !counts.contains_key(kind) {
            state.find(format!("no proof: there was no {kind:?}"));
        }
    }
}

/// Each of these names has reached its limit.
pub fn demand_limits(scene: &Scene, names: &[Name]) {
    let mut state = scene.witness.state();
    for name in names.iter().filter(|name| name.kind != Kind::Moved) {
        let most = state.most_units.get(name.name).copied().unwrap_or(0);
        if most < u64::from(name.limit) {
            state.find(format!("no proof: {} reached {most} of {} units", name.name, name.limit));
        }
    }
}

pub fn report(scene: &Scene, took: Duration) {
    report_faults(scene, took);
    report_holds(scene);
}

/// Prints the faults by kind.
pub fn report_faults(scene: &Scene, took: Duration) {
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
}

/// Prints the holds, and what was lost and why.
pub fn report_holds(scene: &Scene) {
    let state = scene.witness.state();
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
