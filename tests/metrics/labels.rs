//! The label `semaphore` has few values, and never the key of a request.

use std::collections::BTreeSet;

use metrics::set_global_recorder;
use test_support::child_role::{runtime, say};
use test_support::processes::Child;
use test_support::wait::{PATIENCE, eventually};
use zset_semaphore::metrics::{HELD_UNITS, IN_USE_UNITS, LABEL_VALUES, LIMIT_UNITS, OTHER};
use zset_semaphore::{Client, MemoryStore};

use crate::common::recorder::Record;

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
        assert_eq!(series.len(), LABEL_VALUES + 1, "{metric}: {series:?}");
    }
    let others = (NAMES - LABEL_VALUES) as f64;
    let of_others = |metric: &str| record.gauge(&format!("{metric} {OTHER}"));
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
