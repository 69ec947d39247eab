//! Leases that end by themselves, by the server's clock alone, and keys that do not outstay them.

use std::collections::BTreeSet;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use crate::common::stores::Place;
use redis::aio::MultiplexedConnection;
use test_support::packed_state::SET_EXTRA;
use test_support::redis_server::RedisServer;
use test_support::shifted_clock::ShiftedClock;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::{Client, LostReason, MemoryStore, Permit, Renew, ZSetSemaphore};

fn semaphore(client: &Client, lease: Duration) -> ZSetSemaphore {
    client.semaphore("lease", 1).lease(lease).build().unwrap()
}

/// Takes the only unit as a process would that dies at once: its lease is all that is left of it.
/// Returns the instants before and after it was granted. `client` must not have been used yet.
fn hold_and_die(client: Client, lease: Duration) -> (Instant, Instant) {
    let dying = thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let before = Instant::now();
        let permit = runtime.block_on(semaphore(&client, lease).acquire(1)).unwrap();
        let after = Instant::now();
        std::mem::forget(permit);
        runtime.shutdown_background(); // nobody is left to renew it or to hand it back
        (before, after)
    });
    dying.join().unwrap()
}

// Behaviours 17, 18
#[tokio::test]
async fn an_unreleased_permit_comes_back_after_its_lease_and_a_waiter_is_served_at_that_moment() {
    const LEASE: Duration = Duration::from_millis(600);
    for place in Place::each().await {
        // The asking period of this waiter is a second: if it is served sooner, nobody sent anything.
        let waiter = semaphore(&place.client(), Duration::from_secs(30));
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let (before, after) = hold_and_die(place.client(), LEASE);
            let permit = within(PATIENCE, waiter.acquire(1)).await.unwrap();
            assert!(before.elapsed() >= LEASE, "it was given away within the lease");
            best = best.min(after.elapsed().saturating_sub(LEASE));
            permit.release().await.unwrap();
        }
        assert!(best < ms(250), "served {best:?} after the end of the lease");
    }
}

// Behaviour 18
#[test]
fn a_waiter_is_served_within_milliseconds_of_the_end_of_a_dead_holders_lease() {
    for lease in [ms(10_500), ms(77_777), ms(300)] {
        // A clock of its own for each: it is left far ahead.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let memory = MemoryStore::new();
            let (before, after) = hold_and_die(Client::with_memory(&memory), lease);
            tokio::time::pause();
            let waiter = semaphore(&Client::with_memory(&memory), Duration::from_secs(30));
            let permit = waiter.acquire(1).await.unwrap();
            assert!(before.elapsed() >= lease, "{:?} of {lease:?}", before.elapsed());
            assert!(after.elapsed() <= lease + ms(5), "{:?} of {lease:?}", after.elapsed());
            drop(permit);
        });
    }
}

// Behaviour 18
#[tokio::test]
async fn every_waiter_that_fits_is_served_when_a_heavy_lease_ends_whoever_owns_the_head() {
    let server = RedisServer::start().await;
    let client = async || {
        let client = Client::connect(server.url()).await.unwrap();
        client.semaphore("lease", 3).build().unwrap()
    };
    let clients = [client().await, client().await];
    drop(clients[0].acquire(1).await.unwrap());
    // 3 units of a process that died, for 700 ms.
    let script = "local t = redis.call('TIME')
        redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + 700, ARGV[1])
        return redis.call('PEXPIRE', KEYS[1], 60000)";
    let exists = async || server.query::<u64>(&["EXISTS", "zsem:{lease}:permits"]).await;
    eventually("the first is back", PATIENCE, async || exists().await == 0).await;
    let (permits, meta) = ("zsem:{lease}:permits", "zsem:{lease}:meta");
    server.cmd(&["EVAL", SET_EXTRA, "1", meta, "2"]).await;
    server.cmd(&["EVAL", script, "1", permits, "00000000000000ff:1*3/700"]).await;
    let start = Instant::now();
    let mut waiting = Vec::new();
    for index in 0..4 {
        waiting.push(tokio::spawn(clients[index % 2].acquire(1)));
        eventually("it waits", PATIENCE, async || {
            clients[0].inspect().await.unwrap().waiters_total == index as u64 + 1
        })
        .await;
    }
    let mut held = Vec::new();
    for waiting in waiting.drain(..3) {
        held.push(within(PATIENCE, waiting).await.unwrap().unwrap());
    }
    assert!(start.elapsed() >= ms(690), "{:?}", start.elapsed());
    assert!(!waiting[0].is_finished());
    assert_eq!(clients[0].inspect().await.unwrap().in_use, 3);
}

