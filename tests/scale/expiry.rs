//! What a hundred thousand leases that end together cost the server: many small steps, no long one.

use std::fs;
use std::ops::RangeInclusive;

use crate::alone;
use test_support::packed_state::SET_EXTRA;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

const MANY: u64 = 100_000;
/// The turns in which all are cleared: each looks at 64 to 256 expired permits and heads of the queue.
const TURNS: RangeInclusive<u64> = MANY / 256..=MANY / 64;
const LONGEST_USEC: u64 = 2_000;
/// A hundred thousand ids, each of a client of its own that is not alive, in a sorted set.
const FILL: &str = "
    local base, step = tonumber(ARGV[2]), tonumber(ARGV[3])
    for from = 1, ARGV[1], 1000 do
        local pairs_ = {}
        for i = from, from + 999 do
            pairs_[#pairs_ + 1] = string.format('%.0f', base + i * step)
            pairs_[#pairs_ + 1] = string.format('%016x:%d%s', 2^40 + i, i, ARGV[4])
        end
        redis.call('ZADD', KEYS[1], unpack(pairs_))
    end
    redis.call('PEXPIRE', KEYS[1], 600000)
    return redis.call('ZCARD', KEYS[1])";

struct Crowd {
    server: RedisServer,
    semaphore: ZSetSemaphore,
    limit: u32,
}

impl Crowd {
    async fn of(limit: u32) -> Self {
        let server = RedisServer::start().await;
        let client = Client::connect(server.url()).await.unwrap();
        let semaphore = client.semaphore("crowd", limit).build().unwrap();
        // The books about it are kept from here on.
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
        Self { server, semaphore, limit }
    }

    async fn fill(&self, key: &str, base: u64, step: u64, suffix: &str) {
        let key = format!("zsem:{{crowd}}:{key}");
        let numbers = [MANY, base, step].map(|number| number.to_string());
        let [many, base, step] = numbers.each_ref().map(String::as_str);
        let words = ["EVAL", FILL, "1", &key, many, base, step, suffix];
        assert_eq!(self.server.query::<u64>(&words).await, MANY);
    }

    async fn expired_permits(&self, suffix: &str, extra_each: u64) {
        let (seconds, _): (u64, u64) = self.server.query(&["TIME"]).await;
        // All in the past: they end together, whenever the first turn comes.
        self.fill("permits", seconds * 1_000 - 200_000, 1, suffix).await;
        let extra = (MANY * extra_each).to_string();
        let words = ["EVAL", SET_EXTRA, "1", "zsem:{crowd}:meta", &extra];
        self.server.query::<()>(&words).await;
    }

    async fn dead_waiters(&self) {
        self.fill("queue", 0, 1, "").await;
    }

    /// How often the server's main thread was put aside for somebody else.
    fn preemptions(&self) -> u64 {
        let status = self.of_main_thread("status");
        let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// The microseconds for which the server's main thread has had a processor.
    fn cpu_usec(&self) -> u64 {
        let nanos: u64 =
            self.of_main_thread("schedstat").split(' ').next().unwrap().parse().unwrap();
        nanos / 1_000
    }

    fn of_main_thread(&self, file: &str) -> String {
        let pid = self.server.pid();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/{file}")).unwrap()
    }

    /// Acquires, and goes on until only that permit is left.
    async fn clear(&self) -> (Permit, Cost) {
        self.server.slowlog_reset(LONGEST_USEC).await;
        self.server.reset_stats().await;
        let before = (self.preemptions(), self.cpu_usec());
        let permit = within(PATIENCE * 3, self.semaphore.acquire(1)).await.unwrap();
        eventually("only one is left", PATIENCE * 3, async || {
            let held: u64 = self.server.query(&["ZCARD", "zsem:{crowd}:permits"]).await;
            let waiting: u64 = self.server.query(&["ZCARD", "zsem:{crowd}:queue"]).await;
            (held, waiting) == (1, 0)
        })
        .await;
        let (preemptions, cpu_usec) = (self.preemptions() - before.0, self.cpu_usec() - before.1);
        let turns = self.server.script_calls().await;
        let cost = Cost {
            turns,
            cpu_usec: cpu_usec / turns.max(1),
            slow: self.server.query(&["SLOWLOG", "LEN"]).await,
            longest: self.server.slowlog_max_usec().await,
            preemptions,
        };
        println!("{cost:?}");
        let books = self.semaphore.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total, books.waiters_total), (1, 1, 0));
        assert_eq!(books.holders[0].id, permit.id());
        (permit, cost)
    }
}

#[derive(Debug)]
struct Cost {
    turns: u64,
    /// Of a turn on average, with all that goes around it. Turns of one crowd are much alike.
    cpu_usec: u64,
    /// How many calls were over 2 ms by the wall clock.
    slow: u64,
    longest: u64,
    preemptions: u64,
}

/// Clears the crowd up to three times. The slow log is kept by the wall clock, so on a busy machine
/// a call counts as slow that was only put aside: no more of them are forgiven than there were
/// preemptions, and on a quiet machine none is. The processor time of the average turn holds anyway.
async fn assert_no_call_is_long(limit: u32, crowd: impl AsyncFn(&Crowd)) {
    let _alone = alone().await;
    let mut costs = Vec::new();
    for _ in 0..3 {
        let place = Crowd::of(limit).await;
        crowd(&place).await;
        let (permit, cost) = place.clear().await;
        assert!(TURNS.contains(&cost.turns) && cost.cpu_usec < LONGEST_USEC, "{cost:?}");
        // All room is there again, and nothing was counted twice.
        permit.release().await.unwrap();
        let all = within(PATIENCE, place.semaphore.acquire(place.limit)).await.unwrap();
        assert_eq!(all.units(), limit);
        let fine = cost.longest < LONGEST_USEC || cost.slow <= cost.preemptions;
        costs.push(cost);
        if fine {
            return;
        }
    }
    panic!("calls over 2 ms in three of three runs: {costs:?}");
}

// Behaviour 19
#[tokio::test]
async fn a_hundred_thousand_permits_that_expire_together_are_cleared_in_bounded_steps() {
    assert_no_call_is_long(100_000, async |crowd| crowd.expired_permits("", 0).await).await;
}

// Behaviours 13, 19
#[tokio::test]
async fn a_hundred_thousand_heavy_permits_that_expire_together_are_cleared_in_bounded_steps() {
    let heavy = async |crowd: &Crowd| crowd.expired_permits("*3/5000", 2).await;
    assert_no_call_is_long(300_000, heavy).await;
}

// Behaviour 19
#[tokio::test]
async fn a_hundred_thousand_waiters_of_dead_clients_are_cleared_in_bounded_steps() {
    assert_no_call_is_long(4, async |crowd| crowd.dead_waiters().await).await;
}

// Behaviour 19
#[tokio::test]
async fn expired_permits_and_dead_waiters_together_are_cleared_in_bounded_steps() {
    let both = async |crowd: &Crowd| {
        crowd.expired_permits("", 0).await;
        crowd.dead_waiters().await;
    };
    assert_no_call_is_long(100_000, both).await;
}

// Behaviour 19
#[tokio::test]
async fn while_a_crowd_is_cleared_others_are_served_in_between() {
    let _alone = alone().await;
    let crowd = Crowd::of(2).await;
    crowd.dead_waiters().await;
    let other = Client::connect(crowd.server.url()).await.unwrap();
    let elsewhere = other.semaphore("another", 1).build().unwrap();
    let waiting = tokio::spawn(crowd.semaphore.acquire(1));
    let left = async || crowd.server.query::<u64>(&["ZCARD", "zsem:{crowd}:queue"]).await;
    eventually("it has begun", PATIENCE, async || left().await < MANY).await;
    let mut served = 0;
    while left().await > 1_000 {
        drop(within(PATIENCE, elsewhere.acquire(1)).await.unwrap());
        served += 1;
    }
    assert!(served >= 3, "only {served} got through");
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
}

// Behaviours 5, 19
#[tokio::test]
async fn a_try_finds_the_room_that_thousands_of_expired_permits_hide() {
    let _alone = alone().await;
    let crowd = Crowd::of(5_000).await;
    let (seconds, _): (u64, u64) = crowd.server.query(&["TIME"]).await;
    let mut expired = vec!["ZADD".to_owned(), "zsem:{crowd}:permits".to_owned()];
    for n in 1..=5_000 {
        expired.extend([(seconds * 1_000 - 200_000).to_string(), format!("{:016x}:{n}", 7)]);
    }
    let expired: Vec<&str> = expired.iter().map(String::as_str).collect();
    crowd.server.cmd(&expired).await;
    let all = crowd.semaphore.try_acquire(5_000).await.unwrap();
    assert_eq!(all.units(), 5_000);
}
