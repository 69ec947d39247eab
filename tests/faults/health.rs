//! The health of the connection, as a client tells it without a call.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, ClientBuilder, TryAcquireError};

use crate::common::connect::connected;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

fn builder(url: String) -> ClientBuilder {
    Client::builder().url(url).call_timeout(ms(100))
}

async fn until_available(client: &Client, wanted: bool) {
    eventually("the health", PATIENCE, async || client.is_available() == wanted).await;
}

#[tokio::test]
async fn a_client_without_a_server_is_not_available_before_or_after_its_first_call() {
    let mut server = RedisServer::start().await;
    server.kill();
    let client = builder(server.url()).build().unwrap();
    assert_eq!((client.is_available(), client.last_heard()), (false, None));
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    assert!(jobs.try_acquire(1).await.is_err());
    assert_eq!((client.is_available(), client.last_heard()), (false, None));
}

#[tokio::test]
async fn a_client_that_connects_at_its_first_call_is_available_from_then_on() {
    let server = RedisServer::start().await;
    let client = builder(server.url()).call_timeout(PATIENCE).build().unwrap();
    assert_eq!((client.is_available(), client.last_heard()), (false, None));
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    let before = Instant::now();
    let permit = jobs.acquire(1).await.unwrap();
    assert!(client.is_available());
    assert!(client.last_heard().unwrap() >= before);
    drop(permit);
}

#[tokio::test]
async fn a_killed_server_is_noticed_without_a_call_and_so_is_its_return() {
    let mut server = RedisServer::start().await;
    let client = connected(builder(server.url())).await;
    assert!(client.is_available());
    let heard = client.last_heard().unwrap();
    server.kill();
    until_available(&client, false).await;
    assert_eq!(client.last_heard(), Some(heard));
    server.restart_empty().await;
    until_available(&client, true).await;
    assert!(client.last_heard().unwrap() > heard, "the opening of a connection is an answer");
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_by_the_calls_that_it_does_not_answer() {
    let mut server = RedisServer::start().await;
    let client = connected(builder(server.url())).await;
    let heard = client.last_heard().unwrap();
    server.freeze();
    sleep(ms(300)).await;
    assert!(client.is_available(), "no call was made");
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    let calls = async {
        while client.is_available() {
            assert!(matches!(jobs.try_acquire(1).await, Err(TryAcquireError::Unavailable { .. })));
        }
    };
    within(PATIENCE, calls).await;
    assert_eq!(client.last_heard(), Some(heard));
    server.thaw();
    until_available(&client, true).await;
    assert!(client.last_heard().unwrap() > heard);
}

#[tokio::test]
async fn every_answer_is_heard() {
    let server = RedisServer::start().await;
    let client = connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await;
    let jobs = client.semaphore("jobs", 1).lease(ms(300)).build().unwrap();
    let heard_after = |before| client.last_heard().unwrap() > before;

    let before = Instant::now();
    let permit = jobs.acquire(1).await.unwrap();
    assert!(heard_after(before), "a grant");
    for renewal in 1..=2 {
        let before = Instant::now();
        let renewed = async || heard_after(before);
        eventually(&format!("renewal {renewal}"), PATIENCE, renewed).await;
    }
    permit.release().await.unwrap();

    let (before, id) = (Instant::now(), "00000000000000ff:1".parse().unwrap());
    jobs.inspect().await.unwrap();
    assert!(heard_after(before), "an inspection");
    let before = Instant::now();
    jobs.kick(id).await.unwrap();
    assert!(heard_after(before), "a kick");
    let before = Instant::now();
    jobs.set_limit(2).await.unwrap();
    assert!(heard_after(before), "a limit");
}

#[tokio::test]
async fn a_refusal_is_heard() {
    let server = RedisServer::start().await;
    let client = connected(builder(server.url()).call_timeout(PATIENCE)).await;
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    server.cmd(&["SET", "zsem:{jobs}:limit", "1"]).await;
    server.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let before = Instant::now();
    assert!(jobs.set_limit(3).await.is_err());
    assert!(client.last_heard().unwrap() > before);
    assert!(client.is_available());
}

#[tokio::test]
async fn a_client_that_was_shut_down_is_not_available() {
    let server = RedisServer::start().await;
    for client in [connected(builder(server.url())).await, Client::in_memory()] {
        assert!(client.is_available());
        let permit = client.semaphore("jobs", 1).build().unwrap().acquire(1).await.unwrap();
        let closing = client.shutdown();
        tokio::pin!(closing);
        assert!((&mut closing).now_or_never().is_none());
        assert!(!client.is_available(), "it lets nobody in any more");
        drop(permit);
        closing.await.unwrap();
        assert!(!client.is_available() && client.last_heard().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_in_memory_is_available_before_its_first_call_and_hears_every_turn() {
    let client = Client::in_memory();
    assert_eq!((client.is_available(), client.last_heard()), (true, None));
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(jobs.acquire(1).await.unwrap());
        assert_eq!(client.last_heard(), Some(Instant::now()));
    }
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(client.is_available());
    assert_eq!(client.last_heard().unwrap().elapsed(), Duration::from_secs(3600));
}

#[test]
fn a_client_whose_runtime_has_ended_is_not_available() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    runtime.block_on(async { drop(jobs.acquire(1).await.unwrap()) });
    assert!(client.is_available());
    drop(runtime);
    assert!(!client.is_available());
}