/// By how many seconds the clock of a server is ahead of ours, as it says itself.
async fn ahead(server: &RedisServer) -> f64 {
    let (seconds, micros): (f64, f64) = server.query(&["TIME"]).await;
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    seconds + micros / 1e6 - ours.as_secs_f64()
}

// Behaviour 17
#[tokio::test]
async fn clocks_an_hour_apart_change_nothing_about_a_lease() {
    const LEASE: Duration = Duration::from_millis(900);
    for skew in [3_600, -3_600] {
        let clock = ShiftedClock::ahead_by(skew * 1_000);
        let server = RedisServer::builder().clock(&clock).start().await;
        let ahead = ahead(&server).await;
        assert!((ahead - skew as f64).abs() < 30.0, "the clocks are not apart: {ahead} s");
        let client = async || Client::connect(server.url()).await.unwrap();
        let (here, there) = (client().await, client().await);
        // Held and renewed for several leases: it stays, and the contender waits.
        let held = semaphore(&here, LEASE).acquire(1).await.unwrap();
        let waiting = tokio::spawn(semaphore(&there, LEASE).acquire(1));
        let lost = tokio::time::timeout(LEASE * 3, held.lost()).await;
        assert!(lost.is_err() && !waiting.is_finished(), "skew {skew}: {lost:?}");
        let books = semaphore(&there, LEASE).inspect().await.unwrap();
        assert!(books.holders[0].expires_in <= LEASE, "{books:?}");
        held.release().await.unwrap();
        within(PATIENCE, waiting).await.unwrap().unwrap().release().await.unwrap();
        // Not released: it is back after its lease, neither at once nor an hour later.
        let (before, after) = hold_and_die(Client::open(server.url()).unwrap(), LEASE);
        let next = within(PATIENCE, semaphore(&there, LEASE).acquire(1)).await.unwrap();
        assert!(before.elapsed() >= LEASE && after.elapsed() < PATIENCE, "skew {skew}");
        drop(next);
        // A fixed lease ends here when it ends there.
        let fixed = there.semaphore("lease", 1).lease(LEASE).renew(Renew::Manual).build().unwrap();
        let held = within(PATIENCE, fixed.acquire(1)).await.unwrap();
        assert_eq!(within(PATIENCE, held.lost()).await, LostReason::Expired);
    }
}

// Behaviour 20, invariant 6
#[tokio::test]
async fn all_keys_vanish_after_idling_but_an_override() {
    let clock = ShiftedClock::ahead_by(0);
    let server = RedisServer::builder().clock(&clock).start().await;
    let client = Client::builder().url(server.url()).label("a label").connect().await.unwrap();
    let other = Client::connect(server.url()).await.unwrap();
    let one = semaphore(&client, Duration::from_secs(30));
    let held = one.acquire(1).await.unwrap();
    let waiting = tokio::spawn(semaphore(&other, Duration::from_secs(30)).acquire(1));
    eventually("it waits", PATIENCE, async || one.inspect().await.unwrap().waiters_total == 1)
        .await;
    held.release().await.unwrap();
    within(PATIENCE, waiting).await.unwrap().unwrap().release().await.unwrap();
    assert!(server.query::<i64>(&["DBSIZE"]).await > 0);
    clock.set_ahead_by((30 + 10 + 60 + 5) * 1_000);
    eventually("all keys are gone", PATIENCE, async || server.query::<i64>(&["DBSIZE"]).await == 0)
        .await;

    one.set_limit(7).await.unwrap();
    eventually("seven fit", PATIENCE, async || one.try_acquire(7).await.is_ok()).await;
    eventually("it is back", PATIENCE, async || one.inspect().await.unwrap().in_use == 0).await;
    clock.set_ahead_by(1_000_000_000);
    let limit_alone =
        async || server.query::<Vec<String>>(&["KEYS", "*"]).await == ["zsem:{lease}:meta"];
    eventually("all but the override are gone", PATIENCE, limit_alone).await;
    assert_eq!(one.inspect().await.unwrap().limit, 7);
    one.clear_limit().await.unwrap();
    // The turn that this asked for is over when the next one is.
    one.try_acquire(1).await.unwrap().release().await.unwrap();
    clock.set_ahead_by(1_000_105_000);
    eventually("that is gone, too", PATIENCE, async || server.query::<i64>(&["DBSIZE"]).await == 0)
        .await;
    drop(one.acquire(1).await.unwrap());
}

