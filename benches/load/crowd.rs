//! A process full of tasks that all want the same few permits: the child of
//! [`contention`](super::contention).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::script::BareScript;
use crate::support::child_role::{FromParent, say, setting};
use crate::support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "crowd";

/// What the tasks are made to wait at.
#[derive(Clone)]
enum Gate {
    Tokio(Arc<Semaphore>),
    /// As tokio's, but who is let in first makes one round trip.
    RoundTrip(Arc<Semaphore>, BareScript),
    Ours(ZSetSemaphore),
}

/// What holds a place until it is dropped.
enum Pass {
    Tokio(#[expect(dead_code)] OwnedSemaphorePermit),
    Ours(#[expect(dead_code)] Permit),
}

impl Gate {
    async fn open(limit: u32) -> Self {
        let tokio = Arc::new(Semaphore::new(limit as usize));
        let client = match setting("GATE").as_str() {
            "tokio" => return Self::Tokio(tokio),
            "round trip" => return Self::RoundTrip(tokio, BareScript::at(&setting("URL")).await),
            "memory" => Client::in_memory(),
            "redis" => Client::connect(setting("URL")).await.expect("connecting"),
            other => panic!("there is no gate {other:?}"),
        };
        Self::Ours(client.semaphore(setting("NAME"), limit).build().expect("a valid name"))
    }

    async fn pass(&mut self) -> Pass {
        match self {
            Self::Tokio(semaphore) => Pass::Tokio(let_in(semaphore).await),
            Self::RoundTrip(semaphore, script) => {
                let permit = let_in(semaphore).await;
                script.run().await;
                Pass::Tokio(permit)
            }
            Self::Ours(semaphore) => {
                Pass::Ours(semaphore.acquire(1).await.expect("nothing ends the wait"))
            }
        }
    }
}

async fn let_in(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("nobody closes it")
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
async fn pass_often(mut gate: Gate, hold: Duration, window: Window) -> Tale {
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
