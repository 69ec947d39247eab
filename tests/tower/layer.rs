//! The settings of the layer, its errors, and the bounds of its types.

use std::convert::Infallible;
use std::error::Error as _;
use std::time::Duration;

use ::http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use zset_semaphore::AcquireError;
use zset_semaphore::tower::{
    Answer, CappedBody, Error, HoldBody, PermitBody, Reason, Rejection, ReleaseOnResponse,
    ResponseFuture, Single, Weighted, ZSetSemaphoreLayer, ZSetSemaphoreService,
};

use crate::probe::{Broken, Probe, Script, Step, ask, idle, semaphore, settled};
use test_support::wait::{PATIENCE, within};

#[test]
fn bounds() {
    type Weigh = fn(&Request<()>) -> u32;
    type Ask = Request<()>;
    fn all<T: Send + Sync + Unpin + 'static>() {}
    fn send<T: Send + 'static>() {}
    fn clone<T: Clone>() {}
    fn debug<T: std::fmt::Debug>() {}
    fn error<T: std::error::Error>() {}
    all::<ZSetSemaphoreLayer>();
    all::<ZSetSemaphoreLayer<ReleaseOnResponse, Weighted<Weigh>>>();
    all::<ZSetSemaphoreService<Probe>>();
    all::<PermitBody<Full<Bytes>>>();
    all::<Error<Broken>>();
    all::<Rejection>();
    send::<ResponseFuture<Probe, Ask>>();
    send::<ResponseFuture<Probe, (), ReleaseOnResponse>>();
    send::<ResponseFuture<Probe, Request<Full<Bytes>>, Answer>>();
    send::<PermitBody<Script>>();
    clone::<ZSetSemaphoreLayer<ReleaseOnResponse, Weighted<Weigh>>>();
    clone::<ZSetSemaphoreService<Probe, HoldBody, Single>>();
    clone::<Error<Broken>>();
    debug::<ZSetSemaphoreLayer<ReleaseOnResponse, Weighted<Weigh>>>();
    debug::<ResponseFuture<Probe, Ask>>();
    debug::<CappedBody<Script>>();
    debug::<PermitBody<Script>>();
    error::<Error<Broken>>();
    error::<Error<Error<Infallible>>>();
}