/// The keys that were ever there.
struct Keys {
    connection: MultiplexedConnection,
    seen: BTreeSet<String>,
}

impl Keys {
    /// Checks the TTL of each key that is there.
    async fn look(&mut self, step: usize) {
        const SCRIPT: &str = "local found = {}
            for _, key in ipairs(redis.call('KEYS', '*')) do
                found[#found + 1], found[#found + 2] = key, redis.call('PTTL', key)
            end
            return found";
        let mut eval = redis::cmd("EVAL");
        let found: Vec<(String, i64)> =
            eval.arg(SCRIPT).arg(0).query_async(&mut self.connection).await.unwrap();
        for (key, ttl) in found {
            // The longest lease, the slack, and what `meta` outlives the others by.
            assert!((1..=100_000).contains(&ttl), "step {step}: {key} has a TTL of {ttl} ms");
            self.seen.insert(key);
        }
    }
}

// Behaviour 20, invariant 6
#[tokio::test]
async fn no_key_ever_lives_without_a_ttl_whatever_is_done() {
    let server = RedisServer::start().await;
    let mut random = fastrand::Rng::with_seed(20);
    let leases = [ms(200), ms(1_000), ms(30_000)];
    let clients: Vec<Client> = (0..3).map(|_| Client::open(server.url()).unwrap()).collect();
    let handles: Vec<_> = (0..9)
        .map(|i| clients[i % 3].semaphore("lease", 4).lease(leases[i / 3]).build().unwrap())
        .collect();
    let mut held: Vec<Permit> = Vec::new();
    let mut keys = Keys { connection: server.connection().await, seen: BTreeSet::new() };
    for step in 0..400 {
        match random.u8(0..4) {
            0 | 1 => {
                let acquire = random.choice(&handles).unwrap().acquire(random.u32(1..4));
                let mut acquire = pin!(acquire.timeout(ms(random.u64(0..10))));
                let acquired = loop {
                    tokio::select! {
                        acquired = &mut acquire => break acquired,
                        () = keys.look(step) => {} // while it waits
                    }
                };
                held.extend(acquired);
            }
            2 if !held.is_empty() => drop(held.swap_remove(random.usize(0..held.len()))),
            _ if step % 50 == 0 => {
                let id = held.first().map(Permit::id);
                if let Some(id) = id {
                    handles[0].kick_now(id).await.unwrap();
                }
            }
            _ => tokio::time::sleep(ms(2)).await,
        }
        keys.look(step).await;
    }
    let seen = keys.seen;
    let kinds =
        ["clients", "meta", "permits", "queue"].map(|kind| format!("zsem:{{lease}}:{kind}"));
    assert!(seen.iter().eq(&kinds), "{seen:?}");
    drop(held);
    eventually("an idle semaphore leaves no permits and no queue", PATIENCE, async || {
        let keys = server.keys().await;
        !keys.contains(&kinds[2]) && !keys.contains(&kinds[3])
    })
    .await;
}
