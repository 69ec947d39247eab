//! How many system calls a pair makes where one task has all to itself.

use std::time::Duration;

use crate::cores::{Cores, Placement};
use crate::report::{Must, Table, say, title};
use crate::syscall_counter::{CALLS, Counter, Counts};
use crate::syscalls_child::ROLE;
use closed_loop::measure::Rounds;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

const ROUNDS: usize = 7;
/// Enough that what goes on around them does not show.
const PAIRS: u32 = 3000;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "syscalls",
        &format!(
            "One task that acquires and releases in a loop, both awaited, and one that makes two bare calls
             by redis-rs (EVALSHA of \"return 1\"), each in a process of its own with tokio's default
             multi-thread runtime. {}.
             System calls per pair, all threads together: {ROUNDS} rounds of {PAIRS} pairs each, taking
             turns; medians (lowest..highest). `write` wakes a worker by its eventfd.
             Whether counting changes what is counted: each round runs without the counter, too. The pairs
             per second, and how often threads slept by /proc (which needs no counter), stand beside.",
            cores.explain(Placement::Unpinned),
        ),
    );
    let counter = Counter::here();
    match counter {
        Some(counter) => say(format_args!("  Counted by {counter}.\n")),
        None => say("  NOT COUNTED: neither `perf stat` nor `strace` can be used here.\n"),
    }
    let server = cores.server(Placement::Unpinned).start().await;
    let mut ours = Loop::start("acquire and release", "ours", &server).await;
    let mut bare = Loop::start("two bare calls", "bare", &server).await;
    for round in 0..ROUNDS {
        let mut both = [&mut ours, &mut bare];
        both.rotate_left(round % 2);
        for one in both {
            one.round(counter, round).await;
        }
    }
    print(&[&ours, &bare]);
    let surplus = ours.all.minus(&bare.all).median();
    vec![Must::at_most(1.0, "syscalls: per pair, more than two bare calls make", surplus, "")]
}

/// A process that does pairs, and what was counted of it.
struct Loop {
    label: &'static str,
    child: Child,
    all: Rounds,
    named: [Rounds; CALLS.len()],
    counted: Uncounted,
    uncounted: Uncounted,
}

/// What needs no counter.
#[derive(Default)]
struct Uncounted {
    per_second: Rounds,
    /// Per pair.
    sleeps: Rounds,
}

impl Loop {
    async fn start(label: &'static str, candidate: &str, server: &RedisServer) -> Self {
        let env = [("URL", server.url()), ("CANDIDATE", candidate.to_owned())];
        let mut child = Child::spawn(ROLE, &env);
        child.expect_line("@ready", PATIENCE).await;
        Self {
            label,
            child,
            all: Rounds::default(),
            named: Default::default(),
            counted: Uncounted::default(),
            uncounted: Uncounted::default(),
        }
    }

    /// With and without the counter, either first in turn.
    async fn round(&mut self, counter: Option<Counter>, round: usize) {
        for step in 0..2 {
            match counter {
                Some(counter) if (step + round).is_multiple_of(2) => {
                    let counting = counter.start(self.child.pid()).await;
                    run_pairs(&mut self.child, &mut self.counted).await;
                    self.take_in(&counting.stop().await);
                }
                _ => run_pairs(&mut self.child, &mut self.uncounted).await,
            }
        }
    }

    fn take_in(&mut self, counts: &Counts) {
        self.all.push(counts.all / f64::from(PAIRS));
        for (rounds, count) in self.named.iter_mut().zip(counts.named) {
            rounds.push(count / f64::from(PAIRS));
        }
    }
}

async fn run_pairs(child: &mut Child, into: &mut Uncounted) {
    child.send(&PAIRS.to_string());
    let words = child.expect_line("@done", PATIENCE).await;
    let (nanos, sleeps) = words.split_once(' ').expect("two numbers");
    let nanos: f64 = nanos.parse().expect("nanoseconds");
    let sleeps: f64 = sleeps.parse().expect("a number");
    into.per_second.push(f64::from(PAIRS) * 1e9 / nanos);
    into.sleeps.push(sleeps / f64::from(PAIRS));
}

fn print(loops: &[&Loop]) {
    let mut heads = vec!["per pair, unpinned", "all calls", ""];
    heads.extend(CALLS);
    heads.push("others");
    let mut table = Table::new(&heads);
    for one in loops {
        let named: f64 = one.named.iter().map(Rounds::median).sum();
        let mut row = vec![format!("{:.2}", one.all.median()), one.all.spread(2)];
        row.extend(one.named.iter().map(|rounds| format!("{:.2}", rounds.median())));
        row.push(format!("{:.2}", one.all.median() - named));
        table.row(one.label, &row);
    }
    table.print();
    say("");
    let mut table =
        Table::new(&["", "pairs/s counted", "uncounted", "sleeps counted", "uncounted"]);
    for one in loops {
        let (with, without) = (&one.counted, &one.uncounted);
        let row = [
            format!("{:.0}", with.per_second.median()),
            format!("{:.0}", without.per_second.median()),
            format!("{:.2}", with.sleeps.median()),
            format!("{:.2}", without.sleeps.median()),
        ];
        table.row(one.label, &row);
    }
    table.print();
}
