//! The metrics, labelled by the name of the limit and never by a key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use ::http::{Request, Response};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::metrics::{
    KEYS, LOST_TOTAL, OUTAGE, REQUEST_WAIT_SECONDS, REQUESTS_TOTAL, RESTING_UNITS,
};
use zset_semaphore::tower::{KeyLimit, Keyed, OutagePolicy, ZSetSemaphoreLayer};

use crate::common::recorder::Record;
use crate::probe::{Probe, Script, Step, ask, idle, semaphore, settled};

/// The number of requests of the limit `chats` by outcome and reason.
fn requests(record: &Record) -> BTreeMap<String, u64> {
    let requests = record.counts(REQUESTS_TOTAL).into_iter();
    requests
        .filter_map(|(labels, count)| Some((labels.strip_prefix("chats ")?.to_owned(), count)))
        .collect()
}

/// How many waits were recorded.
fn waits(record: &Record) -> u64 {
    record.observed(REQUEST_WAIT_SECONDS).values().sum()
}

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(outcome, count)| (outcome.to_owned(), count)).into()
}

/// Numbers that are the same in every run (splitmix64).
fn numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_counts_once_by_what_became_of_it() {
    let (record, _guard) = Record::of_this_thread();

    let chats = semaphore(1);
    let full = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full();
    let weightless = full.clone().weight(|_: &Request<()>| 0).layer(Probe::default());
    let full = full.layer(Probe::default());
    drop(full.clone().oneshot(ask()).await.unwrap());
    idle(&chats).await;
    let held = chats.acquire(1).await.unwrap();
    for _ in 0..2 {
        full.clone().oneshot(ask()).await.unwrap_err();
    }
    weightless.oneshot(ask()).await.unwrap();
    drop(held);

    let key = |_: &Request<()>| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "of-key", key, 1).build().unwrap();
    drop(ZSetSemaphoreLayer::keyed(keyed).layer(Probe::default()).oneshot(ask()).await.unwrap());

    let outcomes = [
        ("chats permit", 1),
        ("chats rejected full", 2),
        ("chats weightless", 1),
        ("of-key permit", 1),
    ];
    assert_eq!(record.counts(REQUESTS_TOTAL), counts(outcomes));
    let waits =
        [("chats permit", 1), ("chats rejected", 2), ("chats weightless", 1), ("of-key permit", 1)];
    assert_eq!(record.observed(REQUEST_WAIT_SECONDS), counts(waits));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gives_up_in_the_queue_counts_as_cancelled() {
    let (record, _guard) = Record::of_this_thread();
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(Probe::default());
    let held = chats.acquire(1).await.unwrap();
    let queued = tokio::spawn(service.clone().oneshot(ask()));
    settled(&chats, 1, 1).await;
    queued.abort();
    settled(&chats, 1, 0).await;
    drop(service.clone().call(ask())); // never polled, and yet it came in
    drop(held);
    drop(service.oneshot(ask()).await.unwrap()); // counted as let through, whatever comes then
    assert_eq!(requests(record), counts([("cancelled", 2), ("permit", 1)]));
    assert_eq!(waits(record), 3);
}

#[tokio::test(start_paused = true)]
async fn every_rejection_has_its_reason() {
    let (record, _guard) = Record::of_this_thread();
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    let held = chats.acquire(1).await.unwrap();
    let brief = layer.clone().timeout(Duration::from_millis(10));
    brief.clone().layer(Probe::default()).oneshot(ask()).await.unwrap_err();
    layer.clone().reject_when_full().layer(Probe::default()).oneshot(ask()).await.unwrap_err();
    layer.clone().max_queue(0).layer(Probe::default()).oneshot(ask()).await.unwrap_err();
    let heavy = brief.weight(|_: &Request<()>| 2).layer(Probe::default());
    heavy.oneshot(ask()).await.unwrap_err();
    let broken = Request::new(Script::of([Step::Wait, Step::Fail]));
    let answering = layer.clone().answer().layer(Probe::default());
    assert_eq!(answering.oneshot(broken).await.unwrap().status(), 400);
    chats.close();
    layer.layer(Probe::default()).oneshot(ask()).await.unwrap_err();
    drop(held);

    let lookup = KeyLimit::lookup(async |_| Err::<u32, _>(std::io::Error::other("no such plan")));
    let key = |_: &Request<()>| Some("alice".to_owned());
    let keyed = Keyed::builder(&Client::in_memory(), "chats", key, lookup).build().unwrap();
    let keyed = ZSetSemaphoreLayer::keyed(keyed).layer(Probe::default());
    keyed.oneshot(ask()).await.unwrap_err();

    let reasons = ["body", "closed", "full", "lookup", "queue_full", "timeout", "too_large"];
    let expected = reasons.map(|reason| (format!("rejected {reason}"), 1));
    assert_eq!(requests(record), BTreeMap::from(expected));
}

