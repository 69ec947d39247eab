//! How long a free permit is nobody's when it goes from one process to another.

use std::time::Duration;

use crate::handover_baselines::Baseline;
use crate::handover_child::{Hold, ROLE};
use crate::report::{Must, Table, title};
use closed_loop::measure::Times;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

/// How long the other one waits, and how often each process holds.
const WAITS: [(Duration, usize); 3] = [
    (Duration::from_millis(2), 150),
    (Duration::from_millis(50), 100),
    (Duration::from_millis(1500), 16),
];

/// From here on a hand-over is compared with what it could cost: shorter waits end in a busy machine.
const LONG: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "handover",
        "Two processes pass a semaphore of limit 1 to and fro. From the moment before the release
         in one (half of the times a drop) until `acquire` has returned in the other.
         Below it other ways to hand something over, one of them during each hold, so that each of
         these and each hand-over follows half a wait without traffic:
         PUBLISH: until a task of the other process has the message.
         PUBLISH->try: a script that removes and publishes, until the other has heard of it and has
         the answer of a script that prunes, counts and adds.
         LPUSH->BLPOP: until BLPOP has returned in the other.",
    );
    let mut table =
        Table::new(&["waited", "", "times", "p50 us", "p99 us", "max us", "our p50 / this"]);
    let mut musts = Vec::new();
    for (wait, times) in WAITS {
        let measured = measure(server, wait, times).await;
        measured.show(&format!("{wait:?}"), &mut table);
        musts.extend(measured.musts(wait));
    }
    table.print();
    musts
}

struct Measured {
    handovers: Times,
    baselines: [Times; Baseline::ALL.len()],
}

impl Measured {
    fn show(&self, waited: &str, table: &mut Table) {
        let baselines = Baseline::ALL.map(Baseline::label).into_iter().zip(&self.baselines);
        let rows = std::iter::once(("a permit", &self.handovers)).chain(baselines);
        for (index, (label, times)) in rows.enumerate() {
            table.row(
                if index == 0 { waited } else { "" },
                &[
                    label.to_owned(),
                    times.count().to_string(),
                    format!("{:.0}", times.p50()),
                    format!("{:.0}", times.p99()),
                    format!("{:.0}", times.percentile(100.0)),
                    format!("{:.2}", self.handovers.p50() / times.p50()),
                ],
            );
        }
    }

    fn musts(&self, wait: Duration) -> Vec<Must> {
        let what = format!("handover: median after a wait of {wait:?}");
        let mut musts = vec![Must::below(1.0, &what, self.handovers.p50() / 1e3, " ms")];
        if wait >= LONG {
            let [_, by_try, _] = &self.baselines;
            let ratio = self.handovers.p50() / by_try.p50();
            musts.push(Must::at_most(1.2, format!("{what} / PUBLISH->try"), ratio, ""));
        }
        musts
    }
}

async fn measure(server: &RedisServer, wait: Duration, times: usize) -> Measured {
    let mut pair = [("ping", "pong"), ("pong", "ping")].map(|(own, other)| {
        let env = [
            ("URL", server.url()),
            ("NAME", format!("handover-{}", wait.as_millis())),
            ("OWN", own.to_owned()),
            ("OTHER", other.to_owned()),
            ("HOLD_US", wait.as_micros().to_string()),
            ("TIMES", times.to_string()),
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
        latencies.extend(told(child, "baseline").await.iter().map(|words| baseline_from(words)));
    }
    let of =
        |baseline| latencies.iter().filter(move |(of, _)| *of == baseline).map(|(_, nanos)| *nanos);
    let baselines = Baseline::ALL.map(|baseline| Times::new(of(baseline).collect()));
    Measured { handovers: handovers(holds), baselines }
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
fn handovers(mut holds: Vec<(usize, Hold)>) -> Times {
    holds.sort_by_key(|(_, hold)| hold.token);
    let pairs = holds.windows(2).filter_map(|pair| {
        let [(giver, before), (taker, after)] = pair else { return None };
        let waited = giver != taker && after.asked < before.gave;
        waited.then(|| after.got.saturating_sub(before.gave))
    });
    Times::new(pairs.collect())
}
