//! What one turn costs: the server alone, and a caller who has the semaphore to itself.

use std::fmt::Display;

use tokio::time::Instant;
use zset_semaphore::Client;

use crate::prefilled::{OWNER, ids};
use crate::recorded::{self, ACTS, Act, Recording};
use crate::report::{Must, Table, say, title};
use crate::script::{BareScript, Pace, Script, Turn};
use closed_loop::measure::{Rounds, Times};
use test_support::redis_server::RedisServer;

const ROUNDS: usize = 25;
const CALLS: usize = 40;
const ROUND_TRIPS: usize = 3000;
const LEASE_MS: u64 = 30_000;
/// A client that waits while the owner holds.
const WAITING: &str = "00000000000000bb";

/// Held besides, where many come and go: Redis keeps up to 128 as a list, which costs more to
/// change than a larger set.
const OTHERS: usize = 200;
const FAR: usize = 1_000_000;

/// What a turn has to say.
#[derive(Clone, Copy)]
enum Kind {
    /// No turn: a script that returns a number.
    Bare,
    Both(usize),
    Ask,
    Renew(usize),
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Bare, Self::Both(1), Self::Ask, Self::Both(85), Self::Renew(64), Self::Renew(256)];

    fn label(self) -> String {
        match self {
            Self::Bare => "no turn, \"return 1\"".to_owned(),
            Self::Both(1) => "release one, acquire one".to_owned(),
            Self::Both(count) => {
                format!("release {count}, acquire {count}; {OTHERS} more are held")
            }
            Self::Ask => "ask about one that waits".to_owned(),
            Self::Renew(count) => format!("renew {count}"),
        }
    }

    /// What must be there before the calls.
    async fn prepare(self, script: &mut Script, name: &str) {
        let holders = match self {
            Self::Bare => 0,
            Self::Ask => 1,
            Self::Both(count) | Self::Renew(count) => count,
        };
        let all = 0..holders;
        script.run(name, &Turn { admit: ids(all), ..Turn::of(OWNER, self.limit()) }).await;
        if let Self::Both(2..) = self {
            let admit = ids(FAR..FAR + OTHERS);
            script.run(name, &Turn { admit, ..Turn::of(OWNER, self.limit()) }).await;
        }
        if let Self::Ask = self {
            let admit = vec![format!("{WAITING}:0")];
            script.run(name, &Turn { admit, ..Turn::of(WAITING, 1) }).await;
        }
    }

    fn turn(self, call: usize) -> Option<Turn<'static>> {
        let turn = Turn::of(OWNER, self.limit());
        Some(match self {
            Self::Bare => return None,
            Self::Both(count) => Turn {
                release: ids(call * count..(call + 1) * count),
                admit: ids((call + 1) * count..(call + 2) * count),
                ..turn
            },
            Self::Ask => Turn { ask: vec![format!("{WAITING}:0")], ..Turn::of(WAITING, 1) },
            Self::Renew(count) => {
                // Each pushes the deadlines, as renewals do that are a third of a lease apart.
                let lease = |id| (id, LEASE_MS + 10 * (call as u64 + 1));
                Turn { renew: ids(0..count).into_iter().map(lease).collect(), ..turn }
            }
        })
    }

    fn limit(self) -> usize {
        if let Self::Ask = self { 1 } else { 1000 }
    }

    /// Microseconds of the server per turn.
    async fn measure(self, script: &mut Script, pace: Pace) -> f64 {
        const NAME: &str = "turn";
        redis::cmd("FLUSHALL").query_async::<()>(&mut script.connection).await.expect("FLUSHALL");
        self.prepare(script, NAME).await;
        let turns: Vec<_> = (0..CALLS).map(|call| self.turn(call)).collect();
        let before = script.account().await;
        match pace {
            Pace::BackToBack => script.run_all(NAME, &turns).await,
            Pace::OneByOne => {
                for turn in turns {
                    match turn {
                        Some(turn) => _ = script.run(NAME, &turn).await,
                        None => script.run_bare().await,
                    }
                }
            }
        }
        script.account().await.since(&before).usec_per_call()
    }
}

pub(crate) async fn run(server: &RedisServer) -> Vec<Must> {
    let musts = server_time(server).await;
    // As requests and jobs are: a task of the runtime.
    tokio::spawn(round_trips(server.url())).await.expect("it does not panic");
    musts
}

/// What one row of the table costs the server, in microseconds.
#[derive(Default)]
struct Costs {
    back_to_back: Rounds,
    one_by_one: Rounds,
}

