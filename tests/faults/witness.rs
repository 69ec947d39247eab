//! Invariant 1, seen from outside: how many believed to hold at once, by the clock of the machine.
//!
//! Several processes take and give back permits and report to the ledger of [`test_support::ledger`],
//! which knows nothing of Redis. What counts is *belief*: a holder that would go on working.
//!
//! A holder believes for as long as `is_lost()` would answer no, for that is what the crate tells it
//! to go by. Its report is honest when it can be cut off or frozen at any instant:
//!
//! - `enter` is stamped once `acquire` has returned;
//! - at the natural end, an instant is taken, *then* `is_lost()` is asked; if it says no, the permit
//!   was held at that instant, and `leave` is stamped with it, before the permit is dropped;
//! - if `is_lost()` says yes, nobody knows when it began to: the process may have stood still since.
//!   But a lease is lost by the clock at a deadline that was fixed before, and each look at the
//!   permit notes it (`Permit`'s `Debug` shows it; std's `Instant` is CLOCK_MONOTONIC here). So
//!   `leave` is stamped with the last deadline noted, or with the last instant at which `is_lost()`
//!   said no, if that is later.
//!
//! So a frozen holder counts until its local deadline, the whole time for which the crate would have
//! let it work, and not only until it was frozen. Nothing is hidden by that: at no instant of what is
//! left out would `is_lost()` have said no. It leaves out one who works on without looking, whom no
//! semaphore can stop; what he does is turned away by its fencing token.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use test_support::belief::local_deadline;
use test_support::child_role::{FromParent, runtime, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::ledger::{Hold, Ledger, Reporter, monotonic_nanos};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms};
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, ZSetSemaphore};

const LIMIT: u32 = 8;
const PROCESSES: usize = 4;
const TASKS: usize = 16;
const LEASE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(1);

// ---- the children

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "crowd" => crowd(from_parent),
        _ => panic!("no role {role}"),
    }
}

/// Works until the process is killed or told to stop.
fn crowd(mut from_parent: FromParent) {
    runtime().block_on(async {
        let client = Client::open(setting("URL")).expect("the parent's url");
        let semaphore =
            client.semaphore("witnessed", LIMIT).lease(LEASE).build().expect("a semaphore");
        let reporter = Reporter::connect(&setting("LEDGER"));
        let longest = setting("LONGEST_MS").parse().expect("a number");
        for task in 0..TASKS {
            tokio::spawn(work_on_and_on(semaphore.clone(), reporter.clone(), task, longest));
        }
        say("working");
        while from_parent.recv().await.is_some_and(|line| line != "stop") {}
    });
}

async fn work_on_and_on(semaphore: ZSetSemaphore, reporter: Reporter, task: usize, longest: u64) {
    for round in 0_u64.. {
        let permit = semaphore.acquire(1).await.expect("an outage is ridden out");
        let holder = format!("task {task}, round {round}");
        reporter.enter(&holder, 1);
        // Some hold for longer than a lease, so that renewals matter and faults find somebody.
        let longest = if fastrand::u32(..10) == 0 { longest * 10 } else { longest };
        let end = Instant::now() + ms(fastrand::u64(0..longest));
        let mut believed_until = 0;
        loop {
            let now = monotonic_nanos();
            let Some(deadline) = local_deadline(&permit).filter(|_| !permit.is_lost()) else {
                // A mark of no weight, so that the parent can see that this came to pass.
                reporter.enter(format_args!("lost: {holder}"), 0);
                reporter.leave_at(&holder, believed_until.min(now));
                break;
            };
            believed_until = now.max(deadline);
            if Instant::now() >= end {
                reporter.leave_at(&holder, now);
                break;
            }
            sleep(STEP).await;
        }
        drop(permit);
    }
}

// ---- the parent

async fn spawn_crowd(url: &str, ledger: &Ledger, longest: Duration) -> Child {
    let longest = longest.as_millis().to_string();
    let env = [("URL", url.to_owned()), ("LEDGER", ledger.address()), ("LONGEST_MS", longest)];
    let mut child = Child::spawn("witness/crowd", &env);
    child.expect_line("@working", PATIENCE).await;
    child
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a short time")
}

// Behaviour 1
#[tokio::test]
async fn four_processes_reach_the_limit_exactly_and_never_pass_it() {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let url = server.url();
    let crowds = join_all((0..PROCESSES).map(|_| spawn_crowd(&url, &ledger, ms(20)))).await;
    let start = monotonic_nanos();
    sleep(ms(2_000)).await;
    let end = monotonic_nanos();

    let overlap = ledger.overlap();
    assert_eq!(overlap.units, u64::from(LIMIT), "{overlap}");
    let holds = ledger.holds();
    for crowd in &crowds {
        let during = |from| (start..end).contains(&from);
        let count = holds.iter().filter(|h| h.process == crowd.pid() && during(h.from_ns)).count();
        assert!(count >= TASKS, "process {} held {count} times only", crowd.pid());
    }
    let lost = holds.iter().filter(|hold| hold.units == 0).count();
    assert_eq!(lost, 0, "nothing was wrong, yet permits were lost");
}

