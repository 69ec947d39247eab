//! Tasks that take and give back as fast as they are let: the same loop for all candidates, ours
//! and the peers of `benches/peers`.

pub mod measure;

use std::sync::Arc;

use crate::measure::Times;
use test_support::child_role::{FromParent, say};
use test_support::ledger::monotonic_nanos;

/// One way to cap concurrency.
pub trait Candidate: Send + Sync + 'static {
    /// What is held between the two halves of a pair.
    type Permit: Send;

    /// Returns when the grant is known.
    fn acquire(&self, task: usize) -> impl Future<Output = Self::Permit> + Send;

    /// Returns when whoever keeps the books has answered.
    fn release(&self, permit: Self::Permit) -> impl Future<Output = ()> + Send;
}

/// What one round of a candidate came to.
#[derive(Clone, Copy)]
pub struct Round {
    /// Halves that ended inside the window, by two: whole pairs would be counted by the phase of
    /// tasks that go in step.
    pub pairs: f64,
    /// Of `acquire`, in microseconds.
    pub p50: f64,
    pub p99: f64,
}

impl Round {
    fn to_line(self) -> String {
        format!("{} {} {}", self.pairs, self.p50, self.p99)
    }

    pub fn from_words(words: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let [pairs, p50, p99] = words[..] else { panic!("a round has three figures: {words:?}") };
        let figure = |word: &str| word.parse().expect("a figure");
        Self { pairs: figure(pairs), p50: figure(p50), p99: figure(p99) }
    }
}

/// What the parent asks for: how many tasks, and from when until when it counts (of the clock that
/// all processes share).
#[derive(Clone, Copy)]
pub struct Order {
    pub tasks: usize,
    pub from: u64,
    pub until: u64,
}

impl Order {
    pub fn to_line(self) -> String {
        format!("{} {} {}", self.tasks, self.from, self.until)
    }

    fn from_line(line: &str) -> Self {
        let numbers: Vec<u64> =
            line.split(' ').map(|word| word.parse().expect("orders are integers")).collect();
        let [tasks, from, until] = numbers[..] else { panic!("an order has three numbers") };
        Self { tasks: usize::try_from(tasks).expect("a few thousand"), from, until }
    }
}

/// Keeps this thread, and those it will start, on the cores that the parent names. Linux alone names any.
pub fn pin() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};

        let cores = test_support::child_role::setting("CORES");
        if cores.is_empty() {
            return;
        }
        let mut set = CpuSet::new();
        for core in cores.split(',') {
            set.set(core.parse().expect("cores are numbers"));
        }
        sched_setaffinity(None, &set).expect("pinning to cores that were there");
    }
}

/// The child's side: round after round, until the parent has had enough.
pub async fn play<C: Candidate>(candidate: C, mut from_parent: FromParent) {
    let candidate = Arc::new(candidate);
    say("ready");
    while let Some(line) = from_parent.recv().await {
        let round = round(&candidate, Order::from_line(&line)).await;
        say(format!("round {}", round.to_line()));
    }
}

async fn round<C: Candidate>(candidate: &Arc<C>, order: Order) -> Round {
    let tasks: Vec<_> = (0..order.tasks)
        .map(|task| tokio::spawn(take_turns(Arc::clone(candidate), task, order)))
        .collect();
    let (mut waits, mut halves) = (Vec::new(), 0);
    for task in tasks {
        let mut done = task.await.expect("no task panics");
        waits.append(&mut done.waits);
        halves += done.halves;
    }
    let waits = Times::new(waits);
    Round { pairs: halves as f64 / 2.0, p50: waits.p50(), p99: waits.p99() }
}

/// What one task did inside the window.
#[derive(Default)]
struct Done {
    /// The nanoseconds of each `acquire`.
    waits: Vec<u64>,
    halves: u64,
}

async fn take_turns<C: Candidate>(candidate: Arc<C>, task: usize, order: Order) -> Done {
    let window = order.from..order.until;
    let mut done = Done::default();
    loop {
        let asked = monotonic_nanos();
        let permit = candidate.acquire(task).await;
        let got = monotonic_nanos();
        candidate.release(permit).await;
        let now = monotonic_nanos();
        done.halves += u64::from(window.contains(&got)) + u64::from(window.contains(&now));
        if window.contains(&got) {
            done.waits.push(got - asked);
        }
        if now >= order.until {
            return done;
        }
    }
}
