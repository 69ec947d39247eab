//! The constants name what is told, and all of it.

use std::collections::BTreeSet;
use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Bytes;
use metrics::{Unit, set_global_recorder};
use test_support::child_role::{runtime, say};
use test_support::processes::Child;
use test_support::wait::PATIENCE;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::metrics::{self as names, describe};
use zset_semaphore::tower::{Keyed, ZSetSemaphoreLayer};

use crate::common::recorder::Record;

/// The values of all constants, from the file that has them.
fn constants() -> BTreeSet<String> {
    let lines = include_str!("../../src/metrics/names.rs").lines();
    let values = lines.filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
    values.map(str::to_owned).collect()
}

/// One request through the layer of a keyed limit.
async fn use_a_layer(client: &Client) {
    let key = |_: &Request<()>| Some("alice".to_owned());
    let keyed = Keyed::builder(client, "of-key", key, 1).build().unwrap();
    let inner = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    drop(ZSetSemaphoreLayer::keyed(keyed).layer(inner).oneshot(Request::new(())).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn every_constant_names_a_metric_that_is_registered_and_described_and_no_other_is() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    drop(jobs.acquire(1).await.unwrap());
    use_a_layer(&client).await;
    assert_eq!(record.registered(), constants());
    let described = record.described();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), constants());
    for (name, (unit, description)) in &described {
        let seconds = name.ends_with("_seconds");
        assert_eq!(unit, &Some(if seconds { Unit::Seconds } else { Unit::Count }), "{name}");
        assert!(description.ends_with('.') && name.starts_with("zsem_"), "{name}: {description}");
    }
    let (again, _guard) = Record::of_this_thread();
    describe();
    assert_eq!(again.described(), described);
    let histograms: BTreeSet<_> = names::BUCKETS.iter().map(|(name, _)| *name).collect();
    let named = |name: &String| name.ends_with("_seconds") || name.ends_with("_ids");
    assert_eq!(
        histograms,
        constants().iter().filter(|name| named(name)).map(|name| &**name).collect()
    );
    for (name, buckets) in names::BUCKETS {
        assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
    }
}

/// Each metric, with its type and the keys of its labels.
const SHAPES: [(&str, &str); 20] = [
    (names::WAIT_SECONDS, "histogram outcome semaphore"),
    (names::HELD_SECONDS, "histogram end semaphore"),
    (names::HELD_UNITS, "gauge semaphore"),
    (names::WAITERS, "gauge semaphore"),
    (names::IN_USE_UNITS, "gauge semaphore"),
    (names::QUEUE_LENGTH, "gauge semaphore"),
    (names::LIMIT_UNITS, "gauge semaphore"),
    (names::LOST_TOTAL, "counter reason semaphore"),
    (names::UNHEARD_GRANTS_TOTAL, "counter semaphore"),
    (names::DATA_LOSSES_TOTAL, "counter semaphore"),
    (names::TURNS_TOTAL, "counter outcome"),
    (names::TURN_SECONDS, "histogram"),
    (names::TURN_IDS, "histogram"),
    (names::CONNECTED, "gauge"),
    (names::CONNECTS_TOTAL, "counter outcome"),
    (names::REQUESTS_TOTAL, "counter outcome reason semaphore"),
    (names::REQUEST_WAIT_SECONDS, "histogram outcome semaphore"),
    (names::OUTAGE, "gauge semaphore"),
    (names::RESTING_UNITS, "gauge semaphore"),
    (names::KEYS, "gauge semaphore"),
];

#[tokio::test(start_paused = true)]
async fn each_metric_has_its_type_and_its_labels_and_says_so() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    drop(client.semaphore("jobs", 1).build().unwrap().acquire(1).await.unwrap());
    use_a_layer(&client).await;
    let shapes = SHAPES.map(|(name, shape)| (name.to_owned(), [shape.to_owned()].into()));
    assert_eq!(record.shapes(), shapes.into());
    // The documentation of a constant begins with the type, and names each label.
    let mut docs = String::new();
    let mut documented = BTreeSet::new();
    for line in include_str!("../../src/metrics/names.rs").lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs += doc;
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let name = constant.split('"').nth(1).unwrap();
            let (_, shape) = SHAPES.iter().find(|(known, _)| *known == name).unwrap();
            let mut words = shape.split(' ');
            let kind = words.next().unwrap();
            assert!(docs.trim().to_lowercase().starts_with(kind), "{name} is a {kind}: {docs}");
            for label in words {
                assert!(
                    docs.contains(&format!("`{label}`")),
                    "{name} has the label {label}: {docs}"
                );
            }
            documented.insert(name);
            docs.clear();
        }
    }
    assert_eq!(documented, SHAPES.iter().map(|(name, _)| *name).collect());
}

/// In a process of its own, because a recorder is installed once.
#[tokio::test]
async fn a_client_that_was_made_before_the_recorder_tells_it_nothing_and_later_ones_all() {
    let mut child = Child::spawn("late", &[]);
    child.expect_line("@done", PATIENCE).await;
}

pub(crate) fn play_late() {
    let record: &Record = Box::leak(Box::default());
    runtime().block_on(async {
        let early = Client::in_memory();
        set_global_recorder(record.clone()).unwrap_or_else(|_| panic!("it is the first"));
        drop(early.semaphore("early", 1).build().unwrap().acquire(1).await.unwrap());
        assert_eq!(record.registered(), BTreeSet::new());
        let late = Client::in_memory();
        drop(late.semaphore("late", 1).build().unwrap().acquire(1).await.unwrap());
        use_a_layer(&late).await;
        assert_eq!(record.registered(), constants());
    });
    say("done");
}
