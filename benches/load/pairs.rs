//! Acquire and release in a closed loop with room for all: what a permit costs where nobody waits.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::chart::{Chart, Group};
use crate::cores::Cores;
use crate::pairs_child;
use crate::report::{self, Must, Table, say, title};
use closed_loop::measure::Rounds;
use closed_loop::{Order, Round};
use test_support::ledger::monotonic_nanos;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

const TASKS: [usize; 5] = [1, 16, 64, 256, 1024];
const LIMIT: u32 = 4096;
const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_millis(150);
const WINDOW: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

/// The names that each scenario spreads its tasks over.
const ONE_NAME: usize = 1;
const MANY_NAMES: [usize; 2] = [1_000, 10_000];
const TASKS_AT_MANY_NAMES: usize = 256;

pub(crate) async fn run(server: &RedisServer, cores: &Cores) -> Vec<Must> {
    title(
        "pairs",
        &format!(
            "Tasks that acquire and release in a closed loop, both awaited; limit {LIMIT}, so nobody waits.
             {cores}; each candidate is a process with tokio's multi-thread runtime.
             {ROUNDS} rounds of {WINDOW:?} each, every candidate first in turn; medians of them (lowest..highest).
             Bare: EVALSHA of \"return 1\" twice. Plain: one script per acquire and one per release, on
             one connection. rslock has no semaphore: each task takes a lock of its own.
             distributed-lock-redis sends its scripts in full (EVAL) and renews each permit at once.",
        ),
    );
    let mut contenders = contenders(server, cores, ONE_NAME).await;
    let mut figures = TASKS.map(|_| Figures::of(&contenders));
    for round in 0..ROUNDS {
        for (tasks, figures) in TASKS.into_iter().zip(&mut figures) {
            figures.round(&mut contenders, tasks, round).await;
        }
    }
    for (tasks, figures) in TASKS.into_iter().zip(&figures) {
        figures.print(&format!("{tasks} tasks"));
    }
    report::draw("pairs", chart(&figures).to_svg());
    musts(&figures)
}

pub(crate) async fn run_names(server: &RedisServer, cores: &Cores) -> Vec<Must> {
    title(
        "names",
        &format!(
            "As `pairs` with {TASKS_AT_MANY_NAMES} tasks, each acquire at one of this number of names, at random
             (bare has none, rslock keeps its lock per task).
             {cores}; {ROUNDS} rounds of {WINDOW:?} each."
        ),
    );
    for names in MANY_NAMES {
        let mut contenders = contenders(server, cores, names).await;
        let mut figures = Figures::of(&contenders);
        for round in 0..ROUNDS {
            figures.round(&mut contenders, TASKS_AT_MANY_NAMES, round).await;
        }
        figures.print(&format!("{names} names"));
    }
    Vec::new()
}

/// One candidate, in a process of its own.
struct Contender {
    label: &'static str,
    child: Child,
}

async fn contenders(server: &RedisServer, cores: &Cores, names: usize) -> Vec<Contender> {
    let env = [
        ("URL", server.url()),
        ("NAMES", names.to_string()),
        ("LIMIT", LIMIT.to_string()),
        ("CORES", cores.of_clients()),
    ];
    let mut contenders = Vec::new();
    for (label, candidate) in
        [("zset-semaphore", "ours"), ("bare", "bare"), ("plain", "plain"), (TOKIO, "tokio")]
    {
        let mut env = env.to_vec();
        env.push(("CANDIDATE", candidate.to_owned()));
        contenders.push(Contender { label, child: Child::spawn(pairs_child::ROLE, &env) });
    }
    if let Some(program) = build_peers() {
        for label in PEERS {
            let mut command = Command::new(&program);
            contenders.push(Contender { label, child: Child::run_role(&mut command, label, &env) });
        }
    }
    for contender in &mut contenders {
        contender.child.expect_line("@ready", PATIENCE).await;
    }
    contenders
}

const OURS: usize = 0;
const BARE: usize = 1;
const PLAIN: usize = 2;
const TOKIO: &str = "tokio::sync::Semaphore";
/// Behind ours, bare, plain and tokio's.
const DISTRIBUTED_LOCK_REDIS: usize = 4;
const PEERS: [&str; 2] = ["distributed-lock-redis", "rslock"];

