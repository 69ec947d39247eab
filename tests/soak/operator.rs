//! The operator: commands and words to the server past all proxies, each told to the witness.

use std::time::Duration;

use fastrand::Rng;
use redis::FromRedisValue;
use zset_semaphore::{Client, KickOutcome, ZSetSemaphore};

use crate::book::{Kick, Loss};
use crate::names::{limit_of, longest_lease_of};
use crate::witness::Witness;
use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;

/// How long an operator's word may take, with the server paused or frozen.
const WORD: Duration = Duration::from_secs(20);

/// Speaks to the server past all proxies.
pub struct Operator {
    redis: redis::Client,
    client: Client,
}

impl Operator {
    pub fn new(server: &RedisServer) -> Self {
        let redis = redis::Client::open(server.unix_url()).expect("the url of this server");
        let client = Client::builder()
            .url(server.unix_url().replace("redis+unix:", "unix:"))
            .call_timeout(WORD)
            .build()
            .expect("the url of this server");
        Self { redis, client }
    }

    /// Its commands go to the first node, its words about names to where these are.
    pub fn of_cluster(cluster: &RedisCluster) -> Self {
        let redis = redis::Client::open(cluster.nodes[0].unix_url()).expect("the url of a node");
        let client = Client::builder().url(cluster.url()).call_timeout(WORD).build();
        Self { redis, client: client.expect("the url of this cluster") }
    }

    /// None if the server was killed or replaced meanwhile.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(WORD))
            .set_response_timeout(Some(WORD));
        let connecting = self.redis.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await.ok()?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }

    pub fn semaphore(&self, name: &str) -> ZSetSemaphore {
        let builder = self.client.semaphore(name, limit_of(name)).lease(longest_lease_of(name));
        builder.build().expect("a name that is allowed")
    }

    /// Sets or clears the override, and tells the witness what may be in force meanwhile.
    pub async fn move_limit(&self, witness: &Witness, name: &str, limit: Option<u32>) {
        let most = limit.unwrap_or(limit_of(name));
        let now = witness.state().limit_now(name);
        witness.state().limit(name, now.max(most));
        let semaphore = self.semaphore(name);
        let done = match limit {
            Some(limit) => semaphore.set_limit(limit).await,
            None => semaphore.clear_limit().await,
        };
        // Else it is not known, and the higher one may be in force.
        if done.is_ok() {
            witness.state().limit(name, most);
        }
    }

    /// Deletes one of the four keys; `permits` and `meta` are losses of data.
    pub async fn delete(&self, witness: &Witness, name: &str, key: &str) {
        let from = monotonic_nanos();
        if key == "meta" {
            witness.state().lost_meta(name);
        }
        let _: Option<i64> = self.command(&["DEL", &format!("zsem:{{{name}}}:{key}")]).await;
        match key {
            "permits" => witness.state().lost(name, loss_since(from)),
            // It may have come to pass at any instant of these.
            "meta" => witness.state().lost_meta(name),
            _ => {}
        }
    }

    /// Makes the server evict a key or two of its choice.
    pub async fn evict(&self, witness: &Witness) -> bool {
        let evicted = async || {
            let info: String = self.command(&["INFO", "stats"]).await.unwrap_or_default();
            info.lines()
                .find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse::<u64>().ok())
        };
        let memory: String = self.command(&["INFO", "memory"]).await.unwrap_or_default();
        let used = memory
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
        let (Some(used), Some(before)) = (used, evicted().await) else { return false };
        let from = monotonic_nanos();
        let names = witness.state().names();
        for name in &names {
            witness.state().lost_meta(name);
        }
        let most = (used - 300).to_string();
        let tight: Option<()> = self
            .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", &most])
            .await;
        let _: Option<()> = self.command(&["PING"]).await;
        let mut wide: Option<()> = None;
        while wide.is_none() {
            wide = self.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        for name in &names {
            witness.state().lost(name, loss_since(from));
        }
        tight.is_some() && evicted().await.is_some_and(|after| after > before)
    }

    /// Kicks some holder; whether there was one.
    pub async fn kick_one(
        &self,
        witness: &Witness,
        name: &str,
        at_once: bool,
        random: &mut Rng,
    ) -> bool {
        let semaphore = self.semaphore(name);
        let Ok(books) = semaphore.inspect().await else { return false };
        let Some(id) = random.choice(&books.holders).map(|holder| holder.id) else { return false };
        let from = monotonic_nanos();
        let tell = |hit, to| {
            let kick = Kick { from, to, hit, at_once };
            witness.state().kicked(name, &id.to_string(), kick);
        };
        // Told before it comes to pass: what it may end is not certain from here on.
        tell(false, u64::MAX);
        let outcome = if at_once { semaphore.kick_now(id).await } else { semaphore.kick(id).await };
        let hit = matches!(outcome, Ok(KickOutcome::Marked | KickOutcome::Removed));
        tell(hit, monotonic_nanos());
        hit
    }
}

pub fn loss_since(from: u64) -> Loss {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = now.expect("a time after 1970").as_micros();
    Loss {
        from,
        to: monotonic_nanos(),
        to_us: u64::try_from(micros).expect("a time before 500 000"),
    }
}