impl Costs {
    async fn round(&mut self, recording: &Recording, script: &mut Script) {
        let connection = &mut script.connection;
        self.back_to_back.push(recording.replay(connection, Pace::BackToBack).await);
        self.one_by_one.push(recording.replay(connection, Pace::OneByOne).await);
    }

    fn show(&self, label: impl Display, table: &mut Table) {
        let Self { back_to_back: busy, one_by_one: alone } = self;
        let figures = [busy.lowest(), busy.median(), alone.lowest(), alone.median()];
        table.row(label, &figures.map(|figure| format!("{figure:.1}")));
    }
}

async fn server_time(server: &RedisServer) -> Vec<Must> {
    title(
        "turn",
        &format!(
            "Server time per script call by INFO commandstats: back to back as on a busy server, and one
             by one, where the server sleeps until the caller has the answer and asks again.
             {ROUNDS} rounds of {CALLS} calls each, taking turns. The work is the same in all rounds
             and neighbours only add to it: the lowest is the cost, the others show them.
             The first rows are recorded: {ACTS} calls that the crate itself has sent, each awaited,
             meet the same keys again, and a subscriber hears all wake-ups. The others are written by the bench.",
        ),
    );
    let _listener = recorded::listener(server).await;
    let mut acts = Act::ALL.map(|act| (act, Costs::default()));
    let mut script = Script::load(server).await;
    let mut kinds = Kind::ALL.map(|kind| (kind, Costs::default()));
    for _ in 0..ROUNDS {
        for (act, costs) in &mut acts {
            costs.round(&act.record(server).await, &mut script).await;
        }
        for (kind, costs) in &mut kinds {
            costs.back_to_back.push(kind.measure(&mut script, Pace::BackToBack).await);
            costs.one_by_one.push(kind.measure(&mut script, Pace::OneByOne).await);
        }
    }

    let mut table = Table::new(&[
        "us per call",
        "back to back: lowest",
        "median",
        "one by one: lowest",
        "median",
    ]);
    for (act, costs) in &acts {
        costs.show(act.label(), &mut table);
    }
    for (kind, costs) in &kinds {
        costs.show(kind.label(), &mut table);
    }
    table.print();
    acts.iter().flat_map(|(act, costs)| musts(*act, costs)).collect()
}

fn musts(act: Act, costs: &Costs) -> Vec<Must> {
    let (back_to_back, one_by_one) = match act {
        Act::Acquire => (8.0, 9.0),
        Act::Release => (5.0, 6.0),
        Act::FirstAcquire | Act::HandOver => return Vec::new(),
    };
    let what = |pace: &str| format!("turn: {}, {pace}, lowest round", act.label());
    vec![
        Must::at_most(back_to_back, what("back to back"), costs.back_to_back.lowest(), " us"),
        Must::at_most(one_by_one, what("one by one"), costs.one_by_one.lowest(), " us"),
    ]
}

/// One of each in every iteration, so that all see the same neighbours.
async fn round_trips(url: String) {
    let client = Client::connect(&*url).await.expect("connecting");
    let semaphore = client.semaphore("round-trip", 1).build().expect("a valid name");
    let bare = BareScript::at(&url).await;
    let (mut acquires, mut releases, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        let permit = semaphore.acquire(1).await.expect("nobody else is there");
        acquires.push(nanos_since(start));

        let start = Instant::now();
        permit.release().await.expect("the server answers");
        releases.push(nanos_since(start));

        let start = Instant::now();
        bare.run().await;
        bares.push(nanos_since(start));
    }

    let [acquire, release, bare] = [acquires, releases, bares].map(Times::new);
    say(format_args!(
        "\n  Round trips of an uncontended caller, {ROUND_TRIPS} of each, taking turns.\n"
    ));
    let mut table = Table::new(&["", "p50 us", "p99 us", "p50 / bare"]);
    for (label, times) in [
        ("acquire(1).await", &acquire),
        ("release().await", &release),
        ("bare EVALSHA of \"return 1\" by redis-rs", &bare),
    ] {
        table.row(
            label,
            &[
                format!("{:.1}", times.p50()),
                format!("{:.1}", times.p99()),
                format!("{:.2}", times.p50() / bare.p50()),
            ],
        );
    }
    table.print();
    let ratio = (acquire.p50() + release.p50()) / (2.0 * bare.p50());
    say(format_args!("\n  acquire and release / two bare calls, by medians: {ratio:.2}"));
    client.shutdown().await.expect("the server answers");
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).expect("microseconds")
}
