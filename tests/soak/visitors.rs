//! Processes that do not stay.

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::scene::{Deck, Scene, ms};
use crate::worker::FORKS;
use test_support::ledger::monotonic_nanos;
use test_support::processes::Child;
use test_support::wait::PATIENCE;

/// Above the numbers of those that stay.
const VISITOR: usize = 99;

/// Processes that come, work a little and go.
#[derive(Clone, Copy)]
enum Visit {
    WithAWord,
    WithNoWord,
    /// After it has forked, and with no word.
    Forked,
}

const VISITS: [Visit; 3] = [Visit::WithAWord, Visit::WithNoWord, Visit::Forked];

pub async fn visitors(scene: &Scene, url: &str, end: Instant, mut random: Rng) {
    let mut deck = Deck::new(&VISITS);
    loop {
        sleep(ms(&mut random, 300..1_500)).await;
        let visit = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end {
            return;
        }
        let kind = come_and_go(visit, scene, url, &mut random).await;
        scene.tally.count(kind);
    }
}

async fn come_and_go(visit: Visit, scene: &Scene, url: &str, random: &mut Rng) -> &'static str {
    let env = [
        ("URL", url.to_owned()),
        ("RESP2_URL", url.to_owned()),
        ("WITNESS", scene.witness.address()),
        ("SEED", random.u64(..).to_string()),
        ("INDEX", VISITOR.to_string()),
        ("SHARE", "4".to_owned()),
    ];
    let forks = matches!(visit, Visit::Forked);
    let mut child = Child::spawn(if forks { "forking worker" } else { "worker" }, &env);
    let mut processes = vec![child.pid()];
    for _ in 1..if forks { FORKS } else { 1 } {
        let forked = child.expect_line("@forked ", PATIENCE).await;
        processes.push(forked.parse().expect("a process id"));
    }
    sleep(ms(random, 500..2_500)).await;
    if matches!(visit, Visit::WithAWord) {
        child.send("stop");
        // It says so if it could not give all back, which is no wonder under these faults.
        child.expect_line("@stopped", PATIENCE).await;
        child.wait_for_exit(PATIENCE).await;
        scene.witness.state().ended(child.pid());
        return "visitor came and went";
    }
    let at = monotonic_nanos();
    for process in processes {
        scene.witness.state().killed(process, at);
    }
    child.kill();
    // Its forks are children of nobody here; they have gone once nobody can write to its output.
    child.wait_for_end_of_output(PATIENCE).await;
    if forks { "visitor that forked ended with no word" } else { "visitor ended with no word" }
}