/// With those of `every_rejection_has_its_reason`, these are all reasons.
#[cfg(feature = "redis")]
#[tokio::test]
async fn what_the_store_or_an_operator_ends_has_its_reason() {
    let server = test_support::redis_server::RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let client = Client::connect(server.url()).await.unwrap();
    let named = |client: &Client| client.semaphore("chats", 1).build().unwrap();

    let away = ZSetSemaphoreLayer::new(named(&Client::open("redis://127.0.0.1:1").unwrap()));
    let away = away.outage_after(Duration::from_millis(10)).layer(Probe::default());
    away.oneshot(ask()).await.unwrap_err();

    let proxy = test_support::fault_proxy::FaultProxy::start(server.addr()).await;
    let far = named(&Client::connect(proxy.url()).await.unwrap());
    let near = named(&client);
    let permit = near.acquire(1).await.unwrap();
    let service = ZSetSemaphoreLayer::new(far).outage_after(Duration::from_secs(60));
    let queued = tokio::spawn(service.layer(Probe::default()).oneshot(ask()));
    settled(&near, 1, 1).await;
    proxy.refuse(true);
    proxy.cut();
    permit.release().await.unwrap();
    near.kick(near.inspect().await.unwrap().holders[0].id).await.unwrap();
    proxy.refuse(false);
    queued.await.unwrap().unwrap_err();
    idle(&near).await;

    server.cmd(&["SET", "zsem:{chats}:permits", "text"]).await;
    let service = ZSetSemaphoreLayer::new(near).layer(Probe::default());
    service.oneshot(ask()).await.unwrap_err();

    let reasons = ["kicked", "refused", "unavailable"];
    let expected = reasons.map(|reason| (format!("rejected {reason}"), 1));
    assert_eq!(requests(record), BTreeMap::from(expected));
}