/// The program that plays the peers; none where they cannot be had.
fn build_peers() -> Option<std::path::PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let program = target.join("release/peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .stdin(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() && program.is_file() => Some(program),
        failure => {
            say(format_args!(
                "  The peers are left out, since building them failed: {failure:?}\n"
            ));
            None
        }
    }
}

/// What all candidates came to at one number of tasks.
struct Figures {
    labels: Vec<&'static str>,
    throughput: Vec<Rounds>,
    p50: Vec<Rounds>,
    p99: Vec<Rounds>,
}

impl Figures {
    fn of(contenders: &[Contender]) -> Self {
        let none = || vec![Rounds::default(); contenders.len()];
        Self {
            labels: contenders.iter().map(|contender| contender.label).collect(),
            throughput: none(),
            p50: none(),
            p99: none(),
        }
    }

    /// A candidate may leave the machine warm or tired to the next: each goes first in turn.
    async fn round(&mut self, contenders: &mut [Contender], tasks: usize, round: usize) {
        for step in 0..contenders.len() {
            let index = (step + round) % contenders.len();
            let contender = &mut contenders[index];
            let from = monotonic_nanos() + nanos(WARM_UP);
            let order = Order { tasks, from, until: from + nanos(WINDOW) };
            contender.child.send(&order.to_line());
            let round = Round::from_words(&contender.child.expect_line("@round", PATIENCE).await);
            self.throughput[index].push(round.pairs / WINDOW.as_secs_f64());
            self.p50[index].push(round.p50);
            self.p99[index].push(round.p99);
        }
    }

    fn over(&self, index: usize) -> Option<Rounds> {
        self.throughput.get(index).map(|other| self.throughput[OURS].over(other))
    }

    fn print(&self, what: &str) {
        let mut table =
            Table::new(&[what, "pairs/s", "", "ours is", "", "acquire p50 us", "p99 us"]);
        for (index, label) in self.labels.iter().enumerate() {
            let ratio = self.throughput[OURS].over(&self.throughput[index]);
            table.row(
                label,
                &[
                    format!("{:.0}", self.throughput[index].median()),
                    self.throughput[index].spread(0),
                    format!("{:.2} x", ratio.median()),
                    ratio.spread(2),
                    format!("{:.1}", self.p50[index].median()),
                    format!("{:.1}", self.p99[index].median()),
                ],
            );
        }
        table.print();
        say("");
    }
}

/// Tokio's semaphore, which asks no server, is left out: it would dwarf the rest.
fn chart(figures: &[Figures]) -> Chart {
    let shown = |label: &&str| *label != TOKIO;
    let labels = &figures[0].labels;
    let group = |(tasks, figures): (usize, &Figures)| Group {
        label: format!("{tasks} tasks"),
        figures: (0..labels.len())
            .filter(|&index| shown(&labels[index]))
            .map(|index| figures.throughput[index].over(&figures.throughput[PLAIN]).median())
            .collect(),
    };
    Chart {
        title: "Acquire and release, both awaited: pairs per second".to_owned(),
        unit: "as multiples of one script call for each (\"plain\"); medians of rounds in one run"
            .to_owned(),
        series: labels.iter().copied().filter(shown).collect(),
        groups: TASKS.into_iter().zip(figures).map(group).collect(),
    }
}

fn musts(figures: &[Figures]) -> Vec<Must> {
    let at = |tasks: usize| {
        TASKS.iter().position(|&there| there == tasks).map(|index| &figures[index]).into_iter()
    };
    let mut musts = Vec::new();
    for alone in at(1) {
        let ratio = alone.p50[OURS].over(&alone.p50[BARE]).median();
        musts.push(Must::at_most(1.4, "pairs, 1 task: acquire p50 / bare p50", ratio, ""));
    }
    for (tasks, other, least) in [
        (256, PLAIN, 2.0),
        (1024, PLAIN, 2.8),
        (256, BARE, 1.1),
        (1024, BARE, 1.3),
        (256, DISTRIBUTED_LOCK_REDIS, 4.0),
        (1024, DISTRIBUTED_LOCK_REDIS, 4.0),
    ] {
        for figures in at(tasks) {
            let ratio = figures.over(other).map_or(f64::NAN, |ratio| ratio.median());
            let label = figures.labels.get(other).unwrap_or(&PEERS[0]);
            musts.push(Must::at_least(
                least,
                format!("pairs, {tasks} tasks: pairs/s over {label}"),
                ratio,
                "",
            ));
        }
    }
    musts
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds")
}
