//! The limit of a key that is to be found out first.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{KeyLimit, Keyed, ZSetSemaphoreLayer};

#[tokio::test(start_paused = true)]
async fn what_it_takes_to_find_out_is_part_of_the_timeout() {
    let limit = KeyLimit::lookup(|_| async {
        sleep(Duration::from_secs(2)).await;
        Ok::<_, Infallible>(0)
    });
    let key = |_: &Request<()>| None;
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).timeout(Duration::from_secs(3));
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    }));
    let asked = Instant::now();
    service.oneshot(Request::new(())).await.unwrap_err();
    assert_eq!(asked.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn patience_and_refresh_may_be_without_end() {
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, 1).refresh(Duration::MAX);
    let layer = ZSetSemaphoreLayer::keyed(keyed.build().unwrap()).away_after(Duration::MAX);
    let service = layer.hold_head().layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for n in 0..2 {
        service.clone().oneshot(n).await.unwrap();
    }
}

#[tokio::test]
async fn a_lowered_limit_of_a_key_takes_effect_when_it_is_found_out_anew() {
    let plan = Arc::new(AtomicU32::new(2));
    let limit = {
        let plan = Arc::clone(&plan);
        KeyLimit::by(move |_| plan.load(SeqCst))
    };
    let key = |_: &Request<()>| Some("alice".to_owned());
    let refresh = Duration::from_millis(20);
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).refresh(refresh);
    let layer = ZSetSemaphoreLayer::keyed(keyed.build().unwrap()).reject_when_full();
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("token")))
    }));
    let ask = || service.clone().oneshot(Request::new(()));
    drop(ask().await.unwrap());
    plan.store(1, SeqCst);
    sleep(2 * refresh).await;
    let _held = ask().await.unwrap();
    ask().await.unwrap_err();
}
