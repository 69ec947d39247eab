//! Many names on one primary and on three: how many pairs each serves, and what a pair costs each process.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::contenders::{self, Contender};
use crate::report::{Must, Table, say};
use closed_loop::Order;
use closed_loop::measure::Rounds;
use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;

pub(crate) const NAMES: usize = 1_000;
pub(crate) const CLIENTS: usize = 2;
/// Of each client.
const TASKS: usize = 128;
const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_secs(1);
/// The most that a pair may cost the servers where the names are on three primaries, beside one.
const MOST: f64 = 1.15;

/// All clients of one cluster.
struct Side {
    label: &'static str,
    clients: Vec<Contender>,
    servers: Vec<u32>,
    pairs: Rounds,
    /// In microseconds for each pair, of all processes of the kind together.
    of_servers: Rounds,
    of_clients: Rounds,
}

pub(crate) async fn run(one: &RedisCluster, three: &RedisCluster) -> Must {
    let mut sides =
        [Side::start("one primary", one).await, Side::start("three primaries", three).await];
    for round in 0..ROUNDS {
        for step in 0..sides.len() {
            let side = (step + round) % sides.len();
            sides[side].round().await;
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    say(format_args!("  {cores} cores for all servers and clients.\n"));
    let what = format!("{NAMES} names");
    let mut table =
        Table::new(&[&what, "pairs/s", "", "us of servers", "of clients", "pairs/s of a core"]);
    for side in &sides {
        table.row(side.label, &side.cells());
    }
    table.print();
    let [single, spread] = &sides;
    say(format_args!(
        "\n  On paper, with a core for each server and enough of them for clients:\n  \
         {:.0} pairs/s on one primary, {:.0} on three.\n",
        single.of_a_core(),
        spread.of_a_core() * spread.servers.len() as f64,
    ));
    let what = format!("cluster, {NAMES} names: server time of a pair on three primaries over one");
    Must::at_most(MOST, what, spread.of_servers.over(&single.of_servers).median(), "")
}

impl Side {
    async fn start(label: &'static str, cluster: &RedisCluster) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(contenders::ours_at(label, &cluster.url(), NAMES).await);
        }
        let servers = cluster.nodes.iter().map(|node| node.pid()).collect();
        let none = Rounds::default;
        Self { label, clients, servers, pairs: none(), of_servers: none(), of_clients: none() }
    }

    async fn round(&mut self) {
        let from = monotonic_nanos() + nanos(WARM_UP);
        let order = Order { tasks: TASKS, from, until: from + nanos(WINDOW) };
        let clients: Vec<u32> = self.clients.iter().map(Contender::pid).collect();
        let rounds = join_all(self.clients.iter_mut().map(|client| client.round(order)));
        let times = async {
            let mut times = Vec::new();
            for instant in [order.from, order.until] {
                sleep(Duration::from_nanos(instant.saturating_sub(monotonic_nanos()))).await;
                times.push((monotonic_nanos(), cpu_nanos(&self.servers), cpu_nanos(&clients)));
            }
            times
        };
        let (rounds, times) = tokio::join!(rounds, times);
        let pairs: f64 = rounds.iter().map(|round| round.pairs).sum();
        let [(began, servers, clients), (ended, servers_then, clients_then)] = times[..] else {
            return;
        };
        // The times were read a little late.
        let pairs_meanwhile = pairs * (ended - began) as f64 / nanos(WINDOW) as f64;
        let usec = |before: f64, after: f64| (after - before) / 1e3 / pairs_meanwhile;
        self.pairs.push(pairs / WINDOW.as_secs_f64());
        self.of_servers.push(usec(servers, servers_then));
        self.of_clients.push(usec(clients, clients_then));
    }

    /// How many pairs one core can serve in a second, if the server has it alone.
    fn of_a_core(&self) -> f64 {
        1e6 / self.of_servers.median()
    }

    fn cells(&self) -> [String; 5] {
        [
            format!("{:.0}", self.pairs.median()),
            self.pairs.spread(0),
            format!("{:.1}", self.of_servers.median()),
            format!("{:.1}", self.of_clients.median()),
            format!("{:.0}", self.of_a_core()),
        ]
    }
}

/// The processor time of all threads of some processes; NaN where the system does not tell.
fn cpu_nanos(processes: &[u32]) -> f64 {
    processes.iter().map(|process| of_process(*process).unwrap_or(f64::NAN)).sum()
}

fn of_process(process: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let of_thread = |thread: fs::DirEntry| {
        let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<f64>().ok()
    };
    Some(threads.flatten().filter_map(of_thread).sum())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds")
}
