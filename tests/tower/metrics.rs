//! The metrics, labelled by the name of the limit and never by a key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Request, Response};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{KeyLimit, Keyed, OutagePolicy, ZSetSemaphoreLayer};

use crate::probe::{Probe, Script, Step, ask, idle, semaphore, settled};

/// The value of each counter, and how many values each histogram has, by name and labels.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<BTreeMap<String, u64>>>);

impl Record {
    fn of(&self, key: &Key) -> Cell {
        let labels = key.labels().map(|label| label.value()).filter(|value| !value.is_empty());
        let labels: Vec<_> = labels.collect();
        Cell { name: format!("{} {}", key.name(), labels.join(" ")), record: self.clone() }
    }
}

impl Record {
    /// The number of requests by outcome and reason.
    fn requests(&self) -> BTreeMap<String, u64> {
        let record = self.0.lock().unwrap();
        let requests = record.iter().filter_map(|(name, count)| {
            let outcome = name.strip_prefix("zset_semaphore_requests_total chats ")?;
            Some((outcome.to_owned(), *count))
        });
        requests.collect()
    }

    /// How many waits were recorded.
    fn waits(&self) -> u64 {
        let record = self.0.lock().unwrap();
        let waits = record.iter().filter(|(name, _)| name.starts_with("zset_semaphore_wait_"));
        waits.map(|(_, count)| count).sum()
    }
}

struct Cell {
    name: String,
    record: Record,
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        *self.record.0.lock().unwrap().entry(self.name.clone()).or_default() += value;
    }
    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.increment(1);
    }
}

impl Recorder for Record {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.of(key)))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.of(key)))
    }
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
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);

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

    let expected = [
        ("requests_total chats permit", 1),
        ("requests_total chats rejected full", 2),
        ("requests_total chats weightless", 1),
        ("requests_total of-key permit", 1),
        ("wait_seconds chats permit", 1),
        ("wait_seconds chats rejected", 2),
        ("wait_seconds chats weightless", 1),
        ("wait_seconds of-key permit", 1),
    ];
    let expected = expected.map(|(name, count)| (format!("zset_semaphore_{name}"), count));
    assert_eq!(*record.0.lock().unwrap(), BTreeMap::from(expected));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gives_up_in_the_queue_counts_as_cancelled() {
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);
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
    assert_eq!(record.requests(), counts([("cancelled", 2), ("permit", 1)]));
    assert_eq!(record.waits(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_rejection_has_its_reason() {
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);
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
    assert_eq!(record.requests(), BTreeMap::from(expected));
}

/// Each request counts in one outcome, and has one wait, however it ends.
#[tokio::test(start_paused = true)]
async fn all_that_came_in_is_the_sum_of_what_became_of_it() {
    const CROWD: u64 = 500;
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);
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
    let requests = record.requests();
    let became: Vec<_> = requests.keys().map(String::as_str).collect();
    assert_eq!(became, ["cancelled", "permit", "rejected queue_full", "rejected timeout"]);
    assert_eq!(requests.values().sum::<u64>(), CROWD, "{requests:?}");
    assert_eq!(record.waits(), CROWD);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_an_outage_lets_through_is_marked() {
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);
    let chats = Client::open("redis://127.0.0.1:1").unwrap().semaphore("chats", 1).build().unwrap();
    for policy in [OutagePolicy::FailOpen, OutagePolicy::LocalCap(1), OutagePolicy::FailClosed] {
        let layer = ZSetSemaphoreLayer::new(chats.clone()).outage_policy(policy);
        let service = layer.outage_after(Duration::from_millis(10)).layer(Probe::default());
        let _ = service.oneshot(ask()).await;
    }
    let requests: Vec<_> = record.requests().into_keys().collect();
    assert_eq!(requests, ["local", "rejected unavailable", "uncounted"]);
}
