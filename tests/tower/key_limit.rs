//! The limit of a key that has to be looked up first.

use std::convert::Infallible;
use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{
    Error as TowerError, Header, KeyLimit, Keyed, Reason, Rejection, ZSetSemaphoreLayer,
};

use test_support::wait::{PATIENCE, within};

/// A source of limits that can be made to fail, and takes its time.
#[derive(Clone)]
struct Source {
    asked: Arc<AtomicU32>,
    limit: Arc<AtomicU32>,
    fails: Arc<AtomicBool>,
    takes: Duration,
}

impl Source {
    fn new(limit: u32, takes: Duration) -> Self {
        let limit = Arc::new(AtomicU32::new(limit));
        Self { asked: Arc::default(), limit, fails: Arc::default(), takes }
    }

    fn limit(&self) -> KeyLimit {
        let source = self.clone();
        KeyLimit::lookup(move |_| {
            source.asked.fetch_add(1, SeqCst);
            let source = source.clone();
            async move {
                sleep(source.takes).await;
                let limit = source.limit.load(SeqCst);
                if source.fails.load(SeqCst) { Err(Error::other("no database")) } else { Ok(limit) }
            }
        })
    }

    fn asked(&self) -> u32 {
        self.asked.load(SeqCst)
    }

    /// A service whose requests are each for the limit of their text.
    fn service(&self) -> Gate {
        let key = |key: &&'static str| Some((*key).to_owned());
        let keyed = Keyed::builder(&Client::in_memory(), "plans", key, self.limit());
        let layer = ZSetSemaphoreLayer::keyed(keyed.build().unwrap()).reject_when_full();
        Gate::new(
            layer.release_on_response().layer(service_fn(async |key| Ok::<_, Infallible>(key))),
        )
    }
}

type Gate = BoxCloneService<&'static str, &'static str, TowerError<Infallible>>;

