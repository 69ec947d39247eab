//! How long units stay away after the lease of a killed holder has ended.

use std::time::Duration;

use fastrand::Rng;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

use crate::report::{Must, Table, title};
use crate::script::keys;
use crate::{crash_holder_child, crash_waiter_child};
use closed_loop::measure::Times;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

const ROUNDS: usize = 8;
const NAMES: usize = 50;
const LEASE: Duration = Duration::from_secs(1);
/// The server counts leases in milliseconds.
const ROUNDING_MICROS: i64 = 1000;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "crash",
        &format!(
            "A process holds one permit of each of {NAMES} names (limit 1, lease {LEASE:?}), another one waits
             for each. The holder is killed (SIGKILL) at any time of its renewals, after the first of them.
             From the end of each lease, as Redis has it, until `acquire` has returned in the waiter.
             {ROUNDS} rounds, all names together.",
        ),
    );
    let mut phases = Rng::with_seed(0);
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        delays.extend(delays_of(server, round, LEASE.mul_f64(phases.f64() / 3.0)).await);
    }

    let times = Times::new(delays);
    let mut table = Table::new(&["ms after the lease's end", "grants", "p50", "p99", "max"]);
    let percentiles = [50.0, 99.0, 100.0].map(|percent| times.percentile(percent) / 1e3);
    let mut figures = vec![times.count().to_string()];
    figures.extend(percentiles.map(|figure| format!("{figure:.2}")));
    table.row("", &figures);
    table.print();
    let what = "crash: from the lease's end to the waiter's grant, p99";
    vec![Must::at_most(20.0, what, times.p99() / 1e3, " ms")]
}

/// In nanoseconds, one for each name.
async fn delays_of(server: &RedisServer, round: usize, phase: Duration) -> Vec<u64> {
    let names: Vec<String> = (0..NAMES).map(|name| format!("crash-{round}-{name}")).collect();
    let env = [
        ("URL", server.url()),
        ("NAMES", names.join(" ")),
        ("LEASE_MS", LEASE.as_millis().to_string()),
    ];
    let mut connection = server.connection().await;
    let mut holder = Child::spawn(crash_holder_child::ROLE, &env);
    holder.expect_line("@ready", PATIENCE).await;
    let granted = deadlines(&mut connection, &names).await;
    let mut waiter = Child::spawn(crash_waiter_child::ROLE, &env);
    eventually("all wait", PATIENCE, async || waiting(&mut connection, &names).await == NAMES)
        .await;
    eventually("every permit was renewed", PATIENCE, async || {
        let now = deadlines(&mut connection, &names).await;
        granted.iter().zip(now).all(|(granted, now)| now > *granted)
    })
    .await;
    sleep(phase).await;
    holder.kill();

    // By then the server has read the last that the holder had sent.
    server.cmd(&["PING"]).await;
    let ends = deadlines(&mut connection, &names).await;
    let mut delays = Vec::with_capacity(NAMES);
    for _ in &names {
        let words = waiter.expect_line("@granted", PATIENCE).await;
        delays.push(delay_after(&ends, &words));
    }
    delays
}

/// What the waiter says of a name, beside the ends of the leases.
fn delay_after(ends: &[i64], words: &str) -> u64 {
    let (name, at) = words.split_once(' ').expect("a name and an instant");
    let name: usize = name.parse().expect("the names are numbered");
    let delay = at.parse::<i64>().expect("microseconds") - 1000 * ends[name];
    assert!(delay >= -ROUNDING_MICROS, "name {name} was granted {delay} us after its lease");
    1000 * u64::try_from(delay).unwrap_or(0)
}

/// When the lease of the only permit of each name ends, in milliseconds of the server's clock.
async fn deadlines(connection: &mut MultiplexedConnection, names: &[String]) -> Vec<i64> {
    let mut questions = redis::pipe();
    for name in names {
        let [permits, ..] = keys(name);
        questions.cmd("ZRANGE").arg(permits).arg(0).arg(0).arg("WITHSCORES");
    }
    let answers: Vec<Vec<(String, i64)>> =
        questions.query_async(connection).await.expect("the server answers");
    answers.iter().map(|permits| permits.first().expect("it is held").1).collect()
}

async fn waiting(connection: &mut MultiplexedConnection, names: &[String]) -> usize {
    let mut questions = redis::pipe();
    for name in names {
        let [_, queue, ..] = keys(name);
        questions.zcard(queue);
    }
    let counts: Vec<usize> = questions.query_async(connection).await.expect("the server answers");
    counts.iter().sum()
}