/// Each request counts in one outcome, and has one wait, however it ends.
#[tokio::test(start_paused = true)]
async fn all_that_came_in_is_the_sum_of_what_became_of_it() {
    const CROWD: u64 = 500;
    let (record, _guard) = Record::of_this_thread();
    let chats = semaphore(3);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).timeout(Duration::from_millis(15));
    let service = layer.max_queue(8).layer(service_fn(async |request: Request<u64>| {
        sleep(Duration::from_millis(*request.body())).await;
        Ok::<_, Infallible>(Response::new(Script::of([])))
    }));
    let mut clients = JoinSet::new();
    let mut random = numbers(7);
    for _ in 0..CROWD {
        let request = service.clone().oneshot(Request::new(random() % 20));
        let patience = Duration::from_millis(random() % 60);
        clients.spawn(async move { drop(timeout(patience, request).await) });
        sleep(Duration::from_millis(random() % 5)).await;
    }
    clients.join_all().await;
    idle(&chats).await;
    let requests = requests(record);
    let became: Vec<_> = requests.keys().map(String::as_str).collect();
    assert_eq!(became, ["cancelled", "permit", "rejected queue_full", "rejected timeout"]);
    assert_eq!(requests.values().sum::<u64>(), CROWD, "{requests:?}");
    assert_eq!(waits(record), CROWD);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_an_outage_lets_through_is_marked() {
    let (record, _guard) = Record::of_this_thread();
    let chats = Client::open("redis://127.0.0.1:1").unwrap().semaphore("chats", 1).build().unwrap();
    for policy in [OutagePolicy::FailOpen, OutagePolicy::LocalCap(1), OutagePolicy::FailClosed] {
        let layer = ZSetSemaphoreLayer::new(chats.clone()).outage_policy(policy);
        let service = layer.outage_after(Duration::from_millis(10)).layer(Probe::default());
        let _ = service.oneshot(ask()).await;
    }
    let requests: Vec<_> = requests(record).into_keys().collect();
    assert_eq!(requests, ["local", "rejected unavailable", "uncounted"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_no_label_and_the_cached_keys_are_counted() {
    let (record, _guard) = Record::of_this_thread();
    let key = |request: &Request<u64>| Some(format!("key-{}", request.body()));
    let keyed = Keyed::builder(&Client::in_memory(), "of-key", key, 1);
    let keyed = keyed.idle_timeout(Duration::from_secs(10)).build().unwrap();
    let service = ZSetSemaphoreLayer::keyed(keyed).layer(service_fn(async |_: Request<u64>| {
        Ok::<_, Infallible>(Response::new(Script::of([])))
    }));
    let keys = || record.gauge(&format!("{KEYS} of-key"));
    for key in 0..50 {
        drop(service.clone().oneshot(Request::new(key)).await.unwrap());
    }
    assert_eq!(keys(), 50.0);
    for series in record.gauges().keys() {
        assert!(!series.contains("key-"), "{series}");
    }
    assert_eq!(record.counts(REQUESTS_TOTAL), counts([("of-key permit", 50)]));
    sleep(Duration::from_secs(20)).await;
    for _ in 0..50 {
        drop(service.clone().oneshot(Request::new(0)).await.unwrap());
    }
    assert_eq!(keys(), 1.0);
    drop(service);
    settle(record).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_loses_its_permit_was_let_through_and_counts_once() {
    let (record, _guard) = Record::of_this_thread();
    let brief = Client::in_memory().semaphore("chats", 1).max_hold(Duration::from_secs(1));
    let layer = ZSetSemaphoreLayer::new(brief.build().unwrap()).end_when_lost();
    let service = layer.layer(service_fn(async |_: Request<Script>| {
        sleep(Duration::from_secs(9)).await;
        Ok::<_, Infallible>(Response::new(Script::of([])))
    }));
    let rejection = service.oneshot(Request::new(Script::of([]))).await.unwrap_err();
    assert!(rejection.to_string().contains("lost"), "{rejection}");
    assert_eq!(requests(record), counts([("permit", 1)]));
    assert_eq!(waits(record), 1);
    test_support::wait::eventually("the loss counts", Duration::from_secs(60), async || {
        record.counts(LOST_TOTAL) == counts([("chats max_hold", 1)])
    })
    .await;
}

/// Waits until all gauges are 0.
async fn settle(record: &Record) {
    let nothing_left = async || record.gauges_left().is_empty();
    test_support::wait::eventually("all gauges are 0", Duration::from_secs(60), nothing_left).await;
}

#[tokio::test(start_paused = true)]
async fn units_that_rest_after_a_refusal_are_counted_until_they_are_given_back() {
    let (record, _guard) = Record::of_this_thread();
    let chats = semaphore(5);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let layer = layer.cooldown_on_429(Duration::from_secs(3)).weight(|_: &Request<_>| 2);
    let service = layer.layer(service_fn(async |_| {
        let busy = Response::builder().status(429).header("retry-after", "9");
        Ok::<_, Infallible>(busy.body(Script::of([])).unwrap())
    }));
    let resting = || record.gauge(&format!("{RESTING_UNITS} chats"));
    drop(service.clone().oneshot(Request::new(Script::of([]))).await.unwrap());
    assert_eq!(resting(), 2.0);
    sleep(Duration::from_secs(4)).await;
    idle(&chats).await;
    assert_eq!(resting(), 0.0);
    drop((service, layer, chats));
    settle(record).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_layer_counts_as_in_outage_until_requests_are_let_through_again_or_it_is_dropped() {
    let mut server = test_support::redis_server::RedisServer::start().await;
    server.kill();
    let (record, _guard) = Record::of_this_thread();
    let chats = Client::open(server.url()).unwrap().semaphore("chats", 1).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(chats).outage_policy(OutagePolicy::FailOpen);
    let service = layer.outage_after(Duration::from_millis(10)).layer(Probe::default());
    let outage = || record.gauge(&format!("{OUTAGE} chats"));
    drop(service.clone().oneshot(ask()).await.unwrap());
    assert_eq!(outage(), 1.0);
    server.restart().await;
    test_support::wait::eventually("it is over", Duration::from_secs(10), async || {
        drop(service.clone().oneshot(ask()).await.unwrap());
        outage() == 0.0
    })
    .await;
    server.kill();
    drop(service.clone().oneshot(ask()).await.unwrap());
    test_support::wait::eventually("it is out again", Duration::from_secs(10), async || {
        drop(service.clone().oneshot(ask()).await.unwrap());
        outage() == 1.0
    })
    .await;
    drop(service);
    settle(record).await;
}
