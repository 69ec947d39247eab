use std::collections::HashSet;
use std::time::Duration;

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, within};

#[tokio::test]
async fn answers_on_both_addresses_and_counts_its_work() {
    let server = RedisServer::start().await;
    for url in [server.url(), server.unix_url()] {
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let _: () = redis::cmd("INCR").arg("count").query_async(&mut connection).await.unwrap();
    }
    assert_eq!(server.query::<u32>(&["GET", "count"]).await, 2);
    assert_eq!(server.keys().await, ["count"]);
    assert_eq!(server.calls("INCR").await, 2);
    server.reset_stats().await;
    assert_eq!(server.calls("INCR").await, 0);
}

#[tokio::test]
async fn counts_scripts_and_knows_the_slowest() {
    let server = RedisServer::start().await;
    server.slowlog_reset(0).await;
    assert_eq!(server.slowlog_max_usec().await, 0);

    let sha: String = server.query(&["SCRIPT", "LOAD", "return 1"]).await;
    server.cmd(&["EVALSHA", &sha, "0"]).await;
    server.cmd(&["EVALSHA", &sha, "0"]).await;
    server.cmd(&["EVAL", "for i = 1, 100000 do redis.sha1hex('') end", "0"]).await;

    assert_eq!(server.script_calls().await, 2);
    assert!(server.slowlog_max_usec().await > 1000);
}

#[tokio::test]
async fn keeps_its_port_while_dead_and_comes_back_empty() {
    let mut server = RedisServer::start().await;
    let (addr, pid) = (server.addr(), server.pid());
    server.cmd(&["SET", "key", "value"]).await;

    server.kill();
    let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    server.restart_empty().await;
    assert_eq!(server.addr(), addr);
    assert_ne!(server.pid(), pid);
    assert!(server.keys().await.is_empty());
    tokio::net::TcpStream::connect(addr).await.unwrap();
}

#[tokio::test]
async fn frozen_it_is_silent_and_thawed_it_answers() {
    let mut server = RedisServer::start().await;
    let mut connection = server.connection().await;
    server.freeze();
    let mut ping =
        Box::pin(async move { redis::cmd("PING").query_async::<String>(&mut connection).await });
    let silence = tokio::time::timeout(Duration::from_millis(50), &mut ping).await;
    assert!(silence.is_err());
    server.thaw();
    assert_eq!(within(PATIENCE, ping).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_frozen_server_is_killed_by_its_drop() {
    let mut server = RedisServer::start().await;
    server.freeze();
    let addr = server.addr();
    drop(server);
    tokio::net::TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn can_ask_for_a_password_and_do_without_tcp() {
    let server = RedisServer::builder()
        .tcp(false)
        .password("secret")
        .arg("--maxmemory")
        .arg("64mb")
        .start()
        .await;
    let limit: (String, u64) = server.query(&["CONFIG", "GET", "maxmemory"]).await;
    assert_eq!(limit.1, 64 << 20);
}

#[tokio::test]
#[should_panic(expected = "nonsense")]
async fn wrong_arguments_are_named() {
    RedisServer::builder().arg("--nonsense").start().await;
}

#[tokio::test]
async fn many_at_once_never_collide() {
    let starting: Vec<_> = (0..8).map(|_| tokio::spawn(RedisServer::start())).collect();
    let mut servers = Vec::new();
    for server in starting {
        servers.push(server.await.unwrap());
    }
    let ports: HashSet<_> = servers.iter().map(RedisServer::port).collect();
    assert_eq!(ports.len(), servers.len());
}
