//! Whether a turn costs more when many hold and many wait.

use crate::largest;
use crate::prefilled::{OWNER, Prefilled, id, ids};
use crate::report::{Must, Table, title};
use crate::script::{Script, Turn};
use closed_loop::measure::Rounds;
use test_support::redis_server::RedisServer;

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];
const ROUNDS: usize = 7;
const CALLS: usize = 100;
/// As many as the smallest of them has.
const RENEWALS: usize = 10;
/// A client with nothing there.
const CALLER: &str = "00000000000000cc";

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    title(
        "scale",
        &format!(
            "Server time per turn by INFO commandstats, in us, by how many permits are held and how many
             waiters wait; in brackets the ratio to that at {}. The lowest of {ROUNDS} rounds of {CALLS} calls each.
             Hand-over: releases one, which grants the head of another client, and queues one.",
            SIZES[0],
        ),
    );
    let mut script = Script::load(server).await;
    let mut costs = SIZES.map(|_| [(); Kind::ALL.len()].map(|()| Rounds::default()));
    for _ in 0..ROUNDS {
        for (size, costs) in SIZES.into_iter().zip(&mut costs) {
            Prefilled::of(size).fill(&mut script.connection, NAME).await;
            for (kind, cost) in Kind::ALL.into_iter().zip(costs) {
                cost.push(kind.measure(&mut script, size).await);
            }
        }
    }
    print(&costs);
    largest::run(server, &mut script, *SIZES.last().unwrap_or(&0)).await
}

const NAME: &str = "scale";

/// What a turn has to say. The later ones count on what the first one leaves.
#[derive(Clone, Copy)]
enum Kind {
    HandOver,
    Ask,
    Renew,
}

impl Kind {
    const ALL: [Self; 3] = [Self::HandOver, Self::Ask, Self::Renew];

    /// First come, first served: who holds and who waits follows from the number of calls.
    fn turn(self, size: usize, call: usize) -> Turn<'static> {
        match self {
            Self::HandOver => Turn {
                release: vec![id(call)],
                admit: vec![id(2 * size + call)],
                ..Turn::of(CALLER, size)
            },
            Self::Ask => Turn { ask: vec![id(CALLS + size)], ..Turn::of(OWNER, size) },
            Self::Renew => {
                let held = ids(CALLS..CALLS + RENEWALS);
                let lease = |id| (id, 90_000 + 10 * call as u64);
                Turn { renew: held.into_iter().map(lease).collect(), ..Turn::of(OWNER, size) }
            }
        }
    }

    /// Microseconds of the server per turn.
    async fn measure(self, script: &mut Script, size: usize) -> f64 {
        let before = script.account().await;
        for call in 0..CALLS {
            let reply = script.run(NAME, &self.turn(size, call)).await;
            let numbers = (reply.in_use as usize, reply.waiting as usize);
            assert_eq!(numbers, (size, size), "what is there stays as large as it was");
        }
        script.account().await.since(&before).usec_per_call()
    }
}

fn print(costs: &[[Rounds; Kind::ALL.len()]; SIZES.len()]) {
    let mut table = Table::new(&[
        "holders and waiters",
        "hand-over",
        "",
        "ask about the head",
        "",
        "renew 10",
        "",
    ]);
    for (size, costs_here) in SIZES.into_iter().zip(costs) {
        let figures = costs_here.iter().zip(&costs[0]).flat_map(|(cost, smallest)| {
            let ratio = cost.lowest() / smallest.lowest();
            [format!("{:.1}", cost.lowest()), format!("({ratio:.2})")]
        });
        table.row(size, &figures.collect::<Vec<_>>());
    }
    table.print();
}
