//! The label `semaphore` has few values, and never the key of a request.

use std::collections::BTreeSet;
use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Bytes;
use metrics::set_global_recorder;
use test_support::child_role::{runtime, say};
use test_support::processes::Child;
use test_support::wait::{PATIENCE, eventually};
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::metrics::{
    HELD_SECONDS, HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS, MAX_SEMAPHORE_LABELS, OTHER_SEMAPHORES,
    WAIT_SECONDS, WAITERS,
};
use zset_semaphore::tower::{Keyed, ZSetSemaphoreLayer};
use zset_semaphore::{Client, MemoryStore};

use crate::common::inspect::{granted, queue};
use crate::common::recorder::Record;
use crate::counts;

const NAMES: usize = 300;

/// In a process of its own, because the label is bounded by the process.
#[tokio::test]
async fn three_hundred_names_make_two_hundred_labels_and_one_for_the_rest() {
    let mut child = Child::spawn("labels", &[]);
    child.expect_line("@done", PATIENCE).await;
}

pub(crate) fn play() {
    let record: &Record = Box::leak(Box::default());
    set_global_recorder(record.clone()).unwrap_or_else(|_| panic!("it is the first"));
    runtime().block_on(three_hundred_names(record));
    say("done");
}

async fn three_hundred_names(record: &Record) {
    let (memory, mut semaphores, mut held) = (MemoryStore::new(), Vec::new(), Vec::new());
    // Two clients: the bound is of the process.
    let clients = [Client::with_memory(&memory), Client::with_memory(&memory)];
    for name in 0..NAMES {
        let client = &clients[name % 2];
        let semaphore = client.semaphore(format!("name-{name}"), 7).build().unwrap();
        held.push(semaphore.acquire(2).await.unwrap());
        semaphores.push(semaphore);
    }
    for metric in [HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS] {
        let gauges = record.gauges();
        let series: BTreeSet<_> = gauges.keys().filter(|name| name.starts_with(metric)).collect();
        assert_eq!(series.len(), MAX_SEMAPHORE_LABELS + 1, "{metric}: {series:?}");
    }
    let others = (NAMES - MAX_SEMAPHORE_LABELS) as f64;
    let of_others = |metric: &str| record.gauge(&format!("{metric} {OTHER_SEMAPHORES}"));
    assert_eq!(of_others(HELD_UNITS), 2.0 * others);
    assert_eq!(of_others(IN_USE_UNITS), 2.0 * others);
    assert_eq!(of_others(LIMIT_UNITS), 7.0 * others);
    held.truncate(NAMES - 1); // the last name
    eventually("it is given back", PATIENCE, async || {
        of_others(HELD_UNITS) == 2.0 * others - 2.0 && of_others(IN_USE_UNITS) == 2.0 * others - 2.0
    })
    .await;
    drop((held, semaphores, clients));
    eventually("all gauges are 0", PATIENCE, async || record.gauges_left().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn names_that_share_a_label_show_their_sum() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    let exports = |customer: u32| {
        let builder = client.semaphore(format!("exports-of-{customer}"), 2);
        builder.metrics_name("exports").build().unwrap()
    };
    let [one, two] = [exports(1), exports(2)];
    let held = (one.acquire(1).await.unwrap(), two.acquire(2).await.unwrap());
    for (metric, sum) in [(HELD_UNITS, 3.0), (IN_USE_UNITS, 3.0), (LIMIT_UNITS, 4.0)] {
        assert_eq!(record.gauge(&format!("{metric} exports")), sum, "{metric}");
    }
    // Another handle of a name counts where the first one does.
    let again = client.semaphore("exports-of-1", 2).build().unwrap();
    drop(again.acquire(1).await.unwrap());
    drop((held, one));
    let labels = record.gauges().into_keys().filter(|series| !series.ends_with(" exports"));
    assert_eq!(labels.collect::<Vec<_>>(), [zset_semaphore::metrics::CONNECTED]);
}

/// One request of the key `alice` through the layer of a keyed limit.
async fn ask_as_alice(client: &Client) {
    let key = |_: &Request<()>| Some("alice".to_owned());
    let keyed = Keyed::builder(client, "of-key", key, 9).build().unwrap();
    let inner = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    drop(ZSetSemaphoreLayer::keyed(keyed).layer(inner).oneshot(Request::new(())).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_keyed_limit_labels_its_keys_even_if_a_handle_was_made_by_hand_before() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    let by_hand = client.semaphore("of-key/alice", 9).build().unwrap();
    let held = by_hand.acquire(8).await.unwrap();
    let waiting = queue(&by_hand, by_hand.acquire(9)).await;
    let all = |label: &str| {
        [HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS, WAITERS]
            .map(|metric| record.gauge(&format!("{metric} {label}")))
    };
    assert_eq!(all("of-key/alice"), [8.0, 8.0, 9.0, 1.0]);
    let limit = client.semaphore("of-key/alice", 9).metrics_name("of-key").build().unwrap();
    assert_eq!((all("of-key/alice"), all("of-key")), ([0.0; 4], [8.0, 8.0, 9.0, 1.0]));
    drop(held);
    drop(granted(waiting).await);
    ask_as_alice(&client).await;
    drop(by_hand.acquire(1).await.unwrap());
    let later = client.semaphore("of-key/alice", 9).metrics_name("too-late").build().unwrap();
    drop(later.acquire(1).await.unwrap());
    assert_eq!(
        record.observed(WAIT_SECONDS),
        counts([("of-key granted", 4), ("of-key/alice granted", 1)])
    );
    assert_eq!(record.observed(HELD_SECONDS), counts([("of-key released", 5)]));
    drop((by_hand, limit, later, client));
    eventually("all gauges are 0", PATIENCE, async || record.gauges_left().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_for_the_metrics_that_would_spoil_them_is_refused_and_a_name_that_is_shared_is_counted()
 {
    let client = Client::in_memory();
    for wrong in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(10_000), "_other"] {
        let error = client.semaphore("jobs", 1).metrics_name(wrong).build().unwrap_err();
        assert_eq!(error.field(), "metrics_name");
        assert!(error.value().len() < 100 && error.allowed().contains("512 bytes"), "{error}");
    }
    for right in ["x", "Straße {1} \"\\", &"x".repeat(512)] {
        client.semaphore("jobs", 1).metrics_name(right).build().unwrap();
    }
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    let other = client.semaphore(OTHER_SEMAPHORES, 1).build().unwrap();
    let _held = other.acquire(1).await.unwrap();
    let key = |_: &Request<()>| Some("alice".to_owned());
    let _nameless = Keyed::builder(&client, "", key, 1).build().unwrap();
    let labelled = record.gauges().into_keys().filter(|series| series.contains(' '));
    assert!(labelled.into_iter().all(|series| series.ends_with(OTHER_SEMAPHORES)));
}
