//! What a [`RedisServer`] says about its own work.

use redis::Value;

use crate::redis_server::RedisServer;

impl RedisServer {
    /// Zeroes what [`calls`](Self::calls) and [`script_calls`](Self::script_calls) count.
    pub async fn reset_stats(&self) {
        self.cmd(&["CONFIG", "RESETSTAT"]).await;
    }

    /// How often `command` ran, calls from inside a script included.
    pub async fn calls(&self, command: &str) -> u64 {
        self.count_of(command, "calls").await
    }

    /// One of the numbers that INFO tells of a command; 0 if it was never called.
    async fn count_of(&self, command: &str, number: &str) -> u64 {
        let command = format!("cmdstat_{}:", command.to_lowercase());
        let info: String = self.query(&["INFO", "commandstats"]).await;
        let numbers = info.lines().find_map(|line| line.strip_prefix(&command));
        numbers
            .and_then(|told| {
                told.split(',').find_map(|told| told.strip_prefix(number)?.strip_prefix('='))
            })
            .map_or(0, |count| count.parse().expect("INFO counts in integers"))
    }

    /// How many scripts were called by their hash, those answered NOSCRIPT included.
    pub async fn script_calls(&self) -> u64 {
        self.calls("evalsha").await
    }

    /// How many messages of a kind this node of a cluster has sent over the cluster bus: `publish`,
    /// `publishshard`. A command of the same name makes one for each node that gets it.
    pub async fn bus_messages(&self, kind: &str) -> u64 {
        let wanted = format!("cluster_stats_messages_{kind}_sent:");
        let info: String = self.query(&["CLUSTER", "INFO"]).await;
        info.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map_or(0, |sent| sent.trim().parse().expect("CLUSTER INFO counts in integers"))
    }

    /// How many calls of a script by its hash did not fail.
    pub async fn script_calls_that_ran(&self) -> u64 {
        self.script_calls().await - self.count_of("evalsha", "failed_calls").await
    }

    /// How often a script was loaded.
    pub async fn script_loads(&self) -> u64 {
        // Redis 6.2 counts by the command alone.
        self.calls("script|load").await + self.calls("script").await
    }

    /// Starts the slow log anew, keeping the last 100 000 commands that took `usec` or longer.
    pub async fn slowlog_reset(&self, usec: u64) {
        let threshold = usec.to_string();
        self.cmd(&["CONFIG", "SET", "slowlog-log-slower-than", &threshold]).await;
        self.cmd(&["CONFIG", "SET", "slowlog-max-len", "100000"]).await;
        self.cmd(&["SLOWLOG", "RESET"]).await;
    }

    /// The microseconds that the slowest script in the slow log took; 0 if it has none.
    pub async fn slowlog_max_usec(&self) -> u64 {
        let entries: Vec<Vec<Value>> = self.query(&["SLOWLOG", "GET", "-1"]).await;
        entries
            .iter()
            .filter_map(|entry| match entry.as_slice() {
                [_, _, Value::Int(usec), Value::Array(words), ..] if is_script(words) => {
                    u64::try_from(*usec).ok()
                }
                _ => None,
            })
            .max()
            .unwrap_or(0)
    }
}

fn is_script(words: &[Value]) -> bool {
    matches!(words.first(), Some(Value::BulkString(name))
        if name.eq_ignore_ascii_case(b"EVALSHA") || name.eq_ignore_ascii_case(b"EVAL"))
}
