//! `zsem check`: each thing that is wrong is told in one line.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;
use test_support::reserved_port::ReservedPort;
use test_support::wait::eventually;

use crate::program::{End, LONG, Program, zsem};

async fn check(url: &str) -> End {
    Program::of(&mut zsem(url, ["check"])).end().await
}

/// The lines of a level other than `ok`.
fn complaints(end: &End) -> Vec<String> {
    let lines = end.stdout.lines().skip(1);
    lines.filter(|line| !line.starts_with("ok")).map(str::to_owned).collect()
}

fn complains(end: &End, level: &str, words: &[&str]) {
    let complaints = complaints(end);
    let [line] = &complaints[..] else { panic!("{end:?}") };
    assert!(line.starts_with(level), "{line}");
    for word in words {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

#[tokio::test]
async fn a_server_as_it_should_be_has_no_complaint_and_nothing_is_left_there() {
    let server = RedisServer::builder().arg("--maxmemory-policy").arg("noeviction").start().await;
    let end = check(&server.url()).await;
    assert_eq!((end.status, complaints(&end), end.stderr.as_str()), (0, vec![], ""));
    for what in
        ["version", "role", "eviction", "persistence", "clock", "rights", "round trip", "wake-ups"]
    {
        assert!(end.stdout.contains(what), "{what}: {end:?}");
    }
    let left: Vec<String> = server.query(&["KEYS", "*"]).await;
    assert!(left.is_empty(), "{left:?}");
    let end = Program::start(&server, "check --json jobs").end().await;
    let findings: serde_json::Value = serde_json::from_str(&end.stdout).unwrap();
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["level"] == "ok"));
}

#[tokio::test]
async fn no_redis_and_a_wrong_password() {
    let port = ReservedPort::any();
    let end = check(&format!("redis://{}", port.addr())).await;
    assert_eq!(end.status, 69);
    complains(&end, "fail", &["connection", "127.0.0.1"]);

    let server = RedisServer::builder().password("secret").start().await;
    let end = check(&format!("redis://:wrong@{}", server.addr())).await;
    assert_eq!(end.status, 77);
    complains(&end, "fail", &["connection", "WRONGPASS"]);
}

const RIGHTS: &str = "~zsem:* &zsem:* +evalsha +script|load +subscribe +publish +time +persist +pexpireat +hget \
                      +hmget +hset +hdel +zadd +zcard +zmscore +zrange +zrangebyscore +zrank +zrem +zscore +info";

async fn check_with(server: &RedisServer, rights: &[&str]) -> End {
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">pw", "resetchannels"];
    server.cmd(&[&user, rights].concat()).await;
    check(&format!("redis://app:pw@{}", server.addr())).await
}

#[tokio::test]
async fn the_rights_that_semaphores_need_are_enough_to_leave_nothing() {
    let server = RedisServer::start().await;
    let rights: Vec<&str> = RIGHTS.split_whitespace().collect();
    let end = check_with(&server, &rights).await;
    assert_eq!((end.status, complaints(&end)), (0, vec![]), "{end:?}");
    let left: Vec<String> = server.query(&["KEYS", "*"]).await;
    assert!(left.is_empty(), "{left:?}");
    // A name that the caller has given may be in use by others.
    let end = Program::start(&server, "check jobs").end().await;
    assert_eq!(end.status, 0);
    let left: Vec<String> = server.query(&["KEYS", "*"]).await;
    assert!(left.contains(&"zsem:{jobs}:meta".to_owned()), "{left:?}");
}

#[tokio::test]
async fn keys_or_channels_that_are_refused_are_told_in_one_line() {
    let server = RedisServer::start().await;
    for (ours, others, word) in
        [("~zsem:*", "~other:*", "hget hmget hset"), ("&zsem:*", "&other:*", "publish")]
    {
        let rights = RIGHTS.replace(ours, others);
        let end = check_with(&server, &rights.split_whitespace().collect::<Vec<_>>()).await;
        assert_eq!(end.status, 1, "{end:?}");
        complains(&end, "fail", &["rights", word, "allow ~zsem:* and &zsem:*"]);
    }
}

