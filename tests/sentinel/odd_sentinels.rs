//! Sentinels that only others have told of, that are far away, or that an operator has set up anew.

use std::net::SocketAddr;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::sentinel::{FAILOVER, MASTER, SentinelDeployment, SentinelServer};
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::Client;

use crate::{is_at, takes_turns_at};

/// Returns how many clients listen to a sentinel.
async fn listeners(sentinel: &SentinelServer) -> usize {
    let clients: String = sentinel.query(&["CLIENT", "LIST", "TYPE", "PUBSUB"]).await.unwrap();
    clients.lines().count()
}

// Behaviour 73
#[tokio::test]
async fn the_only_living_sentinel_is_asked_though_it_is_none_of_the_url() {
    let builder = SentinelDeployment::builder().replicas(0).sentinels(2);
    let mut deployment = builder.start().await;
    let seed = deployment.sentinels[0].addr().to_string();
    let client = within(PATIENCE, Client::connect(deployment.url_by(&seed))).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    eventually("both sentinels are listened to", PATIENCE, async || {
        listeners(&deployment.sentinels[0]).await + listeners(&deployment.sentinels[1]).await == 2
    })
    .await;
    deployment.sentinels[0].kill();
    deployment.servers[0].cut_connections().await;
    eventually("the connection broke", PATIENCE, async || !is_at(&deployment, 0, &client).await)
        .await;
    takes_turns_at(&deployment, 0, &client).await;
}

// Behaviour 73
#[tokio::test]
async fn a_sentinel_that_is_ninety_milliseconds_away_is_asked() {
    let deployment = SentinelDeployment::builder().replicas(0).sentinels(1).start().await;
    let far = FaultProxy::start(deployment.sentinels[0].addr()).await;
    far.delay_replies(ms(90));
    let url = deployment.url_by(&far.addr().to_string());
    let client = within(PATIENCE, Client::connect(url)).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
}

async fn forget_and_monitor(sentinels: &[SentinelServer], primary: SocketAddr) {
    for sentinel in sentinels {
        sentinel.query::<()>(&["SENTINEL", "REMOVE", MASTER]).await.unwrap();
    }
    let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
    for sentinel in sentinels {
        sentinel.query::<()>(&["SENTINEL", "MONITOR", MASTER, &ip, &port, "1"]).await.unwrap();
    }
}

/// Lets `count` sentinels lead the client to a primary of epoch 1. Then sets them up anew for another one, and waits until the
/// client is there.
async fn a_primary_that_was_set_anew_is_followed(count: usize) {
    let deployment = SentinelDeployment::builder().replicas(1).sentinels(count).start().await;
    deployment.sentinels[0].fail_over().await;
    let (old, _) = deployment.promoted(0).await;
    for sentinel in &deployment.sentinels {
        eventually("each sentinel knows the failover", FAILOVER, async || {
            sentinel.primary().await.is_ok_and(|addr| deployment.at(addr) == old)
        })
        .await;
    }
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, old, &client).await;
    let new = RedisServer::start().await;
    forget_and_monitor(&deployment.sentinels, new.addr()).await;
    let told = Instant::now();
    let channel = format!("zsem:wake:{}", client.id());
    eventually("the client is at the new primary", FAILOVER, async || {
        new.query::<(String, u64)>(&["PUBSUB", "NUMSUB", &channel]).await.1 == 1
    })
    .await;
    println!("followed {:?} after {count} were set up anew", told.elapsed());
    assert!(told.elapsed() < ms(5_000), "{:?}", told.elapsed());
}

// Behaviour 72
#[tokio::test]
async fn a_primary_that_was_set_anew_in_the_only_sentinel_is_followed() {
    a_primary_that_was_set_anew_is_followed(1).await;
}

// Behaviour 72
#[tokio::test]
async fn a_primary_that_was_set_anew_in_all_sentinels_is_followed() {
    a_primary_that_was_set_anew_is_followed(3).await;
}
