//! The rights a Redis user needs: the list is enough, and nothing on it is superfluous.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{FromRedisValue, Value};
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{AcquireError, Client, ConnectError, StoreErrorKind};

/// As the README gives it.
pub(crate) const RIGHTS: &str = "~zsem:* &zsem:* +evalsha +script|load +subscribe +publish +time +persist \
                      +pexpireat +hget +hmget +hset +hdel +zadd +zcard +zmscore +zrange \
                      +zrangebyscore +zrank +zrem +zscore";

pub(crate) async fn give_rights<'a>(server: &RedisServer, rights: impl Iterator<Item = &'a str>) {
    // Redis 6.2 gives a new user all channels.
    let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", ">pw", "resetchannels"];
    words.extend(rights);
    server.cmd(&words).await;
    server.cmd(&["ACL", "LOG", "RESET"]).await;
}

/// The commands that were denied.
pub(crate) async fn denied(node: &RedisServer) -> Vec<String> {
    let log: Vec<HashMap<String, Value>> = node.query(&["ACL", "LOG"]).await;
    let commands = log.iter().map(|entry| String::from_redis_value_ref(&entry["object"]).unwrap());
    commands.collect()
}

/// A server from 7.2 on lists the library where that is allowed. Nothing depends on it. Redis 6.2 names the command
/// alone.
pub(crate) fn lists_library(command: &String) -> bool {
    matches!(&**command, "client|setinfo" | "client")
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn url_of(server: &RedisServer) -> String {
    format!("redis://app:pw@{}", server.addr())
}

/// Everything that can be done with a semaphore.
pub(crate) async fn use_it_all(server: &RedisServer, url: &str, name: &str) -> Result<(), Failure> {
    let client = Client::builder().url(url).label("a").connect().await?;
    let other = Client::builder().url(url).connect().await?;
    let lease = Duration::from_millis(600);
    let one = client.semaphore(name, 4).lease(lease).build()?;
    let two = other.semaphore(name, 4).lease(Duration::from_secs(1)).build()?;

    // Weighted permits, renewed and extended.
    let heavy = one.acquire(3).await?;
    heavy.extend(Duration::from_secs(60)).await?;
    // A client that has gone is forgotten.
    let gone = ["ZADD", &format!("zsem:{{{name}}}:clients"), "1", "0000000000000001"];
    server.cmd(&gone).await;
    let light = two.try_acquire(1).await?;

    // A waiter asks, is granted by another client, and is told by a wake-up.
    let mut messages = redis::Client::open(server.unix_url())?.get_async_pubsub().await?;
    messages.subscribe(format!("zsem:wake:{}", client.id())).await?;
    let waiter = tokio::spawn(one.acquire(1));
    // It asks every 200 ms, and so fails if that may not be.
    eventually("it has asked or failed", PATIENCE, async || {
        waiter.is_finished() || server.calls("zrank").await > 0
    })
    .await;
    if waiter.is_finished() {
        drop(waiter.await??);
        return Err("the limit was passed".into());
    }
    light.release().await?;
    tokio::time::timeout(Duration::from_millis(1_000), messages.on_message().next()).await?;
    let channels: Vec<String> = server.query(&["PUBSUB", "CHANNELS", "zsem:wake:*"]).await;
    if !channels.iter().any(|channel| channel.ends_with(&other.id().to_string())) {
        return Err("no wake-ups are heard".into());
    }
    let woken = waiter.await??;

    // The operator's side.
    let books = one.inspect().await?;
    assert_eq!(books.in_use, 4);
    one.kick(woken.id()).await?;
    one.kick_now(heavy.id()).await?;
    one.set_limit(9).await?;
    one.clear_limit().await?;
    drop((woken, heavy));
    client.shutdown().await?;
    other.shutdown().await?;
    Ok(())
}

/// Panics unless a page has a user with exactly these rights.
pub(crate) fn assert_page_has_user(page: &str, user: &str, rights: &[&str]) {
    let begin = format!("ACL SETUSER {user} reset on >secret resetchannels ");
    let mut wanted = rights.to_vec();
    wanted.sort_unstable();
    let users: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(&begin)).collect();
    let has = users.iter().any(|user| {
        let mut told: Vec<&str> = user.split_whitespace().collect();
        told.sort_unstable();
        told == wanted
    });
    assert!(has, "no {begin}{} among {users:#?}", rights.join(" "));
}

