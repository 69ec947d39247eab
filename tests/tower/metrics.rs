//! What is counted for the recorder of the process, by the name of the limit and never by a key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ::http::Request;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tower::{Layer, ServiceExt};
use zset_semaphore::Client;
use zset_semaphore::tower::{Keyed, Outage, ZSetSemaphoreLayer};

use crate::probe::{Probe, ask, idle, semaphore};

/// The value of each counter, and how many values each histogram has, by name and labels.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<BTreeMap<String, u64>>>);

impl Record {
    fn of(&self, key: &Key) -> Cell {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        Cell { name: format!("{} {}", key.name(), labels.join(" ")), record: self.clone() }
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

    let expected =
        [("chats permit", 1), ("chats rejected", 2), ("chats weightless", 1), ("of-key permit", 1)];
    let expected: BTreeMap<String, u64> = ["requests_total", "wait_seconds"]
        .iter()
        .flat_map(|name| expected.map(|(what, n)| (format!("zset_semaphore_{name} {what}"), n)))
        .collect();
    assert_eq!(*record.0.lock().unwrap(), expected);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_an_outage_lets_through_is_marked() {
    let record = Record::default();
    let _guard = metrics::set_default_local_recorder(&record);
    let chats = Client::open("redis://127.0.0.1:1").unwrap().semaphore("chats", 1).build().unwrap();
    for policy in [Outage::Open, Outage::Local(1), Outage::Closed] {
        let layer = ZSetSemaphoreLayer::new(chats.clone()).outage(policy);
        let service =
            layer.away_after(std::time::Duration::from_millis(10)).layer(Probe::default());
        let _ = service.oneshot(ask()).await;
    }
    let requests: Vec<String> = {
        let record = record.0.lock().unwrap();
        record
            .keys()
            .filter_map(|name| name.strip_prefix("zset_semaphore_requests_total "))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(requests, ["chats local", "chats rejected", "chats uncounted"]);
}
