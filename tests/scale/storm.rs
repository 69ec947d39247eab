//! Many clients that lose their server at the same moment, and find it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpSocket;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::alone;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};

const CLIENTS: u32 = 500;
/// How many clients may send the script.
const MOST_LOADS: u64 = CLIENTS as u64 / 10;
/// How much each client may send until it has had its grant, its share of the scripts included.
const MOST_BYTES: u64 = 4_000;
/// How often each client may try to connect in a second.
const MOST_ATTEMPTS: u64 = 8;
const OUTAGE: Duration = Duration::from_secs(5);

/// Stands where the server was, and closes each connection at once.
struct Closed {
    attempts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Closed {
    fn instead_of(server: &RedisServer) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(server.addr()).unwrap();
        let listener = socket.listen(4_096).unwrap();
        let attempts = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&attempts);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                counted.fetch_add(1, SeqCst);
                drop(connection);
            }
        });
        Self { attempts, task }
    }

    /// Returns the attempts of each second of `time`.
    async fn attempts_by_second(&self, time: Duration) -> Vec<u64> {
        let mut by_second = Vec::new();
        for _ in 0..time.as_secs() {
            sleep(Duration::from_secs(1)).await;
            by_second.push(self.attempts.swap(0, SeqCst));
        }
        by_second
    }

    /// Returns when the port is free.
    async fn end(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// The highest number of `steps` that `count` rises by within 100 ms, until it is dropped.
struct Worst(Arc<AtomicU64>, AbortHandle);

impl Worst {
    async fn of_connections_to(server: &RedisServer) -> Self {
        let worst = Arc::<AtomicU64>::default();
        let (raised, mut connection) = (Arc::clone(&worst), server.connection().await);
        let task = tokio::spawn(async move {
            let mut before = None;
            loop {
                let mut info = redis::cmd("INFO");
                let Ok(told) = info.arg("stats").query_async::<String>(&mut connection).await
                else {
                    return;
                };
                let now = field(&told, "total_connections_received");
                raised.fetch_max(now - before.unwrap_or(now), SeqCst);
                before = Some(now);
                sleep(ms(100)).await;
            }
        });
        Self(worst, task.abort_handle())
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        self.1.abort();
    }
}

fn field(info: &str, name: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

async fn stat(server: &RedisServer, name: &str) -> u64 {
    field(&server.query::<String>(&["INFO", "stats"]).await, name)
}

/// Takes a unit and gives it back, with each client. Returns how long the last one took.
async fn use_all(semaphores: &[ZSetSemaphore]) -> Duration {
    let start = Instant::now();
    join_all(semaphores.iter().map(async |semaphore| {
        let permit = within(PATIENCE * 6, semaphore.acquire(1)).await.unwrap();
        permit.release().await.unwrap();
    }))
    .await;
    start.elapsed()
}

/// What an outage of a server that comes back empty has cost.
struct Outage {
    attempts: Vec<u64>,
    restarted: Duration,
    connects: u64,
    loads: u64,
    bytes: u64,
}

impl Outage {
    async fn of(server: &mut RedisServer, semaphores: &Arc<Vec<ZSetSemaphore>>) -> Self {
        server.kill();
        let closed = Closed::instead_of(server);
        let users = Arc::clone(semaphores);
        let waiting = tokio::spawn(async move { use_all(&users).await });
        let attempts = closed.attempts_by_second(OUTAGE).await;
        closed.end().await;
        server.restart_empty().await;
        let restarted = Instant::now();
        let worst = Worst::of_connections_to(server).await;
        waiting.await.unwrap();
        Self {
            attempts,
            restarted: restarted.elapsed(),
            connects: worst.0.load(SeqCst),
            loads: server.script_loads().await,
            bytes: stat(server, "total_net_input_bytes").await / u64::from(CLIENTS),
        }
    }
}

/// How often a figure is taken where it is too high. All clients are in this process: where the machine stops it for
/// longer than clients wait before they send the script, all of them go on at the same time.
const ROUNDS: u32 = 3;

// Behaviour 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_that_reconnect_at_once_do_not_flood_the_server() {
    let _alone = alone().await;
    let mut server = RedisServer::start().await;
    let semaphores: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let client = Client::builder().url(server.url()).build().unwrap();
            client.semaphore(format!("jobs-{}", n % 50), CLIENTS).build().unwrap()
        })
        .collect();
    let semaphores = Arc::new(semaphores);
    let started = use_all(&semaphores).await;
    let loads_at_start = server.script_loads().await;
    println!(
        "{CLIENTS} clients: all had a grant {started:?} after the start; {loads_at_start} sent the script"
    );

    for round in 1.. {
        let Outage { attempts, restarted, connects, loads, bytes } =
            Outage::of(&mut server, &semaphores).await;
        println!(
            "attempts in each second of an outage {attempts:?}; after the restart all had a grant within \
             {restarted:?}; at most {connects} connections in 100 ms; {loads} sent the script; {bytes} bytes from each"
        );
        let busiest = attempts.iter().max().unwrap();
        assert!(*busiest <= MOST_ATTEMPTS * u64::from(CLIENTS), "{attempts:?}");
        if loads <= MOST_LOADS {
            assert!(bytes <= MOST_BYTES, "{bytes} bytes from each client after the restart");
            break;
        }
        assert!(round < ROUNDS, "{loads} of {CLIENTS} clients sent the script after the restart");
    }

    for round in 1.. {
        server.cmd(&["SCRIPT", "FLUSH"]).await;
        server.reset_stats().await;
        let flushed = use_all(&semaphores).await;
        let loads = server.script_loads().await;
        println!("after SCRIPT FLUSH all had a grant within {flushed:?}; {loads} sent the script");
        if loads <= MOST_LOADS {
            break;
        }
        assert!(round < ROUNDS, "{loads} of {CLIENTS} clients sent the script after SCRIPT FLUSH");
    }
}
