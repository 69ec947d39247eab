//! A provider that answers `429` lowers the effective limit for a while.

use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::probe::{Broken, idle, semaphore, settled};

const LONGEST: Duration = Duration::from_secs(30);

/// Answers with the status, and with the seconds that the request names.
async fn provider(request: Request<(u16, &'static str)>) -> Result<Response<Full<Bytes>>, Broken> {
    let (status, retry_after) = *request.body();
    let answer = Response::builder().status(status).header("retry-after", retry_after);
    Ok(answer.body(Full::from("busy")).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_429_keeps_its_units_for_as_long_as_it_says() {
    let calls = semaphore(2);
    let layer = ZSetSemaphoreLayer::new(calls.clone()).rest_on_429(LONGEST);
    let client = layer.layer(service_fn(provider));
    for (retry_after, seconds) in
        [("7", 7), ("", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("900", 30)]
    {
        let start = Instant::now();
        let answer = client.clone().oneshot(Request::new((429, retry_after))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
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
    for (layer, status) in [
        (layer.clone(), 429),
        (layer.clone().rest_on_429(LONGEST), 503),
        (layer.rest_on_429(LONGEST), 200),
    ] {
        let client = layer.layer(service_fn(provider));
        drop(client.oneshot(Request::new((status, "20"))).await.unwrap());
        let start = Instant::now();
        drop(calls.acquire(2).await.unwrap());
        assert!(start.elapsed() < Duration::from_secs(1), "{status}");
    }
}
