//! A process full of tasks that all want the same few permits: the child of
//! [`contention`](super::contention).

use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::grants::Grant;
use crate::script::BareScript;
use test_support::child_role::{FromParent, say, setting};
use test_support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "contention";

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
    Ours(Permit),
}

impl Pass {
    /// The fencing token, and the id in text.
    fn signature(&self) -> (Option<u64>, String) {
        match self {
            Self::Tokio(_) => (None, String::new()),
            Self::Ours(permit) => (Some(permit.fencing_token()), permit.id().to_string()),
        }
    }
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

/// What the tasks do, besides waiting.
#[derive(Clone, Copy)]
struct Habits {
    hold: Duration,
    /// The longest that a task thinks before it asks again; it thinks half as long on average.
    think: Duration,
    window: Window,
}

/// What one task has to tell of a round.
#[derive(Default)]
struct TaskReport {
    /// Inside the window.
    held: u64,
    /// From the first to the last, warm-up and all.
    grants: Vec<Grant>,
}

pub(crate) async fn play(mut from_parent: FromParent) {
    let tasks: usize = setting("TASKS").parse().expect("a number");
    let first: u64 = setting("FIRST").parse().expect("a number");
    let micros = |name| Duration::from_micros(setting(name).parse().expect("a number"));
    let (hold, think) = (micros("HOLD_US"), micros("THINK_US"));
    let gate = Gate::open(setting("LIMIT").parse().expect("a number")).await;

    say("ready");
    while let Some(line) = from_parent.recv().await {
        let habits = Habits { hold, think, window: Window::from_line(&line) };
        for report in round(&gate, first..first + tasks as u64, habits).await {
            let grants: Vec<String> = report.grants.iter().map(Grant::to_words).collect();
            say(format!("task {} {}", report.held, grants.join(",")));
        }
    }
}

/// The numbers of the tasks are what their thoughts are seeded by.
async fn round(gate: &Gate, tasks: Range<u64>, habits: Habits) -> Vec<TaskReport> {
    let spawn = |task| tokio::spawn(pass_often(gate.clone(), habits, Rng::with_seed(task)));
    let tasks: Vec<_> = tasks.map(spawn).collect();
    let mut reports = Vec::with_capacity(tasks.len());
    for task in tasks {
        reports.push(task.await.expect("no task panics"));
    }
    reports
}

/// From now until the window ends; what comes before it is warm-up.
async fn pass_often(mut gate: Gate, habits: Habits, mut thoughts: Rng) -> TaskReport {
    let mut report = TaskReport::default();
    while monotonic_nanos() < habits.window.until {
        let (pass, grant) = pass_once(&mut gate).await;
        sleep_until(Instant::now() + habits.hold).await;
        drop(pass);
        report.held += habits.window.overlap(grant.got, monotonic_nanos());
        report.grants.push(grant);
        if !habits.think.is_zero() {
            sleep(habits.think.mul_f64(thoughts.f64())).await;
        }
    }
    report
}

async fn pass_once(gate: &mut Gate) -> (Pass, Grant) {
    let asked = monotonic_nanos();
    let mut passing = pin!(gate.pass());
    let first_poll = poll_fn(|context| Poll::Ready(passing.as_mut().poll(context))).await;
    let stood = monotonic_nanos();
    let pass = match first_poll {
        Poll::Ready(pass) => pass,
        Poll::Pending => passing.await,
    };
    let got = monotonic_nanos();
    let (token, id) = pass.signature();
    let grant = Grant { asked, stood, got, token, id };
    (pass, grant)
}
