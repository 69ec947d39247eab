//! What the exporter for Prometheus makes of it.

use metrics::with_local_recorder;
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use zset_semaphore::Client;
use zset_semaphore::metrics::BUCKETS;
use zset_semaphore::tower::ZSetSemaphoreLayer;

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).into()), buckets).unwrap();
    }
    builder.build_recorder()
}

#[tokio::test(start_paused = true)]
async fn with_the_buckets_all_histograms_are_histograms_and_have_help() {
    let recorder = recorder();
    let jobs = with_local_recorder(&recorder, || {
        Client::in_memory().semaphore("jobs", 4).build().unwrap()
    });
    let permit = jobs.acquire(3).await.unwrap();
    drop(jobs.acquire(1).await.unwrap());
    let page = recorder.handle().render();
    for line in [
        "# TYPE zsem_wait_seconds histogram",
        "# TYPE zsem_held_seconds histogram",
        "# TYPE zsem_turn_seconds histogram",
        "# TYPE zsem_turn_ids histogram",
        "# HELP zsem_held_units Units that this process holds.",
        "zsem_held_units{semaphore=\"jobs\"} 3",
        "zsem_held_seconds_bucket{semaphore=\"jobs\",end=\"released\",le=\"3600\"} 1",
        "zsem_lost_total{semaphore=\"jobs\",reason=\"kicked\"} 0",
        "zsem_turn_ids_bucket{le=\"256\"} 3",
    ] {
        assert!(page.lines().any(|there| there == line), "no line {line} in\n{page}");
    }
    assert!(!page.contains("summary") && !page.contains("quantile"), "{page}");
    drop(permit);
}

/// `rate` and `increase` do not see the first count of a series that was not there before.
#[tokio::test(start_paused = true)]
async fn all_series_of_counters_are_there_before_anything_is_counted() {
    let recorder = recorder();
    let jobs = with_local_recorder(&recorder, || {
        let jobs = Client::in_memory().semaphore("jobs", 4).build().unwrap();
        drop(ZSetSemaphoreLayer::new(jobs.clone()));
        jobs
    });
    let page = recorder.handle().render();
    for (series, count) in [
        ("zsem_lost_total{semaphore=\"jobs\",", 6),
        ("zsem_unheard_grants_total{semaphore=\"jobs\"}", 1),
        ("zsem_data_losses_total{semaphore=\"jobs\"}", 1),
        ("zsem_turns_total{", 5),
        ("zsem_connects_total{", 2),
        ("zsem_requests_total{semaphore=\"jobs\",outcome=\"rejected\"", 10),
        ("zsem_requests_total{semaphore=\"jobs\",outcome=", 15),
        ("zsem_wait_seconds_count{semaphore=\"jobs\",outcome=\"granted\"}", 1),
        ("zsem_wait_seconds_count{semaphore=\"jobs\",outcome=\"timeout\"}", 1),
        ("zsem_held_seconds_count{semaphore=\"jobs\",end=", 2),
    ] {
        let lines = page.lines().filter(|line| line.starts_with(series) && line.ends_with(" 0"));
        assert_eq!(lines.count(), count, "{series} in\n{page}");
    }
    // A histogram has as many series as buckets, so those of rare outcomes come with their first count.
    let of_jobs = page.lines().filter(|line| line.contains("semaphore=\"jobs\"")).count();
    assert!(of_jobs < 120, "{of_jobs} series");
    drop(jobs);
}