#[derive(Default)]
struct Faults {
    kills: Cell<usize>,
    freezes: Cell<usize>,
    cuts: Cell<usize>,
}

fn count(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}

/// One process, broken over and over until `end`, and whole again after that.
async fn torment(
    mut crowd: Child,
    proxy: &FaultProxy,
    ledger: &Ledger,
    faults: &Faults,
    end: Instant,
    mut random: fastrand::Rng,
) -> Child {
    // Each is frozen once and killed once; the rest is chance.
    for planned in [Some(1), Some(0)].into_iter().chain(std::iter::repeat(None)) {
        sleep(ms(random.u64(200..900))).await;
        if Instant::now() >= end {
            break;
        }
        match planned.unwrap_or_else(|| random.u32(..6)) {
            0 => {
                let killed_at = crowd.kill();
                ledger.kill_all_of(crowd.pid(), killed_at);
                crowd = spawn_crowd(&proxy.url(), ledger, ms(250)).await;
                count(&faults.kills);
            }
            1 => {
                freeze_as_it_holds(&mut crowd, ledger).await;
                sleep(LEASE + ms(random.u64(100..600))).await;
                crowd.thaw();
                count(&faults.freezes);
            }
            fault => {
                match fault {
                    2 => proxy.black_hole(),
                    3 => proxy.hold_requests(),
                    4 => proxy.hold_replies(),
                    _ => {
                        proxy.refuse(true);
                        proxy.cut();
                    }
                }
                sleep(ms(random.u64(50..1_600))).await;
                proxy.refuse(false);
                proxy.pass();
                count(&faults.cuts);
            }
        }
    }
    crowd
}

/// Stops the process at an instant at which it holds something, if there is such a one within a second.
async fn freeze_as_it_holds(crowd: &mut Child, ledger: &Ledger) {
    for _ in 0..50 {
        crowd.freeze();
        let present = |hold: &Hold| hold.units > 0 && hold.until_ns == u64::MAX;
        if ledger.holds().iter().any(|hold| hold.process == crowd.pid() && present(hold)) {
            return;
        }
        crowd.thaw();
        sleep(ms(20)).await;
    }
    crowd.freeze();
}

// Invariant 1, Behaviour 1
#[tokio::test]
async fn with_processes_killed_cut_off_and_frozen_the_limit_is_never_exceeded_and_reached_again() {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let faults = Faults::default();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + ms(9_000);

    let mut proxies = Vec::new();
    for _ in 0..PROCESSES {
        proxies.push(FaultProxy::start(server.addr()).await);
    }
    let broken = proxies.iter().map(|proxy| {
        let random = random.fork();
        let (ledger, faults) = (&ledger, &faults);
        async move {
            let crowd = spawn_crowd(&proxy.url(), ledger, ms(250)).await;
            torment(crowd, proxy, ledger, faults, end, random).await
        }
    });
    let crowds = join_all(broken).await;
    let calm_ns = monotonic_nanos();
    // Longer than a killed process is presumed alive and its last claim is kept: 3 s and a lease.
    sleep(ms(4_200)).await;
    let end_ns = monotonic_nanos();

    ledger.assert_never_over(LIMIT);
    let last = ledger.overlap_within(end_ns - nanos(ms(1_000))..end_ns);
    assert_eq!(last.units, u64::from(LIMIT), "in the last second: {last}\n{}", ledger.timeline());

    // The faults were real, and every process works again.
    let holds = ledger.holds();
    let lost = holds.iter().filter(|hold| hold.units == 0).count();
    let [kills, freezes, cuts] = [&faults.kills, &faults.freezes, &faults.cuts].map(Cell::get);
    let tally = format!("{kills} killed, {freezes} frozen, {cuts} cut off, {lost} permits lost");
    println!("{tally}, {} holds", holds.len());
    assert!(kills > 0 && freezes > 0 && cuts > 0 && lost > 0, "no proof: {tally}");
    for crowd in &crowds {
        // One round of all waiters is shorter than the calm.
        let works = |hold: &Hold| hold.process == crowd.pid() && hold.from_ns > calm_ns;
        assert!(holds.iter().any(works), "process {} stands still; {tally}", crowd.pid());
    }
}
