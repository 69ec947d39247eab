//! Who gets how much, and in which order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::inspect::queued;
use crate::common::stores::Place;
use futures_util::future::join_all;
use test_support::child_role::{FromParent, runtime, say, setting};
use test_support::ledger::{Ledger, Reporter, monotonic_nanos};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::time::sleep;
use zset_semaphore::Client;

const LIMIT: u32 = 8;
const TASKS: usize = 64;
const HOLD: Duration = Duration::from_millis(2);

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "crowd" => crowd(from_parent),
        _ => panic!("no role {role}"),
    }
}

/// Every task takes one unit, holds it for a moment and asks again at once.
fn crowd(mut from_parent: FromParent) {
    let tasks: usize = setting("TASKS").parse().expect("a number");
    let hold = Duration::from_millis(setting("HOLD_MS").parse().expect("a number"));
    runtime().block_on(async {
        let client = Client::connect(setting("URL")).await.expect("the server is up");
        let semaphore = client.semaphore("shared", LIMIT).build().expect("a semaphore");
        let reporter = Reporter::connect(&setting("LEDGER"));
        say("ready");
        assert_eq!(from_parent.recv().await.as_deref(), Some("go"));
        for task in 0..tasks {
            let (semaphore, reporter) = (semaphore.clone(), reporter.clone());
            tokio::spawn(async move {
                loop {
                    let permit = semaphore.acquire(1).await.expect("the server stays up");
                    reporter.enter(task, 1);
                    sleep(hold).await;
                    reporter.leave(task);
                    drop(permit);
                }
            });
        }
        while from_parent.recv().await.is_some_and(|line| line != "stop") {}
    });
}

/// 1 if all shares are equal, 1/n if one has all.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

async fn shares_are_equal_among(processes: usize) {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let env = [
        ("URL", server.url()),
        ("LEDGER", ledger.address()),
        ("TASKS", (TASKS / processes).to_string()),
        ("HOLD_MS", HOLD.as_millis().to_string()),
    ];
    let mut crowds: Vec<_> = (0..processes).map(|_| Child::spawn("fairness/crowd", &env)).collect();
    join_all(crowds.iter_mut().map(|crowd| crowd.expect_line("@ready", PATIENCE))).await;
    for crowd in &mut crowds {
        crowd.send("go");
    }
    // Counted once all are at it, and over so many rounds that one more or less weighs little.
    let everybody = || {
        let holds = ledger.holds();
        let mut tasks: Vec<_> = holds.iter().map(|h| (h.process, h.holder.clone())).collect();
        tasks.sort_unstable();
        tasks.dedup();
        (tasks.len(), holds.len())
    };
    eventually("everybody has had a turn", PATIENCE, async || everybody().0 == TASKS).await;
    let start = monotonic_nanos();
    let before = everybody().1;
    eventually("60 rounds have passed", PATIENCE * 3, async || {
        sleep(Duration::from_millis(50)).await;
        everybody().1 >= before + 60 * TASKS
    })
    .await;
    let end = monotonic_nanos();

    ledger.assert_never_over(LIMIT);
    let mut counts: HashMap<_, u32> = HashMap::new();
    for hold in ledger.holds().into_iter().filter(|hold| (start..end).contains(&hold.from_ns)) {
        *counts.entry((hold.process, hold.holder)).or_default() += 1;
    }
    let shares: Vec<f64> = counts.values().map(|&count| f64::from(count)).collect();
    let fairness = jain(&shares);
    println!("{processes} processes: Jain {fairness:.5}, {:?}", counts.values());
    assert_eq!(shares.len(), TASKS, "somebody got nothing: {counts:?}");
    assert!(fairness >= 0.99, "Jain {fairness}: {counts:?}");
}

// Behaviour 36
#[tokio::test]
async fn sixty_four_equal_tasks_in_one_process_get_equal_shares() {
    shares_are_equal_among(1).await;
}

// Behaviour 36
#[tokio::test]
async fn sixty_four_equal_tasks_in_four_processes_get_equal_shares() {
    shares_are_equal_among(4).await;
}

