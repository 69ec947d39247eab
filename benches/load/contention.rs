//! A closed loop: many tasks, few permits and short holds.

use std::time::Duration;

use crate::contention_rounds::{Contenders, HOLD, LIMIT, TASKS, WINDOW};
use crate::grants::Witnessed;
use crate::report::{Must, Table, say, title};
use test_support::redis_server::RedisServer;

const ROUNDS: usize = 5;
/// The longest that those think who do; half as long on average.
const THINK: Duration = Duration::from_millis(10);

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "contention",
        &format!(
            "{TASKS} tasks, limit {LIMIT}, hold {HOLD:?} by tokio's clock, which adds about one \
             millisecond.
             {ROUNDS} rounds of {WINDOW:?} each, taking turns; medians of them (lowest..highest).
             In use: held time / (limit x window). Shares: of the fair share, over all rounds.
             Tokio's and a round trip: who is let in first awaits a bare script call by redis-rs,
             which is the least that another process or machine can cost here and now.
             Overtaken: waiters who had come before the one that was let in, per grant.
             By who asked: they stood in line (their first poll had ended) before it asked, and their
             fencing token is higher, which is exact in one process of ours. Across processes it is
             not, though they stood there 3 ms before it asked: a process may sleep longer before it
             sends. Tokio's has no tokens: 3 ms, and by who ran again first.
             By the server: in one round more it tells (MONITOR) which id it heard of first, so no
             clock of a process matters. MONITOR slows it down: that round counts for nothing else.
             A waiter that asks just after its grant gets a second token; the one that the server
             published counts.",
        ),
    );
    say(format_args!("  Everybody asks again at once.\n"));
    let mut musts = fight(server, Duration::ZERO).await;
    say(format_args!("\n  Everybody thinks for 0 to {THINK:?} before asking again.\n"));
    musts.extend(fight(server, THINK).await);
    musts
}

async fn fight(server: &RedisServer, think: Duration) -> Vec<Must> {
    let mut all = Vec::new();
    for (label, gate, processes) in [
        ("tokio::sync::Semaphore", "tokio", 1),
        ("tokio's and a round trip", "round trip", 1),
        ("redis, 1 x 64", "redis", 1),
        ("redis, 4 x 16", "redis", 4),
        ("redis, 16 x 4", "redis", 16),
        ("memory, 1 x 64", "memory", 1),
    ] {
        all.push(Contenders::start(label, gate, processes, think, server).await);
    }
    for round in 0..ROUNDS {
        // One may leave the machine warm or tired to the next: each goes first in turn.
        for step in 0..all.len() {
            let index = (step + round) % all.len();
            all[index].round(server).await;
        }
    }
    for contenders in &mut all {
        contenders.witnessed_round(server).await;
    }

    print_throughput(&all);
    say("");
    print_fairness(&all);
    say("");
    print_waits(&all);
    let thinking = if think.is_zero() { "" } else { ", thinking" };
    let asked = all.iter().filter(|contenders| contenders.label.starts_with("redis"));
    asked.flat_map(|contenders| musts(contenders, &all[0], thinking)).collect()
}

fn print_throughput(all: &[Contenders]) {
    let mut table = Table::new(&[
        "",
        "acquires/s",
        "",
        "ratio to tokio",
        "",
        "in use",
        "ratio to tokio",
        "",
        "script calls/acquire",
        "",
    ]);
    for contenders in all {
        let ratio = contenders.throughput.over(&all[0].throughput);
        let use_ratio = contenders.in_use.over(&all[0].in_use);
        let calls = &contenders.calls_per_acquire;
        table.row(
            contenders.label,
            &[
                format!("{:.0}", contenders.throughput.median()),
                contenders.throughput.spread(0),
                format!("{:.3}", ratio.median()),
                ratio.spread(3),
                format!("{:.3}", contenders.in_use.median()),
                format!("{:.3}", use_ratio.median()),
                use_ratio.spread(3),
                format!("{:.2}", calls.median()),
                calls.spread(2),
            ],
        );
    }
    table.print();
}

fn print_fairness(all: &[Contenders]) {
    let mut table = Table::new(&[
        "",
        "Jain, lowest round",
        "smallest share",
        "largest share",
        "overtaken per grant: by who asked",
        "by the server",
    ]);
    for contenders in all {
        let (smallest, largest) = contenders.shares();
        table.row(
            contenders.label,
            &[
                format!("{:.4}", contenders.jain.lowest()),
                format!("{smallest:.3}"),
                format!("{largest:.3}"),
                format!("{:.5}", contenders.overtaken as f64 / contenders.grants as f64),
                contenders.witnessed.as_ref().map_or_else(|| "-".to_owned(), Witnessed::show),
            ],
        );
    }
    table.print();
}

fn print_waits(all: &[Contenders]) {
    let mut table =
        Table::new(&["wait, ms", "p50", "/ tokio's", "p99", "/ tokio's", "", "max", "/ tokio's"]);
    for contenders in all {
        let tokio = &all[0];
        let p50 = contenders.wait_p50.over(&tokio.wait_p50);
        let p99 = contenders.wait_p99.over(&tokio.wait_p99);
        let max = contenders.wait_max.over(&tokio.wait_max);
        table.row(
            contenders.label,
            &[
                format!("{:.2}", contenders.wait_p50.median() / 1e3),
                format!("{:.3}", p50.median()),
                format!("{:.2}", contenders.wait_p99.median() / 1e3),
                format!("{:.3}", p99.median()),
                p99.spread(3),
                format!("{:.2}", contenders.wait_max.median() / 1e3),
                format!("{:.3}", max.median()),
            ],
        );
    }
    table.print();
}

fn musts(contenders: &Contenders, tokio: &Contenders, thinking: &str) -> Vec<Must> {
    let named = |what: &str| format!("contention, {}{thinking}: {what}", contenders.label);
    let in_use = contenders.in_use.over(&tokio.in_use).median();
    let wait = contenders.wait_p99.over(&tokio.wait_p99).median();
    let calls = contenders.calls_per_acquire.highest();
    let overtaken = contenders.witnessed.as_ref().map_or(f64::NAN, Witnessed::overtaken);
    let least = if contenders.is_one_process() { 0.95 } else { 0.93 };
    let mut musts = vec![
        Must::at_least(least, named("permits in use / tokio's"), in_use, ""),
        Must::at_least(0.99, named("Jain, lowest round"), contenders.jain.lowest(), ""),
        Must::at_most(1.5, named("p99 of the waits / tokio's"), wait, ""),
        Must::at_most(0.0, named("waiters overtaken, by the server"), overtaken, ""),
        Must::at_most(2.0, named("script calls per acquire, highest round"), calls, ""),
    ];
    if contenders.is_one_process() {
        let overtaken = contenders.overtaken as f64;
        musts.push(Must::at_most(0.0, named("waiters overtaken, by who asked"), overtaken, ""));
    }
    musts
}