#[tokio::test]
async fn a_server_without_memory_fails_the_semaphore_and_not_the_connection() {
    let server = RedisServer::start().await;
    server.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let end = check(&server.url()).await;
    assert_eq!(end.status, 77, "{end:?}");
    complains(&end, "fail", &["semaphore", "OOM"]);
}

#[tokio::test]
async fn each_right_that_lacks_is_named() {
    let server = RedisServer::start().await;
    let all: Vec<&str> = RIGHTS.split_whitespace().collect();
    for right in all.iter().filter(|right| right.starts_with('+')) {
        if ["+subscribe", "+info"].contains(right) {
            continue;
        }
        let others: Vec<&str> = all.iter().filter(|other| *other != right).copied().collect();
        let end = check_with(&server, &others).await;
        // Without some of them not even a connection is set up: that is told, and why.
        assert_ne!(end.status, 0, "{right}: {end:?}");
        assert_eq!(complaints(&end).len(), 1, "{right}: {end:?}");
        let word = right.trim_start_matches('+').split('|').next().unwrap();
        assert!(complaints(&end)[0].contains(word), "{right}: {end:?}");
    }
}

#[tokio::test]
async fn a_policy_that_evicts_is_a_warning() {
    let server = RedisServer::start().await;
    server.cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let end = check(&server.url()).await;
    assert_eq!(end.status, 0);
    complains(&end, "warn", &["allkeys-lru", "set noeviction"]);
}

#[tokio::test]
async fn a_replica_is_told_with_its_primary() {
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    let port = primary.port().to_string();
    replica.cmd(&["REPLICAOF", "127.0.0.1", &port]).await;
    eventually("it is a replica", LONG, async || {
        let info: String = replica.query(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    })
    .await;
    let end = check(&replica.url()).await;
    assert_eq!(end.status, 1);
    complains(&end, "fail", &["replica", &format!("127.0.0.1:{port}")]);
}

#[tokio::test]
async fn a_cluster_is_told_with_the_url_that_is_right_and_passes_under_that() {
    let cluster = RedisCluster::start(3).await;
    // A node serves some names under this URL, too.
    for name in ["a", "b", "c", "d", "e", "f"] {
        let end = Program::of(&mut zsem(&cluster.nodes[0].url(), ["check", name])).end().await;
        assert_eq!(end.status, 78, "{end:?}");
        complains(&end, "fail", &["redis+cluster://"]);
    }
    let end = check(&cluster.url()).await;
    assert_eq!((end.status, complaints(&end)), (0, vec![]), "{end:?}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_with_its_difference() {
    let clock = test_support::shifted_clock::ShiftedClock::ahead_by(10_000);
    let server = RedisServer::builder().clock(&clock).start().await;
    let end = check(&server.url()).await;
    assert_eq!(end.status, 0);
    complains(&end, "warn", &["clock", "ahead"]);
}

#[tokio::test]
async fn a_check_disturbs_neither_the_next_one_nor_a_semaphore_in_use() {
    let server = RedisServer::builder().arg("--maxmemory-policy").arg("noeviction").start().await;
    for line in ["check", "check jobs", "check jobs"] {
        let end = Program::start(&server, line).end().await;
        assert_eq!((end.status, complaints(&end)), (0, vec![]), "{line}: {end:?}");
    }
    let jobs = crate::program::semaphore(&server, "jobs", 1).await;
    let _held = jobs.acquire(1).await.unwrap();
    let end = Program::start(&server, "check jobs").end().await;
    assert_eq!((end.status, complaints(&end)), (0, vec![]), "{end:?}");
    assert_eq!(jobs.inspect().await.unwrap().in_use, 1);
}
