//! A closed loop: many tasks, few permits, short holds, and everybody asks again at once.

use std::time::Duration;

use crate::crowd::ROLE;
use crate::measure::{Rounds, Times, jain};
use crate::report::{Must, Table, title};
use crate::support::ledger::monotonic_nanos;
use crate::support::processes::Child;
use crate::support::redis_server::RedisServer;

const TASKS: usize = 64;
const LIMIT: u32 = 8;
const HOLD: Duration = Duration::from_millis(2);
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "contention",
        &format!(
            "{TASKS} tasks, limit {LIMIT}, hold {HOLD:?} by tokio's clock, which adds about one \
             millisecond; everybody asks again at once.
             {ROUNDS} rounds of {WINDOW:?} each, taking turns; medians of them (lowest..highest).
             In use: held time / (limit x window). Shares: of the fair share, over all rounds.
             Tokio's and a round trip: who is let in first awaits a bare script call by redis-rs,
             which is the least that another process or machine can cost here and now.",
        ),
    );
    let mut crews = Vec::new();
    for (label, gate, processes) in [
        ("tokio::sync::Semaphore", "tokio", 1),
        ("tokio's and a round trip", "round trip", 1),
        ("redis, 1 x 64", "redis", 1),
        ("redis, 4 x 16", "redis", 4),
        ("memory, 1 x 64", "memory", 1),
    ] {
        crews.push(Crew::start(label, gate, processes, server).await);
    }
    for _ in 0..ROUNDS {
        for crew in &mut crews {
            crew.round(server).await;
        }
    }

    print_throughput(&crews);
    println!();
    print_fairness(&crews);
    let asked = crews.iter().filter(|crew| crew.label.starts_with("redis"));
    asked.flat_map(|crew| musts(crew, &crews[0])).collect()
}

/// Processes that fight over one semaphore, and what they got.
struct Crew {
    label: &'static str,
    children: Vec<Child>,
    throughput: Rounds,
    /// Share of the permits that somebody held.
    in_use: Rounds,
    jain: Rounds,
    wait_p50: Rounds,
    wait_p99: Rounds,
    calls_per_acquire: Rounds,
    /// By task, over all rounds.
    counts: Vec<u64>,
}

impl Crew {
    async fn start(
        label: &'static str,
        gate: &str,
        processes: usize,
        server: &RedisServer,
    ) -> Self {
        let env = [
            ("GATE", gate.to_owned()),
            ("URL", server.url()),
            ("NAME", format!("crowd-of-{processes}")),
            ("TASKS", (TASKS / processes).to_string()),
            ("LIMIT", LIMIT.to_string()),
            ("HOLD_US", HOLD.as_micros().to_string()),
        ];
        let mut children: Vec<Child> = (0..processes).map(|_| Child::spawn(ROLE, &env)).collect();
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
            calls_per_acquire: Rounds::default(),
            counts: vec![0; TASKS],
        }
    }

    async fn round(&mut self, server: &RedisServer) {
        let calls_before = server.script_calls().await;
        let from = monotonic_nanos() + nanos(WARM_UP);
        for child in &mut self.children {
            child.send(&format!("{from} {}", from + nanos(WINDOW)));
        }
        let processes = self.children.len();
        let mut tales = Vec::new();
        for child in &mut self.children {
            for _ in 0..TASKS / processes {
                tales.push(Tale::from_words(&child.expect_line("@task", PATIENCE).await));
            }
        }
        let calls = server.script_calls().await - calls_before;
        self.take_in(tales, calls);
    }

    fn take_in(&mut self, tales: Vec<Tale>, calls: u64) {
        let counts: Vec<u64> = tales.iter().map(|tale| tale.waits.len() as u64).collect();
        let held: u64 = tales.iter().map(|tale| tale.held).sum();
        let acquires: u64 = tales.iter().map(|tale| tale.acquires).sum();
        let waits = Times::new(tales.into_iter().flat_map(|tale| tale.waits).collect());

        self.throughput.push(waits.len() as f64 / WINDOW.as_secs_f64());
        self.in_use.push(held as f64 / (f64::from(LIMIT) * nanos(WINDOW) as f64));
        self.jain.push(jain(&counts));
        self.wait_p50.push(waits.p50());
        self.wait_p99.push(waits.p99());
        self.calls_per_acquire.push(calls as f64 / acquires as f64);
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    /// The smallest and the largest count of a task, in parts of the mean.
    fn shares(&self) -> (f64, f64) {
        let mean = self.counts.iter().sum::<u64>() as f64 / TASKS as f64;
        let share = |count: Option<&u64>| count.map_or(f64::NAN, |&count| count as f64 / mean);
        (share(self.counts.iter().min()), share(self.counts.iter().max()))
    }
}

/// What a task of a child tells of a round.
struct Tale {
    acquires: u64,
    held: u64,
    waits: Vec<u64>,
}

impl Tale {
    fn from_words(words: &str) -> Self {
        let number = |word: &str| word.parse::<u64>().expect("tasks tell integers");
        let mut words = words.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (acquires, held) = (number(next()), number(next()));
        let waits = next().split(',').filter(|word| !word.is_empty()).map(number).collect();
        Self { acquires, held, waits }
    }
}

fn print_throughput(crews: &[Crew]) {
    let mut table = Table::new(&[
        "",
        "acquires/s",
        "",
        "ratio to tokio",
        "",
        "in use",
        "script calls/acquire",
        "",
    ]);
    for crew in crews {
        let ratio = crew.throughput.over(&crews[0].throughput);
        let calls = &crew.calls_per_acquire;
        table.row(
            crew.label,
            &[
                format!("{:.0}", crew.throughput.median()),
                crew.throughput.spread(0),
                format!("{:.3}", ratio.median()),
                ratio.spread(3),
                format!("{:.3}", crew.in_use.median()),
                format!("{:.2}", calls.median()),
                calls.spread(2),
            ],
        );
    }
    table.print();
}

fn print_fairness(crews: &[Crew]) {
    let mut table = Table::new(&[
        "",
        "Jain, lowest round",
        "smallest share",
        "largest share",
        "wait p50 ms",
        "wait p99 ms",
    ]);
    for crew in crews {
        let (smallest, largest) = crew.shares();
        table.row(
            crew.label,
            &[
                format!("{:.4}", crew.jain.lowest()),
                format!("{smallest:.3}"),
                format!("{largest:.3}"),
                format!("{:.2}", crew.wait_p50.median() / 1e3),
                format!("{:.2}", crew.wait_p99.median() / 1e3),
            ],
        );
    }
    table.print();
}

fn musts(crew: &Crew, tokio: &Crew) -> [Must; 3] {
    let label = crew.label;
    let ratio = crew.throughput.over(&tokio.throughput).median();
    let calls = crew.calls_per_acquire.highest();
    [
        Must::at_least(0.9, format!("contention, {label}: throughput / tokio's"), ratio, ""),
        Must::at_least(0.99, format!("contention, {label}: Jain"), crew.jain.lowest(), ""),
        Must::at_most(3.0, format!("contention, {label}: script calls per acquire"), calls, ""),
    ]
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds")
}
