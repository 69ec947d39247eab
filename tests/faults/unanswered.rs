//! What a turn that had no answer leaves behind, and where.

use std::time::Duration;

use tokio::time::Instant;
use zset_semaphore::Client;

use crate::common::connect::connected;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

/// Has one turn of `name` go unanswered; the name is used, and idle, afterwards.
async fn lose_an_answer(server: &RedisServer, proxy: &FaultProxy, client: &Client, name: &str) {
    let semaphore = client.semaphore(name, 1).build().unwrap();
    server.reset_stats().await;
    proxy.hold_replies();
    let waiting = tokio::spawn(semaphore.acquire(1));
    eventually("the turn was given up and is said again", PATIENCE, async || {
        server.script_calls().await >= 2
    })
    .await;
    proxy.pass();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    within(PATIENCE, permit.release()).await.unwrap();
}

#[tokio::test]
async fn an_unanswered_turn_of_one_name_costs_other_names_no_key() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = connected(Client::builder().url(proxy.url())).await;
    lose_an_answer(&server, &proxy, &client, "lost").await;
    let before: usize = server.query(&["DBSIZE"]).await;
    for nth in 0..100 {
        let semaphore = client.semaphore(format!("new-{nth}"), 1).build().unwrap();
        let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
        within(PATIENCE, permit.release()).await.unwrap();
    }
    let after: usize = server.query(&["DBSIZE"]).await;
    assert_eq!(after - before, 200, "`meta` and `clients` for each name that idles");
    for nth in 0..100 {
        let meta = format!("zsem:{{new-{nth}}}:meta");
        let fields: Vec<String> = server.query(&["HKEYS", &meta]).await;
        let epochs = fields.iter().filter(|field| field.len() == 16).count();
        assert_eq!((fields.len(), epochs), (3, 0), "{fields:?}"); // `state`, the server, and a declaration
    }
}

#[tokio::test]
async fn a_name_that_idled_after_an_unanswered_turn_is_used_again_with_one_more_round_trip() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client =
        connected(Client::builder().url(proxy.url()).call_timeout(Duration::from_secs(2))).await;
    lose_an_answer(&server, &proxy, &client, "lost").await;
    // A line that was dropped meanwhile learns by its first turn where this client stands.
    eventually("the name had idled here", PATIENCE, async || {
        server.reset_stats().await; // time for the driver to drop the line
        let semaphore = client.semaphore("lost", 1).build().unwrap();
        let asked = Instant::now();
        let permit = within(PATIENCE, semaphore.try_acquire(1)).await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "let in after {:?}", asked.elapsed());
        let calls = server.script_calls().await;
        assert!(calls <= 2, "{calls} round trips");
        within(PATIENCE, permit.release()).await.unwrap();
        calls == 2
    })
    .await;
}