// Behaviour 35
#[tokio::test]
async fn clients_are_served_in_the_order_they_came_and_a_releaser_goes_to_the_back() {
    for place in Place::each().await {
        let mine = place.client().semaphore("jobs", 1).build().unwrap();
        let others: Vec<_> =
            (0..3).map(|_| place.client().semaphore("jobs", 1).build().unwrap()).collect();
        let mut held = mine.acquire(1).await.unwrap();
        let mut waiters = Vec::new();
        for index in 0..9 {
            waiters.push(tokio::spawn(others[index % 3].acquire(1)));
            queued(&mine, index as u64 + 1).await;
        }
        // Asks again in the very turn that carries its release.
        drop(held);
        let back = tokio::spawn(mine.acquire(1));
        for (index, waiter) in waiters.into_iter().enumerate() {
            held = within(PATIENCE, waiter).await.unwrap().unwrap();
            assert!(!back.is_finished(), "it barged in before waiter {index}");
            let books = mine.inspect().await.unwrap();
            assert_eq!((books.in_use, books.holders[0].id), (1, held.id()));
            drop(held);
        }
        drop(within(PATIENCE, back).await.unwrap().unwrap());
    }
}

// Behaviour 35
#[tokio::test]
async fn processes_are_served_in_the_order_they_came() {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let mine = Client::open(server.url()).unwrap().semaphore("shared", LIMIT).build().unwrap();
    let held = mine.acquire(LIMIT).await.unwrap();
    // Long enough that a process that is slow to say what it got does not look overtaken.
    let env = [
        ("URL", server.url()),
        ("LEDGER", ledger.address()),
        ("TASKS", LIMIT.to_string()),
        ("HOLD_MS", "300".to_owned()),
    ];
    let mut crowds = Vec::new();
    for index in 1..=4_u32 {
        let mut crowd = Child::spawn("fairness/crowd", &env);
        crowd.expect_line("@ready", PATIENCE).await;
        crowd.send("go");
        queued(&mine, u64::from(index * LIMIT)).await;
        crowds.push(crowd);
    }
    held.release().await.unwrap();
    // When the tasks of a process got their first permit, or their second.
    let nth = |crowd: &Child, round: usize| {
        let mut times: HashMap<String, Vec<u64>> = HashMap::new();
        for hold in ledger.holds().into_iter().filter(|hold| hold.process == crowd.pid()) {
            times.entry(hold.holder).or_default().push(hold.from_ns);
        }
        times.into_values().filter_map(|times| times.get(round).copied()).collect::<Vec<u64>>()
    };
    eventually("everybody had a turn, and the first came again", PATIENCE, async || {
        let had = |crowd, round| nth(crowd, round).len() == LIMIT as usize;
        crowds.iter().all(|crowd| had(crowd, 0)) && had(&crowds[0], 1)
    })
    .await;

    let first: Vec<_> = crowds.iter().map(|crowd| nth(crowd, 0)).collect();
    for pair in first.windows(2) {
        assert!(pair[0].iter().max() < pair[1].iter().min(), "out of order: {first:?}");
    }
    let again = nth(&crowds[0], 1);
    assert!(again.iter().min() > first[3].iter().max(), "barged in: {again:?}, {first:?}");
}

// Behaviour 53
#[tokio::test]
async fn who_wants_all_gets_its_turn_among_those_who_want_one() {
    for place in Place::each().await {
        let singles = place.client().semaphore("jobs", 8).build().unwrap();
        let all = place.client().semaphore("jobs", 8).build().unwrap();
        let (granted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let (granted, stop) = (Arc::clone(&granted), Arc::clone(&stop));
                let singles = singles.clone();
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let permit = singles.acquire(1).await.unwrap();
                        granted.fetch_add(1, Ordering::SeqCst);
                        sleep(HOLD).await;
                        drop(permit);
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let passed = granted.load(Ordering::SeqCst);
            eventually("the singles are at it", PATIENCE, async || {
                granted.load(Ordering::SeqCst) > passed + 32
            })
            .await;
            let before = granted.load(Ordering::SeqCst);
            let permit = within(PATIENCE, all.acquire(8)).await.unwrap();
            let overtook = granted.load(Ordering::SeqCst) - before;
            // Those who stood ahead, and those who came while its own turn was under way.
            assert!(overtook <= 3 * 32, "{overtook} singles went before it");
            assert_eq!(all.inspect().await.unwrap().in_use, 8);
            permit.release().await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        for task in tasks {
            within(PATIENCE, task).await.unwrap();
        }
    }
}