async fn ask(gate: &Gate, key: &'static str) -> Result<(), Rejection> {
    match gate.clone().oneshot(key).await {
        Ok(_) => Ok(()),
        Err(TowerError::Rejected(rejection)) => Err(rejection),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_limit_is_served_while_the_new_one_is_looked_up() {
    let source = Source::new(1, Duration::from_millis(300));
    let gate = source.service();
    let asked = Instant::now();
    ask(&gate, "alice").await.unwrap();
    assert_eq!(asked.elapsed(), Duration::from_millis(300));
    for round in [2, 4, 6] {
        sleep(Duration::from_secs(60)).await;
        source.limit.store(0, SeqCst);
        let asked = Instant::now();
        for _ in 0..10 {
            ask(&gate, "alice").await.unwrap();
        }
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(Duration::from_millis(301)).await;
        assert!(ask(&gate, "alice").await.unwrap_err().is_full(), "the new limit counts");
        assert_eq!(source.asked(), round);

        source.limit.store(1, SeqCst);
        sleep(Duration::from_secs(60)).await;
        assert!(ask(&gate, "alice").await.unwrap_err().is_full(), "the old limit counts");
        sleep(Duration::from_millis(301)).await;
        ask(&gate, "alice").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_limit_outlives_lookups_that_fail_and_the_source_is_not_pressed() {
    let source = Source::new(1, Duration::from_millis(10));
    let gate = source.service();
    ask(&gate, "alice").await.unwrap();
    source.fails.store(true, SeqCst);
    for second in 0..600 {
        sleep(Duration::from_secs(1)).await;
        ask(&gate, "alice").await.unwrap_or_else(|why| panic!("second {second}: {why}"));
    }
    // After a minute, then with pauses that grow from a second to a minute.
    assert!((10..=20).contains(&source.asked()), "{}", source.asked());
    source.limit.store(0, SeqCst);
    source.fails.store(false, SeqCst);
    let back = Instant::now();
    while ask(&gate, "alice").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
    assert!(back.elapsed() <= Duration::from_secs(80), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_first_lookup_that_fails_is_not_asked_for_again_by_each_request() {
    let source = Source::new(1, Duration::from_millis(10));
    let gate = source.service();
    source.fails.store(true, SeqCst);
    for _ in 0..6_000 {
        let rejection = ask(&gate, "alice").await.unwrap_err();
        assert!(matches!(rejection.reason(), Reason::LimitLookup(_)), "{rejection:?}");
        assert!((1..=7).contains(&rejection.retry_after().as_secs()), "{rejection:?}");
        sleep(Duration::from_millis(10)).await;
    }
    // In a minute, with pauses that grow from a second to five.
    assert!((10..=20).contains(&source.asked()), "{}", source.asked());
    source.fails.store(false, SeqCst);
    let back = Instant::now();
    while ask(&gate, "alice").await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(back.elapsed() <= Duration::from_secs(7), "{:?}", back.elapsed());
    // Another key is not affected.
    ask(&gate, "bob").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lookup_slower_than_the_patience_of_those_who_wait_ends_all_the_same() {
    let source = Source::new(1, Duration::from_secs(5));
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, source.limit());
    let layer = ZSetSemaphoreLayer::keyed(keyed.build().unwrap()).timeout(Duration::from_secs(2));
    let service =
        layer.release_on_response().layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for n in 0..2 {
        service.clone().oneshot(n).await.unwrap_err();
    }
    sleep(Duration::from_secs(1)).await;
    service.oneshot(3).await.unwrap();
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_panics_is_one_that_failed() {
    let calls = Arc::new(AtomicU32::new(0));
    let limit = {
        let calls = Arc::clone(&calls);
        KeyLimit::lookup(move |_| {
            let first = calls.fetch_add(1, SeqCst) == 0;
            async move { if first { panic!("a bug") } else { Ok::<_, Infallible>(1) } }
        })
    };
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).release_on_response();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for _ in 0..2 {
        let ended = within(PATIENCE, service.clone().oneshot(1)).await;
        let Err(TowerError::Rejected(rejection)) = ended else { panic!("let in") };
        assert!(matches!(rejection.reason(), Reason::LimitLookup(_)), "{rejection:?}");
    }
    sleep(Duration::from_secs(2)).await;
    service.oneshot(2).await.unwrap();
    assert_eq!(calls.load(SeqCst), 2);
}

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
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, 1).refresh_after(Duration::MAX);
    let layer = ZSetSemaphoreLayer::keyed(keyed.build().unwrap()).outage_after(Duration::MAX);
    let service =
        layer.release_on_response().layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
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
                Err::<u32, _>(Error::other("no database"))
            }
        })
    };
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).release_on_response();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for round in 1..=2 {
        let asked = Instant::now();
        let crowd = (0..20).map(|n| service.clone().oneshot(n));
        for ended in futures_util::future::join_all(crowd).await {
            ended.unwrap_err();
        }
        assert_eq!((asked.elapsed().as_secs(), lookups.load(SeqCst)), (1, round));
        sleep(Duration::from_secs(2)).await; // it is not asked again at once
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_takes_no_longer_than_the_timeout() {
    let limit = KeyLimit::lookup(|_| std::future::pending::<Result<u32, Infallible>>());
    let key = |_: &u32| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer =
        ZSetSemaphoreLayer::keyed(keyed).timeout(Duration::from_secs(3)).release_on_response();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    let asked = Instant::now();
    let crowd = (0..20).map(|n| service.clone().oneshot(n));
    for ended in within(PATIENCE, futures_util::future::join_all(crowd)).await {
        let Err(TowerError::Rejected(rejection)) = ended else { panic!("let in") };
        assert!(matches!(rejection.reason(), Reason::LimitLookup(_)), "{rejection:?}");
    }
    assert_eq!(asked.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_of_a_key_takes_effect_when_it_is_found_out_anew() {
    let plan = Arc::new(AtomicU32::new(2));
    let limit = {
        let plan = Arc::clone(&plan);
        KeyLimit::from_fn(move |_| plan.load(SeqCst))
    };
    let key = |_: &Request<()>| Some("alice".to_owned());
    let refresh = Duration::from_millis(20);
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).refresh_after(refresh);
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

#[tokio::test(start_paused = true)]
async fn a_known_limit_is_not_forgotten_for_being_idle_while_lookups_fail() {
    let source = Source::new(1, Duration::from_millis(10));
    let gate = source.service();
    ask(&gate, "bob").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    ask(&gate, "alice").await.unwrap();
    source.fails.store(true, SeqCst);
    // Bob comes once a second, alice after ten minutes.
    for _ in 0..600 {
        sleep(Duration::from_secs(1)).await;
        ask(&gate, "bob").await.unwrap();
    }
    ask(&gate, "alice").await.unwrap();
}

/// An error that asks for the number of cached keys when it is dropped.
#[derive(Debug, thiserror::Error)]
#[error("no database")]
struct Asking;

static ASKED: OnceLock<Keyed<Header>> = OnceLock::new();

impl Drop for Asking {
    fn drop(&mut self) {
        assert_eq!(ASKED.get().unwrap().cached_keys(), 1);
    }
}

#[test]
fn an_error_of_a_lookup_goes_where_no_lock_is_held() {
    let (done, end) = std::sync::mpsc::channel();
    // A thread of its own, so that a deadlock is a failure.
    std::thread::spawn(move || {
        let client = Client::in_memory();
        let key = Header::new("x-key".parse().unwrap());
        let limit = KeyLimit::lookup(async |_| Err::<u32, _>(Asking));
        let keyed = Keyed::builder(&client, "plans", key, limit).build().unwrap();
        assert!(ASKED.set(keyed.clone()).is_ok());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let gate = ZSetSemaphoreLayer::keyed(keyed).layer(service_fn(async |_: Request<()>| {
                Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
            }));
            for _ in 0..5 {
                let request = Request::builder().header("x-key", "alice").body(()).unwrap();
                assert!(gate.clone().oneshot(request).await.is_err());
                sleep(Duration::from_secs(10)).await;
            }
        });
        done.send(()).unwrap();
    });
    end.recv_timeout(PATIENCE).expect("no deadlock, and no panic above");
}
