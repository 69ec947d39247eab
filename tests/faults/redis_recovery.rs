//! What Redis may go through under its users: forgotten scripts, restart, failover, lost replies.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use zset_semaphore::{Client, Permit, TryAcquireError, ZSetSemaphore};

fn client(url: &str) -> Client {
    Client::builder().url(url).call_timeout(ms(200)).build().unwrap()
}

/// Tasks that take and give back permits, and end with the first thing that goes wrong.
struct Load {
    tasks: JoinSet<()>,
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(semaphore: &ZSetSemaphore) -> Self {
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (rounds, stop) = (Arc::clone(&rounds), Arc::clone(&stop));
            let semaphore = semaphore.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let permit = semaphore.acquire(1).await.unwrap();
                    tokio::time::sleep(ms(1)).await;
                    assert!(!permit.is_lost());
                    permit.release().await.unwrap();
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { tasks, rounds, stop }
    }

    async fn goes_on(&self, more: u64) {
        let goal = self.rounds.load(Ordering::SeqCst) + more;
        eventually("the load goes on", PATIENCE, async || {
            self.rounds.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    /// Panics if any task met an error.
    async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = within(PATIENCE, self.tasks.join_next()).await {
            ended.unwrap();
        }
    }
}

// Behaviour 39
#[tokio::test]
async fn forgotten_scripts_are_loaded_again_and_nobody_notices() {
    let server = RedisServer::start().await;
    let semaphore = client(&server.url()).semaphore("jobs", 4).build().unwrap();
    let load = Load::start(&semaphore);
    for _ in 0..20 {
        load.goes_on(16).await;
        server.cmd(&["SCRIPT", "FLUSH"]).await;
        semaphore.inspect().await.unwrap();
        server.cmd(&["SCRIPT", "FLUSH"]).await;
        semaphore.set_limit(4).await.unwrap();
    }
    load.stop().await;
    let info: String = server.query(&["INFO", "errorstats"]).await;
    assert!(info.contains("errorstat_NOSCRIPT"), "no script was ever missing: {info}");
    assert_eq!(semaphore.inspect().await.unwrap().in_use, 0);
}

// Behaviour 39
#[tokio::test]
async fn forgotten_scripts_cost_turns_that_go_out_together_three_round_trips() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = Client::builder().url(proxy.url()).call_timeout(ms(1_000)).build().unwrap();
    let names: Vec<_> =
        (0..32).map(|nth| client.semaphore(format!("jobs-{nth}"), 1).build().unwrap()).collect();
    names[0].acquire(1).await.unwrap().release().await.unwrap();
    server.cmd(&["SCRIPT", "FLUSH"]).await;
    proxy.delay_replies(ms(100));
    let acquired = try_join_all(names.iter().map(|name| name.acquire(1)));
    let _permits = within(ms(1_000), acquired).await.unwrap();
    let info: String = server.query(&["INFO", "errorstats"]).await;
    assert!(info.contains("errorstat_NOSCRIPT"), "no script was ever missing: {info}");
}

// Behaviour 39
#[tokio::test]
async fn a_server_restarted_with_its_data_costs_no_more_than_a_delay() {
    let persistent = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server =
        persistent.iter().fold(RedisServer::builder(), |b, arg| b.arg(*arg)).start().await;
    let semaphore = client(&server.url()).semaphore("jobs", 4).build().unwrap();
    let held = semaphore.acquire(2).await.unwrap();
    let load = Load::start(&semaphore);
    for _ in 0..3 {
        load.goes_on(16).await;
        server.restart_empty().await; // the port is; the directory is not
    }
    load.goes_on(16).await;
    load.stop().await;
    still_held(&semaphore, &held).await;
}

// Behaviours 39, 52
#[tokio::test]
async fn a_server_restarted_empty_takes_nothing_from_holders_though_others_wait() {
    let mut server = RedisServer::start().await;
    let semaphore = client(&server.url()).semaphore("jobs", 4).build().unwrap();
    let held = semaphore.acquire(2).await.unwrap();
    let load = Load::start(&semaphore);
    for _ in 0..3 {
        load.goes_on(16).await;
        server.restart_empty().await;
    }
    load.goes_on(16).await;
    load.stop().await;
    still_held(&semaphore, &held).await;
}

async fn still_held(semaphore: &ZSetSemaphore, held: &Permit) {
    assert!(!held.is_lost(), "{held:?}");
    eventually("the permit that was held all the time is counted", PATIENCE, async || {
        let books = semaphore.inspect().await.unwrap();
        books.in_use == 2 && books.holders[0].id == held.id() && books.waiters_total == 0
    })
    .await;
}

/// Leads to whichever server is the primary, as a name or a virtual address would.
struct Switch {
    addr: SocketAddr,
    leads_to: Arc<Mutex<SocketAddr>>,
}

impl Switch {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let leads_to = Arc::new(Mutex::new(to));
        let current = Arc::clone(&leads_to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = *current.lock().unwrap();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { addr, leads_to }
    }
}

// Behaviour 39
#[tokio::test]
async fn a_failover_to_a_replica_keeps_permits_places_and_rising_tokens() {
    let mut primary = RedisServer::start().await;
    let replica = RedisServer::start().await;
    let port = primary.port().to_string();
    replica.cmd(&["REPLICAOF", "127.0.0.1", &port]).await;
    eventually("the replica follows", PATIENCE, async || {
        let info: String = replica.query(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    })
    .await;

    let switch = Switch::start(primary.addr()).await;
    let url = format!("redis://{}", switch.addr);
    let semaphore = client(&url).semaphore("jobs", 3).build().unwrap();
    let held = semaphore.acquire(2).await.unwrap();
    let released = semaphore.acquire(1).await.unwrap();
    let token = released.fencing_token();
    let first = tokio::spawn(semaphore.acquire(2));
    eventually("the first waits", PATIENCE, async || {
        semaphore.inspect().await.unwrap().waiters_total == 1
    })
    .await;
    let second = tokio::spawn(semaphore.acquire(1));
    eventually("the second waits", PATIENCE, async || {
        semaphore.inspect().await.unwrap().waiters_total == 2
    })
    .await;
    eventually("the replica has it all", PATIENCE, async || {
        replica.query::<u64>(&["ZCARD", "zsem:{jobs}:queue"]).await == 2
    })
    .await;

    primary.kill();
    let (released, ()) = tokio::join!(released.release(), async {
        replica.cmd(&["REPLICAOF", "NO", "ONE"]).await;
        *switch.leads_to.lock().unwrap() = replica.addr();
    });
    released.unwrap();
    assert!(!held.is_lost());
    eventually("the new primary counts what is held", PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|books| (books.in_use, books.waiters_total) == (2, 2))
    })
    .await;
    held.release().await.unwrap();
    let first = within(PATIENCE, first).await.unwrap().unwrap();
    let second = within(PATIENCE, second).await.unwrap().unwrap();
    assert!(token < first.fencing_token() && first.fencing_token() < second.fencing_token());
}

