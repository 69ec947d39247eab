//! How a connection is set up: in few round trips, and with a name that operators see.

use std::time::Duration;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms};
use tokio::time::Instant;
use zset_semaphore::Client;

/// The connections of this crate, as the server lists them.
async fn listed(server: &RedisServer) -> Vec<String> {
    let list: String = server.query(&["CLIENT", "LIST"]).await;
    let ours = |line: &&str| line.contains(" name=zset-semaphore:");
    list.lines().filter(ours).map(str::to_owned).collect()
}

/// Waits until the only connection of this crate has this name.
async fn is_named(server: &RedisServer, name: &str) {
    let name = format!(" name={name} ");
    eventually(
        &name,
        PATIENCE,
        async || matches!(&listed(server).await[..], [line] if line.contains(&name)),
    )
    .await;
}

// Behaviour 77
#[tokio::test]
async fn connections_are_named_after_the_label_or_the_id_of_their_client() {
    let server = RedisServer::start().await;
    for (label, name) in [
        ("chat-gateway-3", "zset-semaphore:chat-gateway-3:turns"),
        ("host é 1", "zset-semaphore:host___1:turns"),
    ] {
        let client = Client::builder().url(server.url()).label(label).connect().await.unwrap();
        is_named(&server, name).await;
        client.shutdown().await.unwrap();
    }
    let client = Client::connect(server.url()).await.unwrap();
    is_named(&server, &format!("zset-semaphore:{}:turns", client.id())).await;
    // Redis 7.2 and newer servers know the library, too.
    let line = &listed(&server).await[0];
    let version = concat!(" lib-name=zset-semaphore lib-ver=", env!("CARGO_PKG_VERSION"));
    assert!(!line.contains("lib-name") || line.contains(version), "{line}");
}

// Behaviour 77
#[tokio::test]
async fn a_connection_is_named_without_a_further_right() {
    let server = RedisServer::start().await;
    server.cmd(&["ACL", "SETUSER", "app", "on", ">pw", "+evalsha", "+script|load"]).await;
    let url = format!("redis://app:pw@{}", server.addr());
    let _client = Client::builder().url(url).label("a").connect().await.unwrap();
    is_named(&server, "zset-semaphore:a:turns").await;
    let log = format!("{:?}", server.cmd(&["ACL", "LOG"]).await);
    assert!(!log.contains("setname") && !log.contains("hello"), "{log}");
}

// Behaviour 77
#[tokio::test]
async fn without_resp3_the_connection_of_the_turns_is_named_too() {
    let server = RedisServer::builder().arg("--rename-command").arg("HELLO").arg("").start().await;
    let builder = Client::builder().url(server.url()).label("old proxy");
    let _client = builder.connect().await.unwrap();
    is_named(&server, "zset-semaphore:old_proxy:turns").await;
}

/// How long it takes to connect where each reply takes `delay`: the shortest of some attempts.
async fn connecting(proxy: &FaultProxy, delay: Duration) -> Duration {
    proxy.delay_replies(delay);
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        Client::connect(proxy.url()).await.unwrap();
        shortest = shortest.min(start.elapsed());
    }
    shortest
}

// Behaviour 76
#[tokio::test]
async fn a_connection_to_a_server_that_knows_the_script_is_set_up_in_two_round_trips() {
    let server = RedisServer::start().await;
    Client::connect(server.url()).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await;
    let took = connecting(&proxy, ms(100)).await;
    assert!((ms(200)..ms(300)).contains(&took), "{took:?}");
}
