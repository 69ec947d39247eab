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
use zset_semaphore::tower::{Error, KeyLimit, Keyed, Reason, ZSetSemaphoreLayer};

use crate::support::wait::{PATIENCE, within};

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

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_lookup_that_fails_ends_with_it() {
    let lookups = Arc::new(AtomicU32::new(0));
    let limit = {
        let lookups = Arc::clone(&lookups);
        KeyLimit::lookup(move |_| {
            lookups.fetch_add(1, SeqCst);
            async {
                sleep(Duration::from_secs(1)).await;
                Err::<u32, _>(std::io::Error::other("no database"))
            }
        })
    };
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).hold_head();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for round in 1..=2 {
        let asked = Instant::now();
        let crowd = (0..20).map(|n| service.clone().oneshot(n));
        for ended in futures_util::future::join_all(crowd).await {
            ended.unwrap_err();
        }
        assert_eq!((asked.elapsed().as_secs(), lookups.load(SeqCst)), (1, round));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_takes_no_longer_than_the_timeout() {
    let limit = KeyLimit::lookup(|_| std::future::pending::<Result<u32, Infallible>>());
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).timeout(Duration::from_secs(3)).hold_head();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    let asked = Instant::now();
    let crowd = (0..20).map(|n| service.clone().oneshot(n));
    for ended in within(PATIENCE, futures_util::future::join_all(crowd)).await {
        let Err(Error::Rejected(rejection)) = ended else { panic!("let in") };
        assert!(matches!(rejection.reason(), Reason::NoLimit(_)), "{rejection:?}");
    }
    assert_eq!(asked.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn a_lookup_that_never_ends_ends_the_request_after_ten_seconds() {
    let limit = KeyLimit::lookup(|_| std::future::pending::<Result<u32, Infallible>>());
    let key = |_: &Request<()>| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed);
    let service = layer.reject_when_full().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    }));
    let asked = Instant::now();
    service.oneshot(Request::new(())).await.unwrap_err();
    assert_eq!(asked.elapsed().as_secs(), 10);
}
