//! Sentinels that only others have told of, or that are far away.

use test_support::fault_proxy::FaultProxy;
use test_support::sentinel::{SentinelDeployment, SentinelServer};
use test_support::wait::{PATIENCE, eventually, ms, within};
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
