//! The rights of the user: each command that a semaphore needs is tried.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value, cmd};

use crate::failure::Failure;
use crate::status::Status;

use super::finding::Finding;

/// The commands with their arguments. `K` stands for a key of hashes, `Z` for one of sorted sets, `C` for a channel.
/// The last ones remove what the others have written.
const NEEDED: [(&str, &str); 21] = [
    ("info", "INFO server"),
    ("evalsha", "EVALSHA 0000000000000000000000000000000000000000 0"),
    ("script|load", "SCRIPT LOAD return"),
    ("publish", "PUBLISH C check"),
    ("time", "TIME"),
    ("hget", "HGET K a"),
    ("hmget", "HMGET K a"),
    ("pexpireat", "PEXPIREAT K 1"),
    ("hset", "HSET K a 1"),
    ("hdel", "HDEL K b"),
    ("zadd", "ZADD Z 1 a"),
    ("zcard", "ZCARD Z"),
    ("zmscore", "ZMSCORE Z a"),
    ("zrange", "ZRANGE Z 0 0"),
    ("zrangebyscore", "ZRANGEBYSCORE Z 0 1"),
    ("zrank", "ZRANK Z a"),
    ("zrem", "ZREM Z b"),
    ("zscore", "ZSCORE Z a"),
    ("persist", "PERSIST K"),
    ("hdel", "HDEL K a"),
    ("zrem", "ZREM Z a"),
];

pub(crate) async fn examine(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let (mut missing, mut places) = (Vec::new(), BTreeMap::<String, Vec<&str>>::new());
    for (right, line) in NEEDED {
        match refusal(connection, &command(line, prefix)).await? {
            None => {}
            Some(Refused::Command) if right == "info" => {
                let told = "+info is missing: failovers are noticed later, and failover_grace has no effect";
                findings.push(Finding::warn("rights", told));
            }
            Some(Refused::Command) if !missing.contains(&right) => missing.push(right),
            Some(Refused::Command) => {}
            Some(Refused::Place(what)) => places.entry(what).or_default().push(right),
        }
    }
    for (what, mut refused) in places {
        refused.sort_unstable();
        refused.dedup();
        let told = format!("{what}: {}; allow ~{prefix}* and &{prefix}*", refused.join(" "));
        findings.push(Finding::fail("rights", told));
    }
    if !missing.is_empty() {
        let rights: Vec<String> = missing.iter().map(|right| format!("+{right}")).collect();
        let told = format!("the user may not run what is needed; add {}", rights.join(" "));
        findings.push(Finding::fail("rights", told));
    } else if !findings.iter().any(|finding| finding.is_of("rights")) {
        findings.push(Finding::ok("rights", "the user may run all that is needed"));
    }
    Ok(())
}

/// What a user may not do.
enum Refused {
    Command,
    /// A key or a channel.
    Place(String),
}

fn command(line: &str, prefix: &str) -> Cmd {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap_or_default());
    for word in words {
        match word {
            "K" => command.arg(format!("{prefix}{{zsem-check}}:hash")),
            "Z" => command.arg(format!("{prefix}{{zsem-check}}:sorted")),
            "C" => command.arg(format!("{prefix}wake:zsem-check")),
            word => command.arg(word),
        };
    }
    command
}

/// Returns what the user may not do. Other errors than that show that it may.
async fn refusal(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Option<Refused>, Failure> {
    let answer: Result<Value, RedisError> = command.query_async(connection).await;
    match answer {
        Err(error) if error.code() == Some("NOPERM") => {
            let what = error.detail().unwrap_or("NOPERM").to_owned();
            let is_command = what.contains("to run the") || what.contains("command");
            Ok(Some(if is_command { Refused::Command } else { Refused::Place(what) }))
        }
        Err(error) if error.is_io_error() || error.is_connection_dropped() => {
            Err(Failure::new(Status::AWAY, error))
        }
        _ => Ok(None),
    }
}
