//! A process full of tasks that all want the same few permits: the child of
//! [`contention`](super::contention).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::support::child_role::{FromParent, say, setting};
use crate::support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "crowd";

/// What the tasks are made to wait at.
#[derive(Clone)]
enum Gate {
    Tokio(Arc<Semaphore>),
    Ours(ZSetSemaphore),
}

/// What holds a place until it is dropped.
enum Pass {
    Tokio(#[expect(dead_code)] OwnedSemaphorePermit),
    Ours(#[expect(dead_code)] Permit),
}

impl Gate {
    async fn open(limit: u32) -> Self {
        let client = match setting("STORE").as_str() {
            "tokio" => return Self::Tokio(Arc::new(Semaphore::new(limit as usize))),
            "memory" => Client::in_memory(),
            url => Client::connect(url).await.expect("connecting"),
        };
        Self::Ours(client.semaphore(setting("NAME"), limit).build().expect("a valid name"))
    }

    async fn pass(&self) -> Pass {
        match self {
            Self::Tokio(semaphore) => {
                let permit = Arc::clone(semaphore).acquire_owned().await;
                Pass::Tokio(permit.expect("nobody closes it"))
            }
            Self::Ours(semaphore) => {
                Pass::Ours(semaphore.acquire(1).await.expect("nothing ends the wait"))
            }
        }
    }
}

/// A span of the clock that all processes share, in nanoseconds.
#[derive(Clone, Copy)]
struct Window {
    from: u64,
    until: u64,
}

impl Window {
    fn from_line(line: &str) -> Self {
        let (from, until) = line.split_once(' ').expect("from and until");
        let instant = |word: &str| word.parse().expect("an instant");
        Self { from: instant(from), until: instant(until) }
    }

    /// How much of it lies between two instants.
    fn overlap(self, from: u64, until: u64) -> u64 {
        until.min(self.until).saturating_sub(from.max(self.from))
    }
}

/// What one task has to tell of a round.
#[derive(Default)]
struct Tale {
    /// Inside the window.
    waits: Vec<u64>,
    held: u64,
    /// From the first to the last, warm-up and all.
    acquires: u64,
}

pub(crate) async fn play(mut from_parent: FromParent) {
    let tasks: usize = setting("TASKS").parse().expect("a number");
    let hold = Duration::from_micros(setting("HOLD_US").parse().expect("a number"));
    let gate = Gate::open(setting("LIMIT").parse().expect("a number")).await;

    say("ready");
    while let Some(line) = from_parent.recv().await {
        let tales = round(&gate, tasks, hold, Window::from_line(&line)).await;
        for tale in &tales {
            let waits: Vec<String> = tale.waits.iter().map(u64::to_string).collect();
            say(format!("task {} {} {}", tale.acquires, tale.held, waits.join(",")));
        }
    }
}

async fn round(gate: &Gate, tasks: usize, hold: Duration, window: Window) -> Vec<Tale> {
    let spawn = |_| tokio::spawn(pass_often(gate.clone(), hold, window));
    let crowd: Vec<_> = (0..tasks).map(spawn).collect();
    let mut tales = Vec::with_capacity(tasks);
    for task in crowd {
        tales.push(task.await.expect("no task panics"));
    }
    tales
}

/// From now until the window ends; what comes before it is warm-up.
async fn pass_often(gate: Gate, hold: Duration, window: Window) -> Tale {
    let mut tale = Tale::default();
    while monotonic_nanos() < window.until {
        let asked = monotonic_nanos();
        let pass = gate.pass().await;
        let got = monotonic_nanos();
        sleep_until(Instant::now() + hold).await;
        drop(pass);
        tale.acquires += 1;
        tale.held += window.overlap(got, monotonic_nanos());
        if (window.from..window.until).contains(&got) {
            tale.waits.push(got - asked);
        }
    }
    tale
}
