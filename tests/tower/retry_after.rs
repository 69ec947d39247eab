//! When rejected clients are told to try again.

use std::convert::Infallible;
use std::time::Duration;

use ::http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::{Error, Rejection, ZSetSemaphoreLayer};

use crate::probe::{idle, semaphore, settled};

type Held = Error<Infallible>;

/// Responds after the time that the request says.
fn timed(
    layer: ZSetSemaphoreLayer,
) -> impl Service<Request<Duration>, Error = Held, Future: Send, Response: Send> + Clone + Send + 'static
{
    layer.layer(service_fn(async |request: Request<Duration>| {
        sleep(*request.body()).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }))
}

fn layer(chats: &ZSetSemaphore) -> ZSetSemaphoreLayer {
    ZSetSemaphoreLayer::new(chats.clone()).reject_when_full()
}

async fn rejected<S>(service: &S) -> Rejection
where
    S: Service<Request<Duration>, Error = Held> + Clone,
{
    match service.clone().oneshot(Request::new(Duration::ZERO)).await {
        Err(Error::Rejected(rejection)) => rejection,
        _ => panic!("not rejected"),
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Four streams that have run for 20 s.
async fn streaming<S>(chats: &ZSetSemaphore, service: &S) -> JoinSet<()>
where
    S: Service<Request<Duration>, Error = Held, Future: Send, Response: Send>
        + Clone
        + Send
        + 'static,
{
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let stream = service.clone().oneshot(Request::new(secs(60)));
        streams.spawn(async move { drop(stream.await) });
    }
    settled(chats, 4, 0).await;
    advance(secs(20)).await;
    streams
}

#[tokio::test(start_paused = true)]
async fn before_the_first_stream_has_ended_it_goes_by_how_long_they_have_run() {
    let chats = semaphore(4);
    let service = timed(layer(&chats));
    let _streams = streaming(&chats, &service).await;
    let told = rejected(&service).await.retry_after();
    assert!((secs(20)..secs(26)).contains(&told), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn quick_responses_do_not_hide_the_streams_that_are_in_the_way() {
    let chats = semaphore(4);
    let service = timed(layer(&chats));
    drop(service.clone().oneshot(Request::new(secs(60))).await);
    for _ in 0..30 {
        drop(service.clone().oneshot(Request::new(Duration::from_millis(10))).await);
    }
    idle(&chats).await;
    let _streams = streaming(&chats, &service).await;
    let told = rejected(&service).await.retry_after();
    assert!((secs(39)..secs(51)).contains(&told), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_are_told_at_once_do_not_come_back_at_once() {
    let chats = semaphore(4);
    let service = timed(layer(&chats));
    let _streams = streaming(&chats, &service).await;
    let mut told = Vec::new();
    for _ in 0..100 {
        told.push(rejected(&service).await.retry_after());
    }
    told.sort();
    assert!(told[0] >= secs(20), "{told:?}");
    assert!(told[99] - told[0] > secs(3), "{told:?}");
    told.dedup();
    assert!(told.len() > 90, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn no_one_is_told_less_than_the_floor() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    for (layer, floor) in [(layer(&chats), 1), (layer(&chats).min_retry_after(secs(15)), 15)] {
        let told = rejected(&timed(layer)).await.retry_after();
        assert!((secs(floor)..secs(floor + 4)).contains(&told), "{told:?}");
    }
    // Also if the request was ended by the loss of its permit, or the semaphore was closed.
    let floor = layer(&chats).min_retry_after(secs(15));
    chats.close();
    assert!(rejected(&timed(floor)).await.retry_after() >= secs(15));
}

/// With streams of one length a client that comes back when it was told to gets a permit.
#[tokio::test(start_paused = true)]
async fn who_comes_back_when_it_was_told_to_finds_a_place() {
    const LENGTH: Duration = secs(30);
    let chats = semaphore(4);
    let service = timed(layer(&chats));
    drop(service.clone().oneshot(Request::new(LENGTH)).await);
    for apart in [0, 1, 5, 7] {
        for asked_after in [0, 1, 4, 8] {
            let mut streams = JoinSet::new();
            for n in 1..=4 {
                let stream = service.clone().oneshot(Request::new(LENGTH));
                streams.spawn(async move { drop(stream.await) });
                settled(&chats, n, 0).await;
                sleep(secs(apart)).await;
            }
            sleep(secs(asked_after)).await;
            // If they are far apart, the first one has ended by now, and a unit is free.
            if chats.inspect().await.unwrap().in_use == 4 {
                sleep(rejected(&service).await.retry_after()).await;
                let again = service.clone().oneshot(Request::new(Duration::ZERO)).await;
                assert!(again.is_ok(), "{apart} s apart, asked after {asked_after} s");
            }
            streams.join_all().await;
            idle(&chats).await;
        }
    }
}

/// The header has whole seconds, and these differ as well.
#[tokio::test(start_paused = true)]
async fn the_header_is_not_the_same_for_all() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let answering = layer(&chats)
        .answer()
        .layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))));
    let mut told = Vec::new();
    let start = Instant::now();
    for _ in 0..100 {
        let request = Request::new(Full::<Bytes>::default());
        let response = answering.clone().oneshot(request).await.unwrap();
        told.push(response.headers()["retry-after"].to_str().unwrap().to_owned());
        drop(response.into_body().collect().await.unwrap());
    }
    assert!(start.elapsed() < secs(1));
    told.sort();
    told.dedup();
    assert!(told.len() >= 2 && told.iter().all(|seconds| seconds != "0"), "{told:?}");
}
