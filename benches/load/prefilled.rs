//! Semaphores that are full before anybody has asked: written straight into the keys.

use redis::aio::MultiplexedConnection;

use crate::script::keys;
use test_support::packed_state::packed;

/// The client that all prefilled holders and waiters belong to.
pub(crate) const OWNER: &str = "00000000000000aa";

const PAIRS_PER_COMMAND: usize = 1000;
const LONG_MS: u64 = 3_600_000;

/// An id of the owner; they are numbered from 0, holders first, in the order in which
/// their leases end and in which they are served.
pub(crate) fn id(number: usize) -> String {
    format!("{OWNER}:{number}")
}

pub(crate) fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(id).collect()
}

/// So many holders, as many waiters, and a limit that the holders just fill.
#[derive(Clone, Copy)]
pub(crate) struct Prefilled {
    pub(crate) size: usize,
    /// Whether all leases have run out.
    pub(crate) expired: bool,
    /// Whether the waiters' client has not been heard for too long.
    pub(crate) dead: bool,
}

impl Prefilled {
    pub(crate) fn of(size: usize) -> Self {
        Self { size, expired: false, dead: false }
    }

    /// Replaces what was there under this name.
    pub(crate) async fn fill(self, connection: &mut MultiplexedConnection, name: &str) {
        let [permits, queue, clients, meta] = keys(name);
        let (seconds, micros): (u64, u64) =
            redis::cmd("TIME").query_async(connection).await.expect("TIME");
        let now_us = seconds * 1_000_000 + micros;
        let now_ms = now_us / 1000;

        let mut clear = redis::cmd("DEL");
        clear.arg(&[&permits, &queue, &clients, &meta]);
        clear.query_async::<()>(connection).await.expect("DEL");

        let first_deadline = if self.expired { now_ms - LONG_MS } else { now_ms + 60_000 };
        let deadline = |number: usize| first_deadline + number as u64 / 100;
        let ticket = |number: usize| now_us - 60_000_000 + number as u64;
        add(connection, &permits, 0..self.size, deadline).await;
        add(connection, &queue, self.size..2 * self.size, ticket).await;

        let alive_until = if self.dead { now_ms - 1 } else { now_ms + LONG_MS };
        let mut books = redis::pipe();
        books.zadd(&clients, OWNER, alive_until);
        books.hset(&meta, "state", packed(now_us - 120_000_000, now_us, now_ms + LONG_MS));
        books.query_async::<()>(connection).await.expect("writing the books");
    }
}

async fn add(
    connection: &mut MultiplexedConnection,
    key: &str,
    numbers: std::ops::Range<usize>,
    score: impl Fn(usize) -> u64,
) {
    let numbers: Vec<usize> = numbers.collect();
    for chunk in numbers.chunks(PAIRS_PER_COMMAND) {
        let mut add = redis::cmd("ZADD");
        add.arg(key);
        for &number in chunk {
            add.arg(score(number)).arg(id(number));
        }
        add.query_async::<()>(connection).await.expect("ZADD");
    }
}
