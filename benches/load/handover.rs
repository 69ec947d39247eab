//! How long a free permit is nobody's when it goes from one process to another.

use std::time::Duration;

use crate::baton::{Hold, ROLE};
use crate::measure::Times;
use crate::report::{Must, Table, title};
use crate::support::processes::Child;
use crate::support::redis_server::RedisServer;

/// How long the other one waits, and how often each process holds.
const WAITS: [(Duration, usize); 3] = [
    (Duration::from_millis(2), 150),
    (Duration::from_millis(50), 30),
    (Duration::from_millis(1500), 6),
];

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "handover",
        "Two processes pass a semaphore of limit 1 to and fro. From the moment before the release
         in one (every other time a drop) until `acquire` has returned in the other.
         Floor: from before a PUBLISH in one, amid each hold, until a task in the other has it.",
    );
    let mut table = Table::new(&[
        "waited",
        "hand-overs",
        "p50 us",
        "p99 us",
        "max us",
        "floor p50",
        "floor p99",
        "p50/floor",
    ]);
    let mut musts = Vec::new();
    for (wait, times) in WAITS {
        let Measured { handovers, floor } = measure(server, wait, times).await;
        table.row(
            format!("{wait:?}"),
            &[
                handovers.len().to_string(),
                format!("{:.0}", handovers.p50()),
                format!("{:.0}", handovers.p99()),
                format!("{:.0}", handovers.percentile(100.0)),
                format!("{:.0}", floor.p50()),
                format!("{:.0}", floor.p99()),
                format!("{:.2}", handovers.p50() / floor.p50()),
            ],
        );
        let what = format!("handover: median after a wait of {wait:?}");
        musts.push(Must::below(1.0, what, handovers.p50() / 1e3, " ms"));
    }
    table.print();
    musts
}

struct Measured {
    handovers: Times,
    floor: Times,
}

async fn measure(server: &RedisServer, wait: Duration, times: usize) -> Measured {
    let mut pair = [("ping", "pong"), ("pong", "ping")].map(|(own, other)| {
        let env = [
            ("URL", server.url()),
            ("NAME", format!("baton-{}", wait.as_millis())),
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
    let mut floor = Vec::new();
    for child in &mut pair {
        child.send("tell");
        let told = told(child, "floor").await;
        floor.extend(told.iter().map(|words| words.parse::<u64>().expect("nanoseconds")));
    }
    Measured { handovers: handovers(holds), floor: Times::new(floor) }
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
