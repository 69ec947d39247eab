//! The layer where too few replicas have the grants: the outage policy decides, as in an outage of the store.

use std::convert::Infallible;
use std::time::Duration;

use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{Error, OutagePolicy, Reason, ZSetSemaphoreLayer};
use zset_semaphore::{Client, StoreErrorKind, ZSetSemaphore};

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

const AWAY_AFTER: Duration = ms(400);

fn capped(
    semaphore: &ZSetSemaphore,
    policy: OutagePolicy,
) -> impl Service<(), Response = (), Error = Error<Infallible>, Future: Send> + Clone + use<> {
    ZSetSemaphoreLayer::new(semaphore.clone())
        .outage_policy(policy)
        .outage_after(AWAY_AFTER)
        .timeout(PATIENCE * 2)
        .release_on_response()
        .layer(service_fn(|()| async { Ok(()) }))
}

// Behaviour 87
#[tokio::test]
async fn too_few_replicas_are_an_outage_for_the_layer_until_there_are_enough() {
    let server = RedisServer::start().await;
    let client = within(PATIENCE, Client::connect(server.url())).await.unwrap();
    let build = |name: &str| client.semaphore(name, 4).replicated(1).build().unwrap();
    let (closed, open, local) = (build("closed"), build("open"), build("local"));
    let rejected = within(PATIENCE, capped(&closed, OutagePolicy::FailClosed).oneshot(())).await;
    match rejected.unwrap_err() {
        Error::Rejected(rejection) => match rejection.reason() {
            Reason::Unavailable { down_for, error: Some(error) } => {
                println!("after {down_for:?}: {error}");
                let kind = StoreErrorKind::TooFewReplicas { wanted: 1, acknowledged: 0 };
                assert_eq!(error.kind(), kind);
                assert_eq!(rejection.reason().label(), "unavailable");
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    within(PATIENCE, capped(&open, OutagePolicy::FailOpen).oneshot(())).await.unwrap();
    within(PATIENCE, capped(&local, OutagePolicy::LocalCap(1)).oneshot(())).await.unwrap();
    for semaphore in [&closed, &open, &local] {
        eventually("nothing is held", PATIENCE, async || {
            semaphore.inspect().await.unwrap().in_use == 0
        })
        .await;
    }
    // Others that want no replicas notice nothing.
    let plain = client.semaphore("closed", 4).build().unwrap();
    within(PATIENCE, capped(&plain, OutagePolicy::FailClosed).oneshot(())).await.unwrap();

    let replica = RedisServer::start().await;
    replica.cmd(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]).await;
    eventually("requests are admitted again", PATIENCE, async || {
        capped(&closed, OutagePolicy::FailClosed).oneshot(()).await.is_ok()
    })
    .await;
    let admitted = within(PATIENCE, capped(&closed, OutagePolicy::FailClosed).oneshot(())).await;
    admitted.unwrap();
}