pub(crate) const WHERE_IT_RUNS: &str = include_str!("../../docs/where-it-runs.md");

#[test]
fn the_pages_give_the_user_of_one_server() {
    let rights: Vec<&str> = RIGHTS.split_whitespace().chain(["+info"]).collect();
    assert_page_has_user(include_str!("../../README.md"), "app", &rights);
    assert_page_has_user(WHERE_IT_RUNS, "app", &rights);
}

// Behaviour 41
#[tokio::test]
async fn a_user_with_the_listed_rights_can_do_everything() {
    let server = RedisServer::start().await;
    give_rights(&server, RIGHTS.split_whitespace()).await;
    within(PATIENCE, use_it_all(&server, &url_of(&server), "jobs")).await.unwrap();

    // Nor was anything denied in silence, but for the name a newer redis-server may be told.
    let log: Value = server.cmd(&["ACL", "LOG"]).await;
    let log = format!("{log:?}");
    assert!(!log.contains("object") || log.contains("client"), "{log}");
}

// Behaviour 41
#[tokio::test]
async fn without_any_one_of_the_rights_something_fails() {
    let server = RedisServer::start().await;
    for missing in RIGHTS.split_whitespace() {
        server.cmd(&["FLUSHALL"]).await;
        server.cmd(&["SCRIPT", "FLUSH"]).await;
        server.reset_stats().await;
        give_rights(&server, RIGHTS.split_whitespace().filter(|right| *right != missing)).await;
        let outcome = within(PATIENCE, use_it_all(&server, &url_of(&server), "jobs")).await;
        println!("{missing}: {:?}", outcome.as_ref().map_err(ToString::to_string));
        assert!(outcome.is_err(), "{missing} is superfluous");
    }
}

// Behaviour 41
#[tokio::test]
async fn the_rights_end_at_the_prefix() {
    let server = RedisServer::start().await;
    give_rights(&server, RIGHTS.split_whitespace()).await;
    let url = format!("redis://app:pw@{}", server.addr());
    let client = Client::builder().url(url).prefix("mine:").connect().await.unwrap();
    let semaphore = client.semaphore("jobs", 1).build().unwrap();
    let error = within(PATIENCE, semaphore.acquire(1)).await.unwrap_err();
    match error {
        AcquireError::Refused(error) => {
            assert_eq!(error.kind(), StoreErrorKind::NotPermitted, "{error}");
        }
        other => panic!("expected Refused, got {other:?}"),
    }
}

// Behaviour 41
#[tokio::test]
async fn a_database_other_than_the_first_needs_one_right_more() {
    let server = RedisServer::start().await;
    let url = format!("redis://app:pw@{}/2", server.addr());
    give_rights(&server, RIGHTS.split_whitespace()).await;
    match within(PATIENCE, Client::connect(&url)).await.unwrap_err() {
        ConnectError::Store(error) => {
            // The redis crate keeps the code of this one to itself.
            assert!(error.is_final() && error.to_string().contains("select"), "{error}");
        }
        other => panic!("expected Store, got {other:?}"),
    }
    give_rights(&server, RIGHTS.split_whitespace().chain(["+select"])).await;
    let client = within(PATIENCE, Client::connect(&url)).await.unwrap();
    let permit = client.semaphore("jobs", 1).build().unwrap().acquire(1).await.unwrap();
    permit.release().await.unwrap();
}

// Behaviour 41
#[tokio::test]
async fn grants_on_replicas_need_one_right_more() {
    let (server, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.cmd(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]).await;
    let acquire = async || {
        let client = within(PATIENCE, Client::connect(url_of(&server))).await.unwrap();
        let semaphore = client.semaphore("jobs", 1).replicated(1).build().unwrap();
        within(PATIENCE, semaphore.acquire(1)).await
    };
    give_rights(&server, RIGHTS.split_whitespace()).await;
    match acquire().await {
        Err(AcquireError::Refused(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::NotPermitted, "{error}");
            assert!(error.to_string().contains("wait"), "{error}");
        }
        other => panic!("expected Refused, got {other:?}"),
    }
    give_rights(&server, RIGHTS.split_whitespace().chain(["+wait", "+info"])).await;
    acquire().await.unwrap().release().await.unwrap();
    let denied = denied(&server).await;
    assert!(denied.iter().all(lists_library), "{denied:?}");
}
