//! What it costs to hold very many permits of one name, and to renew them.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, interval_at, sleep};

use crate::held_child::ROLE;
use crate::report::{Must, Table, say, title};
use crate::script::Script;
use closed_loop::measure::Rounds;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

const PERMITS: usize = 100_000;
/// A third of the lease, which is when permits are renewed.
const ROUND: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const SAMPLE: Duration = Duration::from_millis(100);
/// Renewals that one script call should carry at least.
const PER_CALL: usize = 200;
/// What the slow log keeps. Lower, and writing it would slow down what it measures.
const NOTED_USEC: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "held",
        &format!(
            "One process of the crate acquires {PERMITS} permits of one name, lease 30 s, and keeps them:
             each is renewed every {ROUND:?}. {ROUNDS} such rounds; lowest, median and highest of them.
             The first begins half a round after all are held, so that each has all renewals in it.
             Longest script call by SLOWLOG; shares of one processor by INFO cpu and by the process.
             Bytes by INFO memory, and by what is resident in the process.",
        ),
    );
    let mut script = Script::load(server).await;
    let mut holder = Holder::start(server).await;
    let redis_before = used_memory(server).await;
    let process_bytes = holder.fill().await;
    let redis_bytes = used_memory(server).await.saturating_sub(redis_before);

    sleep(ROUND / 2).await;
    let mut costs = Costs::default();
    for _ in 0..ROUNDS {
        costs.round(server, &mut script, &mut holder).await;
    }
    costs.print();
    let per_permit = |bytes: u64| bytes as f64 / PERMITS as f64;
    say(format_args!(
        "\n  {} bytes per permit in Redis, {} in the process; {} permits were lost.",
        per_permit(redis_bytes).round(),
        per_permit(process_bytes).round(),
        costs.lost,
    ));

    let longest = costs.longest.median() / 1e3;
    vec![
        Must::at_most(1.0, "held: longest script call, median of the rounds", longest, " ms"),
        Must::at_most(
            1.0,
            format!("held: script calls per {PER_CALL} permits renewed, highest round"),
            costs.calls.highest() * PER_CALL as f64 / PERMITS as f64,
            "",
        ),
        Must::at_most(130.0, "held: bytes per permit in Redis", per_permit(redis_bytes), ""),
        Must::at_most(
            200.0,
            "held: bytes per permit in the process",
            per_permit(process_bytes),
            "",
        ),
        Must::at_most(0.0, "held: permits lost", costs.lost as f64, ""),
    ]
}

/// The process that holds them.
struct Holder(Child);

impl Holder {
    async fn start(server: &RedisServer) -> Self {
        let env =
            [("URL", server.url()), ("NAME", "held".to_owned()), ("COUNT", PERMITS.to_string())];
        let mut child = Child::spawn(ROLE, &env);
        child.expect_line("@ready", PATIENCE).await;
        Self(child)
    }

    /// Returns by how many bytes it has grown.
    async fn fill(&mut self) -> u64 {
        self.0.send("go");
        self.0.expect_line("@held", PATIENCE).await.parse().expect("bytes")
    }

    /// The seconds of processor that it has had, and how many permits it has lost.
    async fn account(&mut self) -> (f64, u64) {
        self.0.send("account");
        let words = self.0.expect_line("@account", PATIENCE).await;
        let (nanos, lost) = words.split_once(' ').expect("two numbers");
        (nanos.parse::<f64>().expect("nanoseconds") / 1e9, lost.parse().expect("a number"))
    }
}

#[derive(Default)]
struct Costs {
    /// In microseconds.
    longest: Rounds,
    calls: Rounds,
    /// Of script calls within one sample.
    burst: Rounds,
    server_share: Rounds,
    process_share: Rounds,
    lost: u64,
}

impl Costs {
    async fn round(&mut self, server: &RedisServer, script: &mut Script, holder: &mut Holder) {
        server.slowlog_reset(NOTED_USEC).await;
        let (process_before, _) = holder.account().await;
        let server_before = processor_seconds(server).await;
        let start = Instant::now();

        let mut samples = interval_at(start + SAMPLE, SAMPLE);
        let first = script.account().await.calls;
        let (mut last, mut burst) = (first, 0);
        while start.elapsed() < ROUND {
            samples.tick().await;
            let calls = script.account().await.calls;
            burst = burst.max(calls - last);
            last = calls;
        }

        let seconds = start.elapsed().as_secs_f64();
        let (process_after, lost) = holder.account().await;
        self.server_share.push((processor_seconds(server).await - server_before) / seconds);
        self.process_share.push((process_after - process_before) / seconds);
        self.longest.push(server.slowlog_max_usec().await as f64);
        self.calls.push((last - first) as f64);
        self.burst.push(burst as f64);
        self.lost = lost;
    }

    fn print(&self) {
        let mut table = Table::new(&["per round", "lowest", "median", "highest"]);
        let mut row = |label: &str, rounds: &Rounds, show: fn(f64) -> String| {
            let figures = [rounds.lowest(), rounds.median(), rounds.highest()];
            table.row(label, &figures.map(show));
        };
        row(&format!("longest script call, us (0: less than {NOTED_USEC})"), &self.longest, |us| {
            format!("{us:.0}")
        });
        row("script calls", &self.calls, |calls| format!("{calls:.0}"));
        row(&format!("script calls per {PER_CALL} permits"), &self.calls, |calls| {
            format!("{:.3}", calls * PER_CALL as f64 / PERMITS as f64)
        });
        row(&format!("most script calls within {SAMPLE:?}"), &self.burst, |calls| {
            format!("{calls:.0}")
        });
        row("server, share of a processor", &self.server_share, percent);
        row("process, share of a processor", &self.process_share, percent);
        table.print();
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

async fn used_memory(server: &RedisServer) -> u64 {
    info(server, "memory", "used_memory:").await
}

/// What the server's process has had of the processors.
async fn processor_seconds(server: &RedisServer) -> f64 {
    let user: f64 = info(server, "cpu", "used_cpu_user:").await;
    let system: f64 = info(server, "cpu", "used_cpu_sys:").await;
    user + system
}

async fn info<T: FromStr>(server: &RedisServer, section: &str, field: &str) -> T {
    let text: String = server.query(&["INFO", section]).await;
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("INFO has no {field}"))
}
