//! The largest turns there are, where the most hold and wait: the second half of
//! [`scale`](super::scale).

use zset_semaphore::Client;

use crate::prefilled::{OWNER, Prefilled, ids};
use crate::report::{Must, Table, say};
use crate::script::{Script, Turn, keys};
use closed_loop::measure::Rounds;
use test_support::redis_server::RedisServer;

const ROUNDS: usize = 7;
/// As many ids as a turn may name.
const BOUND: usize = 256;
/// Turns in a row that name that many ids.
const TURNS: usize = 20;
const NAME: &str = "largest";
const CALLER: &str = "00000000000000cc";
/// What the slow log keeps. Lower, and writing it would slow down what it measures.
const NOTED_USEC: u64 = 100;

#[derive(Clone, Copy)]
enum Load {
    Release,
    Renew,
    Ask,
    Cancel,
    Admit,
    Inspect,
    MetaLost,
    Expired,
    Dead,
    ExpiredAndDead,
}

impl Load {
    const ALL: [Self; 10] = [
        Self::Release,
        Self::Renew,
        Self::Ask,
        Self::Cancel,
        Self::Admit,
        Self::Inspect,
        Self::MetaLost,
        Self::Expired,
        Self::Dead,
        Self::ExpiredAndDead,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Release => "release 256, which grants waiters of another client",
            Self::Renew => "renew 256",
            Self::Ask => "ask about the last 256 waiters",
            Self::Cancel => "cancel 256 waiters",
            Self::Admit => "queue 256 new waiters",
            Self::Expired => "all leases have ended, all waiters are granted",
            Self::Dead => "all waiters are dead",
            Self::ExpiredAndDead => "all leases have ended, all waiters are dead",
            Self::Inspect => "inspect()",
            Self::MetaLost => "`meta` was lost alone (not among what is asked)",
        }
    }

    fn is_asked_for(self) -> bool {
        !matches!(self, Self::MetaLost)
    }

    /// What it is put on; none where that is what the load before it has left.
    fn prefilled(self, size: usize) -> Option<Prefilled> {
        let prefilled = Prefilled::of(size);
        match self {
            Self::Release => Some(prefilled),
            Self::Expired => Some(Prefilled { expired: true, ..prefilled }),
            Self::Dead => Some(Prefilled { dead: true, ..prefilled }),
            Self::ExpiredAndDead => Some(Prefilled { expired: true, dead: true, ..prefilled }),
            _ => None,
        }
    }

    async fn put_on(self, server: &RedisServer, script: &mut Script, size: usize) {
        match self {
            Self::Inspect => inspect(server).await,
            Self::MetaLost => {
                let mut lose = redis::cmd("DEL");
                lose.arg(&keys(NAME)[3]);
                lose.query_async::<()>(&mut script.connection).await.expect("DEL");
                script.run(NAME, &Turn::of(CALLER, size)).await;
            }
            Self::Expired | Self::Dead | Self::ExpiredAndDead => {
                while script.run(NAME, &Turn::of(CALLER, size)).await.more {}
            }
            Self::Release | Self::Renew | Self::Ask | Self::Cancel | Self::Admit => {
                for call in 0..TURNS {
                    script.run(NAME, &self.full_turn(size, call)).await;
                }
            }
        }
    }

    /// Names others than the loads before it.
    fn full_turn(self, size: usize, call: usize) -> Turn<'static> {
        let named = |first: usize| ids(first + call * BOUND..first + (call + 1) * BOUND);
        let turn = Turn::of(CALLER, size);
        let owners = Turn::of(OWNER, size);
        match self {
            Self::Release => Turn { release: named(0), ..turn },
            Self::Renew => {
                let lease = |id| (id, 90_000);
                Turn { renew: named(size / 2).into_iter().map(lease).collect(), ..owners }
            }
            Self::Ask => Turn { ask: ids(2 * size - BOUND..2 * size), ..owners },
            Self::Cancel => Turn { cancel: named(size + size / 2), ..owners },
            _ => Turn { admit: named(2 * size), ..owners },
        }
    }
}

pub(crate) async fn run(server: &RedisServer, script: &mut Script, size: usize) -> Vec<Must> {
    say(format_args!(
        "\n  The largest turns, each on {size} holders and {size} waiters, in us.\
         \n  Mean by INFO commandstats, longest by SLOWLOG. {ROUNDS} rounds of the very same calls: what\
         \n  is longer in one round is the machine, so the lowest of the rounds bounds the script.\n",
    ));
    let mut results = Load::ALL.map(|load| (load, Costs::default()));
    for _ in 0..ROUNDS {
        for (load, costs) in &mut results {
            if let Some(prefilled) = load.prefilled(size) {
                prefilled.fill(&mut script.connection, NAME).await;
            }
            server.slowlog_reset(NOTED_USEC).await;
            let before = script.account().await;
            load.put_on(server, script, size).await;
            let account = script.account().await.since(&before);
            costs.calls = account.calls;
            costs.mean.push(account.usec_per_call());
            costs.longest.push(server.slowlog_max_usec().await as f64);
        }
    }
    print(&results);

    let asked = results.iter().filter(|(load, _)| load.is_asked_for());
    let longest = asked.map(|(_, costs)| costs.longest.lowest()).fold(f64::NAN, f64::max);
    let what = format!("scale: longest script call at {size}, lowest of the rounds");
    vec![Must::at_most(2.0, what, longest / 1e3, " ms")]
}

/// In microseconds.
#[derive(Default)]
struct Costs {
    calls: u64,
    mean: Rounds,
    longest: Rounds,
}

fn print(results: &[(Load, Costs)]) {
    let mut table =
        Table::new(&["", "calls", "mean", "longest: lowest", "median", "highest of the rounds"]);
    for (load, costs) in results {
        let longest = &costs.longest;
        table.row(
            load.label(),
            &[
                costs.calls.to_string(),
                format!("{:.0}", costs.mean.lowest()),
                noted(longest.lowest()),
                noted(longest.median()),
                noted(longest.highest()),
            ],
        );
    }
    table.print();
}

/// What the slow log did not keep was shorter.
fn noted(usec: f64) -> String {
    if usec == 0.0 { format!("< {NOTED_USEC}") } else { format!("{usec:.0}") }
}

/// By the crate: its list has a length of its own.
async fn inspect(server: &RedisServer) {
    let client = Client::connect(server.url()).await.expect("connecting");
    let semaphore = client.semaphore(NAME, 1).build().expect("a valid name");
    for _ in 0..TURNS {
        semaphore.inspect().await.expect("the server answers");
    }
    client.shutdown().await.expect("the server answers");
}
