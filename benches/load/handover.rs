//! How long a free permit is nobody's when it goes from one process to another.

use std::time::Duration;

use crate::handover_baselines::Baseline;
use crate::handover_child::{Hold, ROLE};
use crate::report::{Must, Table, title};
use closed_loop::measure::{Rounds, Times};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

/// How long the other one waits, how often each process holds in a round, and the most that a hand-over may
/// take beside PUBLISH->try: none where waits end in a busy machine.
const WAITS: [(Duration, usize, Option<f64>); 3] = [
    (Duration::from_millis(2), 32, None),
    (Duration::from_millis(50), 24, Some(1.1)),
    (Duration::from_millis(1500), 4, Some(1.2)),
];
/// Each has half of a cycle of the baselines, or whole ones.
const ROUNDS: usize = 6;
/// A process tells of its holds after the last of them.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "handover",
        &format!(
            "Two processes pass a semaphore of limit 1 to and fro. From the moment before the release
             in one (half of the times a drop) until `acquire` has returned in the other.
             Below it other ways to hand something over, one of them during each hold, so that each of
             these and each hand-over follows half a wait without traffic:
             PUBLISH: until a task of the other process has the message.
             PUBLISH->try: a script that removes and publishes, until the other has heard of it and has
             the answer of a script that prunes, counts and adds.
             LPUSH->BLPOP: until BLPOP has returned in the other.
             Ratios are of medians within each of {ROUNDS} rounds in a row; median of the rounds
             (lowest..highest).",
        ),
    );
    let heads = ["waited", "", "times", "p50 us", "p99 us", "max us", "our p50 / this", ""];
    let mut table = Table::new(&heads);
    let mut musts = Vec::new();
    let at = Place { url: server.url(), baselines_url: server.url() };
    for (wait, times, most) in WAITS {
        let measured = measure(&at, wait, times).await;
        measured.show(&format!("{wait:?}"), &mut table);
        musts.extend(measured.musts(wait, most));
    }
    table.print();
    musts
}

/// What was handed over in one way, in nanoseconds by round.
struct Latencies([Vec<u64>; ROUNDS]);

impl Latencies {
    fn by_round(all: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut rounds = [const { Vec::new() }; ROUNDS];
        for (round, nanos) in all {
            rounds[round].push(nanos);
        }
        Self(rounds)
    }

    fn together(&self) -> Times {
        Times::new(self.0.concat())
    }

    /// Rounds in which either has nothing are left out.
    fn over(&self, other: &Self) -> Rounds {
        let mut ratios = Rounds::default();
        for (ours, others) in self.0.iter().zip(&other.0) {
            let [ours, others] = [ours, others].map(|nanos| Times::new(nanos.clone()).p50());
            let ratio = ours / others;
            if !ratio.is_nan() {
                ratios.push(ratio);
            }
        }
        ratios
    }
}

pub(crate) struct Measured {
    handovers: Latencies,
    baselines: [Latencies; Baseline::ALL.len()],
}

impl Measured {
    /// The times of all hand-overs.
    pub(crate) fn times(&self) -> Times {
        self.handovers.together()
    }

    fn show(&self, waited: &str, table: &mut Table) {
        let baselines = Baseline::ALL.map(Baseline::label).into_iter().zip(&self.baselines);
        let rows = std::iter::once(("a permit", &self.handovers)).chain(baselines);
        for (index, (label, latencies)) in rows.enumerate() {
            let times = latencies.together();
            let ratio = self.handovers.over(latencies);
            table.row(
                if index == 0 { waited } else { "" },
                &[
                    label.to_owned(),
                    times.count().to_string(),
                    format!("{:.0}", times.p50()),
                    format!("{:.0}", times.p99()),
                    format!("{:.0}", times.percentile(100.0)),
                    format!("{:.2}", ratio.median()),
                    ratio.spread(2),
                ],
            );
        }
    }

    fn musts(&self, wait: Duration, most: Option<f64>) -> Vec<Must> {
        let what = format!("handover: median after a wait of {wait:?}");
        let p50 = self.times().p50();
        let mut musts = vec![Must::below(1.0, &what, p50 / 1e3, " ms")];
        if let Some(most) = most {
            let [_, by_try, _] = &self.baselines;
            let ratio = self.handovers.over(by_try).median();
            let what = format!("{what} / PUBLISH->try, median of rounds");
            musts.push(Must::at_most(most, what, ratio, ""));
        }
        musts
    }
}

/// Where the permit is handed over, and where the baselines are measured.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) baselines_url: String,
}

/// Each process holds it `times` times in a round.
pub(crate) async fn measure(at: &Place, wait: Duration, times: usize) -> Measured {
    let mut pair = [("ping", "pong"), ("pong", "ping")].map(|(own, other)| {
        let env = [
            ("URL", at.url.clone()),
            ("BASELINES_URL", at.baselines_url.clone()),
            ("NAME", format!("handover-{}", wait.as_millis())),
            ("OWN", own.to_owned()),
            ("OTHER", other.to_owned()),
            ("HOLD_US", wait.as_micros().to_string()),
            ("TIMES", (ROUNDS * times).to_string()),
        ];
        Child::spawn(ROLE, &env)
    });
    for child in &mut pair {
        child.expect_line("@ready", PATIENCE).await;
    }
    for child in &mut pair {
        child.send("go");
    }
    let [ours, theirs] = &mut pair;
    let mut holds = Vec::new();
    for (process, child) in [ours, theirs].into_iter().enumerate() {
        let told = told(child, "hold").await;
        holds.extend(told.iter().map(|words| (process, Hold::from_words(words))));
    }
    let mut latencies = Vec::new();
    for child in &mut pair {
        child.send("tell");
        // In the order of the holds of the other process, one in each.
        let told = told(child, "baseline").await;
        let of_round = |(hold, words): (usize, &String)| (hold / times, baseline_from(words));
        latencies.extend(told.iter().enumerate().map(of_round));
    }
    let of = |baseline| {
        let found = latencies.iter().filter(move |(_, (of, _))| *of == baseline);
        Latencies::by_round(found.map(|&(round, (_, nanos))| (round, nanos)))
    };
    Measured { handovers: handovers(holds, 2 * times), baselines: Baseline::ALL.map(of) }
}

fn baseline_from(words: &str) -> (Baseline, u64) {
    let (label, nanos) = words.split_once(' ').expect("a baseline and its latency");
    (Baseline::labelled(label), nanos.parse().expect("nanoseconds"))
}

/// What the child says of `what`, until it says that this was all.
async fn told(child: &mut Child, what: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let line = child.expect_line("@", PATIENCE).await;
        match line.strip_prefix(what) {
            Some(words) => told.push(words.trim().to_owned()),
            None => return told,
        }
    }
}

/// From each release to the next grant, where the other process had been waiting for it.
fn handovers(mut holds: Vec<(usize, Hold)>, holds_of_round: usize) -> Latencies {
    holds.sort_by_key(|(_, hold)| hold.token);
    let pairs = holds.windows(2).enumerate().filter_map(|(index, pair)| {
        let [(giver, before), (taker, after)] = pair else { return None };
        let waited = giver != taker && after.asked < before.gave;
        waited.then(|| (index / holds_of_round, after.got.saturating_sub(before.gave)))
    });
    Latencies::by_round(pairs)
}
