//! A provider that answers `429` lowers the effective limit for a while: the cooldown.

use std::time::Duration;

use ::http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::probe::{Broken, idle, semaphore, settled};

const LONGEST: Duration = Duration::from_secs(30);

/// Responds with the status and the time that the request names; the date is seven in the morning.
async fn provider(request: Request<(u16, &'static str)>) -> Result<Response<Full<Bytes>>, Broken> {
    let (status, retry_after) = *request.body();
    let answer = Response::builder()
        .status(status)
        .header("date", "Wed, 21 Oct 2026 07:00:00 GMT")
        .header("retry-after", retry_after);
    Ok(answer.body(Full::from("busy")).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_429_keeps_its_units_for_as_long_as_it_says() {
    let calls = semaphore(2);
    let layer = ZSetSemaphoreLayer::new(calls.clone()).cooldown_on_429(LONGEST);
    let client = layer.layer(service_fn(provider));
    for (status, retry_after, seconds) in [
        (429, "7", 7),
        (429, "", 1),
        (429, "Wed, 21 Oct 2026 07:00:12 GMT", 12),
        (429, "900", 30),
        (529, "7", 7),
        (529, "", 1),
        (503, "7", 7),
    ] {
        let start = Instant::now();
        let answer = client.clone().oneshot(Request::new((status, retry_after))).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        drop(answer);
        settled(&calls, 1, 0).await;
        let both = calls.acquire(2).await.unwrap();
        let rested = start.elapsed();
        let expected = Duration::from_secs(seconds);
        assert!((expected..expected + Duration::from_millis(50)).contains(&rested), "{rested:?}");
        drop(both);
    }
    idle(&calls).await;
}

#[tokio::test(start_paused = true)]
async fn other_answers_and_layers_that_were_not_told_to_rest_keep_nothing() {
    let calls = semaphore(2);
    let layer = ZSetSemaphoreLayer::new(calls.clone());
    for (layer, status, retry_after) in [
        (layer.clone(), 429, "20"),
        (layer.clone().cooldown_on_429(LONGEST), 503, ""), // which tells of any failure
        (layer.cooldown_on_429(LONGEST), 200, "20"),
    ] {
        let client = layer.layer(service_fn(provider));
        drop(client.oneshot(Request::new((status, retry_after))).await.unwrap());
        let start = Instant::now();
        drop(calls.acquire(2).await.unwrap());
        assert!(start.elapsed() < Duration::from_secs(1), "{status}");
    }
}

/// Later settings do not change it.
#[tokio::test(start_paused = true)]
async fn what_ends_when_lost_rests_too() {
    let calls = semaphore(2);
    let layer = ZSetSemaphoreLayer::new(calls.clone()).cooldown_on_429(LONGEST);
    let client = layer.clone().end_when_lost().layer(service_fn(provider));
    drop(client.oneshot(Request::new((429, "7"))).await.unwrap());
    rested(&calls, 7).await;
    let ask = || Request::builder().body(Full::<Bytes>::default()).unwrap();
    let busy = service_fn(|_| provider(Request::new((429, "9"))));
    drop(layer.clone().end_when_lost().answer().layer(busy).oneshot(ask()).await.unwrap());
    rested(&calls, 9).await;
    drop(layer.answer().end_when_lost().layer(busy).oneshot(ask()).await.unwrap());
    rested(&calls, 9).await;

    // It stays as the last setting, too.
    let layer = ZSetSemaphoreLayer::new(calls.clone());
    let client = layer.clone().end_when_lost().cooldown_on_429(LONGEST).layer(service_fn(provider));
    drop(client.oneshot(Request::new((429, "7"))).await.unwrap());
    rested(&calls, 7).await;
    drop(layer.answer().cooldown_on_429(LONGEST).layer(busy).oneshot(ask()).await.unwrap());
    rested(&calls, 9).await;
}

async fn rested(calls: &ZSetSemaphore, seconds: u64) {
    let start = Instant::now();
    drop(calls.acquire(2).await.unwrap());
    assert_eq!(start.elapsed().as_secs(), seconds);
}
