//! What the server says of itself: version, role, eviction, persistence, clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

use crate::failure::Failure;
use crate::status::Status;
use crate::times::short;

use super::finding::Finding;

/// A difference of clocks that is worth a warning. Leases are counted by the server alone, but after a failover another
/// clock counts.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// Schemes of URLs that name one server, as the redis crate knows them.
const SCHEMES: [(&str, &str); 6] = [
    ("redis://", "redis://"),
    ("rediss://", "rediss://"),
    ("valkey://", "redis://"),
    ("valkeys://", "rediss://"),
    ("unix://", "unix://"),
    ("redis+unix://", "redis+unix://"),
];

/// Returns a client of the redis crate, if the URL names one server.
pub(crate) fn direct(url: &str) -> Option<redis::Client> {
    let (rest, scheme) = SCHEMES
        .iter()
        .find_map(|(ours, theirs)| url.strip_prefix(ours).map(|rest| (rest, theirs)))?;
    redis::Client::open(format!("{scheme}{rest}")).ok()
}

pub(crate) async fn connect(
    client: &redis::Client,
    patience: Duration,
) -> Result<MultiplexedConnection, Failure> {
    match tokio::time::timeout(patience, client.get_multiplexed_async_connection()).await {
        Ok(connection) => connection.map_err(|error| Failure::new(Status::AWAY, error)),
        Err(_) => Err(Failure::new(Status::AWAY, "no connection in time")),
    }
}

/// # Errors
///
/// The server is a node of a cluster. It serves some names even under the URL of one server, but not all.
pub(crate) async fn examine(
    connection: &mut MultiplexedConnection,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let info: RedisResult<String> = cmd("INFO").query_async(connection).await;
    match info {
        Ok(info) if is_of_cluster(&info) => {
            let told = "this is a node of a cluster: name it by redis+cluster://";
            return Err(Failure::new(Status::CONFIG, told));
        }
        Ok(info) => {
            findings.extend([version(&info), role(&info), eviction(&info), persistence(&info)])
        }
        Err(error) => findings.push(Finding::warn("version", format!("INFO is refused: {error}"))),
    }
    let asked = SystemTime::now();
    let time: RedisResult<(u64, u64)> = cmd("TIME").query_async(connection).await;
    if let Ok((seconds, micros)) = time {
        let server = Duration::from_secs(seconds) + Duration::from_micros(micros);
        findings.push(clock(asked, SystemTime::now(), server));
    }
    Ok(())
}

/// Removes what a semaphore that nobody uses any more has left. It would expire within a minute or so.
pub(crate) async fn forget(connection: &mut MultiplexedConnection, prefix: &str, name: &str) {
    for key in ["permits", "queue", "clients", "meta"] {
        let key = format!("{prefix}{{{name}}}:{key}");
        // `DEL` is no right that a semaphore needs.
        let _: RedisResult<u64> = cmd("PEXPIREAT").arg(key).arg(1).query_async(connection).await;
    }
}

fn is_of_cluster(info: &str) -> bool {
    field(info, "redis_mode").or_else(|| field(info, "server_mode")) == Some("cluster")
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn version(info: &str) -> Finding {
    let valkey = field(info, "valkey_version").map(|version| ("Valkey", version, (8, 0)));
    let redis = || field(info, "redis_version").map(|version| ("Redis", version, (6, 2)));
    let Some((engine, version, least)) = valkey.or_else(redis) else {
        return Finding::warn("version", "the server tells no version");
    };
    let told = format!("{engine} {version}");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let present = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match present >= least {
        true => Finding::ok("version", told),
        false => {
            Finding::warn("version", format!("{told}; promised from {}.{} on", least.0, least.1))
        }
    }
}

fn role(info: &str) -> Finding {
    match field(info, "role") {
        Some("master") => Finding::ok("role", "a primary"),
        Some("slave") => {
            let of = |name| field(info, name).unwrap_or("?");
            let primary = format!("{}:{}", of("master_host"), of("master_port"));
            Finding::fail(
                "role",
                format!("this is a replica, which takes no writes; its primary is {primary}"),
            )
        }
        other => Finding::warn("role", format!("the role is {}", other.unwrap_or("not told"))),
    }
}

fn eviction(info: &str) -> Finding {
    match field(info, "maxmemory_policy") {
        Some("noeviction") => Finding::ok("eviction", "maxmemory-policy is noeviction"),
        Some(policy) => {
            let told = format!(
                "maxmemory-policy is {policy}: keys of semaphores may be evicted; set noeviction"
            );
            Finding::warn("eviction", told)
        }
        None => Finding::warn("eviction", "the server does not tell its maxmemory-policy"),
    }
}

fn persistence(info: &str) -> Finding {
    let told = match (field(info, "aof_enabled"), field(info, "rdb_last_bgsave_status")) {
        (Some("1"), _) => "an append-only file; not needed",
        (Some(_), _) => "no append-only file; not needed, since clients put their permits back",
        (None, _) => "not told; not needed",
    };
    Finding::ok("persistence", told)
}

/// The server's time lies between the two instants, if the clocks agree.
fn clock(before: SystemTime, after: SystemTime, server: Duration) -> Finding {
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (ahead, behind) =
        (server.saturating_sub(since(after)), since(before).saturating_sub(server));
    match ahead.max(behind) {
        off if off >= CLOCKS_DIFFER => {
            let way = if ahead > behind { "ahead of" } else { "behind" };
            Finding::warn(
                "clock",
                format!("the server's is {} {way} this one; set NTP on both", short(off)),
            )
        }
        _ => Finding::ok("clock", "that of the server agrees with this one"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_url_of_one_server_leads_to_it_and_no_other_does() {
        for url in ["redis://h", "rediss://h:1/2", "valkey://u:p@h", "unix:///tmp/s"] {
            assert!(direct(url).is_some(), "{url}");
        }
        for url in ["redis+cluster://h", "redis+sentinel://h/m", "http://h", ""] {
            assert!(direct(url).is_none(), "{url}");
        }
    }

    #[test]
    fn versions_before_those_that_are_promised_are_a_warning() {
        for (info, level) in [
            ("redis_version:7.0.15\r\n", Level::Ok),
            ("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n", Level::Ok),
            ("redis_version:6.2.14\r\n", Level::Ok),
            ("redis_version:6.0.16\r\n", Level::Warn),
            ("redis_version:7.2.4\r\nvalkey_version:7.2.4\r\n", Level::Warn),
            ("", Level::Warn),
        ] {
            assert_eq!(version(info).level, level, "{info}");
        }
    }

    #[test]
    fn a_clock_is_off_by_what_the_round_trip_cannot_explain() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let level = |server| clock(at(100), at(103), Duration::from_secs(server)).level;
        assert_eq!(
            [98, 99, 100, 103, 104, 113].map(level),
            [Level::Warn, Level::Warn, Level::Ok, Level::Ok, Level::Warn, Level::Warn]
        );
    }
}
