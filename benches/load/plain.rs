//! The semaphore that everybody writes first: one script call to take a permit, one to give it
//! back, all callers on one connection. No queue, no wake-up, no renewal, no fencing.

use redis::aio::MultiplexedConnection;

use crate::script::{connect, load};

/// Takes a permit if there is room: limit, lease in milliseconds, id.
pub(crate) const ACQUIRE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

const RELEASE: &str = "return redis.call('ZREM', KEYS[1], ARGV[1])";

pub(crate) const LEASE_MS: usize = 30_000;

/// Both scripts, loaded.
#[derive(Clone)]
pub(crate) struct Plain {
    connection: MultiplexedConnection,
    acquire: String,
    release: String,
}

impl Plain {
    pub(crate) async fn at(url: &str) -> Self {
        let mut connection = connect(url).await;
        let acquire = load(&mut connection, ACQUIRE).await;
        let release = load(&mut connection, RELEASE).await;
        Self { connection, acquire, release }
    }

    /// Whether there was room.
    pub(crate) async fn try_acquire(&self, key: &str, limit: u32, id: u64) -> bool {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.acquire).arg(1).arg(key).arg(limit).arg(LEASE_MS).arg(id);
        call.query_async(&mut self.connection.clone()).await.expect("it runs")
    }

    /// Whether it was there.
    pub(crate) async fn release(&self, key: &str, id: u64) -> bool {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.release).arg(1).arg(key).arg(id);
        call.query_async(&mut self.connection.clone()).await.expect("it runs")
    }
}
