//! The cap of this process, per key, during an outage.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{Header, Keyed, KeyedBuilder, OutagePolicy, ZSetSemaphoreLayer};

use test_support::wait::{PATIENCE, within};

type Key = fn(&Request<Full<bytes::Bytes>>) -> Option<String>;

/// Returns the status of a request while another one of the same key runs, which began `pause` ago.
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
        .outage_after(Duration::from_millis(20))
        .outage_policy(OutagePolicy::LocalCap(1))
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
    let status = second_of_a_key(|keyed| keyed.refresh_after(refresh), 2 * refresh).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_cap_of_a_key_holds_though_the_key_was_idle() {
    let idle = Duration::from_millis(50);
    let status = second_of_a_key(|keyed| keyed.idle_timeout(idle), 2 * idle).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A request for more units than the cap has would wait for ever.
#[tokio::test]
async fn layers_with_different_caps_share_the_first_one() {
    let client = Client::open("redis://127.0.0.1:1").unwrap(); // nobody listens there
    let semaphore = client.semaphore("local", 10).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(semaphore).outage_after(Duration::from_millis(20));
    let inner = service_fn(async |n: u32| Ok::<_, Infallible>(n));
    let small =
        layer.clone().outage_policy(OutagePolicy::LocalCap(1)).release_on_response().layer(inner);
    let large = layer
        .outage_policy(OutagePolicy::LocalCap(4))
        .weight(|n: &u32| *n)
        .release_on_response()
        .layer(inner);
    within(PATIENCE, small.oneshot(1)).await.unwrap();
    within(PATIENCE, large.oneshot(4)).await.unwrap();
}

/// During an outage only this process knows which requests run, so a key in use is never evicted, however
/// many others come.
#[tokio::test]
async fn a_key_in_use_keeps_its_local_cap_though_the_keys_are_more_than_are_remembered() {
    const OTHERS: usize = 10_050;
    let tenant = Header::new("x-tenant".parse().unwrap());
    let of = |tenant: &str| Request::builder().header("x-tenant", tenant).body(()).unwrap();
    let client = Client::open("redis://127.0.0.1:1").unwrap(); // nobody listens there
    let keyed = Keyed::builder(&client, "chats-of", tenant, 4).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed.clone())
        .outage_after(Duration::from_millis(20))
        .outage_policy(OutagePolicy::LocalCap(1));
    // The upstream counts the streams of each tenant.
    let streams = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let counting = Arc::clone(&streams);
    let upstream = service_fn(move |request: Request<()>| {
        let tenant = request.headers()["x-tenant"].to_str().unwrap().to_owned();
        *counting.lock().unwrap().entry(tenant.clone()).or_default() += 1;
        let stream = Stream { tenant, streams: Arc::clone(&counting) };
        let body = Full::<bytes::Bytes>::from("token").map_frame(move |frame| {
            let _ = &stream;
            frame
        });
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let hasty = layer.clone().timeout(Duration::from_millis(50)).layer(upstream.clone());
    let patient = layer.layer(upstream);

    let held = within(PATIENCE, patient.clone().oneshot(of("alice"))).await.unwrap();
    let waiting = tokio::spawn(patient.oneshot(of("alice")));
    tokio::task::yield_now().await; // else it would come only when all others are through
    for n in 0..OTHERS {
        drop(within(PATIENCE, hasty.clone().oneshot(of(&n.to_string()))).await.unwrap());
    }
    for _ in 0..3 {
        within(PATIENCE, hasty.clone().oneshot(of("alice"))).await.unwrap_err();
        assert_eq!(streams.lock().unwrap()["alice"], 1);
    }
    assert!(!waiting.is_finished(), "let in beside the first");
    assert!(keyed.cached_keys() <= 10_000, "{}", keyed.cached_keys());
    drop(held);
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
}

struct Stream {
    tenant: String,
    streams: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.streams.lock().unwrap().get_mut(&self.tenant).unwrap() -= 1;
    }
}