/// Neither closures nor what they capture need to be clonable.
#[tokio::test(start_paused = true)]
async fn a_layer_is_clonable_whatever_weighs() {
    struct NotClone(u32);
    let per_unit = NotClone(10);
    let chats = semaphore(8);
    let layer = ZSetSemaphoreLayer::new(chats.clone())
        .weight(move |tokens: &Request<u32>| tokens.body().div_ceil(per_unit.0))
        .clone();
    let service = layer.layer(Probe::streaming([Step::Hang])).clone();
    let three = service.clone().oneshot(Request::new(25)).await.unwrap();
    settled(&chats, 3, 0).await;
    let five = service.oneshot(Request::new(50)).await.unwrap();
    settled(&chats, 8, 0).await;
    drop((three, five));
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_waits_until_all_its_units_are_free() {
    let chats = semaphore(3);
    let service = ZSetSemaphoreLayer::new(chats.clone())
        .weight(|units: &Request<u32>| *units.body())
        .layer(Probe::streaming([Step::Hang]));
    let [one, two] = [
        service.clone().oneshot(Request::new(1)).await.unwrap(),
        service.clone().oneshot(Request::new(1)).await.unwrap(),
    ];
    let heavy = tokio::spawn(service.clone().oneshot(Request::new(3)));
    settled(&chats, 2, 1).await;
    let behind = tokio::spawn(service.oneshot(Request::new(1)));
    settled(&chats, 2, 2).await;
    drop(one);
    settled(&chats, 1, 2).await;
    drop(two);
    drop(heavy.await.unwrap().unwrap());
    drop(behind.await.unwrap().unwrap());
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_of_weight_0_passes_without_a_permit() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let service = ZSetSemaphoreLayer::new(chats.clone())
        .weight(|units: &Request<u32>| *units.body())
        .layer(Probe::streaming([Step::Data("token")]));
    let response = within(PATIENCE, service.oneshot(Request::new(0))).await.unwrap();
    settled(&chats, 1, 0).await;
    assert_eq!(response.collect().await.unwrap().to_bytes(), "token");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_request_heavier_than_the_limit_is_told_so_at_once() {
    let chats = semaphore(3);
    let service = ZSetSemaphoreLayer::new(chats.clone())
        .weight(|units: &Request<u32>| *units.body())
        .layer(Probe::default());
    let Err(Error::Rejected(rejection)) = service.oneshot(Request::new(4)).await else {
        panic!("let in")
    };
    assert!(matches!(
        rejection.reason(),
        Reason::Acquire(AcquireError::TooLarge { units: 4, limit: 3 })
    ));
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_runs_out_tells_which_semaphore_how_long_and_how_many_ahead() {
    let timeout = Duration::from_secs(5);
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let ahead = tokio::spawn(chats.acquire(1));
    settled(&chats, 1, 1).await;
    let probe = Probe::default();
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).timeout(timeout).layer(probe);

    let start = tokio::time::Instant::now();
    let error = within(PATIENCE, service.oneshot(ask())).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis(), timeout.as_millis());
    let said = error.to_string();
    assert_eq!(
        error.source().unwrap().to_string(),
        "no permit within 5s, 1 ahead in the queue when last heard"
    );
    let Error::Rejected(rejection) = error else { panic!("let in") };
    assert_eq!(rejection.semaphore_name(), "chats");
    let Reason::Acquire(AcquireError::Timeout { waited, place: Some(1), outage: None }) =
        rejection.reason()
    else {
        panic!("{said}")
    };
    assert!(*waited >= timeout);
    assert_eq!(tally.readied(), 0);
    settled(&chats, 1, 1).await;
    ahead.abort();
    drop(held);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_counts_from_the_first_poll() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats).timeout(Duration::from_secs(1));
    let mut service = layer.layer(Probe::default());
    let request = service.call(ask());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let start = tokio::time::Instant::now();
    within(PATIENCE, request).await.unwrap_err();
    assert!(start.elapsed() >= Duration::from_secs(1));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_zero_never_waits_for_room() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone())
        .timeout(Duration::ZERO)
        .layer(Probe::streaming([Step::Hang]));
    let streaming = service.clone().oneshot(ask()).await.unwrap();
    let start = tokio::time::Instant::now();
    let rejected = within(PATIENCE, service.oneshot(ask())).await;
    assert!(matches!(rejected, Err(Error::Rejected(_))));
    assert!(start.elapsed() < Duration::from_millis(50));
    drop(streaming);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn hold_head_frees_when_the_head_is_there() {
    let chats = semaphore(1);
    let probe = Probe { answer: [Step::Wait; 3].into(), ..Probe::streaming([Step::Hang]) };
    let service = ZSetSemaphoreLayer::new(chats.clone()).release_on_response().layer(probe);
    let first: Response<Script> = service.clone().oneshot(ask()).await.unwrap();
    let second = within(PATIENCE, service.oneshot(ask())).await.unwrap();
    idle(&chats).await;
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn hold_head_leaves_responses_of_any_type_alone() {
    let chats = semaphore(1);
    let inner = service_fn(|word: &'static str| async move { Ok::<_, Broken>(word.len()) });
    let service = ZSetSemaphoreLayer::new(chats.clone()).release_on_response().layer(inner);
    assert_eq!(service.oneshot("four").await.unwrap(), 4);
    idle(&chats).await;
}

/// The type and the limit name tell which of two stacked layers rejected.
#[tokio::test(start_paused = true)]
async fn errors_of_stacked_layers_stay_apart() {
    let (outer, inner) = (semaphore(1), semaphore(1));
    let service = ZSetSemaphoreLayer::new(outer.clone())
        .layer(ZSetSemaphoreLayer::new(inner.clone()).layer(Probe::answering([Step::Fail])));
    assert!(matches!(
        service.clone().oneshot(ask()).await,
        Err(Error::Inner(Error::Inner(Broken)))
    ));
    inner.close();
    let within = service.clone().oneshot(ask()).await;
    assert!(matches!(within, Err(Error::Inner(Error::Rejected(_)))));
    outer.close();
    assert!(matches!(service.oneshot(ask()).await, Err(Error::Rejected(_))));
}

#[tokio::test(start_paused = true)]
async fn boxed_errors_can_be_downcast() {
    let chats = semaphore(1);
    let inner = service_fn(|_: Request<()>| async { Err::<(), BoxError>(Broken.into()) });
    let service = ZSetSemaphoreLayer::new(chats.clone())
        .release_on_response()
        .layer(inner)
        .map_err(Error::into_boxed);
    let error = service.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Broken>(), Some(&Broken));
    chats.close();
    let error = service.oneshot(ask()).await.unwrap_err();
    assert!(matches!(
        error.downcast_ref::<Rejection>().unwrap().reason(),
        Reason::Acquire(AcquireError::Closed)
    ));
    assert_eq!(error.to_string(), r#"semaphore "chats": the semaphore is closed"#);
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_can_be_reached() {
    let mut service = ZSetSemaphoreLayer::new(semaphore(1)).layer(Probe::default());
    service.get_mut().panics_in_call = true;
    assert!(service.get_ref().panics_in_call);
    assert!(service.into_inner().panics_in_call);
}

#[tokio::test(start_paused = true)]
async fn the_future_tells_where_it_is() {
    let chats = semaphore(1);
    let mut service = ZSetSemaphoreLayer::new(chats).layer(Probe::default());
    let future = service.call(ask());
    assert!(format!("{future:?}").contains("queued"));
    let response = Box::pin(future).await.unwrap();
    assert!(format!("{:?}", response.body()).contains("ended: true"));
}
