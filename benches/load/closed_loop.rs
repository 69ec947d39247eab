//! Tasks that take and give back as fast as they are let: the same loop for all candidates, ours
//! and the peers of `benches/peers`.

use std::sync::Arc;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::measure::Times;
use crate::support::child_role::{FromParent, say, setting};
use crate::support::ledger::monotonic_nanos;

/// One way to cap concurrency.
pub(crate) trait Candidate: Send + Sync + 'static {
    /// What is held between the two halves of a pair.
    type Permit: Send;

    /// Returns when the grant is known.
    fn acquire(&self, task: usize) -> impl Future<Output = Self::Permit> + Send;

    /// Returns when whoever keeps the books has answered.
    fn release(&self, permit: Self::Permit) -> impl Future<Output = ()> + Send;
}

/// What one round of a candidate came to.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) pairs: u64,
    /// Of `acquire`, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Round {
    fn to_line(self) -> String {
        format!("{} {} {}", self.pairs, self.p50, self.p99)
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let [pairs, p50, p99] = words[..] else { panic!("a round has three figures: {words:?}") };
        let figure = |word: &str| word.parse().expect("a figure");
        Self { pairs: pairs.parse().expect("a count"), p50: figure(p50), p99: figure(p99) }
    }
}

/// What the parent asks for: so many tasks, and from when until when it counts (of the clock that
/// all processes share).
#[derive(Clone, Copy)]
pub(crate) struct Order {
    pub(crate) tasks: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Order {
    pub(crate) fn to_line(self) -> String {
        format!("{} {} {}", self.tasks, self.from, self.until)
    }

    fn from_line(line: &str) -> Self {
        let numbers: Vec<u64> =
            line.split(' ').map(|word| word.parse().expect("orders are integers")).collect();
        let [tasks, from, until] = numbers[..] else { panic!("an order has three numbers") };
        Self { tasks: usize::try_from(tasks).expect("a few thousand"), from, until }
    }
}

/// Keeps this thread, and those it will start, on the cores that the parent names.
pub(crate) fn pin() {
    let cores = setting("CORES");
    if cores.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    for core in cores.split(',') {
        set.set(core.parse().expect("cores are numbers"));
    }
    sched_setaffinity(None, &set).expect("pinning to cores that were there");
}

/// The child's side: round after round, until the parent has had enough.
pub(crate) async fn play<C: Candidate>(candidate: C, mut from_parent: FromParent) {
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
    let mut waits = Vec::new();
    for task in tasks {
        waits.append(&mut task.await.expect("no task panics"));
    }
    let waits = Times::new(waits);
    Round { pairs: waits.len() as u64, p50: waits.p50(), p99: waits.p99() }
}

/// The nanoseconds of each `acquire` whose pair ended inside the window.
async fn take_turns<C: Candidate>(candidate: Arc<C>, task: usize, order: Order) -> Vec<u64> {
    let mut waits = Vec::new();
    loop {
        let asked = monotonic_nanos();
        let permit = candidate.acquire(task).await;
        let wait = monotonic_nanos() - asked;
        candidate.release(permit).await;
        let now = monotonic_nanos();
        if now >= order.until {
            return waits;
        }
        if now >= order.from {
            waits.push(wait);
        }
    }
}
