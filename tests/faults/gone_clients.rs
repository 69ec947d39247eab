//! A name that never idles forgets the clients that have gone, with all that was kept about them.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use zset_semaphore::{Client, ZSetSemaphore};

use crate::common::connect::connect;
use test_support::redis_server::RedisServer;

const CLIENTS: &str = "zsem:{s}:clients";
const META: &str = "zsem:{s}:meta";
const LEASE: Duration = Duration::from_secs(30);

fn semaphore(client: &Client, label: &str, lease: Duration) -> ZSetSemaphore {
    client.semaphore("s", 5).label(label).lease(lease).build().unwrap()
}

/// Clients that were last heard of two hours ago, with an epoch and a label each.
async fn leave_behind(server: &RedisServer, count: usize) {
    let mut connection: MultiplexedConnection = server.connection().await;
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await.unwrap();
    let then = (seconds - 2 * 3600) * 1000;
    let mut all = redis::pipe();
    for n in 0..count {
        let id = format!("{n:016x}");
        all.cmd("ZADD").arg(CLIENTS).arg(then).arg(&id).ignore();
        all.cmd("HSET").arg(META).arg(&id).arg(1).arg(format!("l:{id}")).arg("5 gone").ignore();
    }
    all.query_async::<()>(&mut connection).await.unwrap();
}

/// How many clients are known, and how many fields there are in the books.
async fn known(server: &RedisServer) -> (u64, u64) {
    (server.query(&["ZCARD", CLIENTS]).await, server.query(&["HLEN", META]).await)
}

// Behaviour 63
#[tokio::test]
async fn clients_that_have_gone_are_forgotten_by_turns_that_move_the_end_of_the_keys() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let _held = semaphore(&client, "mine", LEASE).acquire(1).await.unwrap();
    let before = known(&server).await;
    leave_behind(&server, 100).await;
    for n in 1..=7 {
        // As time does, but at once: what is granted outlives all the keys.
        let later = semaphore(&client, "mine", LEASE + Duration::from_secs(15 * n));
        drop(later.acquire(1).await.unwrap());
    }
    assert_eq!(known(&server).await, before, "7 times 16 are more than 100");
    let label: String = server.query(&["HGET", META, &format!("l:{}", client.id())]).await;
    assert_eq!(label, "5 mine");
}

// Behaviour 63
#[tokio::test]
async fn clients_that_come_and_go_do_not_pile_up_though_nobody_waits_and_no_end_moves() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let _held = semaphore(&client, "", LEASE * 100).acquire(1).await.unwrap();
    leave_behind(&server, 100).await;
    for _ in 0..7 {
        let stranger = connect(server.url()).await;
        drop(semaphore(&stranger, "new", LEASE).acquire(1).await.unwrap());
        stranger.shutdown().await.unwrap();
    }
    // Each client has declared its limit: the strangers, and the one that holds.
    assert_eq!(server.query::<u64>(&["ZCARD", CLIENTS]).await, 8);
    let fields: Vec<String> = server.query(&["HKEYS", META]).await;
    let gone = fields.iter().filter(|field| field.contains("000000000000")).count();
    assert_eq!(gone, 0, "of {} fields", fields.len());
}

// Behaviour 63
#[tokio::test]
async fn turns_that_write_nothing_about_clients_do_not_look_for_those_that_have_gone() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let semaphore = semaphore(&client, "mine", LEASE);
    drop(semaphore.acquire(1).await.unwrap());
    leave_behind(&server, 10).await;
    server.reset_stats().await;
    for _ in 0..100 {
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
    }
    assert_eq!(server.calls("zrangebyscore").await, 0);
}
