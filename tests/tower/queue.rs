//! What a request holds while it waits for its permit, and while there is no request: nothing.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use http_body_util::BodyExt;
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};
use zset_semaphore::tower::{Error, Reason, ZSetSemaphoreLayer};

use crate::probe::{Broken, Probe, Step, ask, idle, semaphore, settled, whole};
use test_support::wait::{PATIENCE, within};

/// Behaviour 44, without the sockets.
#[tokio::test(start_paused = true)]
async fn a_queued_request_that_is_dropped_leaves_the_queue() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let probe = Probe::streaming([Step::Data("token")]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(probe);
    let queued: Vec<_> = (0..3).map(|_| tokio::spawn(service.clone().oneshot(ask()))).collect();
    settled(&chats, 1, 3).await;

    queued[0].abort();
    settled(&chats, 1, 2).await;
    for request in &queued {
        request.abort();
    }
    settled(&chats, 1, 0).await;
    assert_eq!(tally.called(), 0);
    drop(held);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn the_one_behind_a_dropped_request_is_served() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(Probe::default());
    let first = tokio::spawn(service.clone().oneshot(ask()));
    settled(&chats, 1, 1).await;
    let second = tokio::spawn(service.oneshot(ask()));
    settled(&chats, 1, 2).await;
    first.abort();
    drop(held);
    within(PATIENCE, second).await.unwrap().unwrap();
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_never_polled_does_not_queue() {
    let chats = semaphore(1);
    let mut service = ZSetSemaphoreLayer::new(chats.clone()).layer(Probe::default());
    let inert = service.call(ask());
    settled(&chats, 0, 0).await;
    drop(inert);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_in_the_order_in_which_they_came() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let served = Arc::clone(&served);
        ZSetSemaphoreLayer::new(chats.clone()).release_on_response().layer(service_fn(
            move |n: u64| {
                served.lock().unwrap().push(n);
                async { Ok::<_, Broken>(()) }
            },
        ))
    };
    let mut requests = Vec::new();
    for n in 0..10 {
        requests.push(tokio::spawn(service.clone().oneshot(n)));
        settled(&chats, 1, n + 1).await;
    }
    drop(held);
    for request in requests {
        within(PATIENCE, request).await.unwrap().unwrap();
    }
    assert_eq!(*served.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

/// The basis of Behaviour 45.
#[tokio::test(start_paused = true)]
async fn services_that_are_ready_hold_nothing() {
    let chats = semaphore(8);
    let probe = Probe::default();
    let tally = probe.tally.clone();
    let mut services = vec![ZSetSemaphoreLayer::new(chats.clone()).layer(probe); 1000];
    for service in &mut services {
        ServiceExt::<::http::Request<()>>::ready(service).await.unwrap();
    }
    settled(&chats, 0, 0).await;
    let others = chats.try_acquire(8).await.unwrap();
    assert_eq!(tally.readied(), 0, "and the inner service is left alone");
    drop(others);
    drop(services);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn ready_though_the_inner_service_is_not() {
    let layer = ZSetSemaphoreLayer::new(semaphore(1)).release_on_response();
    let (mut service, mut inner) = mock::spawn_layer::<&str, &str, _>(layer);
    inner.allow(0);
    assert!(matches!(service.poll_ready(), Poll::Ready(Ok(()))));
    let request = tokio::spawn(service.call("hello"));
    tokio::task::yield_now().await;
    assert!(inner.poll_request().is_pending());
    inner.allow(1);
    assert_request_eq!(inner, "hello").send_response("world");
    assert_eq!(request.await.unwrap().unwrap(), "world");
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_readied_once_the_permit_is_there() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let probe = Probe::readying([Step::Wait, Step::Wait]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(probe);
    let request = tokio::spawn(service.oneshot(ask()));
    settled(&chats, 1, 1).await;
    assert_eq!(tally.readied(), 0);
    drop(held);
    request.await.unwrap().unwrap();
    assert_eq!((tally.readied(), tally.called()), (3, 1));
}

/// Tower's own limit panics in `call` if `poll_ready` was not called.
#[tokio::test(start_paused = true)]
async fn inner_services_with_a_permit_of_their_own_work() {
    let chats = semaphore(4);
    let probe = Probe::streaming([Step::Wait, Step::Data("token")]);
    let tally = probe.tally.clone();
    let inner = ConcurrencyLimit::new(probe, 2);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(inner);
    let requests: Vec<_> =
        (0..20).map(|_| service.clone()).map(|service| tokio::spawn(whole(service))).collect();
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!((tally.called(), tally.running()), (20, 0));
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_semaphore_rejects_and_ends_who_is_queued() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(Probe::default());
    let queued = tokio::spawn(service.clone().oneshot(ask()));
    settled(&chats, 1, 1).await;
    chats.close();
    for rejected in [queued.await.unwrap(), service.oneshot(ask()).await] {
        let Err(Error::Rejected(rejection)) = rejected else { panic!("let in") };
        assert!(matches!(
            rejection.reason(),
            Reason::Acquire(zset_semaphore::AcquireError::Closed)
        ));
    }
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn stacked_layers_hold_the_outer_permit_while_they_wait_for_the_inner() {
    let (user, cluster) = (semaphore(2), semaphore(1));
    let held = cluster.acquire(1).await.unwrap();
    let inner = ZSetSemaphoreLayer::new(cluster.clone());
    let outer = ZSetSemaphoreLayer::new(user.clone());
    let service = outer.layer(inner.layer(Probe::streaming([Step::Data("token")])));
    let request = tokio::spawn(service.oneshot(ask()));
    settled(&user, 1, 0).await;
    settled(&cluster, 1, 1).await;
    drop(held);
    let response = request.await.unwrap().unwrap();
    settled(&user, 1, 0).await;
    settled(&cluster, 1, 0).await;
    assert_eq!(response.collect().await.unwrap().to_bytes(), "token");
    idle(&user).await;
    idle(&cluster).await;
}
