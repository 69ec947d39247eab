//! The log lines of an outage.

use std::convert::Infallible;
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;
use zset_semaphore::Client;
use zset_semaphore::tower::{OutagePolicy, ZSetSemaphoreLayer};

use crate::common::log::Log;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

#[tokio::test]
async fn an_outage_and_its_end_are_told_by_one_line_each() {
    let (log, _guard) = Log::of_this_thread(|_| true);
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 4).build().unwrap();
    let service = ZSetSemaphoreLayer::new(semaphore)
        .outage_policy(OutagePolicy::FailOpen)
        .outage_after(Duration::from_millis(200))
        .release_on_response()
        .layer(service_fn(async |()| Ok::<_, Infallible>(())));
    for outage in 1..=2 {
        within(PATIENCE, service.clone().oneshot(())).await.unwrap();
        server.kill();
        let crowd = (0..50).map(|_| within(PATIENCE, service.clone().oneshot(())));
        for end in futures_util::future::join_all(crowd).await {
            end.unwrap();
        }
        server.restart_empty().await;
        eventually("the end is told", PATIENCE, async || {
            within(PATIENCE, service.clone().oneshot(())).await.unwrap();
            log.count(Level::INFO, "the store is back") == outage
        })
        .await;
        assert_eq!(log.count(Level::WARN, "the store is unavailable"), outage, "{log:?}");
        assert_eq!(log.count(Level::WARN, "no connection"), outage, "{log:?}");
        assert_eq!(log.count(Level::INFO, "connected again"), outage, "{log:?}");
    }
}

#[tokio::test]
async fn an_outage_ends_where_the_store_answers_that_there_is_no_room() {
    let (log, _guard) = Log::of_this_thread(|_| true);
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 1).build().unwrap();
    let service = ZSetSemaphoreLayer::new(semaphore)
        .outage_policy(OutagePolicy::FailOpen)
        .outage_after(Duration::from_millis(10))
        .reject_when_full()
        .release_on_response()
        .layer(service_fn(async |()| Ok::<_, Infallible>(())));
    server.kill();
    drop(within(PATIENCE, service.clone().oneshot(())).await);
    assert_eq!(log.count(Level::WARN, "the store is unavailable"), 1, "{log:?}");
    server.restart_empty().await;
    let other = Client::connect(server.url()).await.unwrap().semaphore("s", 1).build().unwrap();
    let _held = within(PATIENCE, other.acquire(1)).await.unwrap();
    eventually("the end is told", PATIENCE, async || {
        drop(within(PATIENCE, service.clone().oneshot(())).await);
        log.count(Level::INFO, "the store is back") == 1
    })
    .await;
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_told_by_one_line_for_all_names() {
    let (log, _guard) = Log::of_this_thread(|_| true);
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let mut held = Vec::new();
    for nth in 0..200 {
        let semaphore = client.semaphore(format!("s-{nth}"), 2).build().unwrap();
        held.push(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    }
    let last = held.pop().unwrap();
    within(PATIENCE, last.release()).await.unwrap();
    server.kill();
    server.restart_empty().await;
    eventually("all that is held is put back", PATIENCE, async || {
        server.keys().await.iter().filter(|key| key.ends_with(":permits")).count() == held.len()
    })
    .await;
    eventually("the loss is told", PATIENCE, async || log.count(Level::WARN, "lost its data") > 0)
        .await;
    assert_eq!(log.count(Level::WARN, "lost its data"), 1, "{log:?}");
    assert_eq!(log.count(Level::WARN, "semaphores=199 held=199"), 1, "{log:?}");
    assert!(held.iter().all(|permit| !permit.is_lost()));
}
