//! Processes that fight over one semaphore, and what they got: the rounds of
//! [`contention`](super::contention).

use std::ops::Range;
use std::time::Duration;

use crate::contention_child::ROLE;
use crate::grants::{Grant, Witnessed, overtaken};
use crate::monitor::Monitor;
use closed_loop::measure::{Rounds, Times, jain};
use test_support::ledger::monotonic_nanos;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

pub(crate) const TASKS: usize = 64;
pub(crate) const LIMIT: u32 = 8;
pub(crate) const HOLD: Duration = Duration::from_millis(2);
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Contenders {
    pub(crate) label: &'static str,
    children: Vec<Child>,
    pub(crate) throughput: Rounds,
    /// Share of the permits that somebody held.
    pub(crate) in_use: Rounds,
    pub(crate) jain: Rounds,
    pub(crate) wait_p50: Rounds,
    pub(crate) wait_p99: Rounds,
    pub(crate) wait_max: Rounds,
    pub(crate) calls_per_acquire: Rounds,
    /// By task, over all rounds.
    counts: Vec<u64>,
    pub(crate) grants: usize,
    /// Waiters, summed over all grants.
    pub(crate) overtaken: usize,
    /// What the server saw of one round; none for those who ask no server.
    pub(crate) witnessed: Option<Witnessed>,
}

impl Contenders {
    /// `think` is the longest that a task thinks before it asks again.
    pub(crate) async fn start(
        label: &'static str,
        gate: &str,
        processes: usize,
        think: Duration,
        server: &RedisServer,
    ) -> Self {
        let tasks = TASKS / processes;
        let mut children: Vec<Child> = (0..processes)
            .map(|process| {
                let env = [
                    ("GATE", gate.to_owned()),
                    ("URL", server.url()),
                    ("NAME", format!("contention-of-{processes}-think-{}", think.as_millis())),
                    ("TASKS", tasks.to_string()),
                    ("FIRST", (process * tasks).to_string()),
                    ("LIMIT", LIMIT.to_string()),
                    ("HOLD_US", HOLD.as_micros().to_string()),
                    ("THINK_US", think.as_micros().to_string()),
                ];
                Child::spawn(ROLE, &env)
            })
            .collect();
        for child in &mut children {
            child.expect_line("@ready", PATIENCE).await;
        }
        Self {
            label,
            children,
            throughput: Rounds::default(),
            in_use: Rounds::default(),
            jain: Rounds::default(),
            wait_p50: Rounds::default(),
            wait_p99: Rounds::default(),
            wait_max: Rounds::default(),
            calls_per_acquire: Rounds::default(),
            counts: vec![0; TASKS],
            grants: 0,
            overtaken: 0,
            witnessed: None,
        }
    }

    pub(crate) fn is_one_process(&self) -> bool {
        self.children.len() == 1
    }

    pub(crate) async fn round(&mut self, server: &RedisServer) {
        let calls_before = server.script_calls().await;
        let (reports, window) = self.fight().await;
        let calls = server.script_calls().await - calls_before;
        self.take_in(&reports, window, calls);
    }

    /// One round more, of which nothing is taken in but who came before whom.
    pub(crate) async fn witnessed_round(&mut self, server: &RedisServer) {
        let mut monitor = Monitor::start(server).await;
        let (reports, _) = self.fight().await;
        let seen = monitor.look().await;
        let grants = reports.into_iter().flat_map(|report| report.grants);
        self.witnessed = Witnessed::of(&seen, grants);
    }

    /// What all tasks tell of one round, and its window.
    async fn fight(&mut self) -> (Vec<TaskReport>, Range<u64>) {
        let from = monotonic_nanos() + nanos(WARM_UP);
        let until = from + nanos(WINDOW);
        for child in &mut self.children {
            child.send(&format!("{from} {until}"));
        }
        let processes = self.children.len();
        let mut reports = Vec::new();
        for (process, child) in self.children.iter_mut().enumerate() {
            for _ in 0..TASKS / processes {
                let words = child.expect_line("@task", PATIENCE).await;
                reports.push(TaskReport::from_words(process, &words));
            }
        }
        (reports, from..until)
    }

    fn take_in(&mut self, reports: &[TaskReport], window: Range<u64>, calls: u64) {
        let waits: Vec<Vec<u64>> =
            reports.iter().map(|report| report.waits_within(&window)).collect();
        let counts: Vec<u64> = waits.iter().map(|waits| waits.len() as u64).collect();
        let waits = Times::new(waits.concat());
        let held: u64 = reports.iter().map(|report| report.held).sum();
        let grants: Vec<(usize, Grant)> = reports.iter().flat_map(TaskReport::signed).collect();

        self.throughput.push(waits.count() as f64 / WINDOW.as_secs_f64());
        self.in_use.push(held as f64 / (f64::from(LIMIT) * nanos(WINDOW) as f64));
        self.jain.push(jain(&counts));
        self.wait_p50.push(waits.p50());
        self.wait_p99.push(waits.p99());
        self.wait_max.push(waits.percentile(100.0));
        self.calls_per_acquire.push(calls as f64 / grants.len() as f64);
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += count;
        }
        self.grants += grants.len();
        self.overtaken += overtaken(grants);
    }

    /// The smallest and the largest count of a task, in parts of the mean.
    pub(crate) fn shares(&self) -> (f64, f64) {
        let mean = self.counts.iter().sum::<u64>() as f64 / TASKS as f64;
        let share = |count: Option<&u64>| count.map_or(f64::NAN, |&count| count as f64 / mean);
        (share(self.counts.iter().min()), share(self.counts.iter().max()))
    }
}

/// What a task of a child tells of a round.
struct TaskReport {
    process: usize,
    held: u64,
    grants: Vec<Grant>,
}

impl TaskReport {
    fn from_words(process: usize, words: &str) -> Self {
        let (held, grants) = words.split_once(' ').unwrap_or((words, ""));
        let grants = grants.split(',').filter(|words| !words.is_empty()).map(Grant::from_words);
        Self { process, held: held.parse().expect("tasks tell integers"), grants: grants.collect() }
    }

    fn waits_within(&self, window: &Range<u64>) -> Vec<u64> {
        let within = self.grants.iter().filter(|grant| window.contains(&grant.got));
        within.map(|grant| grant.got - grant.asked).collect()
    }

    fn signed(&self) -> impl Iterator<Item = (usize, Grant)> {
        self.grants.iter().map(|grant| (self.process, grant.clone()))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds")
}