// Behaviour 39
#[tokio::test]
async fn a_reply_that_never_comes_and_is_retried_takes_one_permit() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let behind = client(&proxy.url()).semaphore("jobs", 8).build().unwrap();
    let beside = Client::builder().url(server.url()).call_timeout(PATIENCE).build().unwrap();
    let beside = beside.semaphore("jobs", 8).build().unwrap();
    for round in 1..=5 {
        drop(behind.acquire(1).await.unwrap());
        eventually("nothing is held", PATIENCE, async || {
            beside.inspect().await.unwrap().in_use == 0
        })
        .await;
        proxy.lose_next_reply();
        let permit = within(PATIENCE, behind.acquire(3)).await.unwrap();
        assert_eq!(proxy.traffic().replies_lost, round);
        let books = beside.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total, books.waiters_total), (3, 1, 0));
        assert_eq!(books.holders[0].id, permit.id());
        permit.release().await.unwrap();
        assert_eq!(beside.inspect().await.unwrap().in_use, 0);
    }
}

// Behaviour 39
#[tokio::test]
async fn a_try_whose_reply_never_comes_says_so_and_keeps_nothing() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let behind = client(&proxy.url()).semaphore("jobs", 8).build().unwrap();
    let beside = Client::builder().url(server.url()).call_timeout(PATIENCE).build().unwrap();
    let beside = beside.semaphore("jobs", 8).build().unwrap();
    behind.inspect().await.unwrap();
    proxy.lose_next_reply();
    match within(PATIENCE, behind.try_acquire(1)).await {
        Err(TryAcquireError::Unavailable(error)) => assert!(error.is_timeout(), "{error}"),
        other => panic!("expected Unavailable, got {other:?}"),
    }
    assert_eq!(proxy.traffic().replies_lost, 1);
    eventually("what it had taken is given back", PATIENCE, async || {
        beside.inspect().await.unwrap().in_use == 0
    })
    .await;
}

/// Reads what each connection to the address of a dead server says first, and closes it.
async fn first_words(server: &RedisServer, connections: usize) -> Vec<String> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(server.addr()).unwrap();
    let listener = socket.listen(64).unwrap();
    let mut words = Vec::new();
    for _ in 0..connections {
        let (mut connection, _) = within(PATIENCE, listener.accept()).await.unwrap();
        let mut read = [0; 64];
        let length = connection.read(&mut read).await.unwrap();
        words.push(String::from_utf8_lossy(&read[..length]).into_owned());
    }
    words
}

// Behaviour 76
#[tokio::test]
async fn a_server_that_closes_connections_as_it_goes_down_is_asked_once_at_each_attempt() {
    let mut server = RedisServer::start().await;
    let client = client(&server.url());
    drop(client.semaphore("s", 1).build().unwrap().acquire(1).await.unwrap());
    server.kill();
    // A second connection without HELLO, as for a proxy that does not know it, would double a storm.
    let words = first_words(&server, 8).await;
    assert!(words.iter().all(|word| word.contains("HELLO")), "{words:?}");
}
