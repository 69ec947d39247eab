//! What one node has of all permits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, cmd};
use test_support::ledger::monotonic_nanos;
use test_support::redis_server::RedisServer;

/// All permits of a node, and its clock.
pub struct Copy {
    /// By name and id: when the lease ends, in milliseconds of the node's clock.
    pub permits: BTreeMap<String, HashMap<String, u64>>,
    /// Those names that were used, as far as the node knows.
    pub known: BTreeSet<String>,
    clock: Clock,
}

impl Copy {
    /// Reads a node that takes no writes.
    pub async fn of(node: &RedisServer) -> Self {
        let mut connection = node.connection().await;
        let () = ask(&mut connection, &["READONLY"]).await;
        let clock = Clock::read(&mut connection).await;
        let keys: Vec<String> = ask(&mut connection, &["KEYS", "zsem:*"]).await;
        let mut copy = Self { permits: BTreeMap::new(), known: BTreeSet::new(), clock };
        for key in keys {
            let (tag, kind) = key.rsplit_once(':').expect("a key of a name");
            let name = tag.trim_start_matches("zsem:{").trim_end_matches('}');
            match kind {
                "permits" => {
                    let words = ["ZRANGE", &key, "0", "-1", "WITHSCORES"];
                    let permits: Vec<(String, f64)> = ask(&mut connection, &words).await;
                    let until = permits.into_iter().map(|(id, score)| (id, score as u64));
                    copy.permits.insert(name.to_owned(), until.collect());
                }
                "meta" => drop(copy.known.insert(name.to_owned())),
                _ => {}
            }
        }
        copy
    }

    /// When the lease of a permit ends here, if the permit is here.
    pub fn end_of(&self, name: &str, id: &str) -> Option<u64> {
        self.permits.get(name)?.get(id).copied()
    }

    /// All permits whose leases have not ended: name, id and end.
    pub fn held(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let all = self.permits.iter().flat_map(|(name, permits)| {
            permits.iter().map(move |(id, &end)| (name.as_str(), id.as_str(), end))
        });
        all.filter(|&(_, _, end)| end > self.clock.ms)
    }

    /// The latest instant that may be that millisecond of the node's clock.
    pub fn latest(&self, ms: u64) -> u64 {
        self.clock.after + (ms + 1).saturating_sub(self.clock.ms) * 1_000_000
    }

    /// The earliest one.
    pub fn earliest(&self, ms: u64) -> u64 {
        self.clock.before + ms.saturating_sub(self.clock.ms + 1) * 1_000_000
    }
}

/// A reading of a node's clock, between two of CLOCK_MONOTONIC.
struct Clock {
    before: u64,
    ms: u64,
    after: u64,
}

impl Clock {
    async fn read(connection: &mut MultiplexedConnection) -> Self {
        let before = monotonic_nanos();
        let (seconds, micros): (u64, u64) = ask(connection, &["TIME"]).await;
        Self { before, ms: seconds * 1_000 + micros / 1_000, after: monotonic_nanos() }
    }
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    let answer = cmd(words[0]).arg(&words[1..]).query_async(connection).await;
    answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}
