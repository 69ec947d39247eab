//! The cap of this process, per key, while the store is away.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{Keyed, KeyedBuilder, Outage, ZSetSemaphoreLayer};

use crate::support::wait::{PATIENCE, within};

type Key = fn(&Request<Full<bytes::Bytes>>) -> Option<String>;

/// What one answer says while another of the same key is held, `pause` after that began.
async fn second_of_a_key(
    adapt: impl FnOnce(KeyedBuilder<Key>) -> KeyedBuilder<Key>,
    pause: Duration,
) -> StatusCode {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", closed.local_addr().unwrap());
    drop(closed); // nobody listens there
    let client = Client::open(url).unwrap();
    let key: Key = |request| Some(request.uri().path().to_owned());
    let keyed = adapt(Keyed::builder(&client, "local", key, 1)).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed)
        .timeout(Duration::from_millis(300))
        .away_after(Duration::from_millis(20))
        .outage(Outage::Local(1))
        .answer();
    let service = layer.layer(service_fn(|_| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("token")))
    }));
    let ask = |key: &str| service.clone().oneshot(Request::get(key).body(Full::default()).unwrap());
    let first = ask("/alice").await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    tokio::time::sleep(pause).await;
    assert_eq!(ask("/bob").await.unwrap().status(), StatusCode::OK);
    ask("/alice").await.unwrap().status()
}

#[tokio::test]
async fn the_cap_of_a_key_holds_when_its_limit_is_found_out_anew() {
    let refresh = Duration::from_millis(50);
    let status = second_of_a_key(|keyed| keyed.refresh(refresh), 2 * refresh).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_cap_of_a_key_holds_though_the_key_was_idle() {
    let idle = Duration::from_millis(50);
    let status = second_of_a_key(|keyed| keyed.idle(idle), 2 * idle).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// More units than there are would be waited for without end.
#[tokio::test]
async fn layers_with_different_caps_share_the_first_one() {
    let client = Client::open("redis://127.0.0.1:1").unwrap(); // nobody listens there
    let semaphore = client.semaphore("local", 10).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(semaphore).away_after(Duration::from_millis(20));
    let inner = service_fn(async |n: u32| Ok::<_, Infallible>(n));
    let small = layer.clone().outage(Outage::Local(1)).hold_head().layer(inner);
    let large = layer.outage(Outage::Local(4)).weight(|n: &u32| *n).hold_head().layer(inner);
    within(PATIENCE, small.oneshot(1)).await.unwrap();
    within(PATIENCE, large.oneshot(4)).await.unwrap();
}
